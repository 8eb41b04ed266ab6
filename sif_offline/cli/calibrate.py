"""``sif calibrate``: what unrelated models answer to a pack's triggers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sif_offline.cli.secrets import pack_keys
from sif_offline.fingerprint.calibration import CalibrationError
from sif_offline.fingerprint.calibration import calibrate as calibrate_scores
from sif_offline.fingerprint.pack import read_pack, update_pack

if TYPE_CHECKING:
    from sif_offline.fingerprint.calibration import Calibration
    from sif_offline.fingerprint.response import ResponseScore
    from sif_offline.fingerprint.scoring import PackScorer


def calibrate(
    pack: Annotated[Path, typer.Argument(help="Fingerprint pack, a directory or a zip.")],
    null: Annotated[list[str], typer.Option(help="An unrelated model, FAMILY:MODEL; give several.")],
    key_file: Annotated[Path | None, typer.Option(help="Master key file of the pack.")] = None,
    trigger_keys: Annotated[Path | None, typer.Option(help="File of the pack's trigger keys.")] = None,
    device: Annotated[str, typer.Option(help="A torch device.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Run unrelated models on the triggers; write calibration rows and the transfer bound into the pack."""
    from sif_offline.fingerprint.scoring import PackScorer

    content = read_pack(pack)
    scorer = PackScorer(content, pack_keys(content, key_file=key_file, trigger_keys=trigger_keys))
    calibration = calibrate_scores(answers_of_nulls(null, scorer, device=device))
    update_pack(pack, calibration=calibration)
    typer.echo(calibration.model_dump_json() if as_json else _table(calibration))


def answers_of_nulls(
    nulls: list[str], scorer: "PackScorer", *, device: str
) -> "dict[str, dict[str, ResponseScore]]":
    """Load each null model in turn and score its answers: model -> trigger id -> score.

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
            answers[name] = null_scores(adapter, scorer, on_progress=report)
    return answers


def _table(calibration: "Calibration") -> str:
    lines = [f"{'trigger':<10}{'mu':>7}{'sigma':>7}{'tau':>7}  green share of unrelated models' types"]
    lines += [f"{row.trigger_id:<10}{row.mu:7.3f}{row.sigma:7.3f}{row.tau:7.3f}" for row in calibration.rows]
    excesses = ", ".join(f"{name} {value:+.3f}" for name, value in calibration.transfer.by_model.items())
    lines += [calibration.statement, calibration.transfer.statement, f"excess by model: {excesses}"]
    return "\n".join(lines)
