"""A coloured answer as a PNG, for a slide or a letter."""

import io
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from sif_offline.fingerprint.colouring.layout import Font, Piece, Placed, Style, cut, drawable, place
from sif_offline.fingerprint.colouring.marks import Mark, count, marks
from sif_offline.fingerprint.colouring.palette import LIGHT
from sif_offline.fingerprint.pack_scorer import ScoredToken

MAX_HEIGHT = 4000
"""Tallest picture, in pixels at scale 1; a longer answer is cut, and the picture says so."""
_MARGIN = 20
_FONT_SIZE = 16
_LINE = 30
_GAP = 6
_TEXT_TOP, _BOX_TOP, _BOX_BOTTOM, _UNDERLINE = 5, 3, 28, 25
"""Within a line, from its top."""
_LEGEND = (
    (Style(True, True), "green", "counted"),
    (Style(False, True), "red", "counted"),
    (Style(True, False), "green", "repeat, does not count"),
    (Style(False, False), "red", "repeat"),
    (Style(None, False), "slanted", "not scored"),
)


def colour_png(tokens: Sequence[ScoredToken], *, width: int = 900, scale: float = 1.0) -> bytes:
    """An answer as a picture: counts and legend above, then the text, wrapped; the same bytes for the same
    input.

    Characters that the font (DejaVu Sans, from matplotlib) lacks are shown by their codes. Every token stands
    after the one before it, right-to-left text too.

    Args:
        tokens: of one answer, or of repeats put together by ``join_answers``.
        width: in pixels at scale 1, 600 .. 4000.
        scale: factor on everything, .5 .. 4.

    Returns:
        PNG, RGB, ``round(width * scale)`` wide and at most ``round(MAX_HEIGHT * scale)`` high.

    Raises:
        ValueError: a width or scale outside its range.
    """
    if not (600 <= width <= 4000 and 0.5 <= scale <= 4):
        raise ValueError(f"width {width} (600 .. 4000) or scale {scale} (.5 .. 4) out of range")
    return _Sheet(width, scale).draw(tokens)


class _Sheet:
    """One picture being drawn; lengths are in pixels at scale 1 until they meet the pen."""

    def __init__(self, width: int, scale: float) -> None:
        self._scale, self._width = scale, width
        size = round(_FONT_SIZE * scale)
        self._upright, self._slanted, self._bold = (_font(size, style) for style in ("", "-Oblique", "-Bold"))

    def draw(self, tokens: Sequence[ScoredToken]) -> bytes:
        room = self._width - 2 * _MARGIN
        shown = list(marks(tokens))
        header = list(place(_legend_pieces(), width=room, measure=self._measure))
        rule = _MARGIN + (2 + header[-1].line) * _LINE + _GAP
        top = rule + _GAP
        most = (MAX_HEIGHT - top - _MARGIN) // _LINE - 1  # one line is kept for the note
        body = list(place(self._pieces(shown), width=room, measure=self._measure, max_lines=most))
        drawn = body[-1].piece.mark + 1 if body else 0
        bottom = top + (body[-1].line + 1) * _LINE if body else top
        height = bottom + (drawn < len(shown)) * _LINE + _MARGIN
        image = Image.new("RGB", (self._px(self._width), self._px(height)), LIGHT.paper)
        pen = ImageDraw.Draw(image)
        pen.text(self._at(_MARGIN, 0), count(tokens).line, fill=LIGHT.ink, font=self._bold)
        self._tokens(pen, header, top=_MARGIN + _LINE)
        ends = (self._px(_MARGIN), self._px(rule), self._px(self._width - _MARGIN), self._px(rule))
        pen.line(ends, fill=LIGHT.muted, width=self._px(1))
        self._tokens(pen, body, top=top)
        if drawn < len(shown):
            note = f"cut here: {drawn} of {len(shown)} tokens drawn, all counted"
            pen.text(self._at(bottom, 0), note, fill=LIGHT.red_line, font=self._bold)
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()

    def _pieces(self, shown: Sequence[Mark]) -> Iterator[Piece]:
        known = drawable(self._upright)
        for index, mark in enumerate(shown):
            yield from cut(index, mark, known)

    def _measure(self, piece: Piece) -> float:
        return self._font(piece.style).getlength(piece.text) / self._scale

    def _font(self, style: Style | None) -> Font:
        return self._slanted if style is not None and style.green is None else self._upright

    def _tokens(self, pen: ImageDraw.ImageDraw, placed: Sequence[Placed], *, top: int) -> None:
        for (line, _, style), parts in groupby(
            placed, key=lambda item: (item.line, item.piece.mark, item.piece.style)
        ):
            stretch = list(parts)
            y = top + line * _LINE
            if style is not None and style.green is not None:
                self._box(pen, y, stretch[0].left, stretch[-1].right, style)
            fill = LIGHT.muted if style is not None and style.green is None else LIGHT.ink
            for item in stretch:
                pen.text(self._at(y, item.left), item.piece.text, fill=fill, font=self._font(style))

    def _box(self, pen: ImageDraw.ImageDraw, y: int, left: float, right: float, style: Style) -> None:
        strong, pale, frame = (
            (LIGHT.green, LIGHT.green_pale, LIGHT.green_line)
            if style.green
            else (LIGHT.red, LIGHT.red_pale, LIGHT.red_line)
        )
        x0, x1 = self._px(_MARGIN + left), self._px(_MARGIN + right) - 1
        pen.rectangle(
            (x0, self._px(y + _BOX_TOP), max(x0, x1), self._px(y + _BOX_BOTTOM) - 1),
            fill=strong if style.counted else pale,
            outline=frame if style.counted else None,
            width=self._px(1),
        )
        if not style.green:
            return
        under = self._px(y + _UNDERLINE)
        if style.counted:
            pen.line((x0, under, x1, under), fill=LIGHT.ink, width=self._px(2))
        else:
            for dot in range(x0, x1, self._px(4)):
                pen.line((dot, under, dot + self._px(1) - 1, under), fill=LIGHT.ink, width=self._px(1))

    def _at(self, y: int, left: float) -> tuple[int, int]:
        return self._px(_MARGIN + left), self._px(y + _TEXT_TOP)

    def _px(self, length: float) -> int:
        return max(1, round(length * self._scale))


def _legend_pieces() -> list[Piece]:
    """Samples in their style, each with its words."""
    pieces = []
    for index, (style, name, words) in enumerate(_LEGEND):
        pieces += [
            Piece(2 * index, style, f" {name} ", "code"),
            Piece(2 * index + 1, None, f" {words}", "code"),
            Piece(2 * index + 1, None, "   ", "space"),
        ]
    return pieces


def _font(size: int, style: str) -> Font:
    """DejaVu Sans from matplotlib's data, without importing matplotlib; Pillow's own font where it is
    missing.
    """
    found = find_spec("matplotlib")
    if found is not None and found.origin is not None:
        path = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / f"DejaVuSans{style}.ttf"
        if path.is_file():
            # the basic layout is in every Pillow, so that the picture does not hang on an optional library
            return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
    return ImageFont.load_default(size)
