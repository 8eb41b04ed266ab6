"""From token ids to text that can be sent bit by bit: whole characters, nothing past a stop string."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class TextAssembler:
    """Collects the ids of one answer; ``push`` returns the text that has become safe to send.

    ``decode`` maps all ids so far to text. A tail that may still grow into a stop string, and a character
    whose bytes have not all arrived (shown as U+FFFD), are held back. After a stop string ``stopped`` is
    true, and neither it nor anything behind it is ever returned.
    """

    decode: Callable[[Sequence[int]], str]
    stop: Sequence[str] = ()
    stopped: bool = False
    ids: list[int] = field(default_factory=list)
    _sent: int = 0

    def push(self, ids: Sequence[int]) -> str:
        """Add ids; returns the new text, perhaps empty."""
        if self.stopped:
            return ""
        self.ids.extend(ids)
        text = self.decode(self.ids)
        cut = min((at for at in (text.find(stop) for stop in self.stop) if at >= 0), default=-1)
        if cut >= 0:
            self.stopped = True
            return self._send(text, cut)
        whole = text.rstrip("\ufffd")
        return self._send(text, len(whole) - self._held(whole))

    def finish(self) -> str:
        """The text still held back at the end of the answer."""
        if self.stopped:
            return ""
        text = self.decode(self.ids)
        return self._send(text, len(text))

    def _held(self, text: str) -> int:
        longest = max((len(stop) for stop in self.stop), default=1) - 1
        for size in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self.stop):
                return size
        return 0

    def _send(self, text: str, end: int) -> str:
        fresh = text[self._sent : max(end, self._sent)]
        self._sent += len(fresh)
        return fresh
