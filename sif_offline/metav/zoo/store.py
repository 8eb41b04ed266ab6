"""The zoo on disk: one safetensors file a model, named by its recipe's digest, and ``zoo.json`` that says
which are members and what they are for.

A model's file is written beside its place and renamed to it, so it is there whole or not at all, and holds
its recipe: it can be read without the zoo.
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.schema import first_problem
from sif_offline.metav.tasks import Task, TaskError, make_task
from sif_offline.metav.zoo.making import States, model_of
from sif_offline.metav.zoo.model import ZooModel
from sif_offline.metav.zoo.plan import Member, Role, Split
from sif_offline.metav.zoo.recipe import Recipe

MANIFEST = "zoo.json"
MODELS = "models"
_CHECKPOINT = "checkpoint"


class ZooError(SifError):
    """A zoo or a model file that is missing, damaged or cannot be written; names the path."""


class MemberRow(Member):
    """A member that is there.

    Attributes:
        file: of the model, inside the zoo.
        quality: on the task's test data, undisguised: accuracy, R2, ...
        seconds: of processor time that making it took.
    """

    file: str
    quality: float
    seconds: float


class Manifest(BaseModel):
    """``zoo.json``. ``complete`` is false until every planned model is there."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: int = 1
    task: str
    seed: int
    complete: bool
    members: tuple[MemberRow, ...]


@dataclass(frozen=True)
class Zoo:
    """A zoo that was built; models are read when they are asked for."""

    folder: Path
    task: Task
    manifest: Manifest

    @property
    def members(self) -> tuple[MemberRow, ...]:
        """All of them, the owner first."""
        return self.manifest.members

    @property
    def owner(self) -> MemberRow:
        """The model that the positives were stolen from. Raises ``ZooError``: there is none."""
        for row in self.members:
            if row.role == "owner":
                return row
        raise ZooError(f"{self.folder}: has no owner")

    def of(self, split: Split, role: Role) -> tuple[MemberRow, ...]:
        """The members of a split and role."""
        return tuple(row for row in self.members if row.split == split and row.role == role)

    def among(self, names: Sequence[str]) -> "Zoo":
        """The zoo as if these alone had been made, in this order. Raises ``ZooError``: one is not there."""
        members = tuple(self.named(name) for name in names)
        return Zoo(self.folder, self.task, self.manifest.model_copy(update={"members": members}))

    def named(self, name: str) -> MemberRow:
        """The member ``name``. Raises ``ZooError``: there is none."""
        for row in self.members:
            if row.name == name:
                return row
        raise ZooError(f"{self.folder}: has no member {name!r}; {MANIFEST} lists them")

    def model(self, row: MemberRow) -> ZooModel:
        """The model of a member. Raises ``ZooError``."""
        return self._checked(row)[0]

    def models(self, rows: Sequence[MemberRow], *, checkpoints: bool = False) -> list[ZooModel]:
        """The models of members; with ``checkpoints`` the kept states of each behind it.

        Raises:
            ZooError: a file is missing or damaged.
        """
        found = []
        for row in rows:
            model, states = self._checked(row)
            found.append(model)
            if checkpoints:
                found += [model_of(self.task, row.recipe, state) for state in states]
        return found

    def _checked(self, row: MemberRow) -> tuple[ZooModel, States]:
        model, states = _read(self.folder / row.file, self.task)
        if model.recipe != row.recipe:
            raise ZooError(f"{self.folder / row.file}: holds another model than {MANIFEST} says")
        return model, states


def read_zoo(folder: str | Path) -> Zoo:
    """The zoo in ``folder``. Raises ``ZooError`` where there is none, or one that was not finished."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest is None:
        raise ZooError(f"{folder}: no zoo ({MANIFEST} is missing); `sif metav zoo` builds one")
    if not manifest.complete:
        raise ZooError(f"{folder}: the zoo is not finished; repeat the command that builds it")
    return Zoo(folder, make_task(manifest.task), manifest)


def read_manifest(folder: Path) -> Manifest | None:
    """``zoo.json``, None where there is none. Raises ``ZooError``: it is damaged."""
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ZooError(f"{path}: {error.strerror or error}") from None
    except ValidationError as error:
        raise ZooError(f"{path}: {first_problem(error)}") from None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace ``zoo.json``, all or nothing. Raises ``ZooError``: it cannot be written."""
    _write(folder / MANIFEST, (manifest.model_dump_json(indent=1) + "\n").encode())


def load_model(path: str | Path, *, task: Task | None = None) -> ZooModel:
    """A model from its file, of the registered task that it names unless ``task`` is given.

    Raises:
        ZooError: the file is missing, damaged, or another task's.
    """
    return _read(Path(path), task)[0]


def model_file(recipe: Recipe) -> str:
    """Where a zoo keeps that model."""
    return f"{MODELS}/{recipe.key}.safetensors"


def save_model(path: Path, model: ZooModel, states: States) -> None:
    """Write a model and the kept states of its training. Raises ``ZooError``: it cannot be written."""
    tensors = {name: value.contiguous() for name, value in model.network.state_dict().items()}
    for number, state in enumerate(states):
        tensors |= {f"{_CHECKPOINT}.{number}.{name}": value.contiguous() for name, value in state.items()}
    _write(path, save(tensors, metadata={"recipe": model.recipe.model_dump_json()}))


def _read(path: Path, task: Task | None) -> tuple[ZooModel, States]:
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("recipe")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError) as error:
        raise ZooError(f"{path}: cannot be read ({error})") from None
    if text is None:
        raise ZooError(
            f"{path}: says nothing of how it was made; models are files that `sif metav zoo` wrote"
        )
    try:
        recipe = Recipe.model_validate_json(text)
        task = task or make_task(recipe.task)
        if task.name != recipe.task:
            raise ValueError(f"it is of task {recipe.task}, not {task.name}")
        states: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            prefix, _, rest = name.partition(".")
            number, _, inner = rest.partition(".")
            which, inner = (number, inner) if prefix == _CHECKPOINT else ("", name)
            states.setdefault(which, {})[inner] = value
        last = states.pop("", {})
        return model_of(task, recipe, last), [states[number] for number in sorted(states, key=int)]
    except (ValidationError, ValueError, KeyError, RuntimeError, TaskError) as error:
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ZooError(f"{path}: holds no model of this project ({why})") from None


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as stream:
            try:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
                os.replace(stream.name, path)
            except BaseException:
                os.unlink(stream.name)
                raise
    except OSError as error:
        raise ZooError(f"{path}: cannot be written ({error.strerror or error})") from None
