"""``sif verify``: ask one endpoint once and say what its answers prove."""

import json
import math
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sif_offline.cli.calibrate import run_nulls
from sif_offline.cli.endpoint import EndpointError, make_ask, make_endpoint
from sif_offline.cli.secrets import pack_keys
from sif_offline.fingerprint.calibration import calibrate as calibrate_scores
from sif_offline.fingerprint.combining import INDEPENDENT_TEXT
from sif_offline.fingerprint.errors import printable
from sif_offline.fingerprint.pack import read_pack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from probes.targets import LiteLLMTarget
    from sif_offline.fingerprint.pack import FingerprintPack, TriggerRow
    from sif_offline.fingerprint.response import ResponseScore
    from sif_offline.fingerprint.scoring import CombinedScore
    from sif_offline.forging.verification import Ask, Verification


def verify(
    pack: Annotated[Path, typer.Argument(help="Fingerprint pack, a directory or a zip.")],
    endpoint: Annotated[str, typer.Option(help="Base URL of an OpenAI-compatible server.")],
    model: Annotated[str, typer.Option(help="Model name to ask for.")],
    key_file: Annotated[Path | None, typer.Option(help="Master key file of the pack.")] = None,
    trigger_keys: Annotated[Path | None, typer.Option(help="File of the pack's trigger keys.")] = None,
    null: Annotated[
        list[str] | None,
        typer.Option(help="An unrelated model for the transfer bound, in place of the pack's calibration."),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="Level of the verdict; one look, fixed before asking [as committed, or 1e-4]."),
    ] = None,
    wrong_keys: Annotated[int, typer.Option(min=1, help="Unrelated keys in the control.")] = 99,
    keys_tried: Annotated[
        int, typer.Option(min=1, help="Sets of keys ever tried on these answers; each is paid for (Sidak).")
    ] = 1,
    api_key_env: Annotated[str | None, typer.Option(help="Environment variable with the API key.")] = None,
    transcript: Annotated[
        Path | None, typer.Option(help="Keep every exchange in this file, for `sif evidence bundle`.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for an answer.")] = 60.0,
    device: Annotated[str, typer.Option(help="A torch device, for null models.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Send every trigger and its clean photo once; exact p per trigger and combined, with controls.

    Triggers that a commitment holds in reserve are left for a third party's replay.

    Two null hypotheses: "independent text" (the answers do not depend on the key) and "unrelated model"
    (they do no more so than unrelated models' answers). Only rejecting the second reads "confirmed".
    """
    from sif_offline.fingerprint.scoring import PackScorer
    from sif_offline.forging.verification import verify as run

    content = read_pack(pack)
    scorer = PackScorer(content, pack_keys(content, key_file=key_file, trigger_keys=trigger_keys))
    target = make_endpoint(endpoint, model, api_key_env=api_key_env, timeout_s=timeout)
    calibration = content.calibration
    if null:
        from sif_offline.forging.nulls import Questions

        run_of_nulls = run_nulls(null, scorer, Questions.of_pack(content), device=device)
        calibration = calibrate_scores(run_of_nulls.answers, null_weights=run_of_nulls.weights_sha256)

    from sif_offline.cli.progress import counting

    asking = _asking(content, target, name=f"{model} at {endpoint}", transcript=transcript)
    with asking as ask, counting(f"asking {model}") as report:
        result = run(
            scorer,
            ask,
            name=f"{model} at {endpoint}",
            transfer=None if calibration is None else calibration.transfer.bound,
            alpha=_level(content, alpha),
            wrong_keys=wrong_keys,
            keys_tried=keys_tried,
            on_progress=report,
        )
    where = {"pack_id": content.pack_id, "endpoint": endpoint, "model": model}
    nulls = list(calibration.null_models) if calibration is not None else []
    if as_json:
        typer.echo(json.dumps({**where, "null_models": nulls, **_as_json(result)}))
    else:
        _print_table(result, title=f"{model} at {endpoint}, pack {content.pack_id}", nulls=nulls)


def _level(content: "FingerprintPack", alpha: float | None) -> float:
    """The level asked for, the committed one, or 1e-4."""
    from sif_offline.fingerprint.evidence.commitment import commitment_of

    if alpha is not None:
        return alpha
    commitment = commitment_of(content)
    if commitment is None:
        return 1e-4
    _, head = commitment.open()
    return head.policy.alpha


@contextmanager
def _asking(
    content: "FingerprintPack", target: "LiteLLMTarget", *, name: str, transcript: Path | None
) -> "Iterator[Ask]":
    """Ask the endpoint, into the transcript where one is kept. A failure ends the look."""
    from sif_offline.fingerprint.evidence.recording import Recorder
    from sif_offline.forging.verification import Reply

    ask = make_ask(target)
    max_tokens = content.decoding.max_new_tokens
    recorder = None
    if transcript is not None:
        recorder = Recorder(
            transcript,
            target=name,
            pack_id=content.pack_id,
            model=target.model,
            endpoint=target.api_base,
            max_tokens=max_tokens,
        )

    def reply(trigger: "TriggerRow", control: bool) -> Reply:
        image = content.clean_bytes(trigger) if control else content.trigger_bytes(trigger)
        if recorder is None:
            asked = ask(image, trigger.prompt, max_tokens)
        else:
            asked = recorder.put(
                ask, image=image, prompt=trigger.prompt, trigger_id=trigger.id, control=control
            )
        if not asked.replied:
            raise EndpointError(str(asked.response["reason"]))
        if asked.outcome == "answer":
            return Reply(text=str(asked.response["text"]))
        return Reply(text=None, reason=asked.outcome)

    with recorder or nullcontext():
        yield reply


def _as_json(result: "Verification") -> dict[str, Any]:
    return {
        "verdict": result.verdict,
        "alpha": result.alpha,
        "independent_text": _combined(result.independent),
        "unrelated_model": _combined(result.unrelated),
        "clean_control": _combined(result.clean),
        "wrong_key_control": result.wrong_keys._asdict(),
        "triggers": [
            {
                "id": row.trigger.id,
                "answer": _scored(row.score),
                "clean": _scored(row.clean),
                "text": row.reply.text,
                "clean_text": row.clean_reply.text,
                "not_scored": row.reply.reason or None,
            }
            for row in result.rows
        ],
    }


def _combined(score: "CombinedScore | None") -> dict[str, Any] | None:
    return None if score is None else _finite(vars(score))


def _scored(score: "ResponseScore | None") -> dict[str, Any] | None:
    if score is None:
        return None
    return _finite({name: getattr(score, name) for name in ("types", "greens", "green_share", "z", "pvalue")})


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: the log of an impossible p becomes null."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def _print_table(result: "Verification", *, title: str, nulls: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for column in ("trigger", "types", "green", "z", "exact p", "clean z", "answer"):
        table.add_column(column, justify="left" if column in ("trigger", "answer") else "right", no_wrap=True)
    for row in result.rows:
        clean = f"{row.clean.z:.2f}" if row.clean else "-"
        if row.score is None:
            table.add_row(row.trigger.id, "-", "-", "-", "-", clean, row.reply.reason)
        else:
            s = row.score
            text = printable(" ".join((row.reply.text or "").split()))[:48]
            table.add_row(
                row.trigger.id, str(s.types), str(s.greens), f"{s.z:.2f}", f"{s.pvalue:.2g}", clean, text
            )
    console = Console()
    console.print(table)
    lines = [_line('against "independent text"', result.independent)]
    if result.unrelated is None:
        lines.append('against "unrelated model": not measured; run sif calibrate or give --null')
    else:
        models = f"{len(nulls)} null model{'s' if len(nulls) > 1 else ''}: {', '.join(nulls)}"
        lines.append(
            _line(
                f'against "unrelated model" (rate <= {result.unrelated.gamma0:.3f}; {models})',
                result.unrelated,
            )
        )
    if result.clean is not None:
        lines.append(_line("control, clean photos", result.clean))
    w = result.wrong_keys
    lines.append(
        f"control, {w.keys} wrong keys: green share {w.mean_share:.3f} on average, "
        f"{w.max_share:.3f} at most; random-key p {w.pvalue:.2g}"
    )
    tried = result.independent.keys_tried
    lines.append(
        f"sets of keys ever tried on these answers: {tried}" + ("" if tried == 1 else ", paid for (Sidak)")
    )
    lines.append(f"verdict at alpha {result.alpha:g}: {result.verdict}")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _line(what: str, score: "CombinedScore") -> str:
    # against "unrelated model" the pooled p is a bound
    exact = "exact " if score.null == INDEPENDENT_TEXT else ""
    return (
        f"{what}: {exact}pooled p {score.adjusted_pvalue:.2g} ({score.greens} of {score.types} types green), "
        f"Stouffer z {score.stouffer_z:.2f} p {score.stouffer_pvalue:.2g}, Fisher p {score.fisher_pvalue:.2g}"
    )
