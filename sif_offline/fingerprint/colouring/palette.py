"""The colours, in one place; text on each of them has a contrast of at least 4.5 (WCAG AA)."""

from typing import NamedTuple


class Palette(NamedTuple):
    """``#rrggbb`` of the paper, the text on it, and the boxes of tokens: strong, pale, and their frames."""

    paper: str
    ink: str
    muted: str
    green: str
    green_line: str
    green_pale: str
    red: str
    red_line: str
    red_pale: str


LIGHT = Palette(
    paper="#ffffff",
    ink="#14181c",
    muted="#5c6670",
    green="#86d99b",
    green_line="#1f7a3d",
    green_pale="#e0f5e5",
    red="#f5a79d",
    red_line="#b3362a",
    red_pale="#fce6e3",
)
DARK = Palette(
    paper="#15191d",
    ink="#f2f4f6",
    muted="#a4aeb8",
    green="#1c6e38",
    green_line="#5fd080",
    green_pale="#16301f",
    red="#97332b",
    red_line="#f08a7e",
    red_pale="#3a1f1c",
)
