"""Memory between the phases of a call, and its reference call."""

import asyncio
from typing import Any

from gateway_plugin.calls import CallStates
from gateway_plugin.reference import ReferenceAnswer, ask_reference


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


def test_messages_of_calls_that_never_end_are_bounded_together() -> None:
    states = CallStates(max_calls=100, ttl_s=900.0, max_kept=1000)
    for number in range(10):
        states.open(f"c{number}")
        states.keep(f"c{number}", ({"role": "user", "content": "x" * 300},))
    kept = [bool(state.messages) for number in range(10) if (state := states.take(f"c{number}"))]
    assert kept == [False] * 7 + [True] * 3
