"""``sif-probes once``."""

import json
import signal
from types import FrameType

import typer
from rich.table import Table

from probes.cli.options import INDEPENDENT, UNRELATED, ConfigOption, JsonOption, console, number
from probes.config import load_config
from probes.rounds import RoundSummary
from probes.watch import Watch
from sif_offline.fingerprint.errors import SifError


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
    if as_json:
        typer.echo(json.dumps([summary.as_dict() for summary in summaries], indent=1))
    else:
        _print_rounds(summaries)
    for summary in summaries:
        if summary.planned and not summary.answered:
            held = f"held back: {summary.held}" if summary.held else "no answer"
            reason = (summary.last_failure or held).removeprefix(f"{summary.target}: ")
            raise SifError(f"target {summary.target}: {reason}")


def _print_rounds(summaries: list[RoundSummary]) -> None:
    table = Table(
        "target", "round", "answered", "z", "tau", INDEPENDENT, "clean z", "wrong keys", UNRELATED, "verdict"
    )
    for summary in summaries:
        table.add_row(
            summary.target,
            summary.state,
            f"{summary.answered} of {summary.planned}",
            number(summary.z),
            number(summary.threshold_z),
            "-" if summary.pvalue is None else f"{summary.pvalue:.1e}",
            number(summary.control_z),
            "-" if summary.wrong_key_share is None else f"{summary.wrong_key_share:.3f} green",
            number(summary.log10_e),
            summary.verdict,
        )
    console().print(table)
    for summary in summaries:
        for kind, times in sorted(summary.failures.items()):
            typer.echo(f"{summary.target}: {times} x {kind}")


def _terminated(number: int, frame: FrameType | None) -> None:
    """SIGTERM unwinds like Ctrl-C, so that a question on its way is put in doubt and the lease given back."""
    raise SystemExit(128 + number)
