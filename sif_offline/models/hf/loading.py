"""From ``owner/name@revision`` or a folder to a model and a processor, without running any of its code.

The hub is asked once, by one download of the files that are needed; everything after it reads the local
folder. So a machine without a network says so in one line and within seconds, and a model that was fetched
before loads there.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
import transformers
from packaging.version import Version
from transformers.utils import logging

from sif_offline.models.base import ModelError

OLDEST = "5.23"
"""Of transformers: the first whose models all take features once computed, and whose processors agree."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_TEXTS = ("*.json", "*.jinja", "*.txt", "tokenizer.model")
_WEIGHTS = ("*.safetensors",)
NO_WEIGHTS = "meta"
"""The device of a model that is asked about pixels and prompts alone: its weights are neither fetched nor
read."""
_ETAG_SECONDS = 8.0
_CHUNK = 1 << 24


@dataclass(frozen=True)
class Checkpoint:
    """A model's files on this machine.

    Args:
        folder: holds ``config.json``, tokenizer, processor and ``*.safetensors``.
        spec: what was asked for, for messages.
        model_id: hub id, or the folder's name.
        revision: the commit that the hub resolved, or None for a folder.
    """

    folder: Path
    spec: str
    model_id: str
    revision: str | None

    def json(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder, empty where there is none.

        Raises:
            ModelError: it is no JSON object.
        """
        path = self.folder / name
        try:
            loaded = json.loads(path.read_text()) if path.is_file() else {}
        except ValueError:
            loaded = None
        if not isinstance(loaded, dict):
            raise ModelError(f"model {self.spec}: {name} is no JSON object")
        return loaded


def find_checkpoint(rest: str, *, family: str, weights: bool = True) -> Checkpoint:
    """Where the model is, fetching it from the hub where it is not a folder.

    Args:
        rest: a folder, or ``owner/name`` on the hub with an optional ``@revision`` (branch, tag or commit).
        family: for messages.
        weights: fetch them as well.

    Raises:
        ModelError: no such folder, no such model, or no way to the hub.
    """
    spec = f"{family}:{rest}"
    folder = Path(rest).expanduser()
    if folder.is_dir():
        return Checkpoint(folder, spec=spec, model_id=folder.resolve().name, revision=None)
    name, _, revision = rest.partition("@")
    if not _HUB_ID.fullmatch(name) or name.startswith("."):
        raise ModelError(f"model {spec}: no such folder, and not a hub id (owner/name or owner/name@v1)")
    from huggingface_hub import snapshot_download

    try:
        found = Path(
            snapshot_download(
                name,
                revision=revision or None,
                allow_patterns=[*_TEXTS, *(_WEIGHTS if weights else ())],
                etag_timeout=_ETAG_SECONDS,
            )
        )
    except Exception as error:  # a dozen types of several libraries, none with a useful common base
        raise ModelError(f"model {spec}: {_hub_reason(error)}") from error
    return Checkpoint(found, spec=spec, model_id=name, revision=found.name)


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
    with _quiet(), one_line(checkpoint.spec):
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
    with _quiet(), one_line(checkpoint.spec):
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


def files_digest(folder: Path) -> str:
    """SHA-256 over all tensors of ``*.safetensors`` as stored: sorted names, types, shapes, bytes.

    Streamed, and the same for a sharded and a whole copy and for whatever type they are loaded as.
    """
    tensors: dict[str, tuple[Path, str, list[int], int, int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        for name, fields in header.items():
            start, end = fields["data_offsets"]
            tensors[name] = (path, fields["dtype"], fields["shape"], 8 + length + start, end - start)
    digest = hashlib.sha256()
    for name, (path, kind, shape, start, size) in sorted(tensors.items()):
        digest.update(f"{name} {kind} {tuple(shape)}\n".encode())
        with path.open("rb") as file:
            file.seek(start)
            while size and (chunk := file.read(min(size, _CHUNK))):
                digest.update(chunk)
                size -= len(chunk)
    return digest.hexdigest()


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


@contextmanager
def _quiet() -> Iterator[None]:
    """Transformers draws a bar on stderr for every load, where a command's one-line error belongs."""
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _chat_template(checkpoint: Checkpoint) -> str | None:
    path = checkpoint.folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text()
    template = checkpoint.json("chat_template.json").get("chat_template")
    return template or checkpoint.json("processor_config.json").get("chat_template")


def _hub_reason(error: Exception) -> str:
    known = {
        "RepositoryNotFoundError": "no such model on the hub, or one that needs a login",
        "GatedRepoError": "the hub wants its terms accepted and a token (HF_TOKEN) first",
        "RevisionNotFoundError": "the hub has no such revision",
        "LocalEntryNotFoundError": "the hub cannot be reached, and the model was not fetched before",
    }
    for kind in type(error).__mro__:
        if kind.__name__ in known:
            return known[kind.__name__]
    lines = str(error).strip().splitlines()
    return f"the hub cannot be reached: {lines[0] if lines else type(error).__name__}"
