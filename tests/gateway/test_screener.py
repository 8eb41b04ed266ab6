"""Queues, timeouts, memory between the phases, and the event loop."""

import asyncio
import base64
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from gateway_plugin.calls import CallState, CallStates
from gateway_plugin.exchange import Exchange, query_images, query_texts, why_not_replaceable
from gateway_plugin.metrics import GatewayMetrics
from gateway_plugin.reference import ReferenceAnswer, ask_reference
from gateway_plugin.screener import Screener
from gateway_plugin.screening.base import Asked, Finding, Query, Status
from gateway_plugin.screening.batching import BatchWorker, QueueFullError
from gateway_plugin.screening.cascade import CascadeCheck
from gateway_plugin.screening.perplexity import PerplexityCheck
from gateway_plugin.wire.queries import ReadQuery


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


def test_a_query_and_an_answer_are_in_nobodys_repr() -> None:
    query = Query(texts=("a secret",))
    shown = [
        query,
        Asked(query=query),
        ReferenceAnswer(text="a secret"),
        ReadQuery(texts=("a secret",), messages=({"content": "a secret"},)),
        CallState(born=0.0, audit_id="", messages=({"content": "a secret"},)),
    ]
    assert "a secret" not in repr(shown)


def test_a_role_that_nobody_knows_is_scored() -> None:
    roles = ["system", "User", "human", None, "tool", "function", "assistant", "user"]
    turns = tuple({"role": role, "content": str(role)} for role in roles)
    texts, _ = query_texts(Exchange(call="", messages=turns))
    assert texts == ("system", "User", "human", "None", "user")
    assert query_texts(Exchange(call="", messages=turns), transcript="last")[0] == ("system", "user")


def test_large_pictures_are_decoded_as_they_were() -> None:
    def decoded(body: str) -> tuple[bytes, ...]:
        part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{body}"}}
        return query_images(Exchange(call="", messages=({"role": "user", "content": [part]},)))

    for size in (0, 1, 786_432, 786_433, 2_000_000):
        data = random.Random(size).randbytes(size)
        assert decoded(base64.b64encode(data).decode()) == (data,)
    middle = base64.b64encode(b"a" * 786_431).decode()  # ends in one "="
    assert decoded(middle + "QUJD") == ()
    assert decoded("QUJD*") == ()


def test_messages_beyond_the_limit_are_a_finding() -> None:
    turns = tuple({"role": "user", "content": f"turn {i}"} for i in range(70))
    texts, unread = query_texts(Exchange(call="", messages=turns))
    assert (len(texts), texts[-1], unread) == (64, "turn 69", 6)
    made, _ = screener(SlowModel())
    (finding,) = asyncio.run(made.score_query(Query(texts=texts), unread=unread))
    assert (finding.status, finding.reason) == (Status.UNSCORABLE, "6 texts not scored")


def doubled_behind(gate: threading.Event) -> Callable[[Sequence[int]], list[int]]:
    """Work that waits for the gate, and fails on a batch with a 13 in it."""

    def work(items: Sequence[int]) -> list[int]:
        gate.wait(5)
        if 13 in items:
            raise ValueError("unlucky")
        return [2 * item for item in items]

    return work


def test_a_worker_outlives_a_failing_batch_and_a_cancelled_item() -> None:
    gate = threading.Event()
    worker = BatchWorker(doubled_behind(gate), name="test", max_batch=1, max_queue=3)
    (first,) = worker.submit([13])
    while worker.depth:
        time.sleep(0.001)
    cancelled, second, third = worker.submit([1, 2, 3])
    with pytest.raises(QueueFullError, match="no room for 1 more, 3 of at most 3 items already wait"):
        worker.submit([4])
    assert cancelled.cancel()
    (fourth,) = worker.submit([4])
    gate.set()
    with pytest.raises(ValueError, match="unlucky"):
        first.result(5)
    assert [each.result(5) for each in (second, third, fourth)] == [4, 6, 8]


def test_states_of_calls_that_never_end_are_forgotten() -> None:
    now = 0.0
    lost: list[str] = []
    states = CallStates(max_calls=3, ttl_s=10.0, clock=lambda: now, on_lost=lost.append)
    for name in "abcd":
        states.open(name, audit_id=name)
    assert len(states) == 3
    assert lost == ["full"]
    given_up = states.take("a")
    assert given_up is not None
    assert (given_up.lost, given_up.audit_id) == (True, "a")
    now = 20.0
    states.open("e")
    assert len(states) == 1
    assert lost == ["full", *["expired"] * 3]
    taken = states.take("e")
    assert taken is not None
    assert not taken.lost
    assert states.take("e") is None


