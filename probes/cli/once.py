"""``sif-probes once``."""

import json
import signal
from collections.abc import Callable
from types import FrameType

import typer
from rich.table import Table

from probes.cli.options import CONFORMAL, INDEPENDENT, UNRELATED, ConfigOption, JsonOption, console, number
from probes.config import load_config
from probes.rounds import RoundSummary
from probes.watch import Watch
from sif_offline.fingerprint.errors import SifError

_SIF: dict[str, Callable[[RoundSummary], str]] = {
    "z": lambda row: number(row.z),
    "tau": lambda row: number(row.threshold_z),
    INDEPENDENT: lambda row: "-" if row.pvalue is None else f"{row.pvalue:.1e}",
    "clean z": lambda row: number(row.control_z),
    "wrong keys": lambda row: "-" if row.wrong_key_share is None else f"{row.wrong_key_share:.3f} green",
    UNRELATED: lambda row: number(row.log10_e),
}
_METAV: dict[str, Callable[[RoundSummary], str]] = {
    "log-odds": lambda row: number(row.score),
    CONFORMAL: lambda row: "-" if row.pvalue is None else f"{row.pvalue:.3f}",
}


def once(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Run one round over every target and print what it says; a target without any answer is an error."""
    signal.signal(signal.SIGTERM, _terminated)
    with Watch.open(load_config(config)) as watch:
        summaries: list[RoundSummary] = []
        for name in watch.runners:
            summary = watch.run_round(name)
            if summary is None:
                raise SifError(f"target {name}: another process runs a round of it")
            summaries.append(summary)
        kind = watch.fingerprint.kind
    if as_json:
        typer.echo(json.dumps([summary.as_dict() for summary in summaries], indent=1))
    else:
        _print_rounds(summaries, kind=kind)
    for summary in summaries:
        if summary.planned and not summary.answered:
            held = f"held back: {summary.held}" if summary.held else "no answer"
            reason = (summary.last_failure or held).removeprefix(f"{summary.target}: ")
            raise SifError(f"target {summary.target}: {reason}")


def _print_rounds(summaries: list[RoundSummary], *, kind: str) -> None:
    columns = _METAV if kind == "metav" else _SIF
    table = Table("target", "round", "answered", *columns, "verdict")
    for summary in summaries:
        table.add_row(
            summary.target,
            summary.state,
            f"{summary.answered} of {summary.planned}",
            *(told(summary) for told in columns.values()),
            summary.verdict,
        )
    console().print(table)
    for summary in summaries:
        for kind, times in sorted(summary.failures.items()):
            typer.echo(f"{summary.target}: {times} x {kind}")


def _terminated(number: int, frame: FrameType | None) -> None:
    """SIGTERM unwinds like Ctrl-C, so that a question on its way is put in doubt and the lease given back."""
    raise SystemExit(128 + number)
