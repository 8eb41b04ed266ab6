"""Low-rank additions to a decoder: trained by PEFT, kept as safetensors, merged for a while."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from sif_offline.baselines.base import BaselineError
from sif_offline.baselines.borrowing import model_of
from sif_offline.models.base import VLMAdapter
from sif_offline.suspects.quiet import quiet_bitsandbytes

_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"
_SCALE = "lora_scale"


@dataclass(frozen=True, kw_only=True)
class LoRASettings:
    """Of the training.

    Args:
        steps: of AdamW.
        learning_rate: constant.
        rank: of each addition; its scale alpha is twice the rank.
        seed: of the first factors.
    """

    steps: int
    learning_rate: float
    rank: int
    seed: int


def train_lora(
    adapter: VLMAdapter,
    loss_of: Callable[[int], Tensor],
    *,
    settings: LoRASettings,
    on_step: Callable[[int, float], None],
) -> bytes:
    """Train additions to every linear layer of the decoder's blocks; the model itself is left as it was.

    Args:
        adapter: the model, in evaluation mode; its additions are in place while ``loss_of`` is called.
        loss_of: step from 1 to a scalar on the graph.
        settings: of the run.
        on_step: step from 1, and its loss.

    Returns:
        Safetensors: ``MODULE.lora_A.weight``, ``MODULE.lora_B.weight`` float32 and the scale, as
        :func:`merged` takes them.
    """
    quiet_bitsandbytes()
    from peft import LoraConfig, get_peft_model

    model = model_of(adapter)
    inside = {id(module) for layer in adapter.decoder_layers() for module in layer.modules()}
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and id(m) in inside]
    config = LoraConfig(r=settings.rank, lora_alpha=2 * settings.rank, target_modules=names)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5 for an attribute by its former name
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        torch.manual_seed(settings.seed)
        wrapped = get_peft_model(model, config)
    wrapped.eval()
    try:
        trained = [p for p in wrapped.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=0.0)
        for step in range(1, settings.steps + 1):
            with torch.enable_grad():
                loss = loss_of(step)
                loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            on_step(step, float(loss.detach()))
        return _kept(wrapped, names)
    finally:
        wrapped.unload()


def _kept(wrapped: Any, names: Sequence[str]) -> bytes:
    tensors: dict[str, Tensor] = {}
    base = wrapped.base_model.model
    for name in names:
        layer = base.get_submodule(name)
        tensors[name + _DOWN] = layer.lora_A["default"].weight.detach().float().cpu().contiguous()
        tensors[name + _UP] = layer.lora_B["default"].weight.detach().float().cpu().contiguous()
        tensors[_SCALE] = torch.tensor(float(layer.scaling["default"]))
    return save(tensors)


@contextmanager
def merged(adapter: VLMAdapter, weights: bytes) -> Iterator[None]:
    """The model with the additions in its weights, as an endpoint serves it, until the context ends.

    ``W + scale * up @ down`` in float32, in the type of W. Parameters get other storage and take their own
    back, bit for bit.

    Args:
        adapter: the owner that they were trained on, not quantised.
        weights: from :func:`train_lora`.

    Raises:
        BaselineError: they are not this model's.
    """
    model = model_of(adapter)
    own: list[tuple[nn.Parameter, Tensor]] = []
    try:
        tensors = load(weights)
        scale = float(tensors.pop(_SCALE))
        for name in sorted(key.removesuffix(_DOWN) for key in tensors if key.endswith(_DOWN)):
            parameter = model.get_parameter(f"{name}.weight")
            down, up = (tensors[name + end].to(parameter.device) for end in (_DOWN, _UP))
            changed = (parameter.data.float() + scale * (up @ down)).to(parameter.dtype)
            own.append((parameter, parameter.data))
            parameter.data = changed
    except (SafetensorError, KeyError, AttributeError, RuntimeError) as error:
        _give_back(own)
        raise BaselineError(f"{adapter.name}: these weights are another model's ({error})") from error
    try:
        yield
    finally:
        _give_back(own)


def _give_back(own: Sequence[tuple[nn.Parameter, Tensor]]) -> None:
    for parameter, weights in own:
        parameter.data = weights
