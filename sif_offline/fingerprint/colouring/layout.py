"""Where the pieces of a coloured answer stand in its picture."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import chain, groupby
from typing import Literal, NamedTuple

from PIL import ImageFont

from sif_offline.fingerprint.colouring.marks import Mark, code

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_PARTS = re.compile(r"\n|[^\S\n]{1,64}|\S{1,64}")


class Style(NamedTuple):
    """Of a token: ``green`` None where it is not scored."""

    green: bool | None
    counted: bool


class Piece(NamedTuple):
    """What is drawn in one go.

    Attributes:
        mark: place of its token in the answer.
        style: its token's; None for plain ink.
        text: one line's.
        kind: a ``space`` may end a line, a ``newline`` does; a ``code`` is not broken, a ``text`` may be.
    """

    mark: int
    style: Style | None
    text: str
    kind: Literal["text", "code", "space", "newline"]


class Placed(NamedTuple):
    """A piece at ``left .. right`` of a line."""

    line: int
    left: float
    right: float
    piece: Piece


def drawable(font: Font) -> Callable[[str], bool]:
    """Whether ``font`` has a character, by comparison with what it draws for one that no font has."""

    def glyph(char: str) -> tuple[tuple[int, int], bytes]:
        mask = font.getmask(char, mode="1")
        return mask.size, bytes(mask)

    missing = glyph("\uffff")
    return cache(lambda char: char.isspace() or glyph(char) != missing)


def cut(index: int, mark: Mark, known: Callable[[str], bool]) -> Iterator[Piece]:
    """The pieces of a token, with codes for what the font lacks; those outside its box have no style."""
    yield from _parts(index, None, mark.before)
    style = Style(mark.token.green, mark.counted)
    for segment in mark.segments:
        if segment.kind != "text":
            yield Piece(index, style, segment.text, "code")
            continue
        for has, chars in groupby(segment.text, key=known):
            if has:
                yield from _parts(index, style, "".join(chars))
            else:
                yield from (Piece(index, style, code(char), "code") for char in chars)
    yield from _parts(index, None, mark.after)


def _parts(index: int, style: Style | None, text: str) -> Iterator[Piece]:
    for part in _PARTS.findall(text.replace("\t", "    ")):
        if part == "\n":
            yield Piece(index, style, "", "newline")
        else:
            yield Piece(index, style, part, "space" if part.isspace() else "text")


def place(
    pieces: Iterable[Piece], *, width: float, measure: Callable[[Piece], float], max_lines: int | None = None
) -> Iterator[Placed]:
    """Wrap pieces between words; a word longer than a line breaks anywhere.

    Args:
        pieces: in the order of the text; a word may be several.
        width: of a line.
        measure: width of a piece.
        max_lines: stop before the piece that would need another line.
    """
    line, x = 0, 0.0
    for blank, group in groupby(pieces, key=lambda piece: piece.kind in ("space", "newline")):
        whole = [(piece, measure(piece)) for piece in group]
        word: Iterable[tuple[Piece, float]] = whole
        total = sum(length for _, length in whole)
        if not blank and x + total > width:
            line, x = (line + 1, 0.0) if x > 0 else (line, x)
            if total > width:
                word = chain.from_iterable(_characters(*measured, measure) for measured in whole)
        for piece, length in word:
            if not blank and x + length > width and x > 0:
                line, x = line + 1, 0.0
            if max_lines is not None and line >= max_lines:
                return
            right = min(x + length, width)  # a space that does not fit ends at the margin
            yield Placed(line, x, right, piece)
            line, x = (line + 1, 0.0) if piece.kind == "newline" else (line, right)


def _characters(
    piece: Piece, length: float, measure: Callable[[Piece], float]
) -> Iterator[tuple[Piece, float]]:
    if piece.kind != "text":
        yield piece, length
        return
    for char in piece.text:
        single = piece._replace(text=char)
        yield single, measure(single)
