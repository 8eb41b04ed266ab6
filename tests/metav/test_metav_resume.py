"""A training that was killed goes on, and ends in what it would have ended in."""

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sif_offline.forging.workdir import job_digest, open_workdir, workdir_path
from sif_offline.metav.keeping import STATE, TrainingFile, TrainingStateError, training_job
from sif_offline.metav.packing import pack_metav
from sif_offline.metav.settings import MetaVSettings, metav_settings
from sif_offline.metav.train import Trained, TrainProgress, train_metav
from sif_offline.metav.zoo import Zoo
from tests.metav.conftest import CREATED

LONG = MetaVSettings(
    queries=5,
    steps=60,
    check_every=5,
    hidden=(8,),
    transport=("noise-.1", "shift-1"),
    scored_views=("full",),
)
"""Chance in every step."""


def packed(path: Path, zoo: Zoo, trained: Trained) -> bytes:
    pack_metav(path, zoo, trained, LONG, created=CREATED)
    return path.read_bytes()


def test_a_training_that_was_killed_ends_in_the_same_pack(zoo: Zoo, tmp_path: Path) -> None:
    code = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from tests.metav.test_metav_resume import *\n"
        "from sif_offline.metav.zoo import read_zoo\n"
        "def wait(now):\n"
        "    if now.step == 23: print('here', flush=True); time.sleep(100)\n"
        "keeper = TrainingFile(Path(sys.argv[2]), every_s=0)\n"
        "train_metav(read_zoo(sys.argv[1]), LONG, keeper=keeper, on_progress=wait)"
    )
    command = [sys.executable, "-c", code, str(zoo.folder), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    kept, steps = (tmp_path / STATE).read_bytes(), []
    resumed = train_metav(
        zoo, LONG, keeper=TrainingFile(tmp_path), on_progress=lambda now: steps.append(now.step)
    )
    assert steps == list(range(21, 61)), "from the last look on"
    assert (tmp_path / STATE).read_bytes() == kept, "written every few seconds alone"
    whole = train_metav(zoo, LONG)
    assert packed(tmp_path / "a.zip", zoo, resumed) == packed(tmp_path / "b.zip", zoo, whole)


@pytest.mark.parametrize(
    "changed",
    [
        {"form": "joint", "start": "unsure", "reach": 0.1},
        {"form": "cosine", "hidden": None, "transform": "cosines"},
    ],
)
def test_every_form_goes_on_from_what_was_kept(zoo: Zoo, tmp_path: Path, changed: dict) -> None:
    settings = LONG.model_copy(update={**changed, "steps": 20})

    def stop(now: TrainProgress) -> None:
        if now.step == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_metav(zoo, settings, keeper=TrainingFile(tmp_path, every_s=0), on_progress=stop)
    steps: list[int] = []
    resumed = train_metav(
        zoo, settings, keeper=TrainingFile(tmp_path), on_progress=lambda now: steps.append(now.step)
    )
    assert steps == list(range(11, 21)), "from the last look on"
    whole = train_metav(zoo, settings)
    assert resumed.verifier.to_safetensors() == whole.verifier.to_safetensors()
    np.testing.assert_array_equal(resumed.queries, whole.queries)


def test_the_command_takes_up_its_own_work_and_no_other(sif, one_line, zoo: Zoo, tmp_path: Path) -> None:
    values = {"queries": 4, "steps": 30, "hidden": "4", "check_every": 5}
    command = ("metav", "train", "--zoo", zoo.folder, "--out", tmp_path / "pack", "--queries", 4)
    options = ("--set", "hidden=4", "--set", "check_every=5")
    job = job_digest(training_job(zoo, metav_settings(values), device="cpu"))
    with contextlib.suppress(KeyboardInterrupt), open_workdir(tmp_path / "pack", digest=job) as work:

        def stop(now: object) -> None:
            if getattr(now, "step", 0) == 17:
                raise KeyboardInterrupt

        keeper = TrainingFile(work.path, every_s=0)
        train_metav(zoo, metav_settings(values), keeper=keeper, on_progress=stop)
    one_line(sif(*command, *options, "--steps", 31), "pack.work", "another run", "settings")
    assert (workdir_path(tmp_path / "pack") / STATE).exists()
    done = sif(*command, *options, "--steps", 30, "--json")
    assert (done.code, json.loads(done.stdout)["steps"]) == (0, 30)
    assert not workdir_path(tmp_path / "pack").exists()
    whole = sif(*command[:4], "--out", tmp_path / "whole", *command[6:], *options, "--steps", 30, "--json")
    assert json.loads(done.stdout)["pack_id"] == json.loads(whole.stdout)["pack_id"]


@pytest.mark.parametrize("damage", [b"", b"not safetensors"])
def test_damaged_work_is_named(zoo: Zoo, tmp_path: Path, damage: bytes) -> None:
    (tmp_path / STATE).write_bytes(damage)
    with pytest.raises(TrainingStateError, match=f"{STATE}.*remove it to begin anew"):
        train_metav(zoo, LONG, keeper=TrainingFile(tmp_path))