def test_a_state_in_which_a_replacement_waits_is_given_up_last() -> None:
    states = CallStates(max_calls=3, ttl_s=60.0)
    states.open("replace", wants_replacement="perplexity")
    for number in range(20):
        states.open(f"c{number}")
    kept = states.take("replace")
    assert kept is not None
    assert not kept.lost
    for number in range(4):
        states.open(f"r{number}", wants_replacement="perplexity")
    oldest = states.take("r0")
    assert oldest is not None
    assert (oldest.lost, oldest.wants_replacement) == (True, "perplexity")


def test_a_forgotten_call_stops_its_reference_call() -> None:
    async def run() -> bool:
        states = CallStates(max_calls=1, ttl_s=10.0)

        async def forever() -> ReferenceAnswer:
            await asyncio.sleep(3600)
            raise AssertionError("unreachable")

        task = asyncio.create_task(forever())
        states.open("a").reference = task
        states.open("b")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task.cancelled()

    assert asyncio.run(run())


def test_a_slow_or_empty_reference_is_a_value_not_an_exception() -> None:
    async def slow(**_: Any) -> Any:
        await asyncio.sleep(30)

    async def broken(**_: Any) -> Any:
        raise ValueError("bad key")

    async def garbage(**_: Any) -> Any:
        return {"choices": "none"}

    def ask(complete: Any) -> ReferenceAnswer:
        return asyncio.run(
            ask_reference(
                complete, model="r", messages=[], request={}, metadata={}, timeout_s=0.05, max_tokens=8
            )
        )

    assert [ask(c).failure for c in (slow, broken, garbage)] == [
        "reference_timeout",
        "reference_error",
        "reference_error",
    ]


@pytest.mark.parametrize(
    ("answer", "request_", "why"),
    [
        ({"answers": ("a",)}, {"model": "m", "n": 1, "response_format": {"type": "text"}}, ""),
        ({"answers": ("a",)}, {"text": {"format": {"type": "text"}}}, ""),
        ({"answers": ("a",), "has_tool_calls": True}, {}, "tools are in play"),
        ({"answers": ("a",)}, {"response_format": {"type": "json_object"}}, "a response format is asked for"),
        (
            {"answers": ("a",)},
            {"text": {"format": {"type": "json_schema"}}},
            "a response format is asked for",
        ),
        ({"answers": ("a",)}, {"output_config": {"effort": "low"}}, ""),
        (
            {"answers": ("a",)},
            {"output_config": {"format": {"type": "json_schema"}}},
            "a response format is asked for",
        ),
        ({"answers": ("a",)}, {"guided_json": {}}, "a response format is asked for"),
        ({"answers": ("a",)}, {"logprobs": True}, "log-probabilities are asked for"),
        (
            {"answers": ("a",)},
            {"include": ["message.output_text.logprobs"]},
            "log-probabilities are asked for",
        ),
        ({"answers": ("a", "b")}, {}, "several choices are asked for"),
    ],
)
def test_answers_that_a_plain_text_must_not_replace(
    answer: dict[str, Any], request_: dict[str, Any], why: str
) -> None:
    assert why_not_replaceable(Exchange(call="", request=request_, **answer)) == why


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


def test_items_that_take_long_wait_for_the_others_and_run_alone() -> None:
    free, batches = threading.Event(), list[list[int]]()

    def work(items: Sequence[int]) -> list[int]:
        free.wait(5)
        batches.append(list(items))
        return list(items)

    worker: BatchWorker[int, int] = BatchWorker(
        work, name="test", max_batch=8, max_queue=16, long=lambda item: item >= 100
    )
    (first,) = worker.submit([0])
    while worker.depth:  # taken up: what follows gathers behind it
        time.sleep(0.001)
    futures = worker.submit([100, 1, 101, 2, 3])
    free.set()
    assert [future.result(timeout=5) for future in [first, *futures]] == [0, 100, 1, 101, 2, 3]
    assert batches == [[0], [1, 2, 3], [100], [101]]


def test_a_text_that_breaks_the_model_does_not_fail_the_texts_beside_it() -> None:
    gate = threading.Event()
    worker = BatchWorker(doubled_behind(gate), name="test", max_batch=8, max_queue=8)
    futures = worker.submit([1, 2, 13, 3])
    gate.set()
    assert [futures[place].result(5) for place in (0, 1, 3)] == [2, 4, 6]
    with pytest.raises(ValueError, match="unlucky"):
        futures[2].result(5)


def test_messages_of_calls_that_never_end_are_bounded_together() -> None:
    states = CallStates(max_calls=100, ttl_s=900.0, max_kept=1000)
    for number in range(10):
        states.open(f"c{number}")
        states.keep(f"c{number}", ({"role": "user", "content": "x" * 300},))
    kept = [bool(state.messages) for number in range(10) if (state := states.take(f"c{number}"))]
    assert kept == [False] * 7 + [True] * 3
