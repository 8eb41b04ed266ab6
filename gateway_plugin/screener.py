"""The checks behind their queues: what a service calls from its event loop."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, TypeVar

from gateway_plugin.config import GatewaySettings
from gateway_plugin.metrics import GatewayMetrics
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
from gateway_plugin.screening.divergence import DivergenceCheck, shared_embedder
from gateway_plugin.screening.language_model import shared_language_model
from gateway_plugin.screening.perplexity import PerplexityCheck
from gateway_plugin.screening.script_mixing import ScriptMixingCheck

REMEMBERED_TEXTS = 8192
Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """The newest values by the SHA-256 of a text; the texts themselves are not kept."""

    def __init__(self, *, size: int = REMEMBERED_TEXTS) -> None:
        self._size = size
        self._values: OrderedDict[bytes, Value] = OrderedDict()

    @staticmethod
    def key(text: str) -> bytes:
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

    def get(self, text: str) -> Value | None:
        key = self.key(text)
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def put(self, text: str, value: Value) -> None:
        self._values[self.key(text)] = value
        while len(self._values) > self._size:
            self._values.popitem(last=False)


class Screener:
    """Runs the enabled checks off the event loop. A full queue or a late score is a ``FAILED`` finding."""

    def __init__(
        self,
        *,
        metrics: GatewayMetrics,
        perplexity: PerplexityCheck | None = None,
        script_mixing: ScriptMixingCheck | None = None,
        divergence: DivergenceCheck | None = None,
        asking: Sequence[AskingCheck] = (),
        max_queue: int = 256,
        timeout_s: float = 10.0,
    ) -> None:
        self._metrics, self._timeout_s, self._asking = metrics, timeout_s, tuple(asking)
        self._remembered: Remembered[Finding] = Remembered()
        self._script_mixing, self._divergence = script_mixing, divergence
        self._texts: BatchWorker[str, Finding] | None = None
        if perplexity is not None:
            self._texts = BatchWorker(perplexity.score_texts, name="sif-perplexity", max_queue=max_queue)
        if divergence is not None:
            self._pairs: BatchWorker[tuple[str, str], Finding] = BatchWorker(
                lambda pairs: [divergence.score(Query(texts=()), mine, other) for mine, other in pairs],
                name="sif-divergence",
                max_queue=max_queue,
            )

    @classmethod
    def load(cls, settings: GatewaySettings, *, metrics: GatewayMetrics) -> "Screener":
        """Load the models that the enabled checks need (seconds; the first time ever also a conversion)."""
        checks, enabled = settings.checks, settings.each()
        perplexity = script_mixing = divergence = None
        if "perplexity" in enabled:
            perplexity = PerplexityCheck(
                model=shared_language_model(),
                thresholds=checks.perplexity.thresholds(),
                max_tokens=checks.perplexity.max_tokens,
            )
        if "script_mixing" in enabled:
            script_mixing = ScriptMixingCheck(
                suspect_changes=checks.script_mixing.suspect_changes,
                hit_changes=checks.script_mixing.hit_changes,
            )
        if "divergence" in enabled:
            divergence = DivergenceCheck(
                embedder=shared_embedder(), thresholds=checks.divergence.thresholds()
            )
        return cls(
            metrics=metrics,
            perplexity=perplexity,
            script_mixing=script_mixing,
            divergence=divergence,
            max_queue=settings.max_queue,
            timeout_s=settings.screening_timeout_s,
        )

    async def score_query(self, query: Query, *, unread: int = 0) -> list[Finding]:
        """One finding an enabled request check. ``unread``: texts of the query left out for their number."""
        findings: list[Finding] = []
        if self._script_mixing is not None:
            started = time.monotonic()
            findings.append(await asyncio.to_thread(self._script_mixing.score, query))
            self._metrics.check_seconds.labels(self._script_mixing.name).observe(time.monotonic() - started)
        if self._texts is not None:
            findings.append(await self._perplexity(query, self._texts, unread=unread))
        return findings

    async def compare(self, answers: Sequence[str], reference: str) -> list[Finding]:
        """The gravest divergence of any of the answers from the reference answer."""
        if self._divergence is None:
            return []
        name, started = self._divergence.name, time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                futures = [self._pairs.submit((answer, reference)) for answer in answers]
                found = list(await asyncio.gather(*map(asyncio.wrap_future, futures)))
        except Exception as error:
            found = [self._failed(name, error)]
        self._metrics.check_seconds.labels(name).observe(time.monotonic() - started)
        return [worst(found, check=name)]

    def asks_in(self, phase: Phase) -> bool:
        """Whether any check of the phase asks a model, and so wants the messages and the pictures."""
        return any(check.phase is phase for check in self._asking)

    async def ask(self, phase: Phase, exchange: Asked, ask: Ask) -> list[Finding]:
        """One finding an asking check of the phase, all at once. They bring their own deadlines."""
        checks = [check for check in self._asking if check.phase is phase]
        return list(await asyncio.gather(*(self._examine(check, exchange, ask) for check in checks)))

    async def _examine(self, check: AskingCheck, exchange: Asked, ask: Ask) -> Finding:
        started = time.monotonic()
        try:
            return await check.examine(exchange, ask)
        except Exception as error:
            return self._failed(check.name, error)
        finally:
            self._metrics.check_seconds.labels(check.name).observe(time.monotonic() - started)

    async def _perplexity(self, query: Query, worker: "BatchWorker[str, Finding]", *, unread: int) -> Finding:
        name, started = PerplexityCheck.name, time.monotonic()
        found: list[Finding] = []
        if unread:
            found.append(
                Finding(check=name, status=Status.UNSCORABLE, reason=f"{unread} older messages not scored")
            )
        fresh: list[str] = []
        for text in query.texts:
            known = self._remembered.get(text)
            if known is None:
                fresh.append(text)
            else:
                self._metrics.cache_hits.inc()
                found.append(known)
        try:
            async with asyncio.timeout(self._timeout_s):
                futures = [worker.submit(text) for text in fresh]
                self._metrics.queue_depth.set(worker.depth)
                scored = await asyncio.gather(*map(asyncio.wrap_future, futures))
            for text, finding in zip(fresh, scored, strict=True):
                self._remembered.put(text, finding)
            found.extend(scored)
        except Exception as error:
            found.append(self._failed(name, error))
        finally:
            self._metrics.queue_depth.set(worker.depth)
        self._metrics.check_seconds.labels(name).observe(time.monotonic() - started)
        return worst(found, check=name)

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
