"""Load: the soak scaled down on a real proxy, and its instruments on what they must not miss."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gateway import soak
from benchmarks.gateway.overhead import CONDITIONS, Turn, questions, table
from benchmarks.gateway.steps import timed
from benchmarks.gateway.traffic import HOSTILE, request_number
from benchmarks.gateway.watchdog import Watchdog


def soaked(test: Any) -> Any:
    """A test that looks at the soak: starved of a core, scores come late and gibberish passes."""
    return pytest.mark.alone(pytest.mark.timeout(900)(test))


@pytest.fixture(scope="module")
def result(language_model: Any) -> dict[str, Any]:
    """A few hundred requests, a third of them hostile: every shape comes at least twice, and most of them
    before memory is called steady."""
    arguments = soak.parser().parse_args(
        [
            "--requests=400",
            "--bare-requests=240",
            "--hostile=0.3",
            "--clients=16",
            "--distinct=60",
            "--seed=4",
        ]
    )
    return soak.soak(arguments)


@soaked
def test_no_request_breaks_the_gateway(result: dict[str, Any]) -> None:
    guarded = result["guarded"]
    assert guarded["tracebacks"]["through_our_code"] == 0
    assert result["only_guarded"] == [], guarded["server_errors"]
    assert guarded["unexpected"] == {}, "an honest request was refused, or a query of gibberish passed"
    assert not {"none", "late"} & {s for kind in ("chat", "embeddings") for s in guarded["statuses"][kind]}


@soaked
def test_every_hostile_shape_was_sent_and_none_stopped_the_rest(result: dict[str, Any]) -> None:
    sent = result["guarded"]["statuses"]
    assert set(HOSTILE) <= set(sent)
    assert sum(sum(counts.values()) for counts in sent.values()) == 400
    assert sent["gibberish"] == {"400": sum(sent["gibberish"].values())}


@soaked
def test_scoring_never_stalls_the_event_loop(result: dict[str, Any]) -> None:
    stalls = result["guarded"]["stalls"]
    assert stalls["steps_of_the_guardrail"] == [], stalls


@soaked
def test_memory_does_not_grow_with_hostile_requests(result: dict[str, Any]) -> None:
    """Kept bodies of the huge prompts alone would be 40 MB more by the end."""
    memory = result["guarded"]["memory"]
    assert memory["end_mb"] - memory["steady_mb"] < 120, memory


# The instruments


def test_traffic_is_the_same_for_the_same_seed_and_holds_every_shape() -> None:
    made = [request_number(n, seed=5, hostile=0.05, distinct=100) for n in range(2_000)]
    assert made == [request_number(n, seed=5, hostile=0.05, distinct=100) for n in range(2_000)]
    assert set(HOSTILE) <= {sent.kind for sent in made}
    # 2,000 draws at 5 %: outside of 65..135 with probability 4e-4, and the seed is fixed.
    assert 65 <= sum(sent.hostile for sent in made) <= 135
    assert not any(sent.hostile for sent in made if sent.kind in ("chat", "gibberish"))


def test_the_watchdog_sees_a_stall_and_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_FILE", str(tmp_path / "seen.jsonl"))
    space: dict[str, Any] = {"time": time}
    source = "def score():\n    end = time.thread_time() + 0.3\n    while time.thread_time() < end: pass\n"
    exec(compile(source, "/x/gateway_plugin/screening/slow.py", "exec"), space)

    async def run() -> None:
        watchdog = Watchdog()
        await watchdog.async_pre_call_hook()
        await asyncio.sleep(0.1)
        time.sleep(0.2)  # waits
        await asyncio.sleep(0.1)
        space["score"]()  # works
        await asyncio.sleep(0.1)

    asyncio.run(run())
    found = soak.stalls(tmp_path / "seen.jsonl")
    assert found["waiting_for_lock_or_call"] >= 1
    assert found["longest_ms"] > 190
    assert any(stack.startswith("screening/slow.py:score") for stack in found["stacks"])


def test_the_steps_of_a_coroutine_are_timed_and_it_behaves_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_FILE", str(tmp_path / "seen.jsonl"))

    def work(seconds: float) -> None:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    async def hook(value: int) -> int:
        work(0.03)
        await asyncio.sleep(0.1)  # no CPU of ours
        work(0.03)
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(1)
        except TimeoutError:
            work(0.08)
        if value < 0:
            raise ValueError("negative")
        return value + 1

    timed_hook = timed(hook, Watchdog()._step)
    assert asyncio.run(timed_hook(1)) == 2
    with pytest.raises(ValueError, match="negative"):
        asyncio.run(timed_hook(-1))
    steps = soak.stalls(tmp_path / "seen.jsonl")["steps_of_the_guardrail"]
    assert [80 <= step < 110 for step in steps] == [True, True], steps


def test_memory_is_compared_between_steady_state_and_end() -> None:
    flat = soak.Seen(anonymous_mb=[(n, 900.0 if n < 200 else 1000.0) for n in range(0, 1001, 10)])
    assert soak.memory(flat, requests=1000)["growth_mb_per_1000_requests"] == 0
    growing = soak.Seen(anonymous_mb=[(n, float(n)) for n in range(0, 1001, 10)])
    assert soak.memory(growing, requests=1000)["growth_mb_per_1000_requests"] == pytest.approx(1000.0)


def test_tracebacks_of_ours_are_told_from_refusals(tmp_path: Path) -> None:
    head = "Traceback (most recent call last):\n"
    log = tmp_path / "log"
    log.write_text(
        f'{head}  File "/a/gateway_plugin/litellm_guardrail.py"\nQueryBlockedError: refused\n'
        f'{head}  File "/a/litellm/proxy.py"\nKeyError: x\n'
        f'{head}  File "/a/gateway_plugin/engine.py"\nAttributeError: y\n'
    )
    assert soak.tracebacks(log) == {"all": 3, "through_our_code": 1}


def test_ratios_are_taken_from_times_and_fresh_questions_never_repeat() -> None:
    measured = Turn([0.1, 0.2, 0.3, 0.9], wall=2.0, cpu=0.4).measures()
    assert measured == {"p50": 0.25, "p99": 0.9, "throughput": 2.0, "cpu": 0.1}
    fresh, known = questions(fresh=True, seed=1), questions(fresh=False, seed=1)
    assert len({next(fresh) for _ in range(500)}) == 500
    assert len({next(known) for _ in range(500)}) <= 20
    ratio = {"median": 1.1, "low": 1.0, "high": 1.25}
    row = {"condition": CONDITIONS[0].name, "clients": 16, "cheap_path_decided": 0.5, "load": 2.0}
    made = table({"rows": [row | dict.fromkeys(("p50", "p99", "throughput", "cpu"), ratio)]})
    assert made.splitlines()[-1].count("1.10 (1.00-1.25)") == 4
