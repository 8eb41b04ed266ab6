"""From ``owner/name@revision`` or a folder to the model's files on this machine.

The hub is asked once, by one download of the files that are needed; everything after it reads the local
folder. So a machine without a network says so in one line and within seconds, and a model that was fetched
before loads there.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sif_offline.models.base import ModelError

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_TEXTS = ("*.json", "*.jinja", "*.txt", "tokenizer.model")
_WEIGHTS = ("*.safetensors",)
_CHUNK = 1 << 24
HUB_SECONDS = 8.0
"""How long the hub may take to answer."""


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
    wanted = [*_TEXTS, *(_WEIGHTS if weights else ())]
    try:
        found = _fetch(name, revision or None, wanted)
    except Exception as error:  # a dozen types of several libraries, none with a useful common base
        raise ModelError(f"model {spec}: {_hub_reason(error)}") from error
    return Checkpoint(found, spec=spec, model_id=name, revision=found.name)


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


def _fetch(name: str, revision: str | None, patterns: list[str]) -> Path:
    """The folder of a model's snapshot; what was fetched before will do where the hub does not answer."""
    import httpx
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        # by itself the download waits for ever on a hub that takes the call and stays silent
        revision, local = HfApi().model_info(name, revision=revision, timeout=HUB_SECONDS).sha, False
    except (httpx.TransportError, OfflineModeIsEnabled):
        local = True
    return Path(
        snapshot_download(
            name,
            revision=revision,
            allow_patterns=patterns,
            etag_timeout=HUB_SECONDS,
            local_files_only=local,
        )
    )


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
