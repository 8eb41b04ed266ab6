"""Queues, timeouts, what is remembered, and the event loop."""

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from gateway_plugin.exchange import Exchange, query_texts
from gateway_plugin.metrics import GatewayMetrics
from gateway_plugin.screener import Screener
from gateway_plugin.screening.base import Finding, Query, Status
from gateway_plugin.screening.cascade import CascadeCheck
from gateway_plugin.screening.perplexity import PerplexityCheck


class SlowModel:
    """Takes ``seconds`` a batch unless told to fail; remembers the batches it saw."""

    def __init__(self, *, seconds: float = 0.0, fails: bool = False) -> None:
        self.seconds, self.fails = seconds, fails
        self.batches: list[int] = []

    def token_surprisals(self, texts: Sequence[str], *, max_tokens: int) -> list[tuple[np.ndarray, int]]:
        self.batches.append(len(texts))
        time.sleep(self.seconds)
        if self.fails:
            raise RuntimeError("no memory")
        return [(np.ones(9, dtype=np.float32), 9) for _ in texts]


def screener(model: SlowModel, **options: Any) -> tuple[Screener, CollectorRegistry]:
    registry = CollectorRegistry()
    cascade = CascadeCheck(cheap=None, neural=PerplexityCheck(model=model))
    made = Screener(metrics=GatewayMetrics(registry), perplexity=cascade, **options)
    return made, registry


def failures(registry: CollectorRegistry, kind: str) -> float | None:
    return registry.get_sample_value(
        "sif_gateway_check_failures_total", {"check": "perplexity", "kind": kind}
    )


def test_queued_texts_share_batches_and_scoring_leaves_the_event_loop_free() -> None:
    model = SlowModel(seconds=0.2)
    made, _ = screener(model)

    async def run() -> tuple[list[Any], float]:
        longest, stop = 0.0, asyncio.Event()

        async def watch() -> None:
            nonlocal longest
            while not stop.is_set():
                before = time.perf_counter()
                await asyncio.sleep(0.005)
                longest = max(longest, time.perf_counter() - before)

        watcher = asyncio.create_task(watch())
        found = await asyncio.gather(*(made.score_query(Query(texts=(f"text {i}",))) for i in range(20)))
        stop.set()
        await watcher
        return found, longest

    found, longest = asyncio.run(run())
    assert all(finding.status is Status.CLEAR for (finding,) in found)
    assert sum(model.batches) == 20
    assert len(model.batches) <= 4
    assert longest < 0.15, "the loop must not wait for a batch of 0.2 s"


def test_a_known_text_is_not_scored_again() -> None:
    model = SlowModel()
    made, registry = screener(model)
    query = Query(texts=("a system prompt", "a question"))
    asyncio.run(made.score_query(query))
    asyncio.run(made.score_query(query))
    assert sum(model.batches) == 2
    assert registry.get_sample_value("sif_gateway_cache_hits_total") == 2


@pytest.mark.parametrize(
    ("model", "options", "kind"),
    [
        (SlowModel(fails=True), {}, "error"),
        (SlowModel(seconds=0.5), {"timeout_s": 0.05}, "timeout"),
        (SlowModel(seconds=0.3), {"max_queue": 1}, "queue_full"),
    ],
    ids=["error", "timeout", "queue_full"],
)
def test_broken_machinery_is_a_failed_finding_with_its_counter(
    model: SlowModel, options: dict[str, Any], kind: str
) -> None:
    made, registry = screener(model, **options)
    (finding,) = asyncio.run(made.score_query(Query(texts=tuple("abcdef"))))
    assert finding.status is Status.FAILED
    assert failures(registry, kind) == 1


def test_the_queues_of_several_screeners_count_together() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    busy, idle = (
        Screener(
            metrics=metrics,
            perplexity=CascadeCheck(cheap=None, neural=PerplexityCheck(model=SlowModel(seconds=seconds))),
        )
        for seconds in (0.5, 0.0)
    )

    def depth() -> float | None:
        return registry.get_sample_value("sif_gateway_queue_depth")

    async def run() -> list[float | None]:
        first = asyncio.create_task(busy.score_query(Query(texts=("first",))))
        await asyncio.sleep(0.1)  # the worker is busy with it
        second = asyncio.create_task(busy.score_query(Query(texts=tuple("abcde"))))
        await asyncio.sleep(0.05)
        seen = [depth()]
        await idle.score_query(Query(texts=("other",)))
        seen.append(depth())
        await asyncio.gather(first, second)
        return [*seen, depth()]

    seen = asyncio.run(run())
    assert seen[0] == seen[1] == 5
    assert seen[2] == 0


