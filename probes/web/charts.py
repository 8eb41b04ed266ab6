"""Line charts as SVG, drawn on the server: no script, nothing fetched, a title and a description in words."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from markupsafe import Markup

WIDTH, HEIGHT = 420.0, 210.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 10.0, 14.0, 28.0
SPARK_WIDTH, SPARK_HEIGHT = 150.0, 42.0
MOST_DOTS = 60
"""Points beyond which a line is drawn without a dot on each."""

Kind = Literal["data", "level", "control"]


@dataclass(frozen=True)
class Line:
    """One line of a chart: ``level`` is dashed (a threshold), ``control`` dotted; None breaks it."""

    values: Sequence[float | None]
    kind: Kind = "data"


@dataclass(frozen=True)
class _Box:
    """Where the data lie on the paper, in the units of the drawing."""

    left: float
    right: float
    top: float
    bottom: float
    times: tuple[float, float]
    values: tuple[float, float]

    def x(self, at: float) -> float:
        first, last = self.times
        share = 0.5 if last <= first else (at - first) / (last - first)
        return self.left + share * (self.right - self.left)

    def y(self, value: float) -> float:
        low, high = self.values
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)


def chart(ident: str, *, title: str, words: str, times: Sequence[float], lines: Sequence[Line]) -> Markup:
    """A chart with axes.

    Args:
        ident: unique on its page.
        title: what is drawn.
        words: what it shows, for whoever does not see it.
        times: Unix seconds, ascending; each line has a value for each.
        lines: at least one.
    """
    box = _box(times, lines, left=LEFT, right=WIDTH - RIGHT, top=TOP, bottom=HEIGHT - BOTTOM)
    parts = [*_grid(box), *_dates(box)]
    for line in sorted(lines, key=lambda line: line.kind == "data"):
        parts += _drawn(line, times, box, dots=len(times) <= MOST_DOTS)
    return _svg("chart", ident, title, words, (WIDTH, HEIGHT), parts)


def spark(ident: str, *, title: str, words: str, times: Sequence[float], lines: Sequence[Line]) -> Markup:
    """The same without axes, the size of a table's cell."""
    box = _box(times, lines, left=4, right=SPARK_WIDTH - 5, top=5, bottom=SPARK_HEIGHT - 5)
    parts: list[Markup] = []
    for line in sorted(lines, key=lambda line: line.kind == "data"):
        parts += _drawn(line, times, box, dots=False)
        known = [(at, v) for at, v in zip(times, line.values, strict=True) if _finite(v)]
        if line.kind == "data" and known:
            parts.append(_dot("dot data", box.x(known[-1][0]), box.y(known[-1][1] or 0.0), 3))
    return _svg("spark", ident, title, words, (SPARK_WIDTH, SPARK_HEIGHT), parts)


def _svg(
    kind: str, ident: str, title: str, words: str, size: tuple[float, float], parts: Sequence[Markup]
) -> Markup:
    return Markup(
        '<svg class="{}" viewBox="0 0 {:g} {:g}" role="img" aria-labelledby="{}-t {}-d">'
        '<title id="{}-t">{}</title><desc id="{}-d">{}</desc>{}</svg>'
    ).format(kind, *size, ident, ident, ident, title, ident, words, Markup().join(parts))


def _box(
    times: Sequence[float], lines: Sequence[Line], *, left: float, right: float, top: float, bottom: float
) -> _Box:
    known = [value for line in lines for value in line.values if value is not None and math.isfinite(value)]
    low, high = min([0.0, *known]), max([1.0, *known])
    room = (high - low) * 0.06
    span = (min(times, default=0.0), max(times, default=0.0))
    return _Box(left, right, top, bottom, span, (low - (room if low < 0 else 0), high + room))


def _drawn(line: Line, times: Sequence[float], box: _Box, *, dots: bool) -> Iterator[Markup]:
    for stretch in _stretches(line, times):
        points = [(box.x(at), box.y(value)) for at, value in stretch]
        if line.kind == "level":  # a threshold holds from its round to the next
            first, last = points[0], points[-1]
            points = [(box.left, first[1]), *_steps(points), (box.right, last[1])]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield Markup('<polyline class="line {}" points="{}"/>').format(line.kind, path)
        if line.kind != "level" and (dots or len(points) == 1):
            for x, y in points:
                yield _dot(f"dot {line.kind}", x, y, 2.6)


def _stretches(line: Line, times: Sequence[float]) -> Iterator[list[tuple[float, float]]]:
    """The parts of a line between its gaps; a threshold goes on through them."""
    stretch: list[tuple[float, float]] = []
    for at, value in zip(times, line.values, strict=True):
        if value is not None and math.isfinite(value):
            stretch.append((at, value))
        elif stretch and line.kind != "level":
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def _steps(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    height = None
    for x, y in points:
        if height is not None and height != y:
            yield x, height
        if height != y:
            yield x, y
        height = y


def _dot(css: str, x: float, y: float, radius: float) -> Markup:
    return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{:g}"/>').format(css, x, y, radius)


def _grid(box: _Box) -> Iterator[Markup]:
    for value in ticks(*box.values):
        y = box.y(value)
        yield Markup('<line class="grid{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
            " zero" if value == 0 else "", box.left, box.right, y, y
        )
        yield Markup('<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="end">{}</text>').format(
            box.left - 6, y + 4, f"{value:g}"
        )


def ticks(low: float, high: float, *, most: int = 7) -> list[float]:
    """Round numbers within [low, high], at most ``most``."""
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 5, 10, 20) if (high - low) / (power * times) < most)
    return [round(number * step, 10) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _dates(box: _Box) -> Iterator[Markup]:
    first, last = box.times
    ends: list[tuple[float, float, str]] = [(box.left, first, "start"), (box.right, last, "end")]
    if last <= first:
        ends = [((box.left + box.right) / 2, first, "middle")]
    for x, at, anchor in ends:
        text = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
        yield Markup('<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
            x, HEIGHT - 8, anchor, text
        )


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
