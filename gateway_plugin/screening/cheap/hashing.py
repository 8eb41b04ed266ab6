"""How texts become the characters that the cheap model sees, and n-grams become places in its table.

Changing anything here makes a trained table worthless: raise :data:`LAYOUT` and train again.
"""

import unicodedata

import numpy as np
import numpy.typing as npt

LAYOUT = 1
ORDERS = 7  # contexts of 0 to 6 characters
START = 0  # stands before a text's first character, as often as a context is long
_DIGITS = str.maketrans("123456789", "000000000")
_CONTEXT, _NEXT, _FINAL = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93))
_SEED = np.uint64(0x2545F4914F6CDD1D)


def seen_characters(text: str) -> npt.NDArray[np.uint32]:
    """Code points of the text as the model sees it: NFC, blanks made one space, every digit a zero."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    text = " ".join(text.split()).translate(_DIGITS)
    return np.frombuffer(text.encode("utf-32-le", "replace"), dtype=np.uint32)


def hashes(codes: npt.NDArray[np.uint32]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Of ``(n,)`` characters: hashes of each one's contexts and of context with character, both ``(7, n)``.

    Row k is for the k characters before; before the text's beginning stands :data:`START`.
    """
    n = len(codes)
    padded = np.zeros(n + ORDERS - 1, dtype=np.uint64)
    padded[ORDERS - 1 :] = codes
    contexts = np.empty((ORDERS, n), dtype=np.uint64)
    contexts[0] = _SEED
    for order in range(1, ORDERS):
        # the character `order` places back is folded in; +1 tells contexts of different lengths apart
        before = padded[ORDERS - 1 - order : ORDERS - 1 - order + n]
        np.multiply(contexts[order - 1] + before + np.uint64(1), _CONTEXT, out=contexts[order])
        contexts[order] ^= contexts[order] >> np.uint64(29)
    grams = (contexts + padded[ORDERS - 1 :]) * _NEXT
    return mixed(contexts), mixed(grams)


def mixed(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A finaliser (after SplitMix64): every bit of the result depends on every bit of the key."""
    keys = keys ^ (keys >> np.uint64(32))
    keys *= _FINAL
    keys ^= keys >> np.uint64(31)
    return keys
