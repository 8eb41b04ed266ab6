"""Findings of texts seen before: repeated prompts, system prompts and old turns cost a hash."""

import hashlib
from collections import OrderedDict
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """The newest values by the SHA-256 of a text; the texts themselves are not kept."""

    def __init__(self, *, size: int = 8192) -> None:
        self._size = size
        self._values: OrderedDict[bytes, Value] = OrderedDict()

    @staticmethod
    def key(text: str) -> bytes:
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

    def get(self, key: bytes) -> Value | None:
        """``key``: :meth:`key` of a text, which takes a millisecond for 300 kB of it."""
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def put(self, key: bytes, value: Value) -> None:
        self._values[key] = value
        while len(self._values) > self._size:
            self._values.popitem(last=False)
