"""Runs inside a proxy under test: stalls of its event loop, and whose code was on the loop meanwhile.

A heartbeat sleeps 10 ms at a time. When it comes more than 50 ms late, one JSON line is written: how late
(``late_ms``), how much CPU time the loop's thread used meanwhile (``cpu_ms``), how long the thread waited for
a core (``queued_ms``, from the kernel), the rest (``waited_ms``: the interpreter lock or a blocking call),
and the stacks that a second thread saw on the loop during the stall. The steps of the guardrail's own hook
are timed one by one (:mod:`benchmarks.gateway.steps`); one of over 50 ms is a line with ``step_ms``. So is a
garbage collection with ``collection_ms``, which is no part of the step that happens to set it off: it walks
all objects of the process, LiteLLM's above all.

Once a second the allocator gives back what it keeps of freed memory, so that the process's memory is what
it holds: otherwise it is the most it ever held, which a few requests that are heavy at one time raise by
hundreds of MB, early or late.
"""

import asyncio
import ctypes
import faulthandler
import gc
import json
import os
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from benchmarks.gateway.steps import timed

FRAME = re.compile(r'File "(.*)", line \d+ in (.*)')
BEAT_S, STALL_S, TRIM_S = 0.010, 0.050, 1.0


class Watchdog(CustomLogger):
    """Starts itself with the first request that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self._file = Path(os.environ.get("WATCHDOG_FILE", os.devnull))
        self._task: asyncio.Task[None] | None = None
        self._beat = 0.0
        self._loop_thread = 0
        self._stacks: Counter[str] = Counter()
        self._collected = self._collection_began = 0.0

    async def async_pre_call_hook(self, *_: Any, **__: Any) -> None:
        if self._task is None:
            self._loop_thread = threading.get_ident()
            self._beat = time.perf_counter()
            self._task = asyncio.create_task(self._heartbeat())
            self._time_the_guardrail()
            for work in (self._look, _trim):
                threading.Thread(target=work, name="watchdog", daemon=True).start()

    def _time_the_guardrail(self) -> None:
        module = sys.modules.get("gateway_plugin.litellm_guardrail")
        if module is not None:
            guardrail = module.SDAGuardrail
            guardrail.apply_guardrail = timed(guardrail.apply_guardrail, self._step, clock=self._clock)
            gc.callbacks.append(self._collecting)

    def _clock(self) -> float:
        """CPU seconds of the loop's thread without its garbage collections."""
        return time.thread_time() - self._collected

    def _collecting(self, phase: str, _: object) -> None:
        if threading.get_ident() != self._loop_thread:
            return
        if phase == "start":
            self._collection_began = time.thread_time()
            return
        seconds = time.thread_time() - self._collection_began
        self._collected += seconds
        if seconds > STALL_S:
            self._write(collection_ms=1e3 * seconds)

    def _step(self, seconds: float) -> None:
        if seconds > STALL_S:
            self._write(step_ms=1e3 * seconds)

    async def _heartbeat(self) -> None:
        schedstat = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        while True:
            began, cpu, queued = time.perf_counter(), time.thread_time(), _queued(schedstat)
            self._beat = began
            await asyncio.sleep(BEAT_S)
            late = time.perf_counter() - began - BEAT_S
            if late > STALL_S:
                used, waiting = time.thread_time() - cpu, _queued(schedstat) - queued
                stacks, self._stacks = self._stacks, Counter()
                self._write(
                    late_ms=1e3 * late,
                    cpu_ms=1e3 * used,
                    queued_ms=1e3 * waiting,
                    waited_ms=1e3 * max(0.0, late - used - waiting),
                    stacks=dict(stacks),
                )

    def _look(self) -> None:
        while True:
            time.sleep(BEAT_S)
            if time.perf_counter() - self._beat > BEAT_S + STALL_S:
                names = self._on_the_loop()
                if names:
                    self._stacks[_owner(names)] += 1

    def _on_the_loop(self) -> list[str]:
        """``file:function`` of the loop's frames, innermost first. Written by the interpreter in one go:
        walking the frames of a running thread from another one is not safe."""
        with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            threads = file.read().split("\n\n")
        ours = f"0x{self._loop_thread:016x} "
        found = next((thread for thread in threads if ours in thread.partition("\n")[0]), "")
        return [f"{path}:{name}" for path, name in FRAME.findall(found)]

    def _write(self, **row: Any) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _trim() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    while trim is not None:
        time.sleep(TRIM_S)
        trim(0)


def _queued(schedstat: Path) -> float:
    """Seconds that the thread has waited for a core."""
    try:
        return int(schedstat.read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def _owner(names: list[str]) -> str:
    """The innermost frame of the gateway's own code (the layer for headers is below every request), then the
    innermost frame of all."""
    own = next((n for n in names if "/gateway_plugin/" in n and "litellm_headers" not in n), "")
    return f"{own.rpartition('gateway_plugin/')[2] or '-'} | {'/'.join(names[0].split('/')[-2:])}"


handler = Watchdog()
