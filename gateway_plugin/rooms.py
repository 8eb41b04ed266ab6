"""What belongs to one set of settings, and how an answer is held against a reference under them."""

import asyncio
import random

from gateway_plugin.config import GatewaySettings
from gateway_plugin.exchange import Exchange, query_images, query_texts, why_not_replaceable
from gateway_plugin.metrics import GatewayMetrics
from gateway_plugin.reference import CallBudget, ReferenceAnswer
from gateway_plugin.references import Models, References, joined_parts
from gateway_plugin.screener import Screener
from gateway_plugin.screening.base import Asked, Finding, Phase, Query, Status

DIVERGENCE = "divergence"


class Room:
    """One set of settings at work: its policy, its checks, its budgets."""

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        screener: Screener,
        models: Models,
        metrics: GatewayMetrics,
        rng: random.Random,
    ) -> None:
        self.settings, self.screener, self.policy = settings, screener, settings.policy()
        self.references = References(settings, models=models, rng=rng)
        self._asking = CallBudget(settings.asking_calls_per_minute)
        self._models, self._metrics, self._enabled = models, metrics, settings.each()

    def compares(self, exchange: Exchange) -> bool:
        """Whether this call's answer is held against a reference; a model is not compared with itself."""
        return DIVERGENCE in self._enabled and exchange.model != self.settings.reference_model

    async def compare(self, exchange: Exchange, reference: ReferenceAnswer | None) -> list[Finding]:
        """What the answer's divergence from the reference answer is, and why there is none."""
        if not self.compares(exchange) or reference is None:
            return []
        if reference.left_out is not None:
            status = reference.left_out if exchange.answers else Status.SKIPPED
            if status is Status.FAILED:
                self._metrics.failures.labels(check=DIVERGENCE, kind=reference.failure).inc()
            return [Finding(check=DIVERGENCE, status=status, reason=reference.failure)]
        outcome = "ok" if reference.text is not None else "failed"
        self._metrics.reference_seconds.labels(outcome).observe(reference.seconds)
        self._metrics.reference_tokens.labels("prompt").inc(reference.prompt_tokens)
        self._metrics.reference_tokens.labels("completion").inc(reference.completion_tokens)
        self._metrics.reference_cost.inc(max(reference.cost, 0.0))
        if reference.text is None:
            self._metrics.failures.labels(check=DIVERGENCE, kind=reference.failure).inc()
            return [Finding(check=DIVERGENCE, status=Status.FAILED, reason=reference.failure)]
        return await self.screener.compare(exchange.answers, reference.text)

    async def ask(
        self, exchange: Exchange, phase: Phase, *, reference: ReferenceAnswer | None = None
    ) -> list[Finding]:
        """What the checks of the phase say that ask a model themselves."""
        texts, _ = query_texts(exchange, transcript=self.settings.transcript)
        asked = Asked(
            query=Query(texts=texts, images=await asyncio.to_thread(query_images, exchange)),
            messages=exchange.messages,
            model=exchange.model,
            response="\n".join(exchange.answers) if exchange.answers else None,
            reference=reference.text if reference is not None else None,
        )
        count = self._metrics.asked_calls.inc
        ask = self._models.asker(exchange, self.settings, budget=self._asking, on_call=count)
        return await self.screener.ask(phase, asked, ask)

    def unread(self, exchange: Exchange) -> list[Finding]:
        """A failure of every check that could not see the answer; nothing where it was seen."""
        if not exchange.fault or exchange.model == self.settings.reference_model:
            return []
        late = frozenset({Phase.RESPONSE})
        names = [name for name, check in self._enabled.items() if check.phases == late]
        for name in names:
            self._metrics.failures.labels(check=name, kind=exchange.fault).inc()
        return [Finding(check=name, status=Status.FAILED, reason=exchange.fault) for name in names]

    def why_no_replacement(self, exchange: Exchange) -> str:
        """Why no reference answer can take this call's answer's place; empty when one can."""
        if exchange.model == self.settings.reference_model:
            return "the reference model itself is asked"
        if not joined_parts(exchange.messages):
            return "the query cannot be put to the reference model"
        if not exchange.call:
            return "its answer could not be told from others"
        return why_not_replaceable(exchange)
