"""One round over one target: intents before sends, answers raw before scores, nothing sent twice."""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from probes.rounds.settings import RoundSettings
from probes.rounds.summary import RoundSummary, close_round
from probes.rounds.trials import Put, Trials
from probes.store import Store
from probes.store.lease import new_holder
from probes.store.limits import ENDS_THE_ROUND, Held
from probes.store.tables import AskRow
from probes.targets import AskFailure

logger = logging.getLogger(__name__)

GIVE_UP_AFTER = 3
"""Questions in a row without any answer after which a round leaves the endpoint alone."""

LONGEST_WAIT_S = 120.0
"""A Retry-After beyond this is left to the next round, seconds."""


class _HeldError(Exception):
    """A limit that holds for every further question of the round."""

    def __init__(self, held: Held) -> None:
        super().__init__(held.by)
        self.held = held


class RoundRunner:
    """Runs rounds of one target, one at a time; several runners may share a store.

    Args:
        trials: who is asked, and what.
        store: where everything goes.
        settings: how.
        stop: set to end a round early; the question on its way is waited for.
        clock: Unix seconds.
        rng: chooses and orders the questions; the system's randomness where None.
    """

    def __init__(
        self,
        trials: Trials,
        *,
        store: Store,
        settings: RoundSettings,
        stop: threading.Event | None = None,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._trials = trials
        self._store = store
        self._settings = settings
        self._stop = stop or threading.Event()
        self._clock = clock
        self._rng = rng or random.SystemRandom()
        self._holder = new_holder()
        # longer than any single question with its waits may take, and than a pause between two
        self._lease_s = settings.timeout_s * 2 + settings.pace_s * 2 + LONGEST_WAIT_S + 60

    def run(self) -> RoundSummary | None:
        """Run one round; None where another process runs one of this target just now. Raises StoreError."""
        name, pack_id = self._trials.target, self._trials.pack_id
        if not self._store.take_lease(name, holder=self._holder, now=self._clock(), ttl_s=self._lease_s):
            return None
        try:
            for left_open in self._store.recover(name, pack_id=pack_id, now=self._clock()):
                self._close(left_open, planned=None)
            self._trials.prepare()
            began = self._clock()
            plan = self._trials.plan(self._store, now=began, rng=self._rng)
            planned = len(plan.questions)
            if plan.oversize:
                logger.warning("target %s: %d triggers are over its image limits", name, plan.oversize)
            round_id = self._store.begin_round(
                name, pack_id=pack_id, planned=planned, oversize=plan.oversize, now=began
            )
            held = self._ask_all(round_id, plan.questions)
            return self._close(round_id, planned=planned, began=began, held=held)
        finally:
            self._store.give_back_lease(name, holder=self._holder)

    def _ask_all(self, round_id: int, plan: Sequence[Callable[[], Put]]) -> str | None:
        """Ask what is planned; returns the limit that ended it early, None where none did."""
        silent = 0
        for number, make_ready in enumerate(plan):
            if number and self._settings.pace_s:
                self._sleep(self._rng.uniform(0, 2 * self._settings.pace_s))
            if self._stop.is_set() or silent >= GIVE_UP_AFTER:
                return None
            try:
                self._ask(round_id, make_ready())
                silent = 0
            except _HeldError as error:
                logger.info("target %s: round %d ended: %s", self._trials.target, round_id, error)
                return error.held.by
            except AskFailure as failure:
                silent += 1
                if failure.kind in ("auth", "misconfigured"):
                    return None  # every further question would fail alike
        return None

    def _ask(self, round_id: int, question: Put) -> None:
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

    def _send(self, round_id: int, question: Put, *, attempt: int) -> None:
        if attempt > 1 and self._stop.is_set():
            return
        ask = AskRow(
            round_id=round_id,
            target=self._trials.target,
            pack_id=self._trials.pack_id,
            trigger_id=question.trigger_id,
            control=question.control,
            attempt=attempt,
            image_sha256=question.digest,
            prompt=question.prompt,
            max_tokens=question.max_tokens,
            request=question.request,
            state="intent",
            final=False,
            intended_at=self._clock(),
        )
        ask_id = self._intend(ask)
        if ask_id is None:
            return
        try:
            answer = question.send()
        except AskFailure as failure:
            final = attempt >= self._settings.attempts or not self._may_retry(failure)
            self._store.settle_failure(ask_id, failure, final=final, now=self._clock())
            raise
        except BaseException:  # Ctrl-C while waiting: it may be answered after we left
            self._store.settle_abandoned(ask_id, now=self._clock())
            raise
        self._store.settle_answer(ask_id, answer, kind=question.kind_of(answer), now=self._clock())

    def _intend(self, ask: AskRow) -> int | None:
        """Commit the intent; None where this picture may not go now. Waits for a rate to let it through."""
        settings = self._settings
        while True:
            ask.intended_at = self._clock()
            intended = self._store.intend(
                ask,
                holder=self._holder,
                ttl_s=self._lease_s,
                cooldown_s=settings.cooldown_s,
                limits=settings.limits,
            )
            if isinstance(intended, int):
                return intended
            if intended.by not in ENDS_THE_ROUND:
                return None
            if intended.wait_s is None or intended.wait_s > LONGEST_WAIT_S or self._stop.is_set():
                raise _HeldError(intended)
            self._sleep(intended.wait_s)
            if self._stop.is_set():
                return None

    def _close(
        self, round_id: int, *, planned: int | None, began: float | None = None, held: str | None = None
    ) -> RoundSummary:
        return close_round(
            self._store,
            self._trials,
            round_id,
            now=self._clock(),
            planned=planned,
            began=began,
            held=held,
        )


def _wait_s(state: RetryCallState) -> float:
    """What the endpoint asked for, else 1, 2, 4 ... seconds."""
    failure = state.outcome.exception() if state.outcome is not None else None
    if isinstance(failure, AskFailure) and failure.retry_after_s is not None:
        return failure.retry_after_s
    return float(min(2 ** (state.attempt_number - 1), 30))
