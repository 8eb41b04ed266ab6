"""The queue in front of a model: places, order, batches, and what fails."""

import threading
import time
from collections.abc import Callable, Sequence

import pytest

from gateway_plugin.screening.batching import BatchWorker, QueueFullError


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
