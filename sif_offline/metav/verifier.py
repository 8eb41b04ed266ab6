"""The meta-verifier as it is trained; what is exported is :mod:`sif_offline.fingerprint.metav.verifier`."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from sif_offline.fingerprint.metav.verifier import (
    SMALLEST_PROBABILITY,
    Activation,
    Form,
    MetaVerifier,
    Transform,
)

_LEAST_SCALE = 1e-3


class TrainedVerifier(nn.Module):
    """Log-odds that outputs are the owner's.

    Args:
        queries: N.
        size: of the output to one query.
        form: ``joint`` reads the outputs to all queries side by side; ``each`` has a network a query and
            takes the mean of their log-odds.
        hidden: widths.
        activation: between layers.
        transform: ``log`` takes the logarithm of probabilities first.
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
        generator = torch.Generator().manual_seed(seed)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for wide, out in pairwise((size if each else queries * size, *hidden, 1)):
            bound = wide**-0.5  # of torch's Linear
            drawn = torch.rand((*each, out, wide), generator=generator)
            self.weights.append(nn.Parameter((2 * drawn - 1) * bound))
            self.biases.append(nn.Parameter(torch.zeros(*each, out)))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def standardise(self, outputs: Tensor) -> None:
        """Take mean and spread of each output value from ``(..., size)``."""
        values = self._transformed(outputs.detach()).flatten(0, -2)
        self.mean.copy_(values.mean(0))
        self.scale.copy_(values.std(0, correction=0).clamp_min(_LEAST_SCALE))

    def forward(self, outputs: Tensor) -> Tensor:
        """``(...)`` for outputs ``(..., N, size)``."""
        values = (self._transformed(outputs) - self.mean) / self.scale
        if self.form == "joint":
            values = values.flatten(-2)
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if number and self.activation == "relu":
                values = torch.relu(values)
            if self.form == "joint":
                values = nn.functional.linear(values, weight, bias)
            else:
                values = torch.einsum("...ni,noi->...no", values, weight) + bias
        return values[..., 0] if self.form == "joint" else values[..., 0].mean(-1)

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

    def _transformed(self, outputs: Tensor) -> Tensor:
        return outputs.clamp_min(SMALLEST_PROBABILITY).log() if self.transform == "log" else outputs
