"""A character n-gram language model in one table of 2**21 entries, for all writing systems together.

Interpolated absolute discounting (Chen and Goodman 1999, section 2.7, with one discount): of context h, the
characters before, and the shorter context h',

    p(c | h) = f(c | h) + b(h) p(c | h'),    f = (count - D) / total,    b = 1 - the sum of the kept f.

f and b of the n-grams that are worth most are kept, as 8-bit logarithms, in a table addressed by a hash of
the n-gram, with 8 further bits of the hash to tell others apart. An n-gram that was not kept has f = 0, a
context that was not kept has b = 1. One look-up in about 500 finds another n-gram's entry (the table is half
full), so that the probabilities over all of Unicode do not quite sum to one.
"""

from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gateway_plugin.screening.cheap.hashing import (
    LAYOUT,
    ORDERS,
    context_keys,
    gram_keys,
    mixed,
    seen_characters,
)
from sif_offline.fingerprint.errors import SifError

STEPS = 12.0  # steps of the 8-bit logarithm in a bit
FLOOR = 2.0**-20  # a character never seen
EMPTY = np.uint16(0xFF)
CHUNK = 2048  # characters scored at a time: the arrays of a chunk stay in the processor's cache

_BYTE, _TOP = np.uint16(8), np.uint64(56)


class CheapModelError(SifError):
    """The table of the cheap language model is missing, unreadable or of another layout."""


class CharacterModel:
    """Says how surprising each character of a text is. Immutable, thread-safe, no torch."""

    def __init__(self, table: npt.NDArray[np.uint16]) -> None:
        """``table``: ``(2**m,)``; an entry is 8 check bits above an 8-bit value, which is 0xFF when empty."""
        bits = len(table).bit_length() - 1
        if table.ndim != 1 or len(table) != 1 << bits:
            raise CheapModelError(f"table of shape {table.shape}, expected one dimension of a power of two")
        self._table = table
        self._mask = np.uint64(len(table) - 1)
        values = np.exp2(-np.arange(256) / STEPS).astype(np.float32)
        self._kept = values.copy()
        self._kept[255] = 0.0
        self._back = values
        self._back[255] = 1.0

    @classmethod
    def load(cls, path: Path) -> "CharacterModel":
        """Read a table written by the training script (safetensors). Raises :class:`CheapModelError`."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as handle:
                layout = (handle.metadata() or {}).get("layout")
                if layout != str(LAYOUT):
                    raise CheapModelError(f"{path}: layout {layout}, expected {LAYOUT}")
                table = handle.get_tensor("table")
        except (OSError, SafetensorError) as error:
            raise CheapModelError(f"{path}: cannot be read ({error})") from error
        return cls(table)

    def surprisals(self, codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.float32]:
        """Bits of each character given those before it: ``(n,)`` of :func:`seen_characters` in and out."""
        if len(codes) <= CHUNK:
            return self._chunk(codes)
        reach = ORDERS - 1
        parts = [self._chunk(codes[:CHUNK])]
        for start in range(CHUNK, len(codes), CHUNK):
            parts.append(self._chunk(codes[start - reach : start + CHUNK])[reach:])
        return np.concatenate(parts)

    def bits_per_character(self, text: str) -> float:
        """Mean surprisal of the text, in bits; 0 of a text without characters."""
        bits = self.surprisals(seen_characters(text))
        return float(bits.mean()) if len(bits) else 0.0

    def _chunk(self, codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.float32]:
        keys = np.empty((2, ORDERS, len(codes)), dtype=np.uint64)
        for order, context in enumerate(context_keys(codes)):
            keys[0, order] = context
        keys[1] = gram_keys(keys[0], codes)
        values = self._look_up(mixed(keys))  # all orders at once: numpy's cost is by the call
        back, kept = self._back[values[0]], self._kept[values[1]]
        p = np.full(len(codes), FLOOR, dtype=np.float32)
        for order in range(ORDERS):
            p *= back[order]
            p += kept[order]
        bits: npt.NDArray[np.float32] = -np.log2(np.minimum(p, np.float32(1.0)))
        return bits

    def _look_up(self, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint16]:
        """The 8-bit values of the keys, 0xFF of those that are not there."""
        entries = self._table[(keys & self._mask).view(np.int64)]
        other = (entries >> _BYTE) != (keys >> _TOP)
        values: npt.NDArray[np.uint16] = entries & EMPTY
        values[other] = EMPTY
        return values


@lru_cache(maxsize=1)
def shared_character_model() -> CharacterModel:
    """The trained table that ships with the package, read once a process."""
    with as_file(files("gateway_plugin.screening.cheap") / "characters.safetensors") as path:
        return CharacterModel.load(path)
