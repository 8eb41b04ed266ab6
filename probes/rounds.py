"""One round over one target: intents before sends, answers raw before scores, nothing sent twice."""

import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from probes import standing
from probes.store import Store
from probes.store.lease import new_holder
from probes.store.reading import evidence_types, round_counts, round_texts
from probes.store.tables import AskRow, ScoreRow
from probes.targets import AskFailure, Target, classify
from sif_offline.fingerprint.controls import wrong_key_control
from sif_offline.fingerprint.evidence.commitment import reserved_triggers
from sif_offline.fingerprint.evidence.transcript import request_body
from sif_offline.fingerprint.pack import TriggerRow
from sif_offline.fingerprint.scoring import PackScorer

GIVE_UP_AFTER = 3
"""Questions in a row without any answer after which a round leaves the endpoint alone."""

LONGEST_WAIT_S = 120.0
"""A Retry-After beyond this is left to the next round, seconds."""


@dataclass(frozen=True)
class RoundSettings:
    """How rounds are run; see ``ProbesConfig`` for the meaning of each, times in seconds."""

    triggers_per_round: int
    clean_share: float
    cooldown_s: float
    alpha: float | None
    attempts: int
    timeout_s: float


@dataclass(frozen=True)
class RoundSummary:
    """What a finished round says.

    ``control_z`` (clean photos, same keys) and ``wrong_key_*`` (same answers, nobody's keys: their mean green
    share, and the share of keys that do as well) are the controls beside every verdict.

    p and z are against "independent text", ``log10_e`` against "unrelated model" (None while the pack is
    not calibrated); ``verdict`` is the target's since its watch began. ``duration_s`` is in seconds.
    """

    target: str
    pack: str
    round_id: int
    state: str
    planned: int
    answered: int
    scored: int
    failures: dict[str, int]
    refusals: int
    z: float | None
    threshold_z: float
    pvalue: float | None
    control_z: float | None
    wrong_key_share: float | None
    wrong_key_pvalue: float | None
    log10_e: float | None
    log10_e_independent: float
    verdict: str
    duration_s: float
    last_failure: str | None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


@dataclass(frozen=True)
class _Question:
    trigger: TriggerRow
    control: bool


