"""The README's first command, run whole: what it claims is what it shows, and nothing of it stays behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from tokenizers import Tokenizer

from examples.demo.fingerprint import answers
from sif_offline.fingerprint.greenlist import green_mask, green_size
from sif_offline.fingerprint.pack import read_pack
from sif_offline.fingerprint.scoring import combine, score_ids

pytestmark = [pytest.mark.alone, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
KEYS = 200
FALSE_ALARM = 1e-4


def start_demo(out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "examples.demo", "--out", out],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def processes_under(path: Path) -> list[str]:
    """Command lines of living processes that name ``path``."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(path) in line:
            found.append(line)
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "report"
    demo = start_demo(out)
    try:
        printed, _ = demo.communicate(timeout=800)
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
    assert demo.returncode == 0, printed[-4000:]
    return out


@pytest.fixture(scope="module")
def results(report: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((report / "results.json").read_text())
    return loaded


def test_both_pirates_are_flagged_and_the_innocent_is_not(results: dict[str, Any]) -> None:
    p = {row["target"]: row["pvalue"] for row in results["rounds"]}
    assert p["pirate-4bit"] < 1e-4
    assert p["pirate-finetuned"] < 1e-4
    assert p["innocent"] > 0.01


def test_clean_photos_are_a_quiet_control(results: dict[str, Any]) -> None:
    # Stouffer z of the owner's copies on unchanged photos: |z| < 4 has a false-alarm rate of 6e-5 each.
    assert all(abs(row["control_z"]) < 4 for row in results["rounds"])


def test_the_gateway_passes_blocks_and_replaces(results: dict[str, Any]) -> None:
    assert [row["outcome"] for row in results["exchanges"]] == ["passed", "blocked", "replaced"]


def test_every_trigger_stays_within_epsilon_of_its_photo_in_the_files_own_bytes(report: Path) -> None:
    pack = read_pack(report / "work" / "pack")
    assert len(pack.triggers) == 12
    for row in pack.triggers:
        trigger, clean = (
            np.asarray(Image.open(report / "work" / "pack" / name).convert("RGB"), dtype=int)
            for name in (row.file, row.clean_file)
        )
        change = np.abs(trigger - clean).max()
        assert 0 < change <= row.epsilon


def test_p_under_other_keys_is_super_uniform_on_the_innocent(report: Path) -> None:
    """200 unrelated keys on the innocent's real answers to the triggers.

    False-alarm rate 1e-4 for each of the three assertions: the answers do not know these keys, so the
    combined p is super-uniform over the keys, and that of one answer is uniform once its ties are broken at
    random.
    """
    work = report / "work"
    pack = read_pack(work / "pack")
    tokenizer = Tokenizer.from_str(pack.tokenizer_json().decode())
    asked = answers(work, pack=work / "pack", keys=work / "pack.trigger-keys.json")["innocent"]
    told = {
        row.trigger: tokenizer.encode("".join(piece for piece, _ in row.tokens), add_special_tokens=False).ids
        for row in asked
    }
    assert len(told) >= 10
    rng = np.random.default_rng(20261122)
    green = green_size(pack.vocab_size, pack.gamma, pack.scheme)
    pvalues, randomised = [], []
    for _ in range(KEYS):
        scores = []
        for trigger, ids in told.items():
            key, size, share = rng.bytes(32), pack.vocab_size, pack.gamma
            mask = green_mask(key=key, vocab_size=size, gamma=share, scheme=pack.scheme)
            scores.append(score_ids(ids, mask=mask, trigger_id=trigger))
        pvalues.append(combine(scores).pvalue)
        one = scores[0]
        null = stats.hypergeom(pack.vocab_size, green, one.types)
        randomised.append(null.sf(one.greens) + rng.random() * null.pmf(one.greens))
    for level in (0.01, 0.05):
        below = sum(p <= level for p in pvalues)
        assert stats.binom.sf(below - 1, KEYS, level) > FALSE_ALARM, (level, below)
    assert stats.kstest(randomised, "uniform").pvalue > FALSE_ALARM


def test_the_report_shows_pictures_and_needs_nothing_from_elsewhere(report: Path) -> None:
    page = (report / "index.html").read_text()
    assert page.count("<img ") >= 6
    assert "http://" not in page.replace("http://127.0.0.1", "")
    assert "https://" not in page
    assert "<script" not in page


def test_nothing_is_left_running(report: Path) -> None:
    assert processes_under(report) == []


def test_an_interrupted_demo_stops_what_it_started(tmp_path: Path) -> None:
    out = tmp_path / "report"
    demo = start_demo(out)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not any("sif forge" in line for line in processes_under(out)):
        time.sleep(0.1)
    assert len(processes_under(out)) >= 2, "the demo and its forge should be running"
    os.killpg(demo.pid, signal.SIGINT)
    printed, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130, printed[-2000:]
    assert processes_under(out) == []
