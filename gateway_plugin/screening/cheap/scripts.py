"""Writing systems by Unicode block, for whole arrays of characters at once."""

import unicodedata

import numpy as np
import numpy.typing as npt

COMMON = 0  # no letter of a script we know: digits, marks, spaces, emoji
SCRIPTS: tuple[str, ...] = (
    "common", "latin", "greek", "cyrillic", "armenian", "hebrew", "arabic", "devanagari", "bengali",
    "gurmukhi",
    "gujarati", "oriya", "tamil", "telugu", "kannada", "malayalam", "sinhala", "thai", "lao", "tibetan",
    "myanmar",
    "georgian", "ethiopic", "khmer", "hiragana", "katakana", "han", "hangul", "other",
)  # fmt: skip
_GREEK = SCRIPTS.index("greek")
_BLOCKS: tuple[tuple[int, int, str], ...] = (
    (0x41, 0x5A, "latin"), (0x61, 0x7A, "latin"), (0xAA, 0xAA, "latin"), (0xBA, 0xBA, "latin"),
    (0xC0, 0xD6, "latin"), (0xD8, 0xF6, "latin"), (0xF8, 0x2AF, "latin"), (0x300, 0x36F, "latin"),
    (0x370, 0x3FF, "greek"), (0x400, 0x52F, "cyrillic"), (0x531, 0x58A, "armenian"), (0x591, 0x5F4, "hebrew"),
    (0x600, 0x6FF, "arabic"), (0x700, 0x74F, "other"), (0x750, 0x77F, "arabic"), (0x780, 0x8FF, "other"),
    (0x900, 0x97F, "devanagari"), (0x980, 0x9FF, "bengali"), (0xA00, 0xA7F, "gurmukhi"),
    (0xA80, 0xAFF, "gujarati"), (0xB00, 0xB7F, "oriya"), (0xB80, 0xBFF, "tamil"), (0xC00, 0xC7F, "telugu"),
    (0xC80, 0xCFF, "kannada"), (0xD00, 0xD7F, "malayalam"), (0xD80, 0xDFF, "sinhala"), (0xE00, 0xE7F, "thai"),
    (0xE80, 0xEFF, "lao"), (0xF00, 0xFFF, "tibetan"), (0x1000, 0x109F, "myanmar"),
    (0x10A0, 0x10FF, "georgian"),
    (0x1100, 0x11FF, "hangul"), (0x1200, 0x139F, "ethiopic"), (0x13A0, 0x177F, "other"),
    (0x1780, 0x17FF, "khmer"), (0x1800, 0x1CFF, "other"), (0x1D00, 0x1DBF, "latin"),
    (0x1E00, 0x1EFF, "latin"),
    (0x1F00, 0x1FFF, "greek"), (0x2C00, 0x2DFF, "other"), (0x2E80, 0x2FDF, "han"), (0x3005, 0x3007, "han"),
    (0x3041, 0x309F, "hiragana"), (0x30A1, 0x30FF, "katakana"), (0x3105, 0x312F, "other"),
    (0x3131, 0x318E, "hangul"), (0x31F0, 0x31FF, "katakana"),
    (0x3400, 0x4DBF, "han"), (0x4E00, 0x9FFF, "han"), (0xA000, 0xABFF, "other"), (0xAC00, 0xD7FF, "hangul"),
    (0xF900, 0xFAFF, "han"), (0xFB00, 0xFB06, "latin"), (0xFB13, 0xFB17, "armenian"),
    (0xFB1D, 0xFB4F, "hebrew"),
    (0xFB50, 0xFDFF, "arabic"), (0xFE70, 0xFEFC, "arabic"), (0xFF21, 0xFF3A, "latin"),
    (0xFF41, 0xFF5A, "latin"),
    (0xFF66, 0xFF9F, "katakana"), (0xFFA0, 0xFFDC, "hangul"), (0x10000, 0x1CFFF, "other"),
    (0x20000, 0x3FFFF, "han"),
)  # fmt: skip


def _table() -> npt.NDArray[np.uint8]:
    table = np.zeros(0x40000, dtype=np.uint8)
    for first, last, name in _BLOCKS:
        table[first : last + 1] = SCRIPTS.index(name)
    for code in range(0x80, 0x3100):  # digits and marks of a block are no letters
        if unicodedata.category(chr(code))[0] in "NPSZC":
            table[code] = COMMON
    return table


_TABLE = _table()


def script_ids(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """Index into :data:`SCRIPTS` of each code point, shape as given; 0 for what is no letter."""
    return _TABLE[np.minimum(codes, len(_TABLE) - 1)]


def letter_scripts(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """As :func:`script_ids` for ``(n,)`` neighbours, but a single Greek letter counts as a mark.

    Honest formulas set it among Latin and Han letters.
    """
    scripts = script_ids(codes)
    greek = np.zeros(len(scripts) + 2, dtype=bool)
    np.equal(scripts, _GREEK, out=greek[1:-1])
    if greek.any():
        scripts[greek[1:-1] & ~greek[:-2] & ~greek[2:]] = COMMON
    return scripts


def carried(scripts: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Shape ``(n,)`` in and out: what is no letter takes the script of the last letter, at first Latin's."""
    last = np.maximum.accumulate(np.where(scripts != COMMON, np.arange(len(scripts)), -1))
    return np.where(last >= 0, scripts[np.maximum(last, 0)], np.uint8(SCRIPTS.index("latin")))
