"""benchmarks/forge: the plain loop searches for what ours does, runs resume, figures come from the rows."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.forge.__main__ import run
from benchmarks.forge.columns import BASE, COLUMNS, OURS, PUBLISHED
from benchmarks.forge.gpu import measure
from benchmarks.forge.plain import Plain, plain_search
from benchmarks.forge.shapes import Shape, llava_7b, qwen_7b
from benchmarks.forge.table import summary, table
from sif_offline.fingerprint.greenlist import green_mask
from sif_offline.forging.optimiser import Batch, optimise
from sif_offline.forging.pixels import Photo, pixel_tensor, prepare_photo
from sif_offline.forging.settings import ForgeSettings
from sif_offline.lab import tiny_lab_model
from sif_offline.lab.photos import demo_photos
from sif_offline.models.lab import LabAdapter
from sif_offline.models.testing import tiny_adapter

SETTINGS = ForgeSettings(
    **{
        **PUBLISHED,
        "steps": 3,
        "judge_every": 1,
        "judge_copies": 0,
        "teacher_draws": 1,
        "batch_size": 2,
        "autocast": False,
        "rho": 0.1,
    }
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def owner() -> LabAdapter:
    return LabAdapter(*tiny_lab_model(0), name="lab:tiny")


@pytest.fixture(scope="module")
def photos(owner: LabAdapter) -> list[Photo]:
    return [prepare_photo(photo.image(), name=photo.id, canvas=owner.canvas) for photo in demo_photos(3)]


@pytest.mark.parametrize(
    "habits", [Plain(), Plain(one_mask=True, response_logits=True), Plain(True, True, True)], ids=str
)
def test_the_plain_loop_takes_our_steps(owner: LabAdapter, photos: list[Photo], habits: Plain) -> None:
    """Published settings, one photo: sums are taken in another order, so a few pixels' signs may differ."""
    key, teacher = bytes(32), (5, 6, 7, 8, 9)
    green = green_mask(key=key, vocab_size=owner.vocab_size, gamma=0.5, scheme=SETTINGS.scheme)
    clean = pixel_tensor([photos[0].image()]).to(torch.uint8)
    found = plain_search(
        owner,
        photo=clean[0],
        prompt="Describe.",
        teacher=teacher,
        key=key,
        settings=SETTINGS,
        habits=habits,
        judge=lambda pixels: 0.0,
    )
    batch = Batch(
        owner,
        prompt="Describe.",
        teachers=[teacher],
        green=torch.from_numpy(np.array(green))[None],
        settings=SETTINGS,
    )
    (ours,) = optimise(batch, clean=clean, judge=lambda pixels: [0.0])
    moved = (found.int() - clean[0].int()).abs()
    assert moved.max() == 3, "three steps of one"
    assert (found != ours.pixels).float().mean() < 0.02


def test_a_run_resumes_and_pairs_photos(owner: LabAdapter, photos: list[Photo], tmp_path: Path) -> None:
    kept = tmp_path / "rows.jsonl"
    rows = run(owner, photos, SETTINGS, kept=kept, lever_photos=1)
    # two groups: the first has all columns, plain levers on one photo alone
    counts = {column.name: sum(row["column"] == column.name for row in rows) for column in COLUMNS}
    assert (counts[BASE], counts[OURS]) == (3, 3)
    assert counts["+ one mask"] == 1
    assert counts["+ batch"] == 2
    lines = kept.read_text().splitlines()
    kept.write_text("\n".join(lines[:-1]) + "\n")
    again = run(owner, photos, SETTINGS, kept=kept, lever_photos=1)
    assert len(again) == len(rows)
    assert kept.read_text().splitlines()[:-1] == lines[:-1], "what was measured is not measured again"
    by_photo = [row for row in rows if row["column"] in (BASE, "+ lean graph") and row["photo"] == "cat-face"]
    assert by_photo[0]["z"] == by_photo[1]["z"], "levers of the plain loop change no step"
    found = summary(rows)
    ours = found["columns"][OURS]
    base = found["columns"][BASE]
    assert ours["photos"] == base["photos"] == 3
    assert ours["speedup"] == pytest.approx(base["cpu_seconds"] / ours["cpu_seconds"])
    mean, low, high = ours["greedy_minus_plain"]
    assert low <= mean <= high
    assert mean == pytest.approx(ours["z_greedy"] - base["z_greedy"])
    assert OURS in table({"model": "tiny"}, found)


@pytest.mark.parametrize("family", ["llava", "qwen2.5-vl"])
def test_the_gpu_script_on_tiny_shapes(family: str) -> None:
    rows = measure(tiny_adapter(family), steps=1, tokens=4, batch_size=2)
    assert [row["batch_size"] for row in rows] == [1, 2, 2]
    assert all(row["minutes"] > 0 and row["peak_gib"] is None for row in rows)


@pytest.mark.parametrize(("shape", "billions"), [(llava_7b, 7.06), (qwen_7b, 8.29)])
def test_the_shapes_are_the_published_ones(shape: Callable[[], Shape], billions: float) -> None:
    """Parameters as the model cards on the Hugging Face hub count them."""
    model = shape().model("meta")
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e9 == pytest.approx(
        billions, abs=0.005
    )


def test_no_gpu_is_one_line() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.forge.gpu", "--json"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no CUDA device" in done.stderr.decode()
