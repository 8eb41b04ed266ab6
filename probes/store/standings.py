"""Where the e-processes of a target stood after its last round, so that the next one goes on from there.

A cache, and one that shows its age: a standing is what the first ``scored`` trigger answers gave, up to ask
``last_ask``. It is gone on from only where it and the answers scored after it are all that the tallies count.
An answer that was scored late, by whatever process, therefore makes the next round replay all of them.
"""

import json
import zlib
from typing import Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from probes.store.reading import ScoredAnswer, read_scored
from probes.store.store import Store
from probes.store.tables import AskRow, LeaseRow, RoundRow, StandingRow, TallyRow
from probes.store.tallies import SCORED


class Standing(NamedTuple):
    """A state (JSON values, see ``probes.standing.Ledger``), and of which answers it is."""

    state: dict[str, Any]
    last_ask: int
    scored: int


def kept_standing(store: Store, target: str, *, pack_id: str) -> tuple[Standing, list[ScoredAnswer]] | None:
    """What is kept of a target, and its answers scored since; None where everything must be replayed."""
    with store.reading() as session:
        row = session.get(StandingRow, (target, pack_id))
        if row is None:
            return None
        newer = _count(session, target, pack_id) - row.scored
        answers = _scored_after(session, row) if newer else []
    if len(answers) != newer:
        return None
    try:
        state = json.loads(zlib.decompress(row.state))
    except (ValueError, zlib.error):
        return None
    return Standing(state, row.last_ask, row.scored), answers


def keep_standing(store: Store, standing: Standing, target: str, *, pack_id: str, holder: str) -> bool:
    """Keep it for the next round.

    False where it does not hold every scored answer, or where ``holder`` has lost the target's lease: another
    process goes on with the target. Nothing is kept then.
    """
    state = zlib.compress(json.dumps(standing.state, allow_nan=False).encode(), level=1)
    row = StandingRow(
        target=target, pack_id=pack_id, last_ask=standing.last_ask, scored=standing.scored, state=state
    )
    with store.writing() as session:
        leased = select(LeaseRow.holder).where(LeaseRow.target == target).with_for_update()
        if session.scalar(leased) != holder or _count(session, target, pack_id) != standing.scored:
            return False
        session.merge(row)
    return True


def _count(session: Session, target: str, pack_id: str) -> int:
    """Scored trigger answers of the target."""
    total = select(func.sum(TallyRow.value)).where(
        TallyRow.target == target, TallyRow.pack_id == pack_id, TallyRow.name.in_(SCORED)
    )
    return int(session.scalar(total) or 0)


def _scored_after(session: Session, row: StandingRow) -> list[ScoredAnswer]:
    """Those of the rounds since, which is quicker than to look through all asks of the target."""
    since = select(AskRow.round_id).where(AskRow.id == row.last_ask).scalar_subquery()
    rounds = select(RoundRow.id).where(
        RoundRow.target == row.target, RoundRow.pack_id == row.pack_id, RoundRow.id >= since
    )
    asks = (AskRow.round_id.in_(session.scalars(rounds).all()), AskRow.id > row.last_ask)
    return read_scored(session, *asks)
