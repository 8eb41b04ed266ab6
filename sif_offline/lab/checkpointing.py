"""Checkpoints in the transformers layout, each frozen encoder stored once and shared by reference."""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer
from transformers import GenerationConfig

from sif_offline.lab.features import ENCODER_PREFIX
from sif_offline.lab.modeling import LabVLM
from sif_offline.lab.processing import LabProcessor

WEIGHTS = "decoder.safetensors"
INDEX = "model.safetensors.index.json"
TIED = "language_model.lm_head.weight"


def generation_config() -> GenerationConfig:
    """Greedy decoding as the lab assumes it: long and varied answers."""
    return GenerationConfig(
        do_sample=False,
        max_new_tokens=96,
        no_repeat_ngram_size=3,
        repetition_penalty=1.3,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


def save_checkpoint(model: LabVLM, processor: LabProcessor, directory: Path) -> Path:
    """Write config, processor and bf16 weights; the encoder is named in the index, not written again.

    The shard index points at ``../encoders/<variant>.safetensors``, so ``from_pretrained`` finds it unaided.
    The directory is replaced as a whole.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}-"))
    encoder_file = f"../encoders/{model.config.vision_encoder}.safetensors"
    tensors = {
        key: value.detach().to("cpu", torch.bfloat16).contiguous()
        for key, value in model.state_dict().items()
        if not key.startswith(ENCODER_PREFIX) and key != TIED
    }
    save_file(tensors, temporary / WEIGHTS, metadata={"format": "pt"})
    encoder_keys = [key for key in model.state_dict() if key.startswith(ENCODER_PREFIX)]
    weight_map = dict.fromkeys(tensors, WEIGHTS) | dict.fromkeys(encoder_keys, encoder_file)
    size = sum(value.numel() * 2 for value in model.state_dict().values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    (temporary / INDEX).write_text(json.dumps(index, indent=1) + "\n")
    model.config.architectures = [type(model).__name__]
    model.config.dtype = "bfloat16"
    model.config.save_pretrained(temporary)
    generation_config().save_pretrained(temporary)
    processor.save_pretrained(temporary)
    temporary.chmod(0o755)
    if directory.exists():
        shutil.rmtree(directory)
    temporary.rename(directory)
    return directory


def save_training_state(path: Path, *, model: LabVLM, optimiser: Optimizer, step: int) -> None:
    """Weights and AdamW moments, float32, atomically."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            tensors[name] = parameter.detach().contiguous()
            for moment in ("exp_avg", "exp_avg_sq"):
                tensors[f"{moment}:{name}"] = optimiser.state[parameter][moment].contiguous()
    temporary = path.with_suffix(".part")
    save_file(tensors, temporary, metadata={"step": str(step)})
    temporary.rename(path)


def load_training_state(path: Path, *, model: LabVLM, optimiser: Optimizer) -> int:
    """Put a saved state back; returns the step to go on from, 0 without one."""
    if not path.is_file():
        return 0
    with safe_open(path, framework="pt") as handle:
        step = int(handle.metadata()["step"])
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.data.copy_(handle.get_tensor(name))
                optimiser.state[parameter] = {
                    "step": torch.tensor(float(step)),
                    "exp_avg": handle.get_tensor(f"exp_avg:{name}").to(parameter.device),
                    "exp_avg_sq": handle.get_tensor(f"exp_avg_sq:{name}").to(parameter.device),
                }
    return step
