"""How texts become the characters that the cheap model sees, and n-grams become places in its table.

Changing anything here makes a trained table worthless: raise :data:`LAYOUT` and train again.
"""

import unicodedata
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

LAYOUT = 1
ORDERS = 7  # contexts of 0 to 6 characters
START = 0  # stands before a text's first character, as often as a context is long
_DIGITS = str.maketrans("123456789", "000000000")
_CONTEXT, _NEXT, _FINAL = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93))
_SEED = np.uint64(0x2545F4914F6CDD1D)


def seen_text(text: str) -> str:
    """The text as the model sees it: NFC, blanks made one space, every digit a zero."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return " ".join(text.split()).translate(_DIGITS)


def seen_characters(text: str) -> npt.NDArray[np.uint32]:
    """Code points of :func:`seen_text`."""
    return np.frombuffer(seen_text(text).encode("utf-32-le", "replace"), dtype=np.uint32)


def each_order(
    codes: npt.NDArray[np.uint32],
) -> Iterator[tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]]:
    """For contexts of 0 to 6 characters: hashes of each character's context, and of context with character.

    Both ``(n,)``; before the text's beginning stands :data:`START`.
    """
    n = len(codes)
    padded = np.zeros(n + ORDERS - 1, dtype=np.uint64)
    padded[ORDERS - 1 :] = codes
    context = np.full(n, _SEED)
    for order in range(ORDERS):
        if order:
            # the character `order` places back is folded in; + 1 tells contexts of different lengths apart
            before = padded[ORDERS - 1 - order : ORDERS - 1 - order + n]
            context = (context + before + np.uint64(1)) * _CONTEXT
            context ^= context >> np.uint64(29)
        yield mixed(context), mixed((context + padded[ORDERS - 1 :]) * _NEXT)


def mixed(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A finaliser (after SplitMix64): every bit of the result depends on every bit of the key."""
    keys = keys ^ (keys >> np.uint64(32))
    keys *= _FINAL
    keys ^= keys >> np.uint64(31)
    return keys
