"""Keys: derivation against a second implementation, files that only their owner can read, commitments,
masking.
"""

import hashlib
import json
import multiprocessing
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
    KeyRing,
    MasterSecret,
    TriggerKeys,
    WrongKeyError,
    derive_pack_keys,
    derive_trigger_key,
    int_key,
    key_commitment,
    length_prefixed,
    master_from_environment,
    opening_generation,
    read_key_file,
    read_key_ring,
    ring_from_environment,
    rotate_key_file,
    write_key_file,
)
from sif_offline.fingerprint.pack import FingerprintPack

GOLDEN = json.loads((Path(__file__).parent / "golden" / "keys.json").read_text())
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


@pytest.mark.parametrize("row", GOLDEN["keys"], ids=lambda row: f"{row['master'][:4]}-{row['info'][-12:]}")
def test_golden_keys_never_change(row: dict) -> None:
    """Packs exist under these; the same rows hold in another library's HKDF."""
    fields = {"owner": row["owner"], "model_hash": row["model_hash"], "trigger_id": row["trigger_id"]}
    assert length_prefixed("sif/v1", *fields.values()).hex() == row["info"]
    key = derive_trigger_key(MasterSecret.from_bytes(bytes.fromhex(row["master"])), **fields)
    assert key.hex() == row["key"]
    assert key_commitment(row["trigger_id"], key) == row["commitment"]
    reference = HKDF(algorithm=SHA256(), length=32, salt=None, info=bytes.fromhex(row["info"]))
    assert reference.derive(bytes.fromhex(row["master"])) == key


@pytest.mark.parametrize("row", GOLDEN["fingerprints"], ids=lambda row: row["fingerprint"])
def test_golden_fingerprints_never_change(row: dict) -> None:
    secret = MasterSecret.from_bytes(bytes.fromhex(row["master"]))
    assert secret.fingerprint == row["fingerprint"]
    assert not hashlib.sha256(secret.reveal()).hexdigest().startswith(row["fingerprint"])


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


def test_some_keys_alone_can_be_disclosed_but_do_not_score_the_pack(
    pack_parts: tuple[FingerprintPack, dict], pack_keys: TriggerKeys
) -> None:
    pack, _ = pack_parts
    some = pack_keys.subset(["t02", "t00", "t02"])
    assert list(some.keys) == ["t02", "t00"]
    assert some.pack_id == pack_keys.pack_id
    some.check(pack, only=["t00", "t02"])
    some.check(pack, only=["t02"])
    with pytest.raises(WrongKeyError, match="no key for trigger t01"):
        some.check(pack)
    with pytest.raises(WrongKeyError, match="no key for trigger t01"):
        some.check(pack, only=["t00", "t01"])
    with pytest.raises(WrongKeyError, match="has no trigger t09"):
        some.check(pack, only=["t09"])
    with pytest.raises(WrongKeyError, match="no key for trigger t09"):
        pack_keys.subset(["t00", "t09"])
    forged = TriggerKeys(pack_id=some.pack_id, keys={**some.keys, "t00": bytes(32)})
    with pytest.raises(WrongKeyError, match="wrong key for trigger t00"):
        forged.check(pack, only=["t00"])
    forged.check(pack, only=["t02"])


def test_rotation_puts_a_fresh_generation_on_top_and_loses_none(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    write_key_file(path, SECRET)
    first = rotate_key_file(path)
    second = rotate_key_file(path)
    assert second.generations[1:] == first.generations
    assert first.generations[1:] == (SECRET,)
    assert len(set(second.generations)) == 3
    assert read_key_ring(path) == second
    assert read_key_file(path) == second.current
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().splitlines()[-1] == f"sif-master-v1:{SECRET.reveal().hex()}"
    assert [other.name for other in tmp_path.iterdir()] == ["master.key"], "nothing is left beside it"


def test_rotation_follows_a_link_and_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    write_key_file(tmp_path / "vault" / "real.key", SECRET)
    link = tmp_path / "master.key"
    link.symlink_to(tmp_path / "vault" / "real.key")
    rotate_key_file(link)
    assert link.is_symlink()
    assert read_key_ring(tmp_path / "vault" / "real.key").generations[1] == SECRET


@pytest.mark.parametrize("failing", ["open", "fsync", "replace"])
def test_a_failed_rotation_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "master.key"
    write_key_file(path, SECRET)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, full)
        with pytest.raises(KeyFileError, match=r"/master\.key: No space left on device"):
            rotate_key_file(path)
    assert path.read_bytes() == before
    assert [other.name for other in tmp_path.iterdir()] == ["master.key"]


def _rotate_often(path: Path) -> None:
    for _ in range(5):
        rotate_key_file(path)


def test_rotations_at_once_lose_no_generation(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    write_key_file(path, SECRET)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_rotate_often, args=(path,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    ring = read_key_ring(path)
    assert len(ring.generations) == 16
    assert ring.generations[-1] == SECRET


def test_the_demo_secret_is_not_rotated(tmp_path: Path) -> None:
    path = tmp_path / "demo.key"
    write_key_file(path, DEMO_SECRET)
    with pytest.raises(KeyFileError, match=r"demo\.key: holds the published demo secret"):
        rotate_key_file(path)
    assert read_key_ring(path).generations == (DEMO_SECRET,)
    with pytest.raises(KeyFileError, match=r"absent\.key: No such file"):
        rotate_key_file(tmp_path / "absent.key")


def test_a_key_ring_is_masked_and_never_pickled() -> None:
    ring = KeyRing((SECRET, MasterSecret.generate()))
    for secret in ring.generations:
        assert secret.reveal().hex()[:8] not in repr(ring) + str(ring)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(ring)
    for bad in ((), (SECRET, SECRET)):
        with pytest.raises(ValueError, match="at least one generation"):
            KeyRing(bad)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("sif-master-v1:" + "11" * 32 + "\nhello\n", "line 2: not a master key"),
        (
            "sif-master-v1:" + "11" * 32 + "\nsif-master-v1:" + "11" * 32 + "\n",
            "one generation of the key twice",
        ),
        ("\n\n", "not a master key"),
    ],
)
def test_a_malformed_generation_is_named_by_its_line(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "master.key"
    path.write_text(content)
    path.chmod(0o600)
    for read in (read_key_ring, read_key_file, rotate_key_file):
        with pytest.raises(KeyFileError, match=said) as caught:
            read(path)
        assert "1111" not in str(caught.value)
    assert path.read_text() == content


def test_the_environment_may_hold_generations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "master.key"
    write_key_file(path, SECRET)
    ring = rotate_key_file(path)
    monkeypatch.setenv("SIF_MASTER_KEY", path.read_text())
    assert ring_from_environment() == ring
    assert master_from_environment() == ring.current
    monkeypatch.delenv("SIF_MASTER_KEY")
    assert ring_from_environment() is None


def test_the_generation_that_opens_a_pack_is_found(pack_parts: tuple[FingerprintPack, dict]) -> None:
    pack, _ = pack_parts
    ring = KeyRing((SECRET, MasterSecret.generate(), DEMO_SECRET))
    assert opening_generation(ring, pack) == 2
    assert derive_pack_keys(ring, pack) == derive_pack_keys(DEMO_SECRET, pack)
    strangers = KeyRing(ring.generations[:2])
    assert opening_generation(strangers, pack) is None
    with pytest.raises(WrongKeyError, match="pack test-pack: none of the 2 generations of the key opens it"):
        derive_pack_keys(strangers, pack)