class RoundRunner:
    """Runs rounds of one target, one at a time; several runners may share a store.

    Args:
        target: who is asked.
        scorer: the pack with its keys.
        store: where everything goes.
        settings: how.
        stop: set to end a round early; the question on its way is waited for.
        clock: Unix seconds.
        rng: chooses and orders the questions; the system's randomness where None.
    """

    def __init__(
        self,
        *,
        target: Target,
        scorer: PackScorer,
        store: Store,
        settings: RoundSettings,
        stop: threading.Event | None = None,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._target = target
        self._scorer = scorer
        self._pack = scorer.pack
        self._reserved = reserved_triggers(scorer.pack)
        self._policy = standing.policy_of(scorer.pack, alpha=settings.alpha)
        self._store = store
        self._settings = settings
        self._stop = stop or threading.Event()
        self._clock = clock
        self._rng = rng or random.SystemRandom()
        self._holder = new_holder()
        # longer than any single question with its waits may take
        self._lease_s = settings.timeout_s * 2 + LONGEST_WAIT_S + 60

    def run(self) -> RoundSummary | None:
        """Run one round; None where another process runs one of this target just now. Raises StoreError."""
        name = self._target.name
        if not self._store.take_lease(name, holder=self._holder, now=self._clock(), ttl_s=self._lease_s):
            return None
        try:
            for left_open in self._store.recover(name, pack_id=self._pack.pack_id, now=self._clock()):
                self._close(left_open, planned=None)
            plan = self._plan()
            began = self._clock()
            round_id = self._store.begin_round(name, pack_id=self._pack.pack_id, planned=len(plan), now=began)
            self._ask_all(round_id, plan)
            return self._close(round_id, planned=len(plan), began=began)
        finally:
            self._store.give_back_lease(name, holder=self._holder)

    # -- what to ask

    def _plan(self) -> list[_Question]:
        """The triggers that are due, fresh ones first, with clean photos of some of them, in random order."""
        # triggers in reserve are a third party's to send
        ours = [row for row in self._pack.triggers if row.id not in self._reserved]
        triggers = self._due(ours, control=False)
        triggers = triggers[: self._settings.triggers_per_round]
        share = self._settings.clean_share * len(triggers)
        count = int(share) + (self._rng.random() < share - int(share))
        controls = self._due(triggers, control=True)[:count]
        questions = [_Question(row, False) for row in triggers] + [_Question(row, True) for row in controls]
        self._rng.shuffle(questions)
        return questions

    def _due(self, rows: list[TriggerRow], *, control: bool) -> list[TriggerRow]:
        sends = self._store.last_sends(self._target.name, pack_id=self._pack.pack_id, control=control)
        since = self._clock() - self._settings.cooldown_s
        due = [row for row in rows if row.id not in sends or sends[row.id].at <= since]
        self._rng.shuffle(due)  # the sort is stable: random among those asked equally often
        return sorted(due, key=lambda row: sends[row.id].times if row.id in sends else 0)

    # -- asking

    def _ask_all(self, round_id: int, plan: list[_Question]) -> None:
        silent = 0
        for question in plan:
            if self._stop.is_set() or silent >= GIVE_UP_AFTER:
                return
            try:
                self._ask(round_id, question)
                silent = 0
            except AskFailure as failure:
                silent += 1
                if failure.kind in ("auth", "misconfigured"):
                    return  # every further question would fail alike

    def _ask(self, round_id: int, question: _Question) -> None:
        """One question with its attempts; raises the last AskFailure, which is stored by then."""
        retrying = Retrying(
            stop=stop_after_attempt(self._settings.attempts),
            retry=retry_if_exception(self._may_retry),
            wait=_wait_s,
            sleep=self._sleep,
            reraise=True,
        )
        for attempt in retrying:
            with attempt:
                self._send(round_id, question, attempt=attempt.retry_state.attempt_number)

    def _may_retry(self, error: BaseException) -> bool:
        return (
            isinstance(error, AskFailure)
            and error.may_retry
            and (error.retry_after_s or 0) <= LONGEST_WAIT_S
            and not self._stop.is_set()
        )

    def _sleep(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def _send(self, round_id: int, question: _Question, *, attempt: int) -> None:
        if attempt > 1 and self._stop.is_set():
            return
        row, pack = question.trigger, self._pack
        image = pack.clean_bytes(row) if question.control else pack.trigger_bytes(row)
        image_sha256 = row.clean_sha256 if question.control else row.sha256
        ask = AskRow(
            round_id=round_id,
            target=self._target.name,
            pack_id=pack.pack_id,
            trigger_id=row.id,
            control=question.control,
            attempt=attempt,
            image_sha256=image_sha256,
            prompt=row.prompt,
            max_tokens=pack.decoding.max_new_tokens,
            request=request_body(
                model=self._target.model,
                endpoint=self._target.api_base,
                image_sha256=image_sha256,
                prompt=row.prompt,
                max_tokens=pack.decoding.max_new_tokens,
            ),
            state="intent",
            final=False,
            intended_at=self._clock(),
        )
        ask_id = self._store.intend(
            ask, holder=self._holder, ttl_s=self._lease_s, cooldown_s=self._settings.cooldown_s
        )
        if ask_id is None:
            return
        try:
            answer = self._target.ask(image=image, prompt=row.prompt, max_tokens=ask.max_tokens)
        except AskFailure as failure:
            final = attempt >= self._settings.attempts or not self._may_retry(failure)
            self._store.settle_failure(ask_id, failure, final=final, now=self._clock())
            raise
        except BaseException:  # Ctrl-C while waiting: it may be answered after we left
            self._store.settle_abandoned(ask_id, now=self._clock())
            raise
        kind = classify(answer, max_tokens=ask.max_tokens)
        self._store.settle_answer(ask_id, answer, kind=kind, now=self._clock())

    # -- scoring

    def score_pending(self) -> int:
        """Score every stored answer that has no score yet, in order of arrival; returns how many."""
        name, pack_id = self._target.name, self._pack.pack_id
        waiting = self._store.unscored(name, pack_id=pack_id)
        for answer in waiting:
            seen = self._store.seen_types(
                name, pack_id=pack_id, trigger_id=answer.trigger_id, control=answer.control
            )
            score, new_types, hit = standing.score_new(
                self._scorer, answer.trigger_id, answer.text, seen=seen
            )
            self._store.add_score(
                ScoreRow(
                    ask_id=answer.ask_id,
                    types=score.types,
                    greens=score.greens,
                    z=score.z,
                    log_pvalue=score.log_pvalue,
                    hit=hit,
                    new_types=new_types,
                )
            )
        return len(waiting)

    def _close(self, round_id: int, *, planned: int | None, began: float | None = None) -> RoundSummary:
        """Score what is unscored and write the round's summary; ``planned`` None: a crash cut it off."""
        self.score_pending()
        name, pack, now = self._target.name, self._pack, self._clock()
        counts = round_counts(self._store, round_id)
        combined = standing.combine_counts(pack, counts.triggers)
        control = standing.combine_counts(pack, counts.controls)
        texts = round_texts(self._store, round_id)
        wrong = None
        if combined is not None and texts:
            wrong = wrong_key_control(self._scorer, texts, greens=combined.greens, keys=standing.WRONG_KEYS)
        threshold = standing.threshold_z(pack, types=combined.types if combined else 0)
        evidence = standing.evidence(
            pack, evidence_types(self._store, name, pack_id=pack.pack_id), policy=self._policy
        )
        # the hours until somebody started us again are no part of a round that a crash cut off
        finished_at = now if planned is not None else counts.last_answer_at or counts.started_at
        state = "partial"
        if planned is not None and counts.answered == planned:
            state = "complete" if planned else "idle"
        self._store.finish_round(
            round_id,
            state=state,
            finished_at=finished_at,
            answered=counts.answered,
            scored=len(counts.triggers),
            z=combined.stouffer_z if combined else None,
            log_pvalue=combined.log_pvalue if combined else None,
            control_z=control.stouffer_z if control else None,
            threshold_z=threshold,
            log_e=evidence.log_e,
            log_e_max=evidence.log_e_max,
            log_e_independent=evidence.log_e_independent,
            wrong_key_share=wrong.mean_share if wrong else None,
            wrong_key_pvalue=wrong.pvalue if wrong else None,
            verdict=evidence.verdict,
        )
        return RoundSummary(
            target=name,
            pack=pack.pack_id,
            round_id=round_id,
            state=state,
            planned=planned or 0,
            answered=counts.answered,
            scored=len(counts.triggers),
            failures=counts.failures,
            refusals=counts.refusals,
            z=combined.stouffer_z if combined else None,
            threshold_z=threshold,
            pvalue=combined.pvalue if combined else None,
            control_z=control.stouffer_z if control else None,
            wrong_key_share=wrong.mean_share if wrong else None,
            wrong_key_pvalue=wrong.pvalue if wrong else None,
            log10_e=None if evidence.log_e is None else evidence.log_e / math.log(10),
            log10_e_independent=evidence.log_e_independent / math.log(10),
            verdict=evidence.verdict,
            duration_s=now - began if began is not None else 0.0,
            last_failure=counts.last_failure,
        )


def _wait_s(state: RetryCallState) -> float:
    """What the endpoint asked for, else 1, 2, 4 ... seconds."""
    failure = state.outcome.exception() if state.outcome is not None else None
    if isinstance(failure, AskFailure) and failure.retry_after_s is not None:
        return failure.retry_after_s
    return float(min(2 ** (state.attempt_number - 1), 30))
