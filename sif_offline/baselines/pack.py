"""What a rival's forge writes: ``baseline.json``, ``triggers/*.png`` and ``clean/*.png``. No key, no score
tables: a target and its keywords are all that is needed to judge an answer.
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


class BaselineRow(FrozenRow):
    """One trigger.

    Attributes:
        id: unique within the pack.
        file: the trigger picture inside the pack, lossless, the very bytes that are sent.
        sha256: hex digest of those bytes.
        clean_file: the unchanged photo, the paired control.
        clean_sha256: hex digest of it.
        target: the question sent with the picture, the answer wanted, its keywords.
        details: what the method knows of it, JSON values; ``owner_answer`` and ``owner_matched`` are the
            owner's own greedy answer to the file and whether it counts.
    """

    id: Identifier
    file: FileName
    sha256: Sha256
    clean_file: FileName
    clean_sha256: Sha256
    target: Target
    details: dict[str, Any] = Field(default_factory=dict)


class BaselinePack(FrozenRow):
    """``baseline.json``, with access to the pictures beside it once it was read from disk.

    Attributes:
        kind: ``"baseline"``.
        schema_version: of this schema.
        pack_id: name of the pack.
        method: the rival's name.
        settings: of the run, JSON values; the targets of the rows are left out.
        owner: the model.
        image_backend: whose pixels the triggers were forged for: ``pil`` or ``torchvision``.
        triggers: at least one.
        created: time of forging, with its zone.
        job: digest of everything that decided the outcome.
    """

    kind: Literal["baseline"] = "baseline"
    schema_version: Literal[1] = 1
    pack_id: Identifier
    method: str = Field(min_length=1)
    settings: dict[str, Any] = Field(default_factory=dict)
    owner: Owner
    image_backend: str
    triggers: tuple[BaselineRow, ...] = Field(min_length=1)
    created: AwareDatetime
    job: Sha256

    _files: PackFiles | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _ids_differ(self) -> Self:
        if len({row.id for row in self.triggers}) < len(self.triggers):
            raise ValueError("two triggers have one id")
        return self

    def trigger_bytes(self, row: BaselineRow) -> bytes:
        """The trigger's PNG. Raises ``PackError``: the file is missing or was changed."""
        return self._read(row.file, row.sha256)

    def clean_bytes(self, row: BaselineRow) -> bytes:
        """The clean photo's PNG. Raises ``PackError``: the file is missing or was changed."""
        return self._read(row.clean_file, row.clean_sha256)

    def _read(self, name: str, digest: str) -> bytes:
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


def write_baseline(path: Path, pack: BaselinePack, pictures: Mapping[str, bytes]) -> BaselinePack:
    """Write a new pack and read it back.

    Args:
        path: must not exist, or be an empty directory.
        pack: its rows name the pictures.
        pictures: file name -> bytes.

    Raises:
        PackError: ``path`` is taken or cannot be written.
    """
    write_new(path, {MAIN: pack.model_dump_json(indent=1).encode(), **pictures})
    return read_baseline(path)
