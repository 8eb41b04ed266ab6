"""Commands and servers of the demo: everything that is started is stopped, also on Ctrl-C."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

BIN = Path(sys.executable).parent
GRACE_S = 10.0


class DemoError(Exception):
    """A step that did not do what it should; the message names the step and its log."""


def free_port() -> int:
    """A TCP port of the loopback interface that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def command(name: str, *arguments: object, env: Mapping[str, str] | None = None) -> str:
    """Run one of the project's commands to its end, its progress shown; returns its standard output."""
    done = subprocess.run(
        [BIN / name, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )
    if done.returncode:
        raise DemoError(f"{name} {arguments[0]} ended with exit code {done.returncode}")
    return done.stdout


class Servers:
    """Servers in process groups of their own; leaving the block stops them all."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Servers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._running.values():
            _signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        for process in self._running.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal_group(process, signal.SIGKILL)
                process.wait()

    def start(self, name: str, argv: Sequence[object], *, env: Mapping[str, str] | None = None) -> None:
        """Start a command of the project; what it prints goes to ``<name>.log``."""
        with self.log(name).open("wb") as log:
            self._running[name] = subprocess.Popen(
                [BIN / str(argv[0]), *map(str, argv[1:])],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, **(env or {})},
            )

    def log(self, name: str) -> Path:
        """Where a server's output is kept."""
        return self._logs / f"{name}.log"

    def wait(self, name: str, ready: Callable[[], str | None], *, timeout_s: float) -> str:
        """Poll ``ready`` until it returns something.

        Raises:
            DemoError: the server ended, or was not ready in time.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if (found := ready()) is not None:
                return found
            if self._running[name].poll() is not None:
                break
            time.sleep(0.2)
        tail = self.log(name).read_text(errors="replace").strip().splitlines()[-3:]
        raise DemoError(f"{name} did not come up (see {self.log(name)}): {' | '.join(tail)}")

    def ready_line(self, name: str) -> Callable[[], str | None]:
        """For servers that print ``ready URL ...``: the URL once it is there."""

        def look() -> str | None:
            for line in self.log(name).read_text(errors="replace").splitlines():
                if line.startswith("ready "):
                    return line.split()[1]
            return None

        return look


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.poll() is None:
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
