"""From a model's folder to a model and a processor, without running any of its code."""

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
import transformers
from packaging.version import Version

from sif_offline.models.base import ModelError
from sif_offline.models.hf.checkpoint import Checkpoint
from sif_offline.models.quiet import quiet_loading

OLDEST = "5.23"
"""Of transformers: the first whose models all take features once computed, and whose processors agree."""
NO_WEIGHTS = "meta"
"""The device of a model that is asked about pixels and prompts alone: its weights are neither fetched nor
read."""


def load_model(checkpoint: Checkpoint, *, class_name: str, model_types: tuple[str, ...], device: str) -> Any:
    """The pretrained model: safetensors only, bfloat16 on an accelerator and float32 on the CPU.

    On :data:`NO_WEIGHTS` it has shapes alone.

    Raises:
        ModelError: another kind of model, one that cannot be read, or a transformers that is too old.
    """
    if Version(transformers.__version__) < Version(OLDEST):
        raise ModelError(
            f"model {checkpoint.spec}: needs transformers {OLDEST} or newer, not {transformers.__version__}: "
            f"pip install 'transformers>={OLDEST}'"
        )
    kind = checkpoint.json("config.json").get("model_type")
    if kind not in model_types:
        raise ModelError(
            f"model {checkpoint.spec}: its config.json says {kind!r}; "
            f"this family loads {' or '.join(model_types)} (sif models list)"
        )
    target = torch.device(device)
    model_class = getattr(transformers, class_name)
    with quiet_loading(), one_line(checkpoint.spec):
        if device == NO_WEIGHTS:
            with target:
                return model_class(model_class.config_class.from_pretrained(checkpoint.folder))
        return model_class.from_pretrained(
            checkpoint.folder,
            dtype=torch.float32 if target.type == "cpu" else torch.bfloat16,
            device_map=None if target.type == "cpu" else {"": target},
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )


def load_processor(checkpoint: Checkpoint, *, class_name: str) -> Any:
    """The family's processor with the PIL image backend and without its video part.

    ``AutoProcessor`` would also build the video processor, which needs torchvision, and would choose the
    torchvision backend for pictures where that is installed.

    Raises:
        ModelError: a part is missing or cannot be read.
    """
    with quiet_loading(), one_line(checkpoint.spec):
        image_processor = transformers.AutoImageProcessor.from_pretrained(
            checkpoint.folder, backend="pil", local_files_only=True, trust_remote_code=False
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=False
        )
        template = _chat_template(checkpoint) or tokenizer.chat_template
        if not template:
            raise ModelError(f"model {checkpoint.spec}: it has no chat template")
        return build_processor(
            class_name,
            image_processor=image_processor,
            tokenizer=tokenizer,
            chat_template=template,
            options=checkpoint.json("processor_config.json"),
        )


def build_processor(
    class_name: str,
    *,
    image_processor: Any,
    tokenizer: Any,
    chat_template: str,
    options: dict[str, Any],
) -> Any:
    """A processor of transformers from its parts, without a video processor.

    Args:
        class_name: such as ``LlavaProcessor``.
        image_processor: of the PIL backend.
        tokenizer: a fast tokenizer.
        chat_template: Jinja.
        options: further arguments, as ``processor_config.json`` holds them; others in it are passed over.
    """
    base = getattr(transformers, class_name)

    parts = [name for name in base.get_attributes() if "video" not in name]
    without_video = type(class_name, (base,), {"get_attributes": classmethod(lambda cls: parts)})
    own = {"image_processor", "tokenizer", "video_processor", "chat_template", "self", "args", "kwargs"}
    known = {
        name: options[name] for name in set(signature(base.__init__).parameters) - own if name in options
    }
    return without_video(
        image_processor=image_processor, tokenizer=tokenizer, chat_template=chat_template, **known
    )


@contextmanager
def one_line(model: str) -> Iterator[None]:
    """Whatever transformers raises about ``model`` becomes one line."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # a broken folder fails in any of four libraries
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"model {model}: cannot be loaded: {reason[0]}") from error


def _chat_template(checkpoint: Checkpoint) -> str | None:
    path = checkpoint.folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text()
    template = checkpoint.json("chat_template.json").get("chat_template")
    return template or checkpoint.json("processor_config.json").get("chat_template")
