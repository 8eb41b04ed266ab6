"""What an API lets through of a model's outputs: all of it, rounded, the largest few, or the label alone."""

import re

import numpy as np
from numpy.typing import ArrayLike, NDArray

_VIEW = re.compile(r"full|label|rounded-([1-9])|top-([1-9][0-9]{0,3})")


class ViewError(ValueError):
    """A view that there is none of."""


def check_view(view: str) -> str:
    """``view`` itself: ``full``, ``rounded-D`` (D decimals, 1 to 9), ``top-K`` or ``label``.

    Raises:
        ViewError: any other word.
    """
    if not _VIEW.fullmatch(view):
        raise ViewError(f"view {view!r}: full, rounded-DECIMALS, top-K or label")
    return view


def seen_through(outputs: ArrayLike, view: str) -> NDArray[np.float64]:
    """Outputs as a caller of such an API gets them.

    Args:
        outputs: ``(..., size)``; probabilities for ``top-K`` and ``label``.
        view: see :func:`check_view`.

    Returns:
        float64 of the same shape. ``top-K`` keeps the K largest of each output and sets the others to 0,
        ``label`` sets the largest to 1 and the others to 0; of equal values the first counts as larger.
    """
    check_view(view)
    values = np.asarray(outputs, dtype=np.float64)
    if view == "full":
        return values
    kind, _, number = view.partition("-")
    if kind == "rounded":
        return np.round(values, int(number))
    order = np.argsort(-values, axis=-1, kind="stable")[..., : int(number) if number else 1]
    kept = np.zeros_like(values)
    chosen = np.take_along_axis(values, order, axis=-1) if kind == "top" else 1.0
    np.put_along_axis(kept, order, chosen, axis=-1)
    return kept
