"""A coloured answer for a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sif_offline.fingerprint.colouring.marks import Mark, marks
from sif_offline.fingerprint.pack_scorer import ScoredToken

if TYPE_CHECKING:
    from rich.text import Text


def colour_text(tokens: Sequence[ScoredToken]) -> "Text":
    """An answer as rich text: green underlined, red not; bold where a type counts, dim where it is a repeat.

    No escape sequence of the answer survives, and nothing is added to harmless text, so that ``.plain`` is
    the answer's.

    Args:
        tokens: of one answer, or of repeats put together by ``join_answers``.
    """
    from rich.text import Text

    text = Text(end="")
    for mark in marks(tokens):
        text.append(mark.before)
        for segment in mark.segments:
            if segment.kind != "sign":
                text.append(segment.text, style=_style(mark))
        text.append(mark.after)
    return text


def legend_text() -> "Text":
    """What the styles mean, in one line."""
    from rich.text import Text

    return Text.assemble(
        ("green", "bold underline green"),
        " and ",
        ("red", "bold red"),
        " types counted, repeats ",
        ("green", "dim underline green"),
        " ",
        ("red", "dim red"),
        ", ",
        ("not scored", "italic dim"),
    )


def _style(mark: Mark) -> str:
    if mark.token.green is None:
        return "italic dim"
    return f"{'bold' if mark.counted else 'dim'} {'underline green' if mark.token.green else 'red'}"
