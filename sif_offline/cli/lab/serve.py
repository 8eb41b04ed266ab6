"""``sif lab serve``: a lab model, or a pirate's version of it, behind OpenAI's chat completions."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sif_offline.suspects.base import Progress

KEY_VARIABLE = "SIF_LAB_API_KEY"


class Bits(StrEnum):
    """Number formats of ``--quantize``."""

    FOUR = "4bit"
    EIGHT = "8bit"


def serve(
    model: Annotated[str, typer.Option(help="owner, innocent-a, ... or a checkpoint directory.")],
    quantize: Annotated[Bits | None, typer.Option(help="Load with fewer bits.")] = None,
    finetune: Annotated[
        int | None, typer.Option(min=1, help="Steps of full fine-tuning first; cached.")
    ] = None,
    lora: Annotated[int | None, typer.Option(min=1, help="Steps of LoRA, merged, first; cached.")] = None,
    suspect: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC", help="What was done to the weights: `prune:30+4bit` (docs/suspects.md)."
        ),
    ] = None,
    serving: Annotated[
        str | None,
        typer.Option(metavar="YAML", help="What the endpoint does: `{jpeg: 75, temperature: 0.7}`."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the training, and of what the endpoint draws.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 0,
    name: Annotated[str | None, typer.Option(help="Model name that requests must use.")] = None,
    max_queue: Annotated[int, typer.Option(min=1, help="Requests inside at once; more get a 503.")] = 32,
) -> None:
    """Serve until interrupted. Prints `ready URL model=NAME` on stdout once it answers.

    The environment variable SIF_LAB_API_KEY, where set, is the bearer token that requests must bring.
    """
    parts = [f"finetune:{finetune}"] if finetune else []
    parts += [f"lora:{lora}"] if lora else []
    parts += suspect.split("+") if suspect else []
    parts += [quantize.value] if quantize else []
    shown = name or "-".join([Path(model).name, *(part.replace(":", "-") for part in parts)])

    from pydantic import SecretStr
    from transformers.utils import logging

    from sif_offline.lab.server import bind, build_app
    from sif_offline.lab.server import serve as run
    from sif_offline.suspects import make_suspect
    from sif_offline.suspects.http import ServedEngine
    from sif_offline.suspects.serving import read_serving

    endpoint = read_serving(serving or "{}")
    logging.disable_progress_bar()
    key = os.environ.get(KEY_VARIABLE)
    with bind(host, port) as address:
        with _progress(shown) as progress:
            loaded = make_suspect(parts, model, seed=seed, progress=progress).load()
        engine = ServedEngine(*loaded, serving=endpoint, seed=seed, max_queue=max_queue)
        app = build_app(engine, model_name=shown, api_key=SecretStr(key) if key else None)
        run(app, address=address, on_ready=lambda url: print(f"ready {url} model={shown}", flush=True))


@contextmanager
def _progress(name: str) -> "Iterator[Progress]":
    """A bar on stderr that appears with the first step of training."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    with ExitStack() as shown:
        bar = Bar(console=Console(stderr=True), transient=True)
        task = bar.add_task(f"training {name}")

        def step(done: int, steps: int, loss: float) -> None:
            if done == 1:
                shown.enter_context(bar)
            bar.update(task, completed=done, total=steps, description=f"training {name}, loss {loss:.2f}")

        yield step
