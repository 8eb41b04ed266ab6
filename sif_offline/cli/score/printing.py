"""``sif score`` on a terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from sif_offline.cli.score.rows import Row, Scores
from sif_offline.cli.score.words import numbers_of, together
from sif_offline.fingerprint.colouring import colour_text, legend_text

_COLUMNS = (
    "trigger", "answers", "types", "green", "share", "z", "exact p", "calibrated\nz", "tau", "passed"
)  # fmt: skip
_LEAST_WIDTH = 100
"""A narrower window wraps the lines, rather than that figures are cut."""


def print_one(scores: Scores) -> None:
    """The numbers of one trigger's answer, and the answer coloured."""
    console = Console()
    (row,) = scores.rows
    where = f"pack {scores.pack.pack_id}, trigger {row.score.trigger_id}"
    _lines(console, [where, *numbers_of(row), *together(scores)])
    console.print()
    console.print(colour_text(row.tokens), soft_wrap=not console.is_terminal)
    console.print()
    console.print(legend_text())


def print_many(scores: Scores) -> None:
    """One line a trigger, and what they say together."""
    console = Console()
    console.width = max(console.width, _LEAST_WIDTH)
    table = Table(title=f"pack {scores.pack.pack_id}", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name == "trigger" else "right", no_wrap=True)
    for row in scores.rows:
        table.add_row(*_cells(row))
    console.print(table)
    _lines(console, together(scores))


def _cells(row: Row) -> list[str]:
    s = row.score
    cells = [s.trigger_id, str(row.answers), str(s.types), str(s.greens), f"{s.green_share:.3f}"]
    cells += [f"{s.z:.2f}", f"{s.pvalue:.2g}"]
    if row.calibrated_z is None or row.tau is None:
        return [*cells, "-", "-", "-"]
    return [*cells, f"{row.calibrated_z:.2f}", f"{row.tau:.3f}", "yes" if row.passes_tau else "no"]


def _lines(console: Console, lines: list[str]) -> None:
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
