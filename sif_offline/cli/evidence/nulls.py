"""``sif evidence nulls``: a judge's own unrelated models on the triggers that a bundle discloses."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sif_offline.cli.calibrate import run_nulls
from sif_offline.cli.evidence.options import JsonOption, OwnerKeyOption, trust_in
from sif_offline.fingerprint.calibration import calibrate
from sif_offline.fingerprint.evidence.bundle import Bundle
from sif_offline.fingerprint.evidence.errors import EvidenceError
from sif_offline.fingerprint.evidence.verification import verify_bundle

if TYPE_CHECKING:
    from sif_offline.fingerprint.evidence.judgement import Judgement


def nulls(
    bundle: Annotated[Path, typer.Argument(help="Evidence bundle, a directory or a zip.")],
    null: Annotated[list[str], typer.Option(help="An unrelated model, FAMILY:MODEL; give several.")],
    owner_key: OwnerKeyOption = None,
    device: Annotated[str, typer.Option(help="A torch device.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Ask unrelated models of your own choice the bundle's triggers, and judge its answers by the bound
    that these models give in place of the committed one. The committed verdict stands beside it.
    """
    from sif_offline.forging.nulls import Questions

    source = Bundle.read(bundle)
    checked = verify_bundle(source, trust=trust_in(owner_key, None, None))
    failed = [
        step.name for step in checked.steps if step.status == "failed" and step.name != "bundle signature"
    ]
    if failed or checked.judgement is None:
        raise EvidenceError(f"{bundle}: does not hold ({', '.join(failed)}); run sif evidence verify")
    material = source.material
    _, head = material.commitment.open()
    scorer = material.scorer(name=head.pack_id)
    run = run_nulls(null, scorer, Questions.of_material(material, head=head), device=device)
    transfer = calibrate(run.answers, null_weights=run.weights_sha256).transfer
    policy = head.policy.model_copy(update={"transfer": transfer.bound})
    mine = material.judge(source.exchanges, head=head.model_copy(update={"policy": policy}))
    if as_json:
        said = {
            "null_models": run.weights_sha256,
            "transfer_bound": transfer.bound,
            "committed_transfer_bound": head.policy.transfer,
            "by_your_bound": _numbers(mine),
            "by_the_committed_bound": _numbers(checked.judgement),
        }
        typer.echo(json.dumps(said))
        return
    typer.echo(transfer.statement)
    typer.echo(f"by your bound: {_line(mine)}")
    typer.echo(f"by the committed bound: {_line(checked.judgement)}")


def _numbers(judgement: "Judgement") -> dict[str, object]:
    numbers = judgement.numbers()
    return {
        "unrelated_model": numbers["unrelated_model"],
        "e_process": numbers["e_process"]["unrelated_model"],
        "verdict": numbers["verdict"],
    }


def _line(judgement: "Judgement") -> str:
    numbers = judgement.numbers()
    combined, process = numbers["unrelated_model"], numbers["e_process"]["unrelated_model"]
    if combined is None or process is None:
        return "not measured"
    return (
        f'"unrelated model" at a rate up to {combined["gamma0"]:.3f}: pooled p {combined["pvalue"]:.2g}, '
        f"log10 e {process['log10_e']:.2f}, verdict {numbers['verdict']}"
    )