def test_a_query_that_the_queue_cannot_take_whole_takes_no_place_in_it() -> None:
    model = SlowModel(seconds=0.2)
    made, _ = screener(model, max_queue=8)

    async def run() -> tuple[Status, Status]:
        first = asyncio.create_task(made.score_query(Query(texts=("first",))))
        while not model.batches:  # until the worker is busy with it
            await asyncio.sleep(0.005)
        (refused,) = await made.score_query(Query(texts=tuple(f"text {i}" for i in range(30))))
        (last,) = await made.score_query(Query(texts=tuple(f"last {i}" for i in range(8))))
        await first
        return refused.status, last.status

    assert asyncio.run(run()) == (Status.FAILED, Status.CLEAR)
    assert sum(model.batches) == 9, "nobody waits for the texts of the refused query"


def test_texts_that_came_too_late_make_room() -> None:
    model = SlowModel(seconds=0.5)
    made, registry = screener(model, max_queue=8, timeout_s=0.1)

    async def run() -> None:
        first = asyncio.create_task(made.score_query(Query(texts=("first",))))
        while not model.batches:  # until the worker is busy with it
            await asyncio.sleep(0.005)
        for name in ("second", "third"):
            await made.score_query(Query(texts=tuple(f"{name} {i}" for i in range(8))))
        await first

    asyncio.run(run())
    assert (failures(registry, "timeout"), failures(registry, "queue_full")) == (3, None)


def test_many_short_texts_leave_the_event_loop_free() -> None:
    threads: set[int] = set()

    class Cheap(CascadeCheck):
        def decide(self, text: str) -> Finding | None:
            threads.add(threading.get_ident())
            return Finding(check=self.name, status=Status.CLEAR)

    cascade = Cheap(cheap=None, neural=PerplexityCheck(model=SlowModel()))
    made = Screener(metrics=GatewayMetrics(CollectorRegistry()), perplexity=cascade)
    asyncio.run(made.score_query(Query(texts=("a short one",))))
    assert threads == {threading.get_ident()}
    threads.clear()
    asyncio.run(made.score_query(Query(texts=tuple(f"{i} " * 900 for i in range(60)))))
    assert threads
    assert threading.get_ident() not in threads


def test_messages_beyond_the_limit_are_a_finding() -> None:
    turns = tuple({"role": "user", "content": f"turn {i}"} for i in range(70))
    texts, unread = query_texts(Exchange(call="", messages=turns))
    assert (len(texts), texts[-1], unread) == (64, "turn 69", 6)
    made, _ = screener(SlowModel())
    (finding,) = asyncio.run(made.score_query(Query(texts=texts), unread=unread))
    assert (finding.status, finding.reason) == (Status.UNSCORABLE, "6 texts not scored")


def test_one_query_of_many_strange_texts_is_scored_as_far_as_it_goes_and_says_so() -> None:
    model = SlowModel()
    made, _ = screener(model)
    texts = tuple(f"text {number} " + "x" * 3000 for number in range(20))
    (finding,) = asyncio.run(made.score_query(Query(texts=texts)))
    assert sum(model.batches) == 2
    assert (finding.status, finding.reason) == (
        Status.UNSCORABLE,
        "18 texts beyond what is scored of one query",
    )


def test_scores_that_came_in_time_stand_beside_one_that_did_not() -> None:
    class Stuck(SlowModel):
        def token_surprisals(self, texts: Sequence[str], *, max_tokens: int) -> list[tuple[np.ndarray, int]]:
            if "slow" in texts[0]:
                time.sleep(1.0)
            return [(np.full(9, 12.0, dtype=np.float32), 9) for _ in texts]

    registry = CollectorRegistry()
    cascade = CascadeCheck(cheap=None, neural=PerplexityCheck(model=Stuck()))
    made = Screener(metrics=GatewayMetrics(registry), perplexity=cascade, timeout_s=0.4)

    async def run() -> Any:
        first = asyncio.create_task(made.score_query(Query(texts=("strange",))))
        await asyncio.sleep(0.1)
        await first
        return await made.score_query(Query(texts=("strange", "slow")))

    (finding,) = asyncio.run(run())
    assert finding.status is Status.HIT
    assert failures(registry, "timeout") == 1
