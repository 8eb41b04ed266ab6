"""Checks that look for words in place of models, for tests of what is done with a finding."""

import asyncio
from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from gateway_plugin.metrics import GatewayMetrics
from gateway_plugin.screener import Screener
from gateway_plugin.screening.base import Finding, Query, Status

QUESTION = "What is the dog in this picture doing?"
GIBBERISH = "vrondela Integrque YesDOMAIN"


class WordScreener(Screener):
    """A hit where the gibberish stands in a text, and where an answer is not about the dog."""

    async def score_query(self, query: Query, *, unread: int = 0) -> list[Finding]:
        if "EXPLODE" in str(query.texts):
            raise RuntimeError(f"cannot score {query.texts}")
        if "SLEEP" in str(query.texts):
            await asyncio.sleep(1.0)
        hit = any(GIBBERISH in text for text in query.texts)
        status = Status.HIT if hit else Status.UNSCORABLE if unread else Status.CLEAR
        return [Finding(check="perplexity", status=status)]

    async def compare(self, answers: Sequence[str], reference: str) -> list[Finding]:
        status = Status.CLEAR if all("dog" in answer for answer in answers) else Status.HIT
        return [Finding(check="divergence", status=status)]


def words(_: Any) -> Screener:
    return WordScreener(metrics=GatewayMetrics(CollectorRegistry()))


def metric(client: Any, name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
