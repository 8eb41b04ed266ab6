"""Of a long text, the stretches that the language model reads: those the cheap model does not clear."""

from collections.abc import Iterator
from dataclasses import dataclass

from gateway_plugin.screening.cheap.check import MAX_CHARACTERS, CheapCheck, CheapScore, Triage
from gateway_plugin.screening.texts import text_ends

LONG = 1_024  # characters: a shorter text is read whole
STRETCH, OVERLAP = 512, 96  # characters; a window of either model lies whole within one of two neighbours
MOST = 16  # stretches of one text: all of 6,700 characters


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is read of one text.

    stretches: with the cheap model's score of each, the strangest first; a short text is one.
    unread: characters or stretches, in words, that nobody reads although the cheap model does not clear them;
        empty where there are none.
    """

    stretches: tuple[tuple[str, CheapScore | None], ...]
    unread: str = ""


def reading(text: str, *, cheap: CheapCheck | None, score: CheapScore | None) -> Reading:
    """What the language model is to read of a text. Without a cheap model it is the text as it is.

    score: the cheap model's of the whole text.
    """
    if cheap is None or len(text) <= LONG:
        return Reading(stretches=((text, score),))
    found = [(piece, cheap.score_text(piece)) for piece in pieces(text_ends(text, characters=MAX_CHARACTERS))]
    strange = [(piece, said) for piece, said in found if said.triage is not Triage.CLEAR and piece.strip()]
    strange.sort(key=lambda pair: -pair[1].clear_excess)
    unread = []
    if len(strange) > MOST:
        unread.append(f"{len(strange) - MOST} of {len(strange)} strange stretches")
    if len(text) > MAX_CHARACTERS:
        unread.append(f"{len(text) - MAX_CHARACTERS} of {len(text)} characters")
    return Reading(stretches=tuple(strange[:MOST]), unread=" and ".join(unread))


def pieces(text: str) -> Iterator[str]:
    """Stretches of ``STRETCH`` characters, each ``OVERLAP`` into the one before it and the last one whole.

    They begin at a word where one is near: a word cut in two looks strange.
    """
    start = 0
    while start + STRETCH < len(text):
        yield text[start : start + STRETCH]
        start += STRETCH - OVERLAP
        blank = text.find(" ", start - OVERLAP // 2, start)
        start = blank + 1 if blank >= 0 else start
    yield text[max(0, len(text) - STRETCH) :]
