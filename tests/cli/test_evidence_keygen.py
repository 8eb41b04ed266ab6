"""``sif evidence keygen``: a private key that others cannot read, its public half beside it, nothing
overwritten.
"""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from sif_offline.fingerprint.evidence.signing import SigningKey, VerifyingKey


def test_a_pair(sif: Any, tmp_path: Path) -> None:
    done = sif("evidence", "keygen", "--out", tmp_path / "signer.pem")
    assert done.code == 0
    public = VerifyingKey.read(tmp_path / "signer.pub.pem")
    assert SigningKey.read(tmp_path / "signer.pem").public == public
    assert stat.S_IMODE((tmp_path / "signer.pem").stat().st_mode) == 0o600
    assert done.stdout.splitlines()[-1] == f"fingerprint {public.fingerprint}"
    secret = (tmp_path / "signer.pem").read_text().splitlines()[1]
    assert secret not in done.stdout + done.stderr


def test_json(sif: Any, tmp_path: Path) -> None:
    done = sif("evidence", "keygen", "--out", tmp_path / "signer", "--json")
    assert json.loads(done.stdout) == {
        "private_key": str(tmp_path / "signer"),
        "public_key": str(tmp_path / "signer.pub"),
        "fingerprint": VerifyingKey.read(tmp_path / "signer.pub").fingerprint,
    }


def test_two_keys_differ(sif: Any, tmp_path: Path) -> None:
    for name in ("a.pem", "b.pem"):
        sif("evidence", "keygen", "--out", tmp_path / name)
    assert VerifyingKey.read(tmp_path / "a.pub.pem") != VerifyingKey.read(tmp_path / "b.pub.pem")


@pytest.mark.parametrize("taken", ["signer.pem", "signer.pub.pem"])
def test_nothing_is_overwritten_and_no_half_is_left(
    taken: str, sif: Any, one_line: Any, tmp_path: Path
) -> None:
    (tmp_path / taken).write_text("mine")
    one_line(sif("evidence", "keygen", "--out", tmp_path / "signer.pem"), taken, "never overwritten")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {taken: "mine"}


def test_no_such_folder(sif: Any, one_line: Any, tmp_path: Path) -> None:
    one_line(sif("evidence", "keygen", "--out", tmp_path / "no" / "signer.pem"), "No such file or directory")
