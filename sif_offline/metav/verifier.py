"""The meta-verifier as it is trained; what is exported is :mod:`sif_offline.fingerprint.metav.verifier`."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from sif_offline.fingerprint.metav.verifier import (
    SMALLEST_LENGTH,
    SMALLEST_PROBABILITY,
    Activation,
    Form,
    MetaVerifier,
    Transform,
    width,
)

_LEAST_SCALE = 1e-3
_LEAST_GAP = 0.1
"""What cosines of copies and of unrelated models count as apart at least, where a matched filter begins."""
_FIRST_LOG_ODDS = 5.0
"""Of the mean copy where a matched filter begins, and minus that of the mean unrelated model."""


@dataclass(frozen=True)
class Sides:
    """Outputs ``(models, N, size)`` of the owner's copies, himself among them, and of unrelated models."""

    copies: Tensor
    others: Tensor


class TrainedVerifier(nn.Module):
    """Log-odds that outputs are the owner's.

    Args:
        queries: N.
        size: of the output to one query.
        form: ``joint`` reads the outputs to all queries side by side; ``each`` has a network a query and
            takes the mean of their log-odds; ``cosine`` reads what is left side by side when the outputs of
            unrelated models are taken away, scaled to length 1: a filter matched to the difference of copies,
            as if all else were white noise.
        hidden: widths.
        activation: between layers; ``cosine`` has one alone.
        transform: :func:`sif_offline.fingerprint.metav.verifier.transformed` says what each does.
        seed: of the first weights.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        *,
        queries: int,
        size: int,
        form: Form,
        hidden: tuple[int, ...],
        activation: Activation,
        transform: Transform,
        seed: int,
    ) -> None:
        super().__init__()
        self.form, self.activation, self.transform = form, activation, transform
        each = (queries,) if form == "each" else ()
        size = width(transform=transform, queries=queries, size=size)
        generator = torch.Generator().manual_seed(seed)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for wide, out in pairwise((size if each else queries * size, *hidden, 1)):
            bound = wide**-0.5  # of torch's Linear
            drawn = torch.rand((*each, out, wide), generator=generator)
            self.weights.append(nn.Parameter((2 * drawn - 1) * bound))
            self.biases.append(nn.Parameter(torch.zeros(*each, out)))
        self.register_buffer("mean", torch.zeros((queries, size) if form == "cosine" else size))
        self.register_buffer("scale", torch.ones(size))

    @torch.no_grad()
    def begin(self, fitted: Sides, held_out: Sides) -> None:
        """Take from first outputs what training does not look for.

        ``joint`` and ``each``: mean and spread of each output value of ``fitted``. ``cosine``: the matched
        filter of the mean copy against the mean unrelated model of ``fitted``, its threshold half way between
        the two kinds of ``held_out``, of which the filter knows none but the owner.
        """
        copies, others = self._transformed(fitted.copies), self._transformed(fitted.others)
        if self.form != "cosine":
            values = torch.cat([copies, others]).flatten(0, -2)
            self.mean.copy_(values.mean(0))
            self.scale.copy_(values.std(0, correction=0).clamp_min(_LEAST_SCALE))
            return
        self.mean.copy_(others.mean(0))
        direction = _unit((copies.mean(0) - self.mean).flatten())
        high, low = (
            float((self._read(side) @ direction).mean()) for side in (held_out.copies, held_out.others)
        )
        slope = 2 * _FIRST_LOG_ODDS / max(high - low, _LEAST_GAP)
        self.weights[0].copy_(slope * direction)
        self.biases[0].fill_(-slope * (high + low) / 2)

    def forward(self, outputs: Tensor) -> Tensor:
        """``(...)`` for outputs ``(..., N, size)``."""
        values = self._read(outputs)
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if number and self.activation == "relu":
                values = torch.relu(values)
            if self.form != "each":
                values = nn.functional.linear(values, weight, bias)
            else:
                values = torch.einsum("...ni,noi->...no", values, weight) + bias
        return values[..., 0].mean(-1) if self.form == "each" else values[..., 0]

    def export(self) -> MetaVerifier:
        """As it is, for numpy."""
        arrays = [
            tuple(parameter.detach().cpu().numpy().copy() for parameter in layer)
            for layer in zip(self.weights, self.biases, strict=True)
        ]
        return MetaVerifier(
            form=self.form,
            activation=self.activation,
            transform=self.transform,
            mean=self.mean.cpu().numpy().copy(),
            scale=self.scale.cpu().numpy().copy(),
            layers=tuple((weight, bias) for weight, bias in arrays),
        )

    def _read(self, outputs: Tensor) -> Tensor:
        """What the first layer takes."""
        values = (self._transformed(outputs) - self.mean) / self.scale
        if self.form != "each":
            values = values.flatten(-2)
        if self.form == "cosine":
            values = _unit(values)
        return values

    def _transformed(self, outputs: Tensor) -> Tensor:
        if self.transform == "cosines":
            units = _unit(outputs - outputs.mean(-2, keepdim=True))
            return units @ units.mT
        return outputs.clamp_min(SMALLEST_PROBABILITY).log() if self.transform == "log" else outputs


def _unit(vectors: Tensor) -> Tensor:
    """Scaled to length 1 along the last axis."""
    return nn.functional.normalize(vectors, dim=-1, eps=SMALLEST_LENGTH)
