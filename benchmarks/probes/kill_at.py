"""``sif-probes``, which kills itself with SIGKILL at one named point of a round.

    python -m benchmarks.probes.kill_at [--plain] POINT COUNT once --config probes.yaml

``--plain`` asks through httpx and not through litellm, whose import takes seconds; an empty POINT kills
nowhere.
The COUNT-th time that it comes there. The process is the real one in all else; SIGKILL leaves no handler, no
``finally`` and no flush, whoever sends it.
"""

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from probes import cli
from probes.fingerprints import sif
from probes.store import Store
from probes.testing.plain_target import PlainTarget

POINTS: dict[str, tuple[str, bool]] = {
    "intent committed, not sent": ("intend", True),
    "answer received, not stored": ("settle_answer", False),
    "answer stored, next not begun": ("settle_answer", True),
    "before a score": ("add_score", False),
    "after a score": ("add_score", True),
    "before the round's summary": ("finish_round", False),
    "before the lease is given back": ("give_back_lease", False),
}
"""Name of the point -> (method of the store, whether after its call and not before it)."""
ONCE_A_ROUND = ("before the round's summary", "before the lease is given back")


def arm(point: str, count: int) -> None:
    """Make the store's method fatal from its ``count``-th call on."""
    method, after = POINTS[point]
    setattr(Store, method, _fatal(getattr(Store, method), count=count, after=after))


def _fatal(method: Callable[..., Any], *, count: int, after: bool) -> Callable[..., Any]:
    calls = 0

    @functools.wraps(method)
    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls < count:
            return method(*arguments, **keywords)
        if after:
            method(*arguments, **keywords)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("SIGKILL does not return")

    return wrapped


def ask_plainly() -> None:
    """Let the watch make targets without litellm."""
    sif.make_target = lambda target: PlainTarget(  # type: ignore[assignment, return-value]
        name=target.name, url=str(target.api_base), timeout_s=target.timeout
    )


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[0] == "--plain":
        ask_plainly()
        del arguments[0]
    point, count, *rest = arguments
    if point:
        arm(point, int(count))
    sys.argv[1:] = rest
    cli.main()


if __name__ == "__main__":
    main()
