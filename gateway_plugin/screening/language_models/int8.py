"""Linear layers in 8 bits on the CPU: weights per output channel, activations per token, both symmetric.

``torch.ao``'s dynamic quantisation takes one scale for all activations of a batch, so that a text's score
would depend on the texts beside it and one outlier token would coarsen all others; a scale a token does not.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def in_8_bits(weight: "Tensor") -> "tuple[Tensor, Tensor]":
    """``(outputs, inputs)`` float32 as int8 and the scale of each output, ``(outputs,)``."""
    import torch

    scale = weight.abs().amax(1).clamp_min(1e-12) / 127
    return (weight / scale[:, None]).round().to(torch.int8), scale


def quantise_linear_layers(model: Any) -> Any:
    """Replace every ``nn.Linear`` of the model in place; returns the model.

    The product is ``torch._int_mm``: int8 by int8 into int32, with AVX512-VNNI where the processor has it.
    """
    import torch

    class Int8Linear(torch.nn.Module):
        def __init__(self, layer: torch.nn.Linear) -> None:
            super().__init__()
            weight, self.scale = in_8_bits(layer.weight.detach().float())
            self.weight = weight.t()
            self.bias = None if layer.bias is None else layer.bias.detach().float()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rows = x.reshape(-1, x.shape[-1]).float()
            scale = (
                torch.linalg.vector_norm(rows, ord=float("inf"), dim=1, keepdim=True).clamp_min(1e-12) / 127
            )
            product = torch._int_mm((rows / scale).round_().to(torch.int8), self.weight)
            y = product.float().mul_(scale).mul_(self.scale)
            if self.bias is not None:
                y += self.bias
            return y.to(x.dtype).view(*x.shape[:-1], -1)

    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.Linear):
                setattr(parent, name, Int8Linear(child))
    return model
