"""Steps a second and peak memory on a GPU: our loop and the plain one, shapes of 7B models, random weights.

    python -m benchmarks.forge.gpu [--shape llava-1.5-7b qwen2.5-vl-7b] [--batch-size N] [--json]

bf16 weights; a step is a gradient with RFO at every layer. The plain loop takes one photo, ours a batch: what
fits where no size is given. Nothing is decoded or judged. "minutes" is what 1,000 steps of one trigger come
to (the paper: about 6 on an H100).
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.forge.columns import PUBLISHED
from benchmarks.forge.plain import Plain, plain_search
from benchmarks.forge.shapes import SHAPES
from sif_offline.forging.batch_size import fitting_batch_size
from sif_offline.forging.optimiser import Batch, optimise
from sif_offline.forging.pixels import pixel_tensor
from sif_offline.forging.settings import ForgeSettings
from sif_offline.forging.speed import Speed
from sif_offline.models.base import VLMAdapter

PROJECTED_STEPS = 1000
PROMPT = "Describe this picture in detail."


def measure(
    adapter: VLMAdapter, *, steps: int, tokens: int, batch_size: int | None, compiled: bool = False
) -> list[dict[str, Any]]:
    """A row for each loop.

    Args:
        adapter: the model.
        steps: timed, after as many that are not.
        tokens: of a teacher's text.
        batch_size: of our loop; None = what fits.
        compiled: whether our loop compiles the decoder's blocks.
    """
    published = ForgeSettings(**{**PUBLISHED, "steps": steps, "judge_from": 1.0, "autocast": True})
    ours = published.model_copy(update={"rfo_reuse": True, "momentum": 0.9, "decoding_in_loss": True})
    chance = np.random.default_rng(0)
    height, width = adapter.canvas
    image = Image.fromarray(chance.integers(0, 256, (height, width, 3), dtype=np.uint8))
    photo = pixel_tensor([image]).to(torch.uint8)[0]
    plain_ids = [i for i in range(256) if i not in adapter.special_ids]
    teacher = [int(i) for i in chance.choice(plain_ids, size=tokens)]
    rows = [
        _timed(
            "plain",
            adapter,
            1,
            steps,
            lambda: plain_search(
                adapter,
                photo=photo,
                prompt=PROMPT,
                teacher=teacher,
                key=bytes(32),
                settings=published,
                habits=Plain(),
                judge=lambda _pixels: 0.0,
            ),
        )
    ]
    fit = None if batch_size else fitting_batch_size(adapter, settings=ours, image=image)
    size = batch_size or (fit.batch_size if fit else 1)
    speed = Speed(compiled=compiled, checkpointing=bool(fit and fit.checkpointing))
    for name, settings in (("ours, RFO in two passes", published), ("ours", ours)):
        green = torch.from_numpy(chance.random((size, adapter.vocab_size)) < 0.5)
        batch = Batch(adapter, prompt=PROMPT, teachers=[teacher] * size, green=green, settings=settings)
        with speed.applied(adapter):
            rows.append(
                _timed(
                    name,
                    adapter,
                    size,
                    steps,
                    lambda batch=batch: optimise(
                        batch,
                        clean=photo[None].repeat(size, 1, 1, 1),
                        judge=lambda pixels: [0.0] * len(pixels),
                    ),
                )
            )
    return rows


def _timed(
    name: str, adapter: VLMAdapter, size: int, steps: int, search: Callable[[], object]
) -> dict[str, Any]:
    cuda = adapter.device.type == "cuda"
    search()
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    search()
    if cuda:
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / steps
    return {
        "model": adapter.name,
        "loop": name,
        "batch_size": size,
        "steps_per_second": 1 / seconds,
        "trigger_steps_per_second": size / seconds,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if cuda else None,
        "minutes": PROJECTED_STEPS * seconds / size / 60,
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """For people."""
    lines = ["| model | loop | batch | steps/s | trigger steps/s | peak GiB | minutes a trigger |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in rows:
        peak = "-" if row["peak_gib"] is None else f"{row['peak_gib']:.1f}"
        lines.append(
            f"| {row['model']} | {row['loop']} | {row['batch_size']} | {row['steps_per_second']:.2f} "
            f"| {row['trigger_steps_per_second']:.2f} | {peak} | {row['minutes']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--shape", nargs="+", choices=list(SHAPES), default=["llava-1.5-7b", "qwen2.5-vl-7b"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=96, help="of a teacher's text")
    parser.add_argument("--batch-size", type=int, help="of our loop; what fits where not given")
    parser.add_argument("--compile", action="store_true", dest="compiled")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("no CUDA device here; --device cpu --shape tiny-llava tries the script out")
    rows: list[dict[str, Any]] = []
    for shape in arguments.shape:
        adapter = SHAPES[shape](arguments.device)
        rows += measure(
            adapter,
            steps=arguments.steps,
            tokens=arguments.tokens,
            batch_size=arguments.batch_size,
            compiled=arguments.compiled,
        )
        del adapter
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    sys.stdout.write(json.dumps(rows) + "\n" if arguments.json else table(rows))


if __name__ == "__main__":
    main()
