"""Copies of the owner as a thief might serve them, for ensembles and for the judge.

Quantised copies hold the rounded weights as ordinary floats: they answer as the quantised model does, up to
its arithmetic, decode as fast as the owner and pass gradients on, which bitsandbytes' kernels do not do
everywhere.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sif_offline.forging.settings import ForgeSettings, SettingsError
from sif_offline.models.base import VLMAdapter

NF4_BLOCK = 64
# Quantiles of a normal variable, appendix E of QLoRA (Dettmers et al. 2023, arXiv 2305.14314).
NF4_LEVELS = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
KINDS = "noise, noise:SIZE, nf4, int8"


ENSEMBLE_SEED_OFFSET = 15_485_863
"""Keeps the noise of an ensemble apart from the judge's copies."""


def ensemble_copies(adapter: VLMAdapter, settings: ForgeSettings) -> list[VLMAdapter]:
    """The copies that ``settings.ensemble`` names, each noise of its own.

    Raises:
        SettingsError: a name that is none.
    """
    seed = settings.seed + ENSEMBLE_SEED_OFFSET
    return [
        make_copy(adapter, name, seed=seed + place, noise=settings.judge_noise)
        for place, name in enumerate(settings.ensemble)
    ]


def make_copy(adapter: VLMAdapter, name: str, *, seed: int, noise: float) -> VLMAdapter:
    """One copy.

    Args:
        adapter: the owner, left as it is.
        name: ``noise`` or ``noise:0.05`` (relative noise on the decoder's matrices), ``nf4`` or ``int8``
            (linear layers of the decoder's blocks).
        seed: of the noise.
        noise: size where ``noise`` names none.

    Raises:
        SettingsError: another name.
    """
    kind, _, size = name.partition(":")
    if kind == "noise":
        try:
            return adapter.perturbed(noise=float(size) if size else noise, seed=seed)
        except ValueError:
            raise SettingsError(f"copy {name}: {size} is no number") from None
    rounding: dict[str, Callable[[Tensor], Tensor]] = {"nf4": nf4_rounded, "int8": int8_rounded}
    if name not in rounding:
        raise SettingsError(f"copy {name}: want one of {KINDS}")
    copied = adapter.perturbed(noise=0.0, seed=seed)
    with torch.no_grad():
        for layer in copied.decoder_layers():
            for module in layer.modules():
                if isinstance(module, nn.Linear):
                    module.weight.copy_(rounding[name](module.weight))
    copied.name = f"{adapter.name}+{name}"
    return copied


def nf4_rounded(weight: Tensor) -> Tensor:
    """What NF4 keeps of a matrix: blocks of 64 in row order, each over its largest absolute value."""
    flat = weight.detach().float().flatten()
    blocks = torch.cat([flat, flat.new_zeros(-flat.numel() % NF4_BLOCK)]).view(-1, NF4_BLOCK)
    scale = blocks.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    levels = torch.tensor(NF4_LEVELS, device=weight.device)
    middles = (levels[1:] + levels[:-1]) / 2
    rounded = levels[torch.bucketize(blocks / scale, middles)] * scale
    return rounded.flatten()[: flat.numel()].view_as(weight).to(weight.dtype)


def int8_rounded(weight: Tensor) -> Tensor:
    """What 8 bits keep of a matrix: 255 even levels a row (LLM.int8(), arXiv 2208.07339, without its
    treatment of activations).
    """
    scale = weight.detach().float().abs().amax(dim=1, keepdim=True) / 127
    steps = (weight.float() / scale.clamp_min(torch.finfo(torch.float32).tiny)).round()
    return (steps * scale).to(weight.dtype)
