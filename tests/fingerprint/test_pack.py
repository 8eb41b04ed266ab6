"""Packs as they are read: round trips, every byte guarded, foreign and newer packs named."""

import hashlib
import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import pytest
from pydantic import ValidationError

from sif_offline.fingerprint import pack_files
from sif_offline.fingerprint.keys import DEMO_SECRET
from sif_offline.fingerprint.pack import FingerprintPack, PackError, read_pack, write_pack
from tests.fingerprint.conftest import Parts, snapshot


def reseal(folder: Path) -> None:
    """Write checksums that fit the files as they are: what a careful forger does."""
    files = {name: data for name, data in snapshot(folder).items() if name != "checksums.json"}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    (folder / "checksums.json").write_bytes(pack_files._checksums_json(digests))


def test_round_trip(pack_path: Path, pack_parts: Parts) -> None:
    pack, files = pack_parts
    read = read_pack(pack_path)
    assert read.model_dump() == pack.model_dump()
    for row in read.triggers:
        assert read.trigger_bytes(row) == files[row.file]
        assert read.clean_bytes(row) == files[row.clean_file]
    assert read.tokenizer_json() == files["tokenizer.json"]
    assert read.trigger("t01").id == "t01"
    assert read.green_size == 512


def test_extra_files_travel_with_the_pack(tmp_path: Path, pack_parts: Parts) -> None:
    pack, files = pack_parts
    write_pack(tmp_path / "pack", pack, {**files, "contact-sheet.png": b"sheet"})
    (tmp_path / "pack" / "contact-sheet.png").write_bytes(b"Sheet")
    with pytest.raises(PackError, match=r"contact-sheet\.png was changed"):
        read_pack(tmp_path / "pack")


def test_a_directory_zipped_by_anybody_is_a_pack(tmp_path: Path, pack_dir: Path) -> None:
    with zipfile.ZipFile(tmp_path / "by-hand.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("triggers/", *snapshot(pack_dir)):
            archive.write(pack_dir / name, name)
    assert read_pack(tmp_path / "by-hand.zip") == read_pack(pack_dir)


def test_the_same_pack_makes_the_same_zip(tmp_path: Path, pack_parts: Parts) -> None:
    pack, files = pack_parts
    write_pack(tmp_path / "one.zip", pack, files)
    write_pack(tmp_path / "two.zip", pack, dict(reversed(files.items())))
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_one_byte_changed_in_any_file_is_caught_and_named(pack_dir: Path) -> None:
    """In every file, at its start, middle and end."""
    for name, data in snapshot(pack_dir).items():
        for position in (0, len(data) // 2, len(data) - 1):
            changed = bytearray(data)
            changed[position] ^= 0x01
            (pack_dir / name).write_bytes(changed)
            with pytest.raises(PackError, match=rf": {re.escape(name)} (was changed|is not JSON)"):
                read_pack(pack_dir)
        (pack_dir / name).write_bytes(data)
    read_pack(pack_dir)


def test_one_byte_changed_in_a_zipped_file_is_caught_and_named(tmp_path: Path, pack_parts: Parts) -> None:
    path = tmp_path / "pack.zip"
    write_pack(path, *pack_parts)
    whole = path.read_bytes()
    for name, data in pack_parts[1].items():
        changed = bytearray(whole)
        changed[whole.index(data) + len(data) // 2] ^= 0x01
        path.write_bytes(changed)
        with pytest.raises(PackError, match=name.replace(".", r"\.")):
            read_pack(path)


def test_any_byte_changed_anywhere_in_a_zip_never_changes_the_pack(tmp_path: Path, pack_parts: Parts) -> None:
    """Bytes of the archive's own book-keeping may be idle; then the pack reads as it was."""
    path = tmp_path / "pack.zip"
    original = write_pack(path, *pack_parts)
    whole = path.read_bytes()
    for position in range(0, len(whole), 97):
        changed = bytearray(whole)
        changed[position] ^= 0x10
        path.write_bytes(changed)
        try:
            read = read_pack(path)
        except PackError:
            continue
        assert read == original
        assert [read.trigger_bytes(row) for row in read.triggers] == [
            pack_parts[1][row.file] for row in original.triggers
        ]


def test_files_missing_or_added_are_named(pack_dir: Path) -> None:
    (pack_dir / "note.txt").write_text("hello")
    with pytest.raises(PackError, match=r"note\.txt is not listed in checksums\.json"):
        read_pack(pack_dir)
    (pack_dir / "note.txt").unlink()
    for name in ("clean/t01.png", "checksums.json", "tokenizer.json"):
        kept = (pack_dir / name).read_bytes()
        (pack_dir / name).unlink()
        with pytest.raises(PackError, match=f"{name} is missing"):
            read_pack(pack_dir)
        (pack_dir / name).write_bytes(kept)


def test_checksums_that_were_made_to_fit_meet_the_rows(pack_dir: Path) -> None:
    (pack_dir / "triggers" / "t02.png").write_bytes(b"another picture")
    reseal(pack_dir)
    with pytest.raises(PackError, match=r"triggers/t02\.png does not match the digest in pack\.json"):
        read_pack(pack_dir)


def test_a_file_is_checked_again_when_it_is_used(pack_dir: Path) -> None:
    pack = read_pack(pack_dir)
    (pack_dir / "triggers" / "t00.png").write_bytes(b"swapped later")
    with pytest.raises(PackError, match=r"triggers/t00\.png"):
        pack.trigger_bytes(pack.triggers[0])


def edit(pack_dir: Path, **changes: object) -> None:
    path = pack_dir / "pack.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    reseal(pack_dir)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "schema version 2, newer than this sifwatch reads .1.; upgrade"),
        ({"schema_version": 2, "anything": "new"}, "schema version 2, newer"),
        ({"schema_version": 0}, "schema_version"),
        ({"kind": "metav"}, "kind 'metav'"),
        ({"surprise": 1}, "surprise: Extra inputs"),
        ({"vocab_size": 1}, "vocab_size"),
        ({"gamma": 1.5}, "gamma"),
        ({"scheme": "unigram-philox-v9"}, "unknown green-list scheme"),
        ({"scheme": "kgw-simple-1"}, "needs one list a key"),
        ({"triggers": []}, "triggers"),
        ({"created": "2026-01-02T03:04:05"}, "created"),
        ({"tokenizer_sha256": "0" * 63}, "tokenizer_sha256"),
    ],
)
def test_foreign_newer_and_invalid_packs_are_one_line(pack_dir: Path, changes: dict, message: str) -> None:
    edit(pack_dir, **changes)
    with pytest.raises(PackError, match=message) as caught:
        read_pack(pack_dir)
    assert str(pack_dir) in str(caught.value)
    assert "pack.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_extensions_are_where_additions_go(pack_dir: Path) -> None:
    edit(pack_dir, extensions={"burned": ["t00"]})
    assert read_pack(pack_dir).extensions == {"burned": ["t00"]}


def test_rows_must_be_distinct(pack_parts: Parts) -> None:
    content = json.loads(pack_parts[0].to_json())
    content["triggers"][1]["id"] = "t00"
    with pytest.raises(ValidationError, match="trigger id occurs twice"):
        FingerprintPack.model_validate(content)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "triggers/../x.png", "triggers\\x.png", "x.png", "a/.b", ""]
)
def test_a_row_never_points_outside_the_pack(pack_parts: Parts, name: str) -> None:
    content = json.loads(pack_parts[0].to_json())
    content["triggers"][0]["file"] = name
    with pytest.raises(ValidationError, match="file"):
        FingerprintPack.model_validate(content)


