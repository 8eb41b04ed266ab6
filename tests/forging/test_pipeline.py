"""Photos to a pack: bound in the files' bytes, judged as a verifier judges, resumed after a kill."""

import hashlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sif_offline.executors import Done, make_executor
from sif_offline.fingerprint.images import decode_image
from sif_offline.fingerprint.keys import DEMO_SECRET, MasterSecret, derive_pack_keys, derive_trigger_key
from sif_offline.fingerprint.pack import read_pack
from sif_offline.fingerprint.scoring import PackScorer
from sif_offline.forging import pipeline
from sif_offline.forging.batch_size import CPU_LIMIT, Fit, fitting_batch_size
from sif_offline.forging.keeping import worth
from sif_offline.forging.optimiser import Batch
from sif_offline.forging.pipeline import Progress, forge_pack
from sif_offline.forging.pixels import Photo, pixel_tensor, prepare_photo
from sif_offline.forging.plan import plan_jobs, plan_units
from sif_offline.forging.settings import ForgeSettings, SettingsError
from sif_offline.forging.speed import Speed
from sif_offline.forging.workdir import ForgeError, workdir_path
from sif_offline.lab import tiny_lab_model
from sif_offline.lab.photos import demo_photos
from sif_offline.models import load_adapter
from sif_offline.models.lab import LabAdapter

SECRET = MasterSecret.from_bytes(bytes(range(32)))


def test_pack_holds_what_a_verifier_will_see(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo], tmp_path: Path
) -> None:
    s = settings.model_copy(update={"epsilon": 7, "alpha": 4.0, "prompts": ("Describe.", "What is it?")})
    out = tmp_path / "pack"
    forge_pack(adapter, photos=photos, secret=SECRET, settings=s, out=out)
    pack = read_pack(out)
    assert [row.prompt for row in pack.triggers] == ["Describe.", "What is it?", "Describe."]
    assert not pack.demo_key
    scorer = PackScorer(pack, derive_pack_keys(SECRET, pack))
    for row, photo in zip(pack.triggers, photos, strict=True):
        assert pack.clean_bytes(row) == photo.png
        trigger = decode_image(pack.trigger_bytes(row), name=row.file)
        moved = np.asarray(trigger, dtype=int) - np.asarray(photo.image(), dtype=int)
        assert np.abs(moved).max() == 7
        (ids,) = adapter.generate([trigger], row.prompt)
        score = scorer.score(row.id, adapter.text(ids))
        assert score.z == pytest.approx(row.judged["greedy"])
        assert score.green_share == pytest.approx(row.expected_green_share)
    assert not workdir_path(out).exists()
    everything = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    for key in (SECRET.reveal(), *derive_pack_keys(SECRET, pack).keys.values()):
        assert key not in everything
        assert key.hex().encode() not in everything
    sheet = decode_image((out / "contact_sheet.png").read_bytes(), name="sheet")
    assert sheet.width > 6 * 224
    assert sheet.height > 2 * 224


def triggers_of(out: Path) -> list[str]:
    return [row.sha256 for row in read_pack(out).triggers]


def test_same_seed_same_triggers(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        forge_pack(adapter, photos=photos[:2], secret=SECRET, settings=settings, out=tmp_path / name)
    assert triggers_of(tmp_path / "a") == triggers_of(tmp_path / "b")


def test_a_finished_run_is_recognised(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo], tmp_path: Path
) -> None:
    out = tmp_path / "pack"
    first = forge_pack(adapter, photos=photos[:1], secret=SECRET, settings=settings, out=out)
    seen: list[Progress] = []
    again = forge_pack(
        adapter, photos=photos[:1], secret=SECRET, settings=settings, out=out, on_progress=seen.append
    )
    assert (again.model_dump(), seen) == (first.model_dump(), [])
    for change in ({"photos": photos[1:2]}, {"secret": DEMO_SECRET}):
        arguments = {"photos": photos[:1], "secret": SECRET, **change}
        with pytest.raises(ForgeError, match="another run"):
            forge_pack(adapter, settings=settings, out=out, **arguments)


