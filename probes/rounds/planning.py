"""What a round asks."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from probes.rounds.settings import RoundSettings
from probes.store import LastSend, Store
from probes.store.orders import burned_for
from sif_offline.fingerprint.evidence.commitment import reserved_triggers
from sif_offline.fingerprint.pack import FingerprintPack, TriggerRow


@dataclass(frozen=True)
class Question:
    """A trigger as it is asked, under one wording of its prompt; with ``control`` its clean photo."""

    trigger: TriggerRow
    control: bool

    def image(self, pack: FingerprintPack) -> bytes:
        """The picture to send, PNG."""
        return pack.clean_bytes(self.trigger) if self.control else pack.trigger_bytes(self.trigger)


class Questions(NamedTuple):
    """What to ask, in this order; ``oversize``: triggers that the target does not take for their size."""

    questions: list[Question]
    oversize: int


def plan_round(
    pack: FingerprintPack,
    store: Store,
    target: str,
    *,
    settings: RoundSettings,
    now: float,
    rng: random.Random,
) -> Questions:
    """The triggers that are due, fresh ones first, with clean photos of some of them, in random order.

    Left out are triggers held in reserve (a third party's to send), burned ones, those that have been sent
    as often as their lifetime allows, and those whose picture the target does not take.

    Each question carries one of the wordings that the pack allows, drawn whatever was answered before;
    without ``prompt_variants`` the trigger's own.
    """
    left_out = reserved_triggers(pack) | burned_for(store, target, pack_id=pack.pack_id)
    ours = [row for row in pack.triggers if row.id not in left_out]
    images, oversize = settings.images, set[str]()
    if images.leaves_out:  # or no picture need be read yet
        oversize = {row.id for row in ours if not images.fits(pack.trigger_bytes(row))}
        ours = [row for row in ours if row.id not in oversize]

    def due(rows: list[TriggerRow], *, control: bool) -> list[TriggerRow]:
        sends = store.last_sends(target, pack_id=pack.pack_id, control=control)
        by_id = {row.id: row for row in rows}
        return [by_id[name] for name in rested(list(by_id), sends, settings=settings, now=now, rng=rng)]

    triggers = due(ours, control=False)[: settings.triggers_per_round]
    share = settings.clean_share * len(triggers)
    count = int(share) + (rng.random() < share - int(share))

    def worded(row: TriggerRow) -> TriggerRow:
        varied = settings.prompt_variants and row.variants
        return row.asked_with(rng.choice(row.wordings)) if varied else row

    questions = [Question(worded(row), False) for row in triggers]
    pairs = [row for row in triggers if not images.leaves_out or images.fits(pack.clean_bytes(row))]
    questions += [Question(worded(row), True) for row in due(pairs, control=True)[:count]]
    rng.shuffle(questions)
    return Questions(questions, oversize=len(oversize))


def rested(
    ids: Sequence[str],
    sends: Mapping[str, LastSend],
    *,
    settings: RoundSettings,
    now: float,
    rng: random.Random,
) -> list[str]:
    """Those that have cooled down and may be sent again at all, the least often sent first."""
    found = [name for name in ids if _may_go(sends.get(name), settings=settings, now=now)]
    rng.shuffle(found)  # the sort is stable: random among those asked equally often
    return sorted(found, key=lambda name: sends[name].times if name in sends else 0)


def _may_go(send: LastSend | None, *, settings: RoundSettings, now: float) -> bool:
    lifetime = settings.limits.lifetime
    return send is None or (
        send.at <= now - settings.cooldown_s and (lifetime is None or send.times < lifetime)
    )