def test_a_zip_with_names_outside_itself_is_refused(tmp_path: Path, pack_dir: Path) -> None:
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in snapshot(pack_dir).items():
            archive.writestr(name, data)
        archive.writestr("../outside.txt", b"x")
    with pytest.raises(PackError, match=r"'\.\./outside\.txt' does not belong"):
        read_pack(path)
    assert not (tmp_path.parent / "outside.txt").exists()


def test_a_zip_that_unpacks_without_end_is_refused(
    tmp_path: Path, pack_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_files, "MAX_FILE_BYTES", 100_000)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pack.json", bytes(5_000_000))
    with pytest.raises(PackError, match=r"pack\.json is over the limit of 100,000 bytes"):
        read_pack(path)


def test_a_link_is_not_followed(tmp_path: Path, pack_dir: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes((pack_dir / "tokenizer.json").read_bytes())
    (pack_dir / "tokenizer.json").unlink()
    (pack_dir / "tokenizer.json").symlink_to(secret)
    with pytest.raises(PackError, match=r"tokenizer\.json is a link or no file"):
        read_pack(pack_dir)


def test_what_is_no_pack_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "pack.json").write_text("[1")
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "pack.json").write_text("[1]")
    for name, message in {
        "absent": "no such pack",
        "text": "neither a pack directory nor a zip",
        "empty": "not a fingerprint pack",
        "broken": "pack.json is not JSON",
        "list": "pack.json is not a JSON object",
    }.items():
        with pytest.raises(PackError, match=f"{name}: {message}"):
            read_pack(tmp_path / name)


def test_no_secret_is_in_a_pack(pack_dir: Path, pack_keys) -> None:
    everything = b"".join(snapshot(pack_dir).values())
    for secret in (DEMO_SECRET.reveal(), *pack_keys.keys.values()):
        assert secret not in everything
        assert secret.hex().encode() not in everything


def test_reading_without_verifying_still_checks_what_is_used(pack_dir: Path) -> None:
    (pack_dir / "triggers" / "t00.png").write_bytes(b"x")
    pack = read_pack(pack_dir, verify=False)
    assert pack.trigger_bytes(pack.triggers[1])
    with pytest.raises(PackError, match=r"triggers/t00\.png"):
        pack.trigger_bytes(pack.triggers[0])


def test_a_copied_pack_is_the_same_pack(tmp_path: Path, pack_dir: Path) -> None:
    shutil.copytree(pack_dir, tmp_path / "copy")
    assert read_pack(tmp_path / "copy") == read_pack(pack_dir)


def test_a_pipe_is_not_waited_for(pack_dir: Path) -> None:
    (pack_dir / "tokenizer.json").unlink()
    os.mkfifo(pack_dir / "tokenizer.json")
    with pytest.raises(PackError, match=r"tokenizer\.json is a link or no file"):
        read_pack(pack_dir)


@pytest.mark.parametrize("form", ["zip", "directory"])
def test_files_too_large_together_are_refused_unread(
    tmp_path: Path, pack_dir: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Each may be within the limit of a file; a zip of megabytes unpacks to hundreds of gigabytes."""
    path = pack_dir
    if form == "zip":
        path = tmp_path / "bomb.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in snapshot(pack_dir).items():
                archive.writestr(name, data)
            archive.writestr("zeros", bytes(2**20))
    else:
        (pack_dir / "zeros").write_bytes(bytes(2**20))
    monkeypatch.setattr(pack_files, "MAX_TOTAL_BYTES", 2**20)
    with pytest.raises(PackError, match="limit of 1,048,576 bytes together"):
        read_pack(path)
