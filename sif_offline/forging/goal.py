"""``--until-power``: forge until simulated thieves would be convicted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenizers import Tokenizer

from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.images import decode_image
from sif_offline.fingerprint.scoring import score_ids
from sif_offline.forging.copies import make_copy
from sif_offline.forging.plan import Job
from sif_offline.forging.power import FEWEST_TRIGGERS, Counts, Power, estimate_power
from sif_offline.forging.workdir import Finished
from sif_offline.models.base import VLMAdapter
from sif_offline.suspects import make_suspect
from sif_offline.suspects.base import Progress, SuspectError

_ALIASES: Mapping[str, str] = {"finetuned": "finetune"}
_ANY_FAMILY: Mapping[str, str] = {"4bit": "nf4", "8bit": "int8"}


class GoalError(SifError):
    """A goal that makes no sense; names the option."""


@dataclass(frozen=True)
class PowerTarget:
    """What ``--until-power`` and its companions say.

    Args:
        power: wanted of every suspect under both nulls, in (0, 1).
        alpha: level of the watch, in (0, 1).
        suspects: names as :func:`~sif_offline.suspects.make_suspect` takes them; ``finetuned`` is
            ``finetune``.
        max_answers: of the watch; None = one to every trigger.
        transfer: m of the unrelated-model null: assumed, or measured by ``sif calibrate`` on another pack of
            this owner.
        seed: of the suspects and of the estimate.
    """

    power: float
    suspects: tuple[str, ...]
    alpha: float = 1e-6
    max_answers: int | None = None
    transfer: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.power < 1:
            raise GoalError(f"--until-power {self.power:g}: lies between 0 and 1")
        if not 0 < self.alpha < 1:
            raise GoalError(f"--alpha {self.alpha:g}: lies between 0 and 1")
        if not self.suspects:
            raise GoalError("--until-power: wants a --suspect to convict, such as 4bit,finetuned")
        if not 0 <= self.transfer < 0.5:
            raise GoalError(f"--transfer {self.transfer:g}: a bound on the green excess lies in 0 .. 0.5")


@dataclass
class PowerGoal:
    """:class:`~sif_offline.forging.pipeline.Goal`: every suspect is convicted with the wanted power.

    Use :meth:`of`. A trigger is put to every suspect once, greedily, as soon as it is forged.
    """

    target: PowerTarget
    owner: VLMAdapter
    suspects: Mapping[str, VLMAdapter]
    measured: dict[tuple[str, str], Counts] = field(default_factory=dict)
    estimates: tuple[Power, ...] = ()

    @classmethod
    def of(cls, target: PowerTarget, owner: VLMAdapter, *, progress: Progress | None = None) -> "PowerGoal":
        """Make the suspects; trained ones come from the user's cache where they were made before.

        Raises:
            SuspectError: no such suspect, or one that cannot be made of this family.
        """
        suspects = {name: _suspect(name, owner, target.seed, progress) for name in target.suspects}
        return cls(target, owner, suspects)

    def description(self) -> dict[str, Any]:
        """See :class:`~sif_offline.forging.pipeline.Goal`."""
        t = self.target
        return {
            "power": t.power,
            "alpha": t.alpha,
            "suspects": list(t.suspects),
            "max_answers": t.max_answers,
            "transfer": t.transfer,
            "seed": t.seed,
        }

    def enough(self, rows: Sequence[tuple[Job, Finished]]) -> bool:
        """Whether the goal is reached, or no further trigger could help."""
        for name, suspect in self.suspects.items():
            self._measure(name, suspect, rows)
        if len(rows) < FEWEST_TRIGGERS:
            return False
        t, (job, _) = self.target, rows[0]
        self.estimates = tuple(
            estimate_power(
                [self.measured[name, row.trigger_id] for row, _ in rows],
                suspect=name,
                vocab_size=len(job.mask),
                green_size=int(job.mask.sum()),
                alpha=t.alpha,
                max_answers=t.max_answers,
                transfer=transfer,
                seed=t.seed,
            )
            for name in self.suspects
            for transfer in (None, t.transfer)
        )
        return self.reached or (t.max_answers is not None and len(rows) >= t.max_answers)

    @property
    def reached(self) -> bool:
        """Whether the last estimates suffice."""
        return bool(self.estimates) and min(row.power for row in self.estimates) >= self.target.power

    def report(self) -> dict[str, Any]:
        """See :class:`~sif_offline.forging.pipeline.Goal`."""
        return {
            **self.description(),
            "reached": self.reached,
            "estimates": [row.to_json() for row in self.estimates],
        }

    def _measure(self, name: str, suspect: VLMAdapter, rows: Sequence[tuple[Job, Finished]]) -> None:
        new = [(job, done) for job, done in rows if (name, job.trigger_id) not in self.measured]
        tokenizer = Tokenizer.from_str(self.owner.tokenizer_json().decode())
        for prompt in dict.fromkeys(job.prompt for job, _ in new):
            asked = [(job, done) for job, done in new if job.prompt == prompt]
            images = [decode_image(done.png, name=job.trigger_id) for job, done in asked]
            for (job, _), answer in zip(asked, suspect.generate(images, prompt), strict=True):
                ids = tokenizer.encode(suspect.text(answer), add_special_tokens=False).ids
                score = score_ids(ids, mask=job.mask, ignore=self.owner.special_ids)
                self.measured[name, job.trigger_id] = Counts(score.types, score.greens)


def _suspect(name: str, owner: VLMAdapter, seed: int, progress: Progress | None) -> VLMAdapter:
    spec = "+".join(_resolved(part) for part in name.split("+"))
    family, _, rest = owner.name.partition(":")
    if family == "lab":
        from sif_offline.models.lab import LabAdapter

        model, processor = make_suspect(spec, rest, seed=seed, progress=progress).load()
        return LabAdapter(model, processor, name=f"{owner.name}+{spec}", device=str(owner.device))
    if spec in _ANY_FAMILY:
        return make_copy(owner, _ANY_FAMILY[spec], seed=seed, noise=0.0)
    raise SuspectError(
        f"suspect {name!r}: of a {family} model only {', '.join(_ANY_FAMILY)} can be made, of a lab model all"
    )


def _resolved(part: str) -> str:
    kind, colon, number = part.partition(":")
    return f"{_ALIASES.get(kind, kind)}{colon}{number}"