CHILD = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from sif_offline.fingerprint.keys import MasterSecret
from sif_offline.forging.pipeline import forge_pack
from sif_offline.forging.pixels import prepare_photo
from sif_offline.forging.settings import ForgeSettings
from sif_offline.lab import tiny_lab_model
from sif_offline.lab.photos import demo_photos
from sif_offline.models.lab import LabAdapter

adapter = LabAdapter(*tiny_lab_model(0), name="lab:tiny")
photos = [prepare_photo(photo.image(), name=photo.id, canvas=adapter.canvas) for photo in demo_photos(3)]

def die(progress):
    if progress.finished == 2 and progress.step is not None and progress.step.number == 2:
        os.kill(os.getpid(), signal.SIGKILL)

forge_pack(
    adapter, photos=photos, secret=MasterSecret.from_bytes(bytes(range(32))),
    settings=ForgeSettings.model_validate_json(sys.argv[2]), out=Path(sys.argv[1]), on_progress=die,
)
"""


def test_resume_after_kill_9_forges_none_twice(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo], tmp_path: Path
) -> None:
    out = tmp_path / "pack"
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(out), settings.model_dump_json()],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    assert not out.exists()
    kept = sorted(path.parent.name for path in workdir_path(out).glob("*/*/trigger.png"))
    assert kept == ["t000", "t001"]
    digests = [
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(workdir_path(out).glob("*/*/trigger.png"))
    ]
    (workdir_path(out) / ".half-written").mkdir()
    seen: list[Progress] = []
    forge_pack(adapter, photos=photos, secret=SECRET, settings=settings, out=out, on_progress=seen.append)
    assert {name for progress in seen for name in progress.batch} == {"t002"}
    assert triggers_of(out)[:2] == digests
    unbroken = tmp_path / "unbroken"
    forge_pack(adapter, photos=photos, secret=SECRET, settings=settings, out=unbroken)
    assert triggers_of(out) == triggers_of(unbroken)


def test_outputs_that_are_taken(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo], tmp_path: Path
) -> None:
    def forge(out: Path) -> None:
        forge_pack(adapter, photos=photos[:1], secret=SECRET, settings=settings, out=out)

    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    (tmp_path / "other.work").mkdir()
    (tmp_path / "other.work" / "mine.txt").write_text("mine")
    for name in ("file", "folder", "other", "pack.zip"):
        with pytest.raises(ForgeError, match=str(tmp_path / name)):
            forge(tmp_path / name)
    assert (tmp_path / "folder" / "mine.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "other.work"]


def test_work_of_another_run_is_not_mixed_in(
    adapter: LabAdapter,
    settings: ForgeSettings,
    photos: list[Photo],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "pack"

    def fail(*_arguments: object, **_named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "write_forged", fail)
        with pytest.raises(KeyboardInterrupt):
            forge_pack(adapter, photos=photos[:1], secret=SECRET, settings=settings, out=out)
    with pytest.raises(ForgeError, match="another run"):
        forge_pack(
            adapter,
            photos=photos[:1],
            secret=SECRET,
            settings=settings.model_copy(update={"steps": 2}),
            out=out,
        )
    forge_pack(adapter, photos=photos[:1], secret=SECRET, settings=settings, out=out)
    assert len(triggers_of(out)) == 1


@pytest.fixture(scope="module")
def owner_on_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("owner")
    model, processor = tiny_lab_model(0)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


TWO_WORKERS = """
import os, signal, sys
from pathlib import Path
import torch
from sif_offline.executors import make_executor
from sif_offline.fingerprint.keys import MasterSecret
from sif_offline.forging.pipeline import forge_pack
from sif_offline.forging.pixels import prepare_photo
from sif_offline.forging.settings import ForgeSettings
from sif_offline.lab.photos import demo_photos
from sif_offline.models import load_adapter

