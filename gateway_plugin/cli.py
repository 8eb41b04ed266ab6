"""``sif-gateway``: score prompts, set thresholds, check a configuration, serve the guardrail API."""

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway_plugin.config import GatewayConfigError, GatewaySettings, guardrail_settings, proxy_guardrails
from gateway_plugin.config.documents import read_text
from gateway_plugin.prompts import read_lines, read_prompts
from gateway_plugin.service_config import is_service, read_service_configuration
from sif_offline.fingerprint.errors import SifError, one_line_errors

if TYPE_CHECKING:
    from gateway_plugin.screening.calibration import Calibration

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Defender mode: screen the queries of a gateway.",
)

Config = Annotated[
    Path | None, typer.Option(help="a LiteLLM proxy configuration whose guardrail's settings are used")
]


@app.command()
def score(
    prompts: Annotated[
        str, typer.Option(help='JSON lines with a "prompt" each (or a JSON string each); - is stdin')
    ],
    config: Config = None,
    guardrail: Annotated[str, typer.Option(help="which guardrail of the configuration")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a prompt, in order")] = False,
) -> None:
    """Score prompts with the shipped checks and thresholds: allow, flag or block."""
    with one_line_errors():
        texts, settings = list(read_prompts(prompts)), _settings(config, guardrail)
        from gateway_plugin.offline import SHIPPED, score_prompts

        for row in score_prompts(texts, settings=settings or SHIPPED):
            if as_json:
                typer.echo(json.dumps(row))
            else:
                whole, window = _shown(row["perplexity"]), _shown(row["worst_window_perplexity"])
                typer.echo(
                    f"{row['decision']:7} perplexity {whole:>9} worst window {window:>9}  {row['reason']}"
                )


@app.command()
def calibrate(
    benign: Annotated[str, typer.Option(help="benign prompts, JSON lines; - is stdin")] = "",
    from_log: Annotated[str, typer.Option(help="audit log of benign traffic, JSON lines; - is stdin")] = "",
    rate: Annotated[float, typer.Option(help="share of honest exchanges that may be flagged, in all")] = 0.01,
    out: Annotated[Path | None, typer.Option(help="write the settings here instead of printing them")] = None,
    plot: Annotated[Path | None, typer.Option(help="draw the benign scores (.png or .svg)")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="everything as one JSON object")] = False,
) -> None:
    """Set thresholds from benign traffic at a chosen false-positive rate (split conformal)."""
    with one_line_errors():
        if bool(benign) == bool(from_log):
            raise SifError("give one of --benign and --from-log")
        from gateway_plugin.offline import summary
        from gateway_plugin.screening import calibration

        if from_log:
            name, lines = read_lines(from_log)
            rows, missing = calibration.rows_of_log(lines, name=name)
            found = calibration.calibrate(rows, rate=rate, not_measured=missing)
        else:
            found = _calibrated_on(list(read_prompts(benign)), rate=rate)
        if plot is not None:
            calibration.plot(found, plot)
        text = json.dumps(summary(found)) + "\n" if as_json else found.yaml()
        if out is None:
            typer.echo(text, nl=False)
            return
        try:
            out.write_text(text, encoding="utf-8")
        except OSError as error:
            raise SifError(f"{out}: cannot be written ({error.strerror})") from None


@app.command()
def check(
    config: Annotated[Path, typer.Argument(help="configuration of a LiteLLM proxy, or of sif-gateway serve")],
) -> None:
    """Validate a configuration: of a proxy that uses the guardrail, or of the service.

    Looks up the environment variables, packages, plugins and model folders that it names; loads no model.
    """
    with one_line_errors():
        text, name = read_text(config), str(config)
        from gateway_plugin.endpoints import Endpoints
        from gateway_plugin.resolving import resolve

        if is_service(text):
            service = read_service_configuration(text, name=name)
            service.api_keys()
            Endpoints(service.endpoints)  # looks up the models' keys
            resolve(service.configuration, where=name)
            typer.echo(f"{config}: good, a service")
            return
        guardrails = proxy_guardrails(text, name=name)
        for guardrail, configuration in guardrails.items():
            resolve(configuration, where=f"{name}: guardrail {guardrail!r}")
        typer.echo(f"{config}: good, {len(guardrails)} guardrail(s): {', '.join(guardrails)}")


@app.command()
def serve(
    config: Annotated[Path, typer.Argument(help="the service's configuration (YAML)")],
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8091,
    unauthenticated: Annotated[
        bool, typer.Option("--unauthenticated", help="ask for no key; on a loopback address only")
    ] = False,
) -> None:
    """Serve LiteLLM's Generic Guardrail API, for proxies in which nothing may be installed."""
    with one_line_errors():
        from gateway_plugin.guardrail_api import serve as run

        run(config, host=host, port=port, unauthenticated=unauthenticated)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the ``sif-gateway`` command."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        app(args=arguments)
    except BrokenPipeError:  # the reader of a pipe went away: not worth a traceback
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


def _calibrated_on(prompts: list[str], *, rate: float) -> "Calibration":
    from rich.console import Console
    from rich.progress import Progress

    from gateway_plugin.offline import calibrate_on_prompts

    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("scoring", total=len(prompts))
        return calibrate_on_prompts(
            prompts, rate=rate, on_progress=lambda done: bars.update(task, completed=done)
        )


def _settings(config: Path | None, guardrail: str) -> GatewaySettings | None:
    if config is None:
        if guardrail:
            raise GatewayConfigError("--guardrail needs --config")
        return None
    return guardrail_settings(read_text(config), name=str(config), guardrail=guardrail)


def _shown(number: float | None) -> str:
    return "-" if number is None else f"{number:.0f}"


if __name__ == "__main__":
    main()
