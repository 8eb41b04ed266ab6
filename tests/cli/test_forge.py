"""``sif forge``: a pack from a folder, and every kind of bad input as one line and exit code 2."""

import json
import os
import stat
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sif_offline.fingerprint.keys import DEMO_SECRET, derive_pack_keys, read_key_file, write_key_file
from sif_offline.fingerprint.pack import read_pack

Sif = Callable[..., Any]
OneLine = Callable[..., None]
Attempt = Callable[..., Any]


def huge_png() -> bytes:
    """A PNG whose header says 30,000 x 30,000."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_forge_writes_a_pack_and_a_private_key(
    sif: Sif, fast: tuple[str, ...], models: Path, photo_folder: Path, tmp_path: Path
) -> None:
    key, out = tmp_path / "master.key", tmp_path / "pack"
    arguments = ["forge", "--model", f"lab:{models / 'owner'}", "--images", photo_folder, "--out", out]
    arguments += ["--count", 2, "--key-file", key, "--epsilon", 3, "--json", *fast]
    result = sif(*arguments)
    assert result.code == 0, result.stderr
    said = json.loads(result.stdout)
    pack = read_pack(out)
    assert said["pack_id"] == pack.pack_id
    assert [row["id"] for row in said["triggers"]] == [row.id for row in pack.triggers] == ["t000", "t001"]
    assert pack.forge["epsilon"] == 3
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert derive_pack_keys(read_key_file(key), pack).keys.keys() == {"t000", "t001"}
    assert not any("key" in path.name for path in out.rglob("*"))
    again = sif(*arguments)
    assert (again.code, json.loads(again.stdout)) == (0, said), "a finished run is recognised"


@pytest.fixture
def attempt(sif: Sif, fast: tuple[str, ...], models: Path, tmp_path: Path) -> Attempt:
    """Runs a forge that has to fail; nothing may be left behind."""

    def run(images: Path, *extra: object, out: Path | None = None) -> Any:
        before = sorted(path for path in tmp_path.rglob("*"))
        result = sif(
            *("forge", "--model", f"lab:{models / 'owner'}", "--images", images, "--count", 1),
            *("--out", out or tmp_path / "out", *fast, *(extra or ["--key-file", tmp_path / "new.key"])),
        )
        assert sorted(path for path in tmp_path.rglob("*")) == before, "nothing half-written"
        return result

    return run


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"these are words, not a picture\n", "not a picture"),
        (huge_png(), "over the limit of 40,000,000"),
        ("truncated", "damaged picture"),
        (b"", "not a picture"),
    ],
    ids=["text", "huge", "truncated", "empty"],
)
def test_bad_pictures(
    attempt: Attempt, one_line: OneLine, photo_folder: Path, tmp_path: Path, content: bytes | str, said: str
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    whole = next(photo_folder.glob("*.png")).read_bytes()
    (folder / "bad.png").write_bytes(whole[: len(whole) // 2] if isinstance(content, str) else content)
    one_line(attempt(folder), "bad.png", said)


def test_folders_without_photos(attempt: Attempt, one_line: OneLine, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "SOURCES.txt").write_text("no picture by its suffix\n")
    one_line(attempt(tmp_path / "empty"), str(tmp_path / "empty"), "0 photos")
    one_line(attempt(tmp_path / "words"), str(tmp_path / "words"), "0 photos")
    one_line(attempt(tmp_path / "nowhere"), str(tmp_path / "nowhere"))


def test_output_that_is_not_ours(
    attempt: Attempt, one_line: OneLine, photo_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    one_line(attempt(photo_folder, out=tmp_path / "mine"), str(tmp_path / "mine"), "not empty")


def test_keys_that_are_refused(
    attempt: Attempt, one_line: OneLine, photo_folder: Path, tmp_path: Path
) -> None:
    demo = tmp_path / "demo.key"
    write_key_file(demo, DEMO_SECRET)
    one_line(attempt(photo_folder, "--key-file", demo), str(demo), "demo secret")
    one_line(attempt(photo_folder, "--seed", 0), "--key-file")
    open_to_all = tmp_path / "open.key"
    write_key_file(open_to_all, DEMO_SECRET)
    os.chmod(open_to_all, 0o644)
    one_line(attempt(photo_folder, "--key-file", open_to_all), str(open_to_all), "0644")
    garbage = tmp_path / "garbage.key"
    garbage.touch(mode=0o600)
    one_line(attempt(photo_folder, "--key-file", garbage), str(garbage))


def test_settings_and_models_that_do_not_exist(
    attempt: Attempt, one_line: OneLine, sif: Sif, photo_folder: Path, tmp_path: Path
) -> None:
    one_line(attempt(photo_folder, "--set", "rhoo=1"), "rhoo")
    one_line(attempt(photo_folder, "--set", "rho"), "NAME=VALUE")
    one_line(attempt(photo_folder, "--set", "top_k=none"), "top_k")
    result = sif(
        *("forge", "--model", "lab:nobody", "--images", photo_folder, "--out", tmp_path / "out"),
        "--insecure-demo-key",
    )
    one_line(result, "lab:nobody")


def test_two_processes_and_a_batch_size_of_its_own(
    sif: Sif, fast: tuple[str, ...], models: Path, photo_folder: Path, tmp_path: Path
) -> None:
    where = ("--model", f"lab:{models / 'owner'}", "--images", photo_folder, "--count", 3)
    options = ("--insecure-demo-key", "--json", *fast, "--set=refine_rounds=0", "--threads", 1)
    apart = sif(
        *("forge", *where, "--out", tmp_path / "apart", *options),
        *("--executor", "processes", "--workers", 2),
    )
    assert apart.code == 0, apart.stderr
    here = sif("forge", *where, "--out", tmp_path / "here", *options)
    digests = [[row.sha256 for row in read_pack(tmp_path / name).triggers] for name in ("apart", "here")]
    assert (here.code, digests[0]) == (0, digests[1])
    auto = ("forge", *where, "--out", tmp_path / "auto", *options, "--batch-size", "auto")
    first, again = sif(*auto), sif(*auto)
    assert "batch size" in first.stderr
    assert (again.code, again.stdout) == (0, first.stdout), "a finished run keeps its size"
    assert read_pack(tmp_path / "auto").forge["batch_size"] > 2


def test_presets(sif: Sif, fast: tuple[str, ...], models: Path, photo_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "pack"
    result = sif(
        *("forge", "--model", f"lab:{models / 'owner'}", "--images", photo_folder, "--count", 1),
        *("--out", out, "--insecure-demo-key", "--preset", "official", *fast),
    )
    assert result.code == 0, result.stderr
    forge = read_pack(out).forge
    assert (forge["top_k"], forge["steps"]) == (10, 2), "a named option wins over the preset"


def test_until_power_says_what_it_missed(
    sif: Sif, fast: tuple[str, ...], models: Path, photo_folder: Path, tmp_path: Path
) -> None:
    command = (
        *(
            "forge",
            "--model",
            f"lab:{models / 'owner'}",
            "--images",
            photo_folder,
            "--out",
            tmp_path / "pack",
        ),
        *("--insecure-demo-key", "--json", *fast, "--set=refine_rounds=0"),
        *("--until-power", 0.99, "--suspect", "8bit"),
    )
    result = sif(*command)
    assert result.code == 1
    assert "goal of 0.99 missed" in result.stderr
    assert "no photo is left" in result.stderr
    said = json.loads(result.stdout)
    assert len(said["triggers"]) == 3
    assert said["goal"]["reached"] is False
    assert read_pack(tmp_path / "pack").extensions["goal"]["suspects"] == ["8bit"]
    assert sif(*command).code == 1, "asked again, it says the same"


def test_options_that_do_not_go_together(attempt: Attempt, one_line: OneLine, photo_folder: Path) -> None:
    one_line(attempt(photo_folder, "--alpha", 1e-6, "--insecure-demo-key"), "--alpha", "--until-power")
    one_line(attempt(photo_folder, "--until-power", 0.9, "--insecure-demo-key"), "--suspect")
    one_line(
        attempt(photo_folder, "--until-power", 0.9, "--suspect", "melted", "--insecure-demo-key"), "melted"
    )
    one_line(attempt(photo_folder, "--executor", "cloud", "--insecure-demo-key"), "cloud")
    one_line(attempt(photo_folder, "--address", "auto", "--insecure-demo-key"), "only ray")
    one_line(attempt(photo_folder, "--preset", "nice", "--insecure-demo-key"), "nice")
