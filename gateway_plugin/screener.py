"""The checks behind their queues: what the engine calls from its event loop."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from gateway_plugin.metrics import GatewayMetrics
from gateway_plugin.remembered import Remembered
from gateway_plugin.screening.base import (
    Ask,
    Asked,
    AskError,
    AskingCheck,
    Finding,
    Phase,
    Query,
    Status,
    worst,
)
from gateway_plugin.screening.batching import BatchWorker, QueueFullError
from gateway_plugin.screening.cascade import CascadeCheck
from gateway_plugin.screening.divergence import DivergenceCheck
from gateway_plugin.screening.script_mixing import ScriptMixingCheck
from gateway_plugin.screening.stretches import LONG, MOST, STRETCH
from gateway_plugin.tracing import span
from gateway_plugin.wire.bodies import aside

Item = TypeVar("Item")
Value = TypeVar("Value")
ON_THE_LOOP = 1_000  # characters: texts that are shorter together are looked at on the event loop, in 1 ms
LONGEST_SCORED = MOST * STRETCH  # characters of one text that the language model reads
BUDGET = 8_192  # characters of one query that the language model reads
QUICK = 4_000  # characters: of a longer text the cheap model too runs behind the queue


class Screener:
    """Runs the enabled checks off the event loop. A full queue or a late score is a ``FAILED`` finding."""

    def __init__(
        self,
        *,
        metrics: GatewayMetrics,
        perplexity: CascadeCheck | None = None,
        script_mixing: ScriptMixingCheck | None = None,
        divergence: DivergenceCheck | None = None,
        asking: Sequence[AskingCheck] = (),
        max_queue: int = 256,
        timeout_s: float = 10.0,
    ) -> None:
        self._metrics, self._timeout_s, self._asking = metrics, timeout_s, tuple(asking)
        self._remembered: Remembered[Finding] = Remembered()
        self._told_depth = 0
        self._cascade, self._script_mixing, self._divergence = perplexity, script_mixing, divergence
        if perplexity is not None:
            self._texts: BatchWorker[str, Finding] = BatchWorker(
                perplexity.score_texts,
                name="sif-perplexity",
                max_queue=max_queue,
                long=lambda text: len(text) > LONG,
            )
        if divergence is not None:
            self._pairs: BatchWorker[tuple[str, str], Finding] = BatchWorker(
                lambda pairs: [divergence.score(Query(texts=()), mine, other) for mine, other in pairs],
                name="sif-divergence",
                max_queue=max_queue,
            )

    async def score_query(self, query: Query, *, unread: int = 0) -> list[Finding]:
        """One finding an enabled request check. ``unread``: texts of the query left out for their number."""
        findings: list[Finding] = []
        if self._script_mixing is not None:
            findings.append(await self._mixing(query, self._script_mixing))
        if self._cascade is not None:
            findings.append(await self._perplexity(query, self._cascade, unread=unread))
        return findings

    async def compare(self, answers: Sequence[str], reference: str) -> list[Finding]:
        """The gravest divergence of any of the answers from the reference answer."""
        if self._divergence is None:
            return []
        name, started = self._divergence.name, time.monotonic()
        with span("sif.check", check=name, phase=Phase.RESPONSE) as current:
            try:
                pairs = [(answer, reference) for answer in answers]
                found = await self._scored(name, self._pairs, pairs)
            except Exception as error:
                found = [self._failed(name, error)]
            finding = worst(found, check=name)
            current.set(status=finding.status, measures=finding.measures)
        self._metrics.check_seconds.labels(name).observe(time.monotonic() - started)
        return [finding]

    def asks_in(self, phase: Phase) -> bool:
        """Whether any check of the phase asks a model, and so wants the messages and the pictures."""
        return any(check.phase is phase for check in self._asking)

    async def ask(self, phase: Phase, exchange: Asked, ask: Ask) -> list[Finding]:
        """One finding an asking check of the phase, all at once. They bring their own deadlines."""
        checks = [check for check in self._asking if check.phase is phase]
        return list(await asyncio.gather(*(self._examine(check, exchange, ask) for check in checks)))

    async def _examine(self, check: AskingCheck, exchange: Asked, ask: Ask) -> Finding:
        started = time.monotonic()
        with span("sif.check", check=check.name, phase=check.phase) as current:
            try:
                finding = await check.examine(exchange, ask)
            except Exception as error:
                finding = self._failed(check.name, error)
            current.set(status=finding.status, measures=finding.measures)
        self._metrics.check_seconds.labels(check.name).observe(time.monotonic() - started)
        return finding

    async def _mixing(self, query: Query, check: ScriptMixingCheck) -> Finding:
        started = time.monotonic()
        with span("sif.check", check=check.name, phase=check.phase) as current:
            try:
                finding = await _aside(lambda: check.score(query), query.texts)
            except Exception as error:
                finding = self._failed(check.name, error)
            current.set(status=finding.status, measures=finding.measures)
        self._metrics.check_seconds.labels(check.name).observe(time.monotonic() - started)
        return finding

    async def _perplexity(self, query: Query, check: CascadeCheck, *, unread: int) -> Finding:
        name, started = check.name, time.monotonic()
        found: list[Finding] = []
        if unread:
            found.append(Finding(check=name, status=Status.UNSCORABLE, reason=f"{unread} texts not scored"))
        with span("sif.check", check=name, phase=Phase.REQUEST) as current:
            try:
                found += await self._findings(query.texts, check)
            except Exception as error:
                found.append(self._failed(name, error))
            finding = worst(found, check=name)
            current.set(status=finding.status, measures=finding.measures)
        self._metrics.check_seconds.labels(name).observe(time.monotonic() - started)
        return finding

    async def _findings(self, texts: Sequence[str], check: CascadeCheck) -> list[Finding]:
        """What is remembered, what the cheap model decides, and the rest from behind the queue."""
        keys = await _aside(lambda: list(map(Remembered.key, texts)), texts)
        found: list[Finding] = []
        left: list[tuple[bytes, str]] = []
        for key, text in zip(keys, texts, strict=True):
            known = self._remembered.get(key)
            if known is None:
                left.append((key, text))
            else:
                self._metrics.cache_hits.inc()
                found.append(known)
        quick = [text for _, text in left if len(text) <= QUICK]
        decided = dict(zip(quick, await _aside(lambda: list(map(check.decide, quick)), quick), strict=True))
        queued: list[tuple[bytes, str]] = []
        for key, text in left:
            said = decided.get(text)
            if said is None:
                queued.append((key, text))
            else:
                self._metrics.cheap_decisions.inc()
                self._remembered.put(key, said)
                found.append(said)
        chosen, beyond = queued, 0
        if len(queued) > 1:  # one text is read whatever its rank
            chosen, beyond = await asyncio.to_thread(_within_budget, queued, check)
        if beyond:
            reason = f"{beyond} texts beyond what is scored of one query"
            found.append(Finding(check=check.name, status=Status.UNSCORABLE, reason=reason))
        scored = await self._scored(check.name, self._texts, [text for _, text in chosen])
        for (key, _), finding in zip(chosen, scored, strict=True):
            if finding.status is not Status.FAILED:
                self._remembered.put(key, finding)
        return [*found, *scored]

    async def _scored(
        self, check: str, worker: BatchWorker[Item, Finding], items: Sequence[Item]
    ) -> list[Finding]:
        """One finding an item; ``FAILED`` where it cannot be had, or not in time: the others stand.

        A full queue takes none of them. A cause is counted once, however many items it struck.
        """
        if not items:
            return []
        try:
            futures = worker.submit(items)
        except QueueFullError as error:
            return [self._failed(check, error)] * len(items)
        self._tell_depth()
        waiting = [asyncio.wrap_future(future) for future in futures]
        try:
            _, late = await asyncio.wait(waiting, timeout=self._timeout_s)
        finally:
            for future, each in zip(futures, waiting, strict=True):
                future.cancel()  # no effect on what is done; at once, so that it makes room
                each.cancel()
            self._tell_depth()
        failed: dict[str, Finding] = {}
        found: list[Finding] = []
        for each in waiting:
            problem = TimeoutError() if each in late else each.exception()
            if problem is None:
                found.append(each.result())
                continue
            cause = problem if isinstance(problem, Exception) else RuntimeError()
            if type(cause).__name__ not in failed:
                failed[type(cause).__name__] = self._failed(check, cause)
            found.append(failed[type(cause).__name__])
        return found

    def _tell_depth(self) -> None:
        """By its difference: the gauge is the sum over all screeners."""
        if self._cascade is not None:
            depth = self._texts.depth
            self._metrics.queue_depth.inc(depth - self._told_depth)
            self._told_depth = depth

    def _failed(self, check: str, error: Exception) -> Finding:
        if isinstance(error, AskError):
            kind = error.kind
        elif isinstance(error, TimeoutError):
            kind = "timeout"
        else:
            kind = "queue_full" if isinstance(error, QueueFullError) else "error"
        self._metrics.failures.labels(check=check, kind=kind).inc()
        reason = kind if kind != "error" else f"error: {type(error).__name__}"
        return Finding(check=check, status=Status.FAILED, reason=reason)


def _within_budget(
    queued: list[tuple[bytes, str]], check: CascadeCheck
) -> tuple[list[tuple[bytes, str]], int]:
    """The texts that the language model looks at, the strangest first, and how many are left out.

    One query must not fill everybody's queue, nor be so long that its own scores come too late.
    """
    ranked = sorted(queued, key=lambda each: -check.suspicion(each[1]))
    spent = 0
    chosen: list[tuple[bytes, str]] = []
    for key, text in ranked:
        spent += min(len(text), LONGEST_SCORED)
        if chosen and spent > BUDGET:
            break
        chosen.append((key, text))
    return chosen, len(ranked) - len(chosen)


async def _aside(work: Callable[[], Value], texts: Sequence[str]) -> Value:
    """What ``work`` on ``texts`` gives; in a thread unless they are short together."""
    return await aside(work, size=sum(map(len, texts)), on_the_loop=ON_THE_LOOP)
