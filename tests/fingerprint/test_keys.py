"""Keys: derivation against a second implementation, files that only their owner can read, commitments,
masking.
"""

import json
import os
import pickle
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from sif_offline.fingerprint.keys import (
    DEMO_SECRET,
    KeyFileError,
    MasterSecret,
    TriggerKeys,
    WrongKeyError,
    derive_pack_keys,
    derive_trigger_key,
    int_key,
    key_commitment,
    length_prefixed,
    master_from_environment,
    read_key_file,
    write_key_file,
)
from sif_offline.fingerprint.pack import FingerprintPack

SECRET = MasterSecret.from_bytes(bytes(range(32)))


@given(
    master=st.binary(min_size=32, max_size=32), owner=st.text(), model_hash=st.text(), trigger_id=st.text()
)
def test_derivation_is_hkdf_sha256(master: bytes, owner: str, model_hash: str, trigger_id: str) -> None:
    info = b"".join(
        len(field).to_bytes(4, "big") + field
        for field in (b"sif/v1", owner.encode(), model_hash.encode(), trigger_id.encode())
    )
    expected = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(master)
    secret = MasterSecret.from_bytes(master)
    assert derive_trigger_key(secret, owner=owner, model_hash=model_hash, trigger_id=trigger_id) == expected


def test_derivation_never_changes() -> None:
    key = derive_trigger_key(SECRET, owner="lab:owner", model_hash="00" * 32, trigger_id="t00")
    assert key.hex() == "1588a5c60951e3d2bb9d7b44979e13a31a70cef47312332d2281957aed71d5be"
    assert key_commitment("t00", key) == "6a4d5bfe874997d6b9ca13467619b31b2c6d16aaf9c5df739c34a5734d3d4cb4"
    assert DEMO_SECRET.reveal().hex() == "9c762c15b4c80280a1115309a81f035f3bb02c03050c6aefd7cbaa4cd5180645"


@given(st.lists(st.text(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_length_prefixes_tell_field_lists_apart(one: list[str], other: list[str]) -> None:
    assert (length_prefixed(*one) == length_prefixed(*other)) == (one == other)


def test_integer_keys() -> None:
    assert int_key(0) == bytes(8)
    assert int_key(1) == b"\x01" + bytes(7)
    assert int_key(-1) == b"\xff" * 8
    with pytest.raises(OverflowError):
        int_key(2**63)


def test_a_secret_is_random_masked_immutable_and_never_pickled() -> None:
    secret = MasterSecret.generate()
    assert secret != MasterSecret.generate()
    assert secret == MasterSecret.from_bytes(secret.reveal())
    for shown in (repr(secret), str(secret), f"{secret}", repr({"secret": secret})):
        assert secret.reveal().hex()[:8] not in shown
        assert repr(secret.reveal())[2:10] not in shown
    with pytest.raises(AttributeError, match="immutable"):
        secret._value = bytes(32)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)
    with pytest.raises(ValueError, match="32 bytes, got 31"):
        MasterSecret.from_bytes(bytes(31))


def test_the_demo_secret_is_known_as_such() -> None:
    assert DEMO_SECRET.is_demo
    assert MasterSecret.from_bytes(DEMO_SECRET.reveal()).is_demo
    assert not MasterSecret.generate().is_demo


def test_key_file_round_trip(tmp_path: Path) -> None:
    path, secret = tmp_path / "master.key", MasterSecret.generate()
    write_key_file(path, secret)
    assert read_key_file(path) == secret
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_wide_umask_does_not_widen_the_file(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_key_file(tmp_path / "master.key", SECRET)
    finally:
        os.umask(before)
    assert (tmp_path / "master.key").stat().st_mode & 0o777 == 0o600


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    write_key_file(path, SECRET)
    with pytest.raises(KeyFileError, match=r"master\.key: exists already"):
        write_key_file(path, MasterSecret.generate())
    assert read_key_file(path) == SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_a_key_file_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "master.key"
    write_key_file(path, SECRET)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=rf"master\.key: mode 0{mode:o} .*chmod 600"):
        read_key_file(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"sif-master-v1:",
        b"sif-master-v1:" + b"00" * 31,
        b"sif-master-v2:" + b"00" * 32,
        b"\xff\xfe",
    ],
)
def test_a_malformed_key_file_is_refused_without_quoting_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "master.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match=r"master\.key: not a ") as caught:
        read_key_file(path)
    assert "0000" not in str(caught.value)
    with pytest.raises(KeyFileError, match=r"not a (file of trigger keys|key file)"):
        TriggerKeys.read(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"absent\.key: No such file"):
        read_key_file(tmp_path / "absent.key")
    with pytest.raises(KeyFileError, match="Is a directory"):
        read_key_file(tmp_path)
    with pytest.raises(KeyFileError, match="No such file"):
        write_key_file(tmp_path / "no" / "such.key", SECRET)


def test_master_from_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIF_MASTER_KEY", raising=False)
    assert master_from_environment() is None
    monkeypatch.setenv("SIF_MASTER_KEY", f"sif-master-v1:{SECRET.reveal().hex()}")
    assert master_from_environment() == SECRET
    monkeypatch.setenv("SIF_MASTER_KEY", "sif-master-v1:c0ffee")
    with pytest.raises(KeyFileError, match="SIF_MASTER_KEY: not a master key") as caught:
        master_from_environment()
    assert "c0ffee" not in str(caught.value)


def test_trigger_keys_round_trip_and_masking(tmp_path: Path, pack_keys: TriggerKeys) -> None:
    path = tmp_path / "pack.keys"
    pack_keys.write(path)
    assert TriggerKeys.read(path) == pack_keys
    assert path.stat().st_mode & 0o777 == 0o600
    for key in pack_keys.keys.values():
        assert key.hex() not in repr(pack_keys)
        assert repr(key) not in repr(pack_keys)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(pack_keys)
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match=r"pack\.keys: mode 0644"):
        TriggerKeys.read(path)


@pytest.mark.parametrize(
    "change",
    [{"kind": "x"}, {"schema_version": 2}, {"keys": []}, {"keys": {"t00": "00"}}, {"keys": {"t00": 5}}],
)
def test_foreign_trigger_key_files_are_refused(tmp_path: Path, pack_keys: TriggerKeys, change: dict) -> None:
    path = tmp_path / "pack.keys"
    pack_keys.write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(KeyFileError, match=r"pack\.keys: not a file of trigger keys"):
        TriggerKeys.read(path)


def test_a_wrong_master_does_not_open_a_pack(pack_parts: tuple[FingerprintPack, dict]) -> None:
    pack, _ = pack_parts
    assert set(derive_pack_keys(DEMO_SECRET, pack).keys) == {"t00", "t01", "t02"}
    with pytest.raises(WrongKeyError, match="pack test-pack: wrong key for trigger t00"):
        derive_pack_keys(SECRET, pack)


def test_a_missing_or_swapped_trigger_key_is_named(
    pack_parts: tuple[FingerprintPack, dict], pack_keys: TriggerKeys
) -> None:
    pack, _ = pack_parts
    some = TriggerKeys(pack_id="test-pack", keys={k: v for k, v in pack_keys.keys.items() if k != "t01"})
    with pytest.raises(WrongKeyError, match="no key for trigger t01"):
        some.check(pack)
    swapped = dict(pack_keys.keys)
    swapped["t01"], swapped["t02"] = swapped["t02"], swapped["t01"]
    with pytest.raises(WrongKeyError, match="wrong key for trigger t01"):
        TriggerKeys(pack_id="test-pack", keys=swapped).check(pack)
