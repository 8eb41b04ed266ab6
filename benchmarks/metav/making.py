"""What a method makes of a zoo's models to train on, kept on disk: queries, and MetaV's verifier."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from safetensors.numpy import load_file, save_file

from benchmarks.red_team.keeping import Kept, digest
from sif_offline.fingerprint.metav.verifier import read_verifier
from sif_offline.metav.keeping import VERSION
from sif_offline.metav.packing import answers_of
from sif_offline.metav.presets import PRESETS
from sif_offline.metav.rivals import RIVALS, Forged, forge_rival, make_rival
from sif_offline.metav.settings import MetaVSettings
from sif_offline.metav.train import Trained, train_metav
from sif_offline.metav.zoo import Zoo, ZooSize

VIEWS = ("full", "rounded-1", "label")
OWN = ZooSize().own
"""The zoo's default, which rivals work with as well."""


@dataclass(frozen=True)
class Variant:
    """A form of MetaV.

    Attributes:
        settings: that differ from the defaults.
        own: of the zoo: share of the unrelated models to train on that have the owner's architecture.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    own: float = OWN


METAV: Mapping[str, Variant] = MappingProxyType(
    {
        "MetaV": Variant(),
        "MetaV, own .5": Variant(own=0.5),
        "MetaV, checkpoints": Variant({"checkpoints": True}),
        "MetaV, matched filter": Variant(PRESETS["matched-filter"], own=1),
        "MetaV, as published": Variant(PRESETS["paper"]),
    }
)
METHODS = (*METAV, *RIVALS)
Row = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """A fingerprint before anything is scored with it.

    Attributes:
        job: digest of all that it depends on.
        content: of MetaV what was trained, of a rival what was forged.
        seconds: of processor time.
        said: what else is told of it, JSON values.
    """

    job: str
    content: Trained | Forged
    seconds: float
    said: Row


@dataclass(frozen=True)
class Maker:
    """Makes fingerprints once.

    Attributes:
        out: folder of ``made.jsonl`` and the arrays.
        rows: ``made.jsonl``.
        queries: N of every method.
        steps: of MetaV's training at most.
    """

    out: Path
    rows: Kept
    queries: int
    steps: int

    def settings(self, method: str) -> MetaVSettings:
        """Of a form of MetaV."""
        own = METAV[method].settings
        steps = min(self.steps, own.get("steps", self.steps))
        return MetaVSettings(**{**own, "queries": self.queries, "steps": steps, "scored_views": VIEWS})

    def made(self, method: str, zoo: Zoo) -> Made:
        """What ``method`` makes of the zoo's splits train and validation, from disk where it is there."""
        used = [row.recipe.key for row in zoo.members if row.split in ("train", "validation")]
        if method in METAV:
            tried: Any = self.settings(method).model_dump(mode="json")
        else:
            tried = (
                [type(one).__name__ for one in make_rival(method)],
                [one.settings for one in make_rival(method)],
            )
        job = digest(method, used, tried, self.queries, VERSION)
        row = self.rows.get(job)
        if row is not None:
            return Made(job, self._read(method, zoo, row), row["seconds"], row["said"])
        start = time.process_time()
        found = self._make(method, zoo)
        seconds = time.process_time() - start
        if isinstance(found, Trained):
            said = {name: value for name, value in asdict(found).items() if isinstance(value, int | float)}
            self._path(job, "verifier").write_bytes(found.verifier.to_safetensors())
        else:
            said = {"chosen": found.rival.settings}
        save_file({"queries": found.queries}, self._path(job, "queries"))
        self.rows.add({"job": job, "method": method, "seconds": seconds, "said": said})
        return Made(job, found, seconds, said)

    def _make(self, method: str, zoo: Zoo) -> Trained | Forged:
        if method in METAV:
            return train_metav(zoo, self.settings(method))
        return forge_rival(make_rival(method), zoo, count=self.queries, seed=0, views=VIEWS)

    def _read(self, method: str, zoo: Zoo, row: Row) -> Trained | Forged:
        queries = load_file(self._path(row["job"], "queries"))["queries"]
        if method in METAV:
            settings = self.settings(method)
            verifier = read_verifier(
                self._path(row["job"], "verifier").read_bytes(),
                form=settings.form,
                activation=settings.activation,
                transform=settings.transform,
                queries=self.queries,
                size=zoo.task.output.size,
            )
            return Trained(queries=queries, verifier=verifier, **row["said"])
        (rival,) = [one for one in make_rival(method) if one.settings == row["said"]["chosen"]]
        return Forged(rival, queries, answers_of([zoo.model(zoo.owner)], queries)[0])

    def _path(self, job: str, what: str) -> Path:
        folder = self.out / "made"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{job[:16]}.{what}.safetensors"
