"""``sif evidence report``: one file is written, never over another; the exit status says if it holds."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sif_offline.fingerprint.evidence.signing import SigningKey
from tests.fingerprint.evidence.case import Case, make_case

Sif = Callable[..., Any]
OneLine = Callable[..., None]


@pytest.fixture(scope="module")
def pirate(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("pirate"))


@pytest.fixture
def owner_key(pirate: Case, tmp_path: Path) -> Path:
    path = tmp_path / "owner.pub.pem"
    path.write_text(pirate.signer.public.pem)
    return path


def test_a_bundle_becomes_a_page(sif: Sif, pirate: Case, owner_key: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    done = sif("evidence", "report", pirate.bundle.path, "--out", out, "--owner-key", owner_key)
    assert done.code == 0, done.stderr
    assert done.stdout.strip() == f"{out}: written; every step holds; verdict: confirmed"
    page = out.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "compared with the owner's key brought along" in " ".join(page.split()).replace("&#39;", "'")


def test_json(sif: Sif, pirate: Case, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    done = sif("evidence", "report", pirate.bundle.path, "--out", out, "--json")
    assert json.loads(done.stdout) == {
        "report": str(out),
        "passed": True,
        "failed": [],
        "verdict": "confirmed",
    }


def test_a_file_is_not_overwritten_without_force(
    sif: Sif, one_line: OneLine, pirate: Case, tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    out.write_text("mine")
    one_line(sif("evidence", "report", pirate.bundle.path, "--out", out), str(out), "--force")
    assert out.read_text() == "mine"
    assert sif("evidence", "report", pirate.bundle.path, "--out", out, "--force").code == 0
    assert "CONFIRMED" in out.read_text(encoding="utf-8")


def test_a_report_never_goes_into_the_bundle(
    sif: Sif, one_line: OneLine, pirate: Case, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(pirate.bundle.path, tmp_path / "bundle"))
    one_line(sif("evidence", "report", bundle, "--out", bundle / "report.html"), "in the bundle")
    assert sif("evidence", "verify", bundle).code == 0


def test_a_broken_bundle_is_reported_as_such_and_fails(
    sif: Sif, pirate: Case, owner_key: Path, tmp_path: Path
) -> None:
    bundle, out = Path(shutil.copytree(pirate.bundle.path, tmp_path / "bundle")), tmp_path / "report.html"
    (bundle / "transcript.jsonl").unlink()
    done = sif("evidence", "report", bundle, "--out", out, "--owner-key", owner_key)
    assert done.code == 1
    assert "does not hold" in done.stdout
    assert "chain" in done.stdout
    assert "NO FINDING: this bundle failed its checks" in out.read_text(encoding="utf-8")


def test_another_owner_is_not_confirmed(sif: Sif, pirate: Case, tmp_path: Path) -> None:
    other, out = tmp_path / "other.pub.pem", tmp_path / "report.html"
    other.write_text(SigningKey.generate().public.pem)
    done = sif("evidence", "report", pirate.bundle.path, "--out", out, "--owner-key", other, "--json")
    assert done.code == 1
    assert json.loads(done.stdout)["verdict"] is None
    assert "commitment signature" in json.loads(done.stdout)["failed"]
    assert "CONFIRMED" not in out.read_text(encoding="utf-8")


def test_mistakes_are_one_line(sif: Sif, one_line: OneLine, pirate: Case, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    empty = tmp_path / "empty"
    empty.mkdir()
    one_line(sif("evidence", "report", empty, "--out", out), "not a bundle (bundle.json is missing)")
    one_line(sif("evidence", "report", tmp_path / "none.zip", "--out", out), "none.zip")
    one_line(sif("evidence", "report", pirate.bundle.path, "--out", tmp_path / "no" / "r.html"), "No such")
    key = ("--owner-key", tmp_path / "none.pem")
    one_line(sif("evidence", "report", pirate.bundle.path, "--out", out, *key), "none.pem")
    assert not out.exists()
