"""``sif-gateway``: score prompts under the shipped thresholds, and check a proxy's configuration."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway_plugin.config import GatewayConfigError, check_proxy_config
from gateway_plugin.screening.base import Finding
from gateway_plugin.screening.policy import Action, Policy, Rule
from sif_offline.fingerprint.errors import SifError, one_line_errors

BATCH = 64
_SAID = {Action.ALLOW: "allow", Action.LOG: "allow", Action.FLAG: "flag", Action.BLOCK: "block"}

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Defender mode: screen the queries of a gateway.",
)


class PromptFileError(SifError):
    """The prompts cannot be read; names the file and the line."""


@app.callback()
def _commands() -> None:
    """Defender mode: screen the queries of a gateway."""


@app.command()
def score(
    prompts: Annotated[
        str, typer.Option(help='JSON lines with a "prompt" each (or a JSON string each); - is stdin')
    ],
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a prompt, in order")] = False,
) -> None:
    """Score prompts with the shipped checks and thresholds: allow, flag or block."""
    with one_line_errors():
        for row in _score(list(_read_prompts(prompts))):
            if as_json:
                typer.echo(json.dumps(row))
            else:
                number = "-" if row["perplexity"] is None else f"{row['perplexity']:.0f}"
                worst = (
                    "-" if row["worst_window_perplexity"] is None else f"{row['worst_window_perplexity']:.0f}"
                )
                typer.echo(
                    f"{row['decision']:5} perplexity {number:>9} worst window {worst:>9}  {row['reason']}"
                )


@app.command()
def check(config: Annotated[Path, typer.Argument(help="a LiteLLM proxy configuration (YAML)")]) -> None:
    """Validate a proxy configuration that uses the guardrail."""
    with one_line_errors():
        try:
            text = config.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise GatewayConfigError(f"{config}: cannot be read ({why})") from None
        names = check_proxy_config(text, name=str(config))
        typer.echo(f"{config}: good, {len(names)} guardrail(s): {', '.join(names)}")


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


def _read_prompts(name: str) -> Iterator[str]:
    shown = "stdin" if name == "-" else name
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise PromptFileError(f"{shown}: cannot be read ({why})") from None
    # not splitlines(): it would also cut at the line separators that JSON allows inside a string
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            raise PromptFileError(f"{shown}, line {number}: not JSON") from None
        prompt = row.get("prompt") if isinstance(row, dict) else row
        if not isinstance(prompt, str):
            raise PromptFileError(f'{shown}, line {number}: no "prompt" string')
        yield prompt


def _score(prompts: list[str]) -> Iterator[dict[str, Any]]:
    """One row a prompt, in order; an error in reading comes before any model is loaded."""
    if not prompts:
        return
    from gateway_plugin.screening.base import Query
    from gateway_plugin.screening.language_model import shared_language_model
    from gateway_plugin.screening.perplexity import PerplexityCheck
    from gateway_plugin.screening.script_mixing import ScriptMixingCheck

    perplexity = PerplexityCheck(model=shared_language_model())
    mixing = ScriptMixingCheck()
    blocking = Rule(action=Action.BLOCK)
    policy = Policy(rules={perplexity.name: blocking, mixing.name: blocking})
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        for prompt, finding in zip(batch, perplexity.score_texts(batch), strict=True):
            yield _row([finding, mixing.score(Query(texts=(prompt,)))], policy)


def _row(findings: list[Finding], policy: Policy) -> dict[str, Any]:
    decision = policy.decide(findings)
    measures = {key: round(value, 3) for finding in findings for key, value in finding.measures.items()}
    return {
        "decision": _SAID[decision.action],
        "perplexity": measures.pop("perplexity", None),
        "worst_window_perplexity": measures.pop("worst_window_perplexity", None),
        **measures,
        "check": decision.by or None,
        "reason": decision.reason,
    }


if __name__ == "__main__":
    main()
