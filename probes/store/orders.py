"""Standing orders of the people who run the watch: what is paused, which triggers are burned."""

from dataclasses import dataclass

from sqlalchemy import delete, select

from probes.store.limits import EVERY
from probes.store.store import Store
from probes.store.tables import BurnRow, HoldRow


@dataclass(frozen=True)
class Hold:
    """A pause: of whom (``*``: everybody), by whom, why, since when (Unix seconds)."""

    target: str
    held_by: str
    reason: str
    since: float


@dataclass(frozen=True)
class Burn:
    """A trigger that is not sent to a target (``*``: to nobody) any more."""

    trigger_id: str
    target: str
    reason: str
    since: float


def hold(store: Store, target: str, *, by: str, reason: str, now: float) -> None:
    """Pause a target, ``*`` for all: no question leaves from then on, in any process."""
    with store.writing() as session:
        session.merge(HoldRow(target=target, held_by=by, reason=reason, since=now))


def release(store: Store, target: str) -> bool:
    """End a pause; whether there was one. ``*`` ends the pause of all, not those of single targets."""
    with store.writing() as session:
        gone = session.execute(delete(HoldRow).where(HoldRow.target == target))
        return bool(gone.rowcount)  # type: ignore[attr-defined]


def holds(store: Store) -> list[Hold]:
    """Every pause, by target."""
    with store.reading() as session:
        rows = session.scalars(select(HoldRow).order_by(HoldRow.target))
        return [Hold(row.target, row.held_by, row.reason, row.since) for row in rows]


def burn(
    store: Store, trigger_id: str, *, pack_id: str, target: str = EVERY, reason: str, now: float
) -> None:
    """Send a trigger no more to a target, ``*`` for all: it may have learned it."""
    row = BurnRow(pack_id=pack_id, trigger_id=trigger_id, target=target, reason=reason, since=now)
    with store.writing() as session:
        session.merge(row)


def burns(store: Store, *, pack_id: str) -> list[Burn]:
    """The burn list of a pack."""
    query = select(BurnRow).where(BurnRow.pack_id == pack_id).order_by(BurnRow.trigger_id, BurnRow.target)
    with store.reading() as session:
        return [Burn(row.trigger_id, row.target, row.reason, row.since) for row in session.scalars(query)]


def burned_for(store: Store, target: str, *, pack_id: str) -> frozenset[str]:
    """Triggers that are not sent to this target any more."""
    return frozenset(row.trigger_id for row in burns(store, pack_id=pack_id) if row.target in (target, EVERY))
