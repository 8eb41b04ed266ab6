"""Every executor keeps the same promises; workers that die cost no result."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from sif_offline.executors import Done, Event, Executor, ExecutorError, Lost, Noted, Started, make_executor
from sif_offline.executors.base import MAX_LOSSES
from tests.executors.works import BadTaskError, Squares

TASKS = [5, 4, 3, 2, 1]


def processes() -> Executor:
    return make_executor("processes", workers=2, threads=1)


def results(executor: Executor, work: Squares, tasks: list[int]) -> tuple[dict[int, int], list[Event]]:
    events: list[Event] = []
    executor.run(work, tasks, on_event=events.append)
    done = [event for event in events if isinstance(event, Done)]
    assert len({event.task for event in done}) == len(done) == len(tasks)
    return {event.task: event.result[0] for event in done}, events


@pytest.mark.parametrize("executor", [make_executor("local"), processes()], ids=lambda e: e.name)
def test_every_task_once_with_its_notes(executor: Executor) -> None:
    found, events = results(executor, Squares(), TASKS)
    assert found == {place: task * task for place, task in enumerate(TASKS)}
    assert [event.task for event in events if isinstance(event, Started)] == [0, 1, 2, 3, 4]
    assert {event.task: event.note for event in events if isinstance(event, Noted)} == {
        place: f"about to square {task}" for place, task in enumerate(TASKS)
    }
    stopped: list[Event] = []
    executor.run(
        Squares(),
        TASKS,
        on_event=stopped.append,
        stop=lambda: sum(isinstance(event, Done) for event in stopped) >= 2,
    )
    assert sum(isinstance(event, Done) for event in stopped) == 2
    with pytest.raises(BadTaskError, match="seven: not a number"):
        executor.run(Squares(), [1, "seven", 2], on_event=lambda event: None)


def test_a_killed_worker_is_told_and_its_task_done_again(tmp_path: Path) -> None:
    found, events = results(processes(), Squares(deaths=tmp_path, fatal=1), TASKS)
    assert found == {place: task * task for place, task in enumerate(TASKS)}
    (lost,) = [event for event in events if isinstance(event, Lost)]
    assert (lost.task, lost.reason) == (2, "was ended by SIGKILL")


def test_a_task_that_kills_every_worker_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(ExecutorError, match=f"{MAX_LOSSES} workers died.*SIGKILL"):
        results(processes(), Squares(deaths=tmp_path, fatal=99), [3])
    assert len(list(tmp_path.iterdir())) == MAX_LOSSES


PARENT = """
import signal
import sys
from pathlib import Path
from sif_offline.executors import make_executor
from tests.executors.works import Sleepers

if __name__ == "__main__":
    # a background job of a shell ignores SIGINT, and its children with it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    executor = make_executor("processes", workers=2, threads=1)
    executor.run(Sleepers(Path(sys.argv[1])), [1, 2], on_event=lambda event: None)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path: Path, how: signal.Signals) -> None:
    script, pids = tmp_path / "parent.py", tmp_path / "pids"
    script.write_text(PARENT)
    pids.mkdir()
    root = str(Path(__file__).parents[2])
    parent = subprocess.Popen(
        [sys.executable, str(script), str(pids)],
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    workers = _wait_for(lambda: [int(path.name) for path in pids.iterdir()], count=2)
    parent.send_signal(how)
    parent.wait(timeout=60)
    assert _wait_for(lambda: [pid for pid in workers if not _alive(pid)], count=2)


def _wait_for(look: Callable[[], list[int]], *, count: int, seconds: float = 120) -> list[int]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if len(found) == count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not {count} of them in {seconds} s")


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_options_that_make_no_sense() -> None:
    for options, said in (
        ({"name": "cloud"}, "not one of local, processes, ray"),
        ({"name": "local", "workers": 2}, "one worker, not 2"),
        ({"name": "processes", "address": "auto"}, "only ray"),
        ({"name": "processes", "device": "cuda", "workers": 99}, "GPU each"),
    ):
        with pytest.raises(ExecutorError, match=said):
            make_executor(**options)


RAY = """
import sys
from sif_offline.executors import Done, Lost, make_executor
from sif_offline.executors.base import MAX_LOSSES
from tests.executors.works import BadTaskError, Squares
from pathlib import Path

executor = make_executor("ray", workers=2, threads=1, address="local")
events = []
executor.run(Squares(deaths=Path(sys.argv[1]), fatal=1), [5, 4, 3, 2, 1], on_event=events.append)
assert {e.task: e.result for e in events if isinstance(e, Done)} == {
    place: (task * task, "cpu") for place, task in enumerate([5, 4, 3, 2, 1])
}
assert [e.task for e in events if isinstance(e, Lost)] == [2]
try:
    executor.run(Squares(), ["seven"], on_event=events.append)
except BadTaskError as error:
    assert "not a number" in str(error)
else:
    raise SystemExit("no error")
"""


@pytest.mark.skipif(
    find_spec("ray") is None, reason="ray is not installed: pip install 'sifwatch[distributed]'"
)
def test_ray_keeps_the_same_promises(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", RAY, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]


@pytest.mark.skipif(
    find_spec("ray") is None, reason="ray is not installed: pip install 'sifwatch[distributed]'"
)
def test_a_cluster_that_is_not_there() -> None:
    code = (
        "from sif_offline.executors import ExecutorError, make_executor\n"
        "try:\n"
        "    make_executor('ray', workers=1, threads=1).run(None, [1], on_event=print)\n"
        "except ExecutorError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=100)
    assert "no cluster at auto" in done.stdout.decode()
    assert "ray start --head" in done.stdout.decode()


def test_ray_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExecutorError, match=r"sifwatch\[distributed\]"):
        make_executor("ray", workers=1, threads=1).run(Squares(), [1], on_event=lambda event: None)
