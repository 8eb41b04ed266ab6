"""The meta-verifier as it is exported: a small network in safetensors, run by numpy.

Two forms. ``joint`` reads the outputs to all queries side by side, as published. ``each`` has a network
of its own for every query and takes the mean of their log-odds (LiteGuard, arXiv 2603.24982).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sif_offline.fingerprint.pack_files import PackError

Form = Literal["joint", "each"]
Activation = Literal["none", "relu"]
Transform = Literal["none", "log"]

SMALLEST_PROBABILITY = 1e-6
"""What a probability counts as at least before its logarithm is taken."""


@dataclass(frozen=True)
class MetaVerifier:
    """A verifier with its weights.

    Attributes:
        form: ``joint`` or ``each``.
        activation: between two layers; the published code has none.
        transform: ``log`` takes the logarithm of outputs that are probabilities first.
        mean, scale: ``(size,)``; outputs are standardised as ``(y - mean) / scale`` after the transform.
        layers: (weight, bias) from input to output; float32 weights ``(out, in)`` for ``joint``, where the
            first ``in`` is N * size, and ``(N, out, in)`` with biases ``(N, out)`` for ``each``. The last
            ``out`` is 1: the log-odds that the outputs are the owner's.
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
        if self.transform == "log":
            values = np.log(np.maximum(values, SMALLEST_PROBABILITY))
        values = (values - self.mean) / self.scale
        if self.form == "joint":
            values = values.reshape(*values.shape[:-2], -1)
        for number, (weight, bias) in enumerate(self.layers):
            if number and self.activation == "relu":
                values = np.maximum(values, 0)
            if self.form == "joint":
                values = values @ weight.T.astype(np.float64) + bias
            else:
                values = np.einsum("...ni,noi->...no", values, weight.astype(np.float64)) + bias
        found: NDArray[np.float64] = values[..., 0]
        return found if self.form == "joint" else found.mean(axis=-1)

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
    except (SafetensorError, ValueError) as error:
        raise PackError(f"verifier.safetensors does not load ({error})") from None
    try:
        count = sum(name.endswith(".weight") for name in tensors)
        layers = tuple(
            (tensors[f"layers.{number}.weight"], tensors[f"layers.{number}.bias"]) for number in range(count)
        )
        found = MetaVerifier(form, activation, transform, tensors["mean"], tensors["scale"], layers)
    except KeyError as error:
        raise PackError(f"verifier.safetensors has no tensor {error}") from None
    _check(found, tensors, queries=queries, size=size)
    return found


def _check(
    verifier: MetaVerifier, tensors: Mapping[str, NDArray[np.float32]], *, queries: int, size: int
) -> None:
    if any(value.dtype != np.float32 or not np.isfinite(value).all() for value in tensors.values()):
        raise PackError("verifier.safetensors holds a value that is not a finite float32")
    if verifier.mean.shape != (size,) or verifier.scale.shape != (size,) or not (verifier.scale > 0).all():
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
