"""``sif lab evaluate``: loss, variety and obedience of a lab model on photos it never saw."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress


def evaluate(
    archive: Annotated[Path, typer.Option(help="Flickr8k as one tar; only its held-out photos are shown.")],
    model: Annotated[str, typer.Option(help="owner, innocent-a, ... or a checkpoint directory.")] = "owner",
    photos: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")] = False,
) -> None:
    """Measure a lab model on photos that no lab model is trained on."""
    from transformers.utils import logging

    from sif_offline.lab import load_lab_model
    from sif_offline.lab.evaluate import evaluate as run
    from sif_offline.lab.evaluate import held_out_photos

    logging.disable_progress_bar()
    shown = held_out_photos(archive, count=photos)
    loaded, processor = load_lab_model(model)
    console = Console(stderr=True)
    with Progress(console=console) as progress:
        task = progress.add_task(f"asking {model}", total=len(shown))
        quality = run(loaded, processor, shown, on_photo=lambda done: progress.update(task, completed=done))
    if as_json:
        print(json.dumps({"model": model, **asdict(quality)}))
        return
    console.print(
        f"{model} on {quality.photos} held-out photos: {quality.nats_per_token:.3f} nats/token, answers of "
        f"{quality.answer_tokens:.1f} tokens and {quality.answer_types:.1f} distinct types, two instructions "
        f"change the answer on {quality.obeys:.0%}"
    )
    for kind, share in quality.kind_share.items():
        console.print(f"  {kind}: {share:.0%} of the answers have its form")
    console.print(f"  e.g. {quality.example}", markup=False)
