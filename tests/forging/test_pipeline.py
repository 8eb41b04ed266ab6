"""Photos to a pack: bound in the files' bytes, judged as a verifier judges, resumed after a kill."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sif_offline.fingerprint.images import decode_image
from sif_offline.fingerprint.keys import DEMO_SECRET, MasterSecret, derive_pack_keys
from sif_offline.fingerprint.pack import read_pack
from sif_offline.fingerprint.scoring import PackScorer
from sif_offline.forging import pipeline
from sif_offline.forging.pipeline import Progress, forge_pack
from sif_offline.forging.pixels import Photo
from sif_offline.forging.settings import ForgeSettings
from sif_offline.forging.workdir import ForgeError, workdir_path
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
