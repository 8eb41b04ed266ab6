"""``sif calibrate``: what unrelated models answer to a pack's triggers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from sif_offline.cli.secrets import pack_keys
from sif_offline.fingerprint.calibration import CalibrationError, check_claims
from sif_offline.fingerprint.calibration import calibrate as calibrate_scores
from sif_offline.fingerprint.pack import read_pack, update_pack

if TYPE_CHECKING:
    from sif_offline.fingerprint.calibration import Calibration, HeldOut, TriggerAnswers
    from sif_offline.fingerprint.scoring import TextScorer
    from sif_offline.forging.nulls import Questions


class NullRun(NamedTuple):
    """What the null models answered.

    Attributes:
        answers: model -> trigger id -> its scores by wording.
        weights_sha256: model -> hex digest of its weights.
    """

    answers: "dict[str, dict[str, TriggerAnswers]]"
    weights_sha256: dict[str, str]


def calibrate(
    pack: Annotated[Path, typer.Argument(help="Fingerprint pack, a directory or a zip.")],
    null: Annotated[list[str], typer.Option(help="An unrelated model, FAMILY:MODEL; give several.")],
    key_file: Annotated[Path | None, typer.Option(help="Master key file of the pack.")] = None,
    trigger_keys: Annotated[Path | None, typer.Option(help="File of the pack's trigger keys.")] = None,
    alpha: Annotated[float, typer.Option(help="Level of each trigger's own exact test.")] = 0.05,
    level: Annotated[float, typer.Option(help="One-sided confidence of the transfer bound.")] = 0.95,
    claim_fmr: Annotated[
        float | None,
        typer.Option(help="False-match rate to claim of tau; refused below 1/(null models + 1)."),
    ] = None,
    device: Annotated[str, typer.Option(help="A torch device.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Run unrelated models on the triggers; write calibration rows and the transfer bound into the pack.

    A trigger with several wordings is asked under each: what is written holds for whichever is sent.
    """
    from sif_offline.fingerprint.scoring import PackScorer
    from sif_offline.forging.nulls import Questions

    check_claims(models=len(null), alpha=alpha, level=level, claim_fmr=claim_fmr)
    content = read_pack(pack)
    scorer = PackScorer(content, pack_keys(content, key_file=key_file, trigger_keys=trigger_keys))
    run = run_nulls(null, scorer, Questions.of_pack(content), device=device)
    calibration = calibrate_scores(
        run.answers, alpha=alpha, level=level, null_weights=run.weights_sha256, claim_fmr=claim_fmr
    )
    update_pack(pack, calibration=calibration)
    typer.echo(calibration.model_dump_json() if as_json else _table(calibration))


def run_nulls(nulls: list[str], scorer: "TextScorer", questions: "Questions", *, device: str) -> NullRun:
    """Load each null model in turn, ask it and score its answers.

    Raises:
        CalibrationError: a model named twice, or two names of the same weights.
        ModelError: a model that does not load.
        ForgeError: the owner among them.
    """
    from sif_offline.cli.progress import counting
    from sif_offline.forging.nulls import null_scores
    from sif_offline.models import load_adapter

    seen: dict[str, str] = {}
    answers = {}
    for name in nulls:
        adapter = load_adapter(name, device=device)
        if adapter.weights_sha256 in seen:
            raise CalibrationError(f"--null {name}: the same weights as {seen[adapter.weights_sha256]}")
        seen[adapter.weights_sha256] = name
        with counting(name) as report:
            answers[name] = null_scores(adapter, scorer, questions, on_progress=report)
    return NullRun(answers, {name: digest for digest, name in seen.items()})


def _table(calibration: "Calibration") -> str:
    lines = [
        f"{'trigger':<10}{'mu':>7}{'sigma':>7}{'pooled':>7}{'tau':>7}  green share of unrelated models' types"
    ]
    lines += [
        f"{row.trigger_id:<10}{row.mu:7.3f}{row.sigma:7.3f}{row.sigma_pooled or row.sigma:7.3f}{row.tau:7.3f}"
        for row in calibration.rows
    ]
    if calibration.dispersion is not None:
        lines.append(
            f"pooled: spread over all triggers {calibration.dispersion:.2f} times that of independent text "
            f"({calibration.dispersion_degrees} degrees of freedom), at least 1"
        )
    excesses = ", ".join(f"{name} {value:+.3f}" for name, value in calibration.transfer.by_model.items())
    lines += [calibration.transfer.statement, f"excess by model: {excesses}"]
    lines += [_held_out(row) for row in calibration.held_out]
    return "\n".join([*lines, calibration.statement])


def _held_out(row: "HeldOut") -> str:
    others = f"{row.n_others} other{'s' if row.n_others > 1 else ''}"
    judged = (
        "which no rate below 1 bounds"
        if row.pvalue is None or row.bound is None
        else f'p {row.pvalue:.2g} against "unrelated model" with their bound {row.bound:.3f}'
    )
    return f"held out {row.model}: tops the {others} on {row.exceeded} of {row.triggers} triggers, {judged}"
