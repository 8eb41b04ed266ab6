"""Rows that tests of the store begin with."""

from probes.store import Store
from probes.store.lease import new_holder
from probes.store.tables import AskRow
from probes.targets import AskFailure
from probes.targets.base import FailureKind


def ask_row(round_id: int, *, at: float, trigger: str = "t00", control: bool = False) -> AskRow:
    return AskRow(
        round_id=round_id,
        target="suspect",
        pack_id="tiny",
        trigger_id=trigger,
        control=control,
        attempt=1,
        image_sha256="0" * 64,
        prompt="?",
        max_tokens=8,
        state="intent",
        final=False,
        intended_at=at,
    )


def failure(*, in_doubt: bool) -> AskFailure:
    kind: FailureKind = "timeout" if in_doubt else "connection"
    return AskFailure(target="suspect", reason="x", kind=kind, in_doubt=in_doubt)


def begin(store: Store, *, now: float = 0.0) -> tuple[str, int]:
    """A lease and an open round of the suspect: its holder and its id."""
    holder = new_holder()
    assert store.take_lease("suspect", holder=holder, now=now, ttl_s=60)
    return holder, store.begin_round("suspect", pack_id="tiny", planned=1, now=now)
