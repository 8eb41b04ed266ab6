"""Rows that tests of the store begin with."""

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
