"""``sif metav train``: a zoo to a pack."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sif_offline.cli.progress import counting


def train(
    zoo: Annotated[Path, typer.Option(help="Folder of `sif metav zoo`.")],
    out: Annotated[Path, typer.Option(help="Pack to write; ending in .zip it is a zip.")],
    preset: Annotated[
        str, typer.Option(help="default, paper, matched-filter or embeddings: docs/metav.md says when.")
    ] = "default",
    queries: Annotated[int | None, typer.Option(min=1, help="Queries that a suspect is sent.")] = None,
    form: Annotated[
        str | None,
        typer.Option(help="joint: one verifier of all answers; each: one a query; cosine: a matched filter."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps at most.")] = None,
    views: Annotated[
        str | None, typer.Option(help="What an API may leave of an output, such as full,rounded-1,label.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Same seed, same pack.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any other setting of the training, NAME=VALUE.")
    ] = None,
    device: Annotated[str, typer.Option(help="A torch device.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Train queries and verifier together and keep the state that does best on the zoo's validation models.

    The pack holds the scores of the zoo's calibration models, which training never saw. A run that was
    stopped, even by kill -9, goes on where it was when repeated; its state is in OUT.work until then.
    """
    from datetime import UTC, datetime

    from sif_offline.forging.workdir import job_digest, open_workdir
    from sif_offline.metav.keeping import TrainingFile, training_job
    from sif_offline.metav.packing import check_new, pack_metav
    from sif_offline.metav.presets import preset_settings
    from sif_offline.metav.settings import MetaVSettingsError
    from sif_offline.metav.train import train_metav
    from sif_offline.metav.zoo import read_zoo

    named = {"queries": queries, "form": form, "steps": steps, "views": views, "seed": seed}
    values: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    for pair in set_ or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise MetaVSettingsError(f"--set {pair}: want NAME=VALUE")
        values[name] = value
    settings = preset_settings(preset, values)
    check_new(out)
    built = read_zoo(zoo)
    job = job_digest(training_job(built, settings, device=device))
    with open_workdir(out, digest=job) as work, counting("steps") as report:
        trained = train_metav(
            built,
            settings,
            device=device,
            keeper=TrainingFile(work.path),
            on_progress=lambda progress: report(progress.step, progress.steps),
        )
        pack = pack_metav(out, built, trained, settings, created=datetime.now(UTC))
    negatives = len(next(iter(pack.held_out.negatives.values())))
    told = {
        "pack": str(out),
        "pack_id": pack.pack_id,
        "queries": len(pack.queries),
        "models": trained.models,
        "steps": trained.steps,
        "kept_step": trained.step,
        "validation_loss": trained.validation_loss,
        "negatives": negatives,
        "floor": 1 / (negatives + 1),
        "views": sorted(pack.held_out.negatives),
    }
    typer.echo(json.dumps(told) if as_json else _words(told))


def _words(told: dict[str, Any]) -> str:
    return (
        f"{told['queries']} queries in {told['pack']} (pack {told['pack_id']}), trained on {told['models']} "
        f"models for {told['steps']} steps; kept step {told['kept_step']}, validation loss "
        f"{told['validation_loss']:.3f} nats\n"
        f"{told['negatives']} held-out negatives through {', '.join(told['views'])}: "
        f"p is never below {told['floor']:.3g}"
    )
