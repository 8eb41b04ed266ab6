"""The tables. Times are Unix seconds (UTC) as floats: the same in SQLite and PostgreSQL, and no zone to lose.

targets   who is watched, who allowed it and why
leases    which process may run a round of a target just now
rounds    one a pass over a target, with its statistics when it ended
asks      one a send; the row is committed BEFORE the send ("intent") and settled after it
answers   what came back, stored before it is scored
chain     every exchange as a link of a hash chain, with its raw bodies: what evidence is made from
scores    what the statistics made of an answer; `sif-probes rescore` throws them away and makes them again
holds     targets that nothing is sent to until somebody resumes them
burned    triggers that are not sent any more
tallies   running totals of each target
standings where its e-processes stood after its last round; may be thrown away and are made again
"""

from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, MetaData, String, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Declarative base of the store; constraints are named, so that a later migration can find them."""

    metadata = MetaData(
        naming_convention={
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
        }
    )


class TargetRow(Base):
    """A watched endpoint, as last configured. ``kind`` is that of the pack: sif or metav.

    ``alpha`` is the level at which it would be confirmed; 0 where nothing can confirm it.
    """

    __tablename__ = "targets"
    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    kind: Mapped[str] = mapped_column(String(12), default="sif", server_default="sif")
    model: Mapped[str]
    api_base: Mapped[str | None]
    authorised_by: Mapped[str]
    purpose: Mapped[str]
    pack_id: Mapped[str] = mapped_column(String(100))
    interval_s: Mapped[float]
    alpha: Mapped[float]
    updated_at: Mapped[float]


class LeaseRow(Base):
    """The right to run a round of one target; taken and given back in one statement each."""

    __tablename__ = "leases"
    target: Mapped[str] = mapped_column(String(63), primary_key=True)
    holder: Mapped[str]
    expires_at: Mapped[float]


class HoldRow(Base):
    """A paused target, ``*`` for all of them."""

    __tablename__ = "holds"
    target: Mapped[str] = mapped_column(String(63), primary_key=True)
    held_by: Mapped[str] = mapped_column(String(100))
    reason: Mapped[str]
    since: Mapped[float]


class BurnRow(Base):
    """A trigger that a target (``*``: any) may have learned, and that is not sent to it again."""

    __tablename__ = "burned"
    pack_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    trigger_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    target: Mapped[str] = mapped_column(String(63), primary_key=True)
    reason: Mapped[str]
    since: Mapped[float]


class RoundRow(Base):
    """One round. ``state``: running, complete (every ask answered), partial, idle (nothing was due).

    ``held``: the limit that ended it before its plan was done, None where none did. ``oversize``: triggers
    left out because the target does not take pictures of their size.

    z is Stouffer's over the round's scored triggers, None where nothing was scored. ``log_e`` and its
    maximum are the target's e-process after the round against "unrelated model" (natural logs; None while
    the pack is not calibrated), ``log_e_independent`` the one against "independent text". ``control_z`` is of
    the clean photos, ``wrong_key_*`` of the wrong-key control over the round's answers.

    Rounds of a MetaV pack have a ``score``, the verifier's log-odds (natural) of the newest answers to all
    queries, and its conformal p; None while a query has no answer.
    """

    __tablename__ = "rounds"
    __table_args__ = (Index("ix_rounds_target", "target", "pack_id", "id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    target: Mapped[str] = mapped_column(String(63))
    pack_id: Mapped[str] = mapped_column(String(100))
    state: Mapped[str] = mapped_column(String(12))
    started_at: Mapped[float]
    finished_at: Mapped[float | None]
    planned: Mapped[int] = mapped_column(default=0)
    answered: Mapped[int] = mapped_column(default=0)
    scored: Mapped[int] = mapped_column(default=0)
    z: Mapped[float | None]
    score: Mapped[float | None]
    log_pvalue: Mapped[float | None]
    control_z: Mapped[float | None]
    threshold_z: Mapped[float | None]
    log_e: Mapped[float | None]
    log_e_max: Mapped[float | None]
    log_e_independent: Mapped[float | None]
    wrong_key_share: Mapped[float | None]
    wrong_key_pvalue: Mapped[float | None]
    verdict: Mapped[str | None] = mapped_column(String(12))
    held: Mapped[str | None] = mapped_column(String(20))
    oversize: Mapped[int] = mapped_column(default=0, server_default="0")


class AskRow(Base):
    """One send. ``state``: intent, answered, failed (certainly not answered), in_doubt (perhaps answered).

    ``control`` marks the clean photo of the trigger, ``final`` a failure that no further attempt follows.
    The partial unique index lets no two open intents of one trigger exist, whatever the processes do.
    """

    __tablename__ = "asks"
    __table_args__ = (
        Index(
            "uq_asks_open_intent",
            "target",
            "pack_id",
            "trigger_id",
            "control",
            unique=True,
            sqlite_where=text("state = 'intent'"),
            postgresql_where=text("state = 'intent'"),
        ),
        Index(
            "ix_asks_history", "target", "pack_id", "trigger_id", "control", "intended_at", "state", "failure"
        ),
        Index("ix_asks_sent", "target", "intended_at"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    round_id: Mapped[int] = mapped_column(ForeignKey("rounds.id"), index=True)
    target: Mapped[str] = mapped_column(String(63))
    pack_id: Mapped[str] = mapped_column(String(100))
    trigger_id: Mapped[str] = mapped_column(String(100))
    control: Mapped[bool]
    attempt: Mapped[int]
    image_sha256: Mapped[str] = mapped_column(String(64))
    prompt: Mapped[str]
    max_tokens: Mapped[int]
    request: Mapped[str | None]
    state: Mapped[str] = mapped_column(String(10))
    final: Mapped[bool] = mapped_column(default=False)
    intended_at: Mapped[float] = mapped_column(index=True)
    settled_at: Mapped[float | None]
    failure: Mapped[str | None] = mapped_column(String(20))
    reason: Mapped[str | None]


class AnswerRow(Base):
    """What an endpoint said. ``kind``: answer, refusal, truncated, content_filter, empty.

    ``raw`` holds the reply of answers from before there was a chain; later replies are in the chain.
    ``dropped_at``: when retention took the text and the reply away.
    """

    __tablename__ = "answers"
    ask_id: Mapped[int] = mapped_column(ForeignKey("asks.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    text: Mapped[str]
    finish_reason: Mapped[str]
    served_model: Mapped[str]
    latency_s: Mapped[float]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    cost_usd: Mapped[float | None]
    raw: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    dropped_at: Mapped[float | None]


class ChainRow(Base):
    """One link: ``record`` and ``response`` are the JSON texts that were hashed (the request's is in asks).

    ``response`` may be dropped by a retention rule; the digests in ``record`` keep the chain whole.
    """

    __tablename__ = "chain"
    target: Mapped[str] = mapped_column(String(63), primary_key=True)
    pack_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    ask_id: Mapped[int] = mapped_column(ForeignKey("asks.id"), index=True)
    record: Mapped[str]
    response: Mapped[str | None]


class ScoreRow(Base):
    """The score of one answer: its own distinct counts, and what the e-process may count.

    ``new_types`` are the [token id, 1 if green else 0] in order of arrival that no earlier scored answer of
    the same target to the same trigger had; none of a clean photo, which the e-process never counts.
    """

    __tablename__ = "scores"
    ask_id: Mapped[int] = mapped_column(ForeignKey("answers.ask_id"), primary_key=True)
    types: Mapped[int]
    greens: Mapped[int]
    z: Mapped[float]
    log_pvalue: Mapped[float]
    hit: Mapped[bool]
    new_types: Mapped[list[list[int]]] = mapped_column(JSON)


class TallyRow(Base):
    """One running total of a target; see :mod:`probes.store.tallies`."""

    __tablename__ = "tallies"
    target: Mapped[str] = mapped_column(String(63), primary_key=True)
    pack_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    value: Mapped[float]


class StandingRow(Base):
    """A target's e-processes after ``scored`` trigger answers; see :mod:`probes.store.standings`."""

    __tablename__ = "standings"
    target: Mapped[str] = mapped_column(String(63), primary_key=True)
    pack_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    last_ask: Mapped[int]
    scored: Mapped[int]
    state: Mapped[bytes]
