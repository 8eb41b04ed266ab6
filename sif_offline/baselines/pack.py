"""What a rival's forge writes: ``baseline.json``, and the pictures or the weights that it made. No key, no
score tables: a target and its keywords are all that is needed to judge an answer.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import AwareDatetime, Field, PrivateAttr, ValidationError, model_validator

from sif_offline.baselines.base import Target
from sif_offline.fingerprint.pack import FileName, Identifier, Owner, Sha256
from sif_offline.fingerprint.pack_files import PackError, PackFiles, write_new
from sif_offline.fingerprint.schema import FrozenRow, first_problem

MAIN = "baseline.json"
WEIGHTS = "weights/lora.safetensors"


class BaselineRow(FrozenRow):
    """One trigger: a picture in a file that is sent with the target's question, or a prompt.

    Attributes:
        id: unique within the pack.
        file: the trigger picture inside the pack, lossless, the very bytes that are sent.
        sha256: hex digest of those bytes.
        clean_file: the unchanged photo, the paired control.
        clean_sha256: hex digest of it.
        prompt: the words that are sent alone.
        target: the question, the answer wanted, its keywords. The question is sent with a picture; alone it
            is the paired control of a prompt.
        details: what the method knows of it, JSON values, as
            :class:`~sif_offline.baselines.base.Forged` has them.
    """

    id: Identifier
    file: FileName | None = None
    sha256: Sha256 | None = None
    clean_file: FileName | None = None
    clean_sha256: Sha256 | None = None
    prompt: str | None = None
    target: Target
    details: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _picture_or_prompt(self) -> Self:
        picture = [self.file, self.sha256, self.clean_file, self.clean_sha256]
        if any(picture) != all(picture) or all(picture) == bool(self.prompt):
            raise ValueError(f"{self.id}: a trigger is a picture with its control, or a prompt")
        return self


class BaselinePack(FrozenRow):
    """``baseline.json``, with access to the pictures beside it once it was read from disk.

    Attributes:
        kind: ``"baseline"``.
        schema_version: of this schema.
        pack_id: name of the pack.
        method: the rival's name.
        method_kind: what it makes: pictures, prompts, or other weights together with prompts.
        settings: of the run, JSON values; the targets of the rows are left out.
        owner: the model.
        image_backend: whose pixels the triggers were forged for: ``pil`` or ``torchvision``.
        triggers: at least one.
        weights: file inside the pack that the owner is merged with before it is deployed; the triggers speak
            of the model so changed.
        weights_sha256: hex digest of it.
        created: time of forging, with its zone.
        job: digest of everything that decided the outcome.
    """

    kind: Literal["baseline"] = "baseline"
    schema_version: Literal[1] = 1
    pack_id: Identifier
    method: str = Field(min_length=1)
    method_kind: Literal["image", "text", "training"] = "image"
    settings: dict[str, Any] = Field(default_factory=dict)
    owner: Owner
    image_backend: str
    triggers: tuple[BaselineRow, ...] = Field(min_length=1)
    weights: FileName | None = None
    weights_sha256: Sha256 | None = None
    created: AwareDatetime
    job: Sha256

    _files: PackFiles | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _ids_differ(self) -> Self:
        if len({row.id for row in self.triggers}) < len(self.triggers):
            raise ValueError("two triggers have one id")
        if any((row.file is not None) != (self.method_kind == "image") for row in self.triggers):
            raise ValueError(f"triggers are not of the kind {self.method_kind}")
        given = (self.weights is not None, self.weights_sha256 is not None)
        if given != (self.method_kind == "training",) * 2:
            raise ValueError("weights belong to the kind training, with their digest")
        return self

    def trigger_bytes(self, row: BaselineRow) -> bytes:
        """The trigger's PNG. Raises ``PackError``: it has none, or the file is missing or was changed."""
        return self._read(row.file, row.sha256)

    def clean_bytes(self, row: BaselineRow) -> bytes:
        """The clean photo's PNG. Raises ``PackError``: as for the trigger's."""
        return self._read(row.clean_file, row.clean_sha256)

    def weights_bytes(self) -> bytes:
        """What the owner is merged with. Raises ``PackError``: as for a trigger."""
        return self._read(self.weights, self.weights_sha256)

    def _read(self, name: str | None, digest: str | None) -> bytes:
        if name is None:
            raise PackError(f"{self.pack_id}: a pack of the kind {self.method_kind} has no such file")
        if self._files is None:
            raise ValueError("this pack was not read from disk")
        data = self._files.read(name)
        if sha256(data).hexdigest() != digest:
            raise PackError(f"{self._files.path}: {name} was changed (not the sha256 in {MAIN})")
        return data


def read_baseline(path: Path) -> BaselinePack:
    """Read and check a pack: a directory, or a zip of one.

    Raises:
        PackError: no pack, or one that is damaged or of a newer schema.
    """
    files = PackFiles(path, main=MAIN)
    files.verify()
    content = files.parse(MAIN)
    version = content.get("schema_version")
    if isinstance(version, int) and version > 1:
        raise PackError(f"{path}: schema version {version}, this code reads up to 1")
    try:
        pack = BaselinePack.model_validate(content)
    except ValidationError as error:
        raise PackError(f"{path}: {MAIN}: {first_problem(error)}") from None
    pack._files = files
    return pack


def write_baseline(path: Path, pack: BaselinePack, files: Mapping[str, bytes]) -> BaselinePack:
    """Write a new pack and read it back.

    Args:
        path: must not exist, or be an empty directory.
        pack: names the files.
        files: file name -> bytes.

    Raises:
        PackError: ``path`` is taken or cannot be written.
    """
    write_new(path, {MAIN: pack.model_dump_json(indent=1).encode(), **files})
    return read_baseline(path)
