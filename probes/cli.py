"""The ``sif-probes`` command: serve, once, check, status."""

import contextlib
import json
import logging
import math
import signal
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
import uvicorn
from rich.console import Console
from rich.table import Table

from probes.config import ConfigError, ProbesConfig, load_config
from probes.rounds import RoundSummary
from probes.standing import policy_of, stand_out
from probes.store import open_store
from probes.store.totals import MonitorTotals, monitor_totals
from probes.targets import AskFailure
from probes.watch import REACHABLE_MAX_TOKENS, REACHABLE_PROMPT, Watch, make_target, open_pack, resolve_host
from sif_offline.fingerprint.errors import SifError, one_line_errors
from sif_offline.fingerprint.pack import read_pack
from sif_offline.fingerprint.scoring import INDEPENDENT_TEXT, UNRELATED_MODEL

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Watch endpoints for a fingerprint pack: send its triggers on a schedule and keep the evidence.",
)

INDEPENDENT, UNRELATED = f"p,\n{INDEPENDENT_TEXT}", f"log10 e,\n{UNRELATED_MODEL}"
"""Headings: a figure always stands under the name of the null hypothesis it is against."""

ConfigOption = Annotated[Path, typer.Option("--config", help="The probes' YAML file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@app.command()
def serve(config: ConfigOption) -> None:
    """Run rounds on the schedule and serve /metrics, /health, /probe and a page, until stopped."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("httpx", "LiteLLM", "apscheduler"):  # a line a request, or a scheduler's small talk
        logging.getLogger(noisy).setLevel(logging.WARNING)
    from probes.service import create_app

    # uvicorn shuts down in order at SIGTERM and then raises it once more, for us
    signal.signal(signal.SIGTERM, _stopped)
    settings = load_config(config)
    listening = _listen(settings)
    with listening, Watch.open(settings) as watch:
        server = _Server(uvicorn.Config(create_app(watch), log_level="warning", lifespan="on"))
        host, port = listening.getsockname()[:2]
        typer.echo(f"ready http://{f'[{host}]' if ':' in host else host}:{port} targets={len(watch.targets)}")
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn has shut down in order and raises it once more
            server.run(sockets=[listening])
        if server.stopped_by == signal.SIGINT:
            raise SystemExit(130)


class _Server(uvicorn.Server):
    """Remembers what stopped it: whether the signal comes through a second time depends on the event loop."""

    stopped_by: int | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """uvicorn's handler of SIGINT and SIGTERM."""
        self.stopped_by = sig
        super().handle_exit(sig, frame)


def _listen(settings: ProbesConfig) -> socket.socket:
    """The listening socket, taken before anything else starts: a port in use is the user's to mend."""
    host, port = settings.listen.host, settings.listen.port
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise SifError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


@app.command()
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
            reason = (summary.last_failure or "no answer").removeprefix(f"{summary.target}: ")
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
            _number(summary.z),
            _number(summary.threshold_z),
            "-" if summary.pvalue is None else f"{summary.pvalue:.1e}",
            _number(summary.control_z),
            "-" if summary.wrong_key_share is None else f"{summary.wrong_key_share:.3f} green",
            _number(summary.log10_e),
            summary.verdict,
        )
    _console().print(table)
    for summary in summaries:
        for kind, times in sorted(summary.failures.items()):
            typer.echo(f"{summary.target}: {times} x {kind}")


def _stopped(number: int, frame: FrameType | None) -> None:
    """SIGTERM is how a service is stopped: no failure."""
    raise SystemExit(0)


def _terminated(number: int, frame: FrameType | None) -> None:
    """SIGTERM unwinds like Ctrl-C, so that a question on its way is put in doubt and the lease given back."""
    raise SystemExit(128 + number)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The probes' YAML file.")],
    ask: Annotated[bool, typer.Option("--ask", help="Also ask every target one short question.")] = False,
) -> None:
    """Check a configuration: keys, pack, trigger keys, credentials, host names. Sends no trigger."""
    settings = load_config(file)
    pack, _ = open_pack(settings.pack, settings.trigger_keys)
    policy = policy_of(pack, alpha=settings.alpha)
    typer.echo(f"pack {pack.pack_id}: {len(pack.triggers)} triggers, keys fit, alpha {policy.alpha:g}")
    if pack.calibration is None:
        typer.echo(f"pack {pack.pack_id}: not calibrated, so no target can be confirmed")
    for target in settings.targets:
        made = make_target(target)
        address = resolve_host(target)
        said = f"target {target.name}: {target.model}" + (f" at {address}" if address else "")
        if ask:
            try:
                answer = made.ask(image=None, prompt=REACHABLE_PROMPT, max_tokens=REACHABLE_MAX_TOKENS)
            except AskFailure as failure:
                raise ConfigError(str(failure)) from None
            said += f", answered in {answer.latency_s:.1f} s"
        typer.echo(said)
    typer.echo("ok")


@app.command()
def status(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Print where every target stands, from the store alone.

    The verdict is each target's own; "stands out" is e-BH over all of them at a false-discovery rate of 5 %.
    """
    settings = load_config(config)
    pack = read_pack(settings.pack)
    with open_store(settings.store) as store:
        names = [target.name for target in settings.targets]
        totals = monitor_totals(store, names, pack_id=pack.pack_id, buckets=())
    singled_out = stand_out({row.monitor: row.log_e for row in totals})
    if as_json:
        rows = [{**_standing(row), "stands_out": row.monitor in singled_out} for row in totals]
        typer.echo(json.dumps(rows, indent=1))
        return
    table = Table(
        "target", "verdict", "e-BH", "z", "tau", UNRELATED, "rounds", "hits", "misses", "refusals", "errors"
    )
    for row in totals:
        trials = [str(row.trials.get(outcome, 0)) for outcome in ("hit", "miss", "refusal", "error")]
        log10_e = _standing(row)["log10_e"]
        table.add_row(
            row.monitor,
            row.verdict,
            "stands out" if row.monitor in singled_out else "-",
            _number(row.z),
            _number(row.threshold_z),
            _number(log10_e),
            str(row.rounds),
            *trials,
        )
    _console().print(table)


def _standing(row: MonitorTotals) -> dict[str, Any]:
    return {
        "target": row.monitor,
        "pack": row.pack,
        "verdict": row.verdict,
        "z": row.z,
        "threshold_z": row.threshold_z,
        "log10_e": None if row.log_e is None else row.log_e / math.log(10),
        "rounds": row.rounds,
        "trials": row.trials,
        "errors": row.errors,
        "last_completion": row.last_completion,
        "cost_usd": row.cost_usd,
    }


def _console() -> Console:
    """Tables keep their columns when they are piped: there is no window to fit into."""
    return Console(width=None if sys.stdout.isatty() else 160)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def main() -> None:
    """Entry point of ``sif-probes``; a user's mistake is one line on stderr and exit code 2."""
    with one_line_errors():
        app()
