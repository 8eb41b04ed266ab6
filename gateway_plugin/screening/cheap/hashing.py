"""How texts become the characters that the cheap model sees, and n-grams become places in its table.

Changing anything here makes a trained table worthless: raise :data:`LAYOUT` and train again.
"""

import re
import unicodedata
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

LAYOUT = 1
ORDERS = 7  # contexts of 0 to 6 characters
START = 0  # stands before a text's first character, as often as a context is long
_DIGITS = str.maketrans("123456789", "000000000")
_CONTEXT, _NEXT, _FINAL = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93))
_FOLD, _HALF, _MOST = np.uint64(29), np.uint64(32), np.uint64(31)
_SEED = np.uint64(0x2545F4914F6CDD1D)


_MARK = f"[{''.join(c for c in map(chr, range(0x300, 0x20000)) if unicodedata.combining(c))}]"
_LONG_RUN = re.compile(f"({_MARK}{{30}}){_MARK}+")


def seen_text(text: str) -> str:
    """The text as the model sees it: NFC, blanks made one space, every digit a zero.

    Of a run of combining marks 30 are seen, as in the Stream-Safe Text Format of Unicode's annex 15: putting
    them in order takes time that grows with the square of their number.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", _LONG_RUN.sub(r"\1", text))
    return " ".join(text.split()).translate(_DIGITS)


def seen_characters(text: str) -> npt.NDArray[np.uint32]:
    """Code points of :func:`seen_text`."""
    return np.frombuffer(seen_text(text).encode("utf-32-le", "replace"), dtype=np.uint32)


def context_keys(codes: npt.NDArray[np.uint32]) -> Iterator[npt.NDArray[np.uint64]]:
    """For contexts of 0 to 6 characters: a number for each character's context, ``(n,)``, not yet mixed.

    Before the text's beginning stands :data:`START`.
    """
    n = len(codes)
    padded = np.zeros(n + ORDERS - 1, dtype=np.uint64)
    padded[ORDERS - 1 :] = codes
    padded += np.uint64(1)  # tells contexts of different lengths apart
    context = np.full(n, _SEED)
    yield context
    for order in range(1, ORDERS):  # the character `order` places back is folded in
        context = context + padded[ORDERS - 1 - order : ORDERS - 1 - order + n]
        context *= _CONTEXT
        context ^= context >> _FOLD
        yield context


def gram_keys(contexts: npt.NDArray[np.uint64], codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    """The same for a context with its character; ``(..., n)`` and ``(n,)`` in, ``(..., n)`` out."""
    return (contexts + codes.astype(np.uint64)) * _NEXT


def mixed(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A finaliser (after SplitMix64): every bit of the result depends on every bit of the key."""
    keys = keys ^ (keys >> _HALF)
    keys *= _FINAL
    keys ^= keys >> _MOST
    return keys
