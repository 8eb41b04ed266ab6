"""The meta-verifier as it is exported: a small network in safetensors, run by numpy.

Three forms. ``joint`` reads the outputs to all queries side by side, as published. ``each`` has a network
of its own for every query and takes the mean of their log-odds (LiteGuard, arXiv 2603.24982). ``cosine``
reads the outputs side by side as well, less what unrelated models answer and scaled to length 1: a matched
filter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sif_offline.fingerprint.pack_files import PackError

Form = Literal["joint", "each", "cosine"]
Activation = Literal["none", "relu"]
Transform = Literal["none", "log", "cosines"]

SMALLEST_PROBABILITY = 1e-6
"""What a probability counts as at least before its logarithm is taken."""
SMALLEST_LENGTH = 1e-6
"""What is divided by at least where something is scaled to length 1."""


def width(*, transform: Transform, queries: int, size: int) -> int:
    """Values that a transform makes of the output of ``size`` values to one of N queries."""
    return queries if transform == "cosines" else size


@dataclass(frozen=True)
class MetaVerifier:
    """A verifier with its weights.

    Attributes:
        form: ``joint``, ``each`` or ``cosine``.
        activation: between two layers; the published code has none.
        transform: of the outputs first; see :func:`transformed`.
        mean, scale: ``(wide,)``, where ``wide`` is what the transform makes of ``size`` (:func:`width`), a
            mean ``(N, wide)`` for ``cosine``; outputs are standardised as ``(y - mean) / scale``.
        layers: (weight, bias) from input to output; float32 weights ``(out, in)``, where the first ``in`` is
            N * wide, and ``(N, out, in)`` with biases ``(N, out)`` for ``each``. The last ``out`` is 1: the
            log-odds that the outputs are the owner's.
    """

    form: Form
    activation: Activation
    transform: Transform
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]

    def log_odds(self, outputs: ArrayLike) -> NDArray[np.float64]:
        """Log-odds that outputs are the owner's, ``(...)`` for outputs ``(..., N, size)``.

        Raises:
            ValueError: outputs of another shape.
        """
        values = np.asarray(outputs, dtype=np.float64)
        values = (transformed(values, self.transform) - self.mean) / self.scale
        if self.form != "each":
            values = values.reshape(*values.shape[:-2], -1)
        if self.form == "cosine":
            values = _unit(values)
        for number, (weight, bias) in enumerate(self.layers):
            if number and self.activation == "relu":
                values = np.maximum(values, 0)
            if self.form != "each":
                values = values @ weight.T.astype(np.float64) + bias
            else:
                values = np.einsum("...ni,noi->...no", values, weight.astype(np.float64)) + bias
        found: NDArray[np.float64] = values[..., 0]
        return found.mean(axis=-1) if self.form == "each" else found

    def to_safetensors(self) -> bytes:
        """The file ``verifier.safetensors`` of a pack."""
        tensors = {"mean": self.mean, "scale": self.scale}
        for number, (weight, bias) in enumerate(self.layers):
            tensors |= {f"layers.{number}.weight": weight, f"layers.{number}.bias": bias}
        return save({name: np.ascontiguousarray(value, dtype=np.float32) for name, value in tensors.items()})


def read_verifier(
    data: bytes, *, form: Form, activation: Activation, transform: Transform, queries: int, size: int
) -> MetaVerifier:
    """A verifier from its file.

    Args:
        data: what :meth:`MetaVerifier.to_safetensors` wrote.
        form: as the pack says.
        activation: likewise.
        transform: likewise.
        queries: N.
        size: length of the output to one query.

    Raises:
        PackError: not such a file, or of shapes that do not fit N outputs of that size, or not finite.
    """
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError) as error:  # a type that numpy does not have is a KeyError
        raise PackError(f"verifier.safetensors does not load ({error})") from None
    try:
        count = sum(name.endswith(".weight") for name in tensors)
        layers = tuple(
            (tensors[f"layers.{number}.weight"], tensors[f"layers.{number}.bias"]) for number in range(count)
        )
        found = MetaVerifier(form, activation, transform, tensors["mean"], tensors["scale"], layers)
    except KeyError as error:
        raise PackError(f"verifier.safetensors has no tensor {error}") from None
    _check(found, tensors, queries=queries, size=width(transform=transform, queries=queries, size=size))
    return found


def transformed(outputs: NDArray[np.float64], transform: Transform) -> NDArray[np.float64]:
    """Outputs ``(..., N, size)`` as a verifier reads them, ``(..., N, wide)`` (:func:`width`).

    ``log``: the logarithm of probabilities. ``cosines``: each output less the mean of all, and of what is
    left the cosines with all: rotating and scaling all outputs or adding one vector to all changes nothing.
    """
    if transform == "cosines":
        units = _unit(outputs - outputs.mean(-2, keepdims=True))
        return units @ np.swapaxes(units, -1, -2)
    return np.log(np.maximum(outputs, SMALLEST_PROBABILITY)) if transform == "log" else outputs


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scaled to length 1 along the last axis; NaN where the length is beyond float64."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    lengths = np.where(np.isfinite(lengths), np.maximum(lengths, SMALLEST_LENGTH), np.nan)
    return np.asarray(vectors / lengths)


def _check(
    verifier: MetaVerifier, tensors: Mapping[str, NDArray[np.float32]], *, queries: int, size: int
) -> None:
    if any(value.dtype != np.float32 or not np.isfinite(value).all() for value in tensors.values()):
        raise PackError("verifier.safetensors holds a value that is not a finite float32")
    means = (queries, size) if verifier.form == "cosine" else (size,)
    if verifier.mean.shape != means or verifier.scale.shape != (size,) or not (verifier.scale > 0).all():
        raise PackError(f"verifier.safetensors does not standardise outputs of {size} values")
    each = (queries,) if verifier.form == "each" else ()
    wide = size if each else queries * size
    for number, (weight, bias) in enumerate(verifier.layers):
        if weight.ndim != 2 + len(each) or weight.shape[:-2] != each or weight.shape[-1] != wide:
            raise PackError(f"verifier.safetensors: layer {number} does not take {wide} values")
        wide = weight.shape[-2]
        if bias.shape != (*each, wide):
            raise PackError(f"verifier.safetensors: layer {number} has a bias of another width")
    if not verifier.layers or wide != 1:
        raise PackError("verifier.safetensors does not end in one value")
