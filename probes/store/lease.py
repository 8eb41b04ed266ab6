"""Who may run a round: a lease that dies with its process."""

import os
import socket
import uuid
from pathlib import Path

LONGEST_S = 86_400.0
"""No lease is taken for longer, seconds."""


def new_holder() -> str:
    """A name for one runner of this process: host, pid, the process's start time, a random part."""
    pid = os.getpid()
    return f"{socket.gethostname()}|{pid}|{_started(pid)}|{uuid.uuid4().hex[:12]}"


def is_dead(holder: str) -> bool:
    """Whether the holder was a process of this host that is gone; an unknown host is taken to live."""
    parts = holder.split("|")
    if len(parts) != 4 or parts[0] != socket.gethostname() or not parts[1].isdigit():
        return False
    return _started(int(parts[1])) != parts[2]


def _started(pid: int) -> str:
    """The start time of a process in clock ticks ("" where it is gone): pids come back, this does not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        # no such process, or a system without /proc, where the pid alone must do
        if Path("/proc/self").exists() or not _alive(pid):
            return ""
        return "alive"
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