if __name__ == "__main__":
    torch.set_num_threads(1)
    adapter = load_adapter("lab:" + sys.argv[3])
    photos = [prepare_photo(photo.image(), name=photo.id, canvas=adapter.canvas) for photo in demo_photos(3)]

    def die(progress):
        if progress.finished >= 1:
            os.kill(os.getpid(), signal.SIGKILL)

    forge_pack(
        adapter, photos=photos, secret=MasterSecret.from_bytes(bytes(range(32))),
        settings=ForgeSettings.model_validate_json(sys.argv[2]), out=Path(sys.argv[1]), on_progress=die,
        executor=make_executor("processes", workers=2, threads=1),
    )
"""


def test_two_workers_forge_the_same_bits_after_a_kill_too(
    owner_on_disk: Path, settings: ForgeSettings, tmp_path: Path
) -> None:
    """Units of one; the parent is killed once a unit is kept, and two new workers go on."""
    s = settings.model_copy(update={"batch_size": 1, "refine_rounds": 0, "autocast": True})
    owner = load_adapter(f"lab:{owner_on_disk}")
    three = [prepare_photo(photo.image(), name=photo.id, canvas=owner.canvas) for photo in demo_photos(3)]
    out, alone, script = tmp_path / "pack", tmp_path / "alone", tmp_path / "two_workers.py"
    script.write_text(TWO_WORKERS)
    child = subprocess.run(
        [sys.executable, str(script), str(out), s.model_dump_json(), str(owner_on_disk)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    kept = {path.parent.name for path in workdir_path(out).glob("*/*/trigger.png")}
    assert 1 <= len(kept) < 3
    seen: list[Progress] = []
    forge_pack(
        owner,
        photos=three,
        secret=SECRET,
        settings=s,
        out=out,
        executor=make_executor("processes", workers=2, threads=1),
        on_progress=seen.append,
    )
    assert {name for progress in seen for name in progress.batch} == {"t000", "t001", "t002"} - kept
    forge_pack(owner, photos=three, secret=SECRET, settings=s, out=alone)
    assert triggers_of(out) == triggers_of(alone)


class TwoAreEnough:
    """A goal that is reached by two triggers; keeps how many it was shown."""

    def __init__(self) -> None:
        self.shown: list[int] = []

    def description(self) -> dict[str, Any]:
        return {"two": True}

    def enough(self, rows: Sequence[Any]) -> bool:
        self.shown.append(len(rows))
        return len(rows) >= 2

    def report(self) -> dict[str, Any]:
        return {"shown": self.shown}


def test_a_goal_ends_the_run_in_the_order_of_the_plan(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo], tmp_path: Path
) -> None:
    s = settings.model_copy(update={"batch_size": 1, "refine_rounds": 0})
    out = tmp_path / "pack"

    class Backwards:
        """Workers that finish in the order that suits them."""

        name = "backwards"

        def run(self, work: Any, tasks: Sequence[Any], *, on_event: Any, stop: Any) -> None:
            run = work.open("cpu")
            for place in reversed(range(len(tasks))):
                on_event(Done(place, run(tasks[place], lambda note: None)))
                if stop():
                    return

    goal = TwoAreEnough()
    pack = forge_pack(
        adapter, photos=photos, secret=SECRET, settings=s, out=out, goal=goal, executor=Backwards()
    )
    assert goal.shown == [1, 2]
    assert [row.id for row in pack.triggers] == ["t000", "t001"]
    assert pack.extensions["goal"] == {"shown": [1, 2]}


def test_the_best_triggers_are_kept_and_the_run_is_recognised(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo], tmp_path: Path
) -> None:
    s = settings.model_copy(update={"batch_size": 1, "refine_rounds": 0})
    whole = forge_pack(adapter, photos=photos, secret=SECRET, settings=s, out=tmp_path / "whole")
    out = tmp_path / "best"
    best = forge_pack(adapter, photos=photos, secret=SECRET, settings=s, out=out, keep=2)
    ranked = sorted(whole.triggers, key=lambda row: -worth(row.judged))[:2]
    assert [row.id for row in best.triggers] == sorted(row.id for row in ranked)
    assert {row.sha256 for row in best.triggers} <= {row.sha256 for row in whole.triggers}
    assert best.extensions["forged"] == len(photos)
    again = forge_pack(adapter, photos=photos, secret=SECRET, settings=s, out=out, keep=2)
    assert again.created == best.created
    with pytest.raises(ForgeError, match="another run"):
        forge_pack(adapter, photos=photos, secret=SECRET, settings=s, out=out, keep=1)
    with pytest.raises(SettingsError, match="9 triggers cannot be kept of 3"):
        forge_pack(adapter, photos=photos, secret=SECRET, settings=s, out=tmp_path / "n", keep=9)


def test_what_the_clean_photo_says_counts_against_a_trigger() -> None:
    judged = {"teacher": 5.0, "select": 3.0, "greedy": 2.0, "fresh:nf4": 1.0, "clean": 0.0}
    assert worth(judged) == 1.5
    assert worth({**judged, "clean": 2.0}) == 0.5
    assert worth({**judged, "teacher": 0.0, "select": 0.0}) == 1.5


def test_units_are_cut_by_prompt_over_the_whole_run(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo]
) -> None:
    s = settings.model_copy(update={"prompts": ("Describe.", "What is it?")})
    jobs = plan_jobs(adapter, photos=[*photos, *photos[:2]], secret=SECRET, settings=s)
    cut = [[job.trigger_id for job in unit] for unit in plan_units(jobs, size=2)]
    assert cut == [["t000", "t002"], ["t001", "t003"], ["t004"]]
    key = derive_trigger_key(
        SECRET, owner=adapter.model_id, model_hash=adapter.weights_sha256, trigger_id="t000"
    )
    assert key not in pickle.dumps(jobs[0]), "what travels to workers holds no key"


@pytest.mark.parametrize("speed", [Speed(checkpointing=True), Speed(compiled=True)], ids=["less", "faster"])
def test_speed_changes_no_gradient(
    adapter: LabAdapter,
    settings: ForgeSettings,
    photos: list[Photo],
    speed: Speed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    green = torch.from_numpy(np.random.default_rng(0).random((1, adapter.vocab_size)) < 0.5)
    batch = Batch(adapter, prompt="Describe.", teachers=[(5, 6, 7, 8)], green=green, settings=settings)
    pixels = pixel_tensor([photos[0].image()])
    expected, _ = batch.gradient(pixels)
    monkeypatch.setattr(torch, "compile", lambda forward, **options: forward)  # minutes; its sums are its own
    kind = type(adapter.decoder_layers()[0])
    plain = kind.forward
    with speed.applied(adapter):
        assert kind.forward is not plain
        gradient, _ = batch.gradient(pixels)
        assert adapter.generate([photos[0].image()], "Describe.", max_new_tokens=3)
    assert kind.forward is plain
    assert torch.equal(gradient, expected)


def test_batch_size_follows_memory(adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo]) -> None:
    def fit(free_bytes: int, workers: int = 1) -> Fit:
        return fitting_batch_size(
            adapter, settings=settings, image=photos[0].image(), workers=workers, free_bytes=free_bytes
        )

    each = fit(1 << 40).bytes_each
    assert each is not None
    assert fit(1 << 40).batch_size == CPU_LIMIT
    assert fit(11 * each).batch_size == 5
    assert fit(11 * each, workers=2).batch_size == 2
    short = fit(each)
    assert (short.batch_size, short.checkpointing) == (1, True)
    assert short.bytes_each is not None
    assert short.bytes_each < each
