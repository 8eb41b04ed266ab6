"""``sif lab train``: make the shipped lab models again."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sif_offline.lab import LAB_MODELS, LabModelError

GPU_STEP_FACTOR = 4


def train(
    archive: Annotated[Path, typer.Option(help="Flickr8k as one tar: photos/*.jpg and captions.csv.")],
    out: Annotated[Path, typer.Option(help="Directory of checkpoints; gets MODEL/ and encoders/.")],
    model: Annotated[str, typer.Option(help=f"Recipe: {', '.join(LAB_MODELS)}.")] = "owner",
    steps: Annotated[int | None, typer.Option(min=1, help="Steps in place of the recipe's.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    work: Annotated[
        Path | None, typer.Option(help="Features and resumable state; OUT/.work unless told.")
    ] = None,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between resumable states.")] = 250,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Train a lab model; a run that was cut off goes on where it last saved."""
    import torch

    from sif_offline.lab.recipes import RECIPES
    from sif_offline.lab.train import train as run

    if model not in RECIPES:
        raise LabModelError(f"{model}: no such recipe, there are {', '.join(RECIPES)}")
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    recipe = RECIPES[model]
    total = steps or recipe.steps * (GPU_STEP_FACTOR if chosen == "cuda" else 1)
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        tasks = {
            "features": progress.add_task("photo features", total=None, loss=""),
            "train": progress.add_task(f"training {model}", total=total, loss=""),
        }

        def report(phase: str, done: int, of: int, loss: float) -> None:
            if phase == "validation":
                progress.console.print(f"step {done}: validation loss {loss:.3f} nats/token")
            else:
                shown = "" if math.isnan(loss) else f"loss {loss:.3f}"
                progress.update(tasks[phase], completed=done, total=of, loss=shown)

        result = run(
            recipe, archive=archive, out=out, work=work or out / ".work", device=chosen, steps=total,
            save_every=save_every, report=report,
        )  # fmt: skip
    if as_json:
        print(json.dumps(asdict(result) | {"checkpoint": str(result.checkpoint), "device": chosen}))
    else:
        console.print(
            f"{model}: {result.steps} steps on {chosen} in {result.seconds / 60:.1f} min, validation loss "
            f"{result.validation_loss:.3f} nats/token, written to {result.checkpoint}"
        )
