"""Packs of kind metav as they are read: round trips, every byte guarded, hostile queries."""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import save

from probes.testing.tiny_metav import QUERIES, SHAPE, build_tiny_metav
from sif_offline.fingerprint import pack_files
from sif_offline.fingerprint.metav.pack import (
    MetaVPack,
    query_digest,
    query_files,
    read_metav_pack,
    write_metav_pack,
)
from sif_offline.fingerprint.pack import read_pack
from sif_offline.fingerprint.pack_files import PackError

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def copy(tiny_path: Path, tmp_path: Path) -> Path:
    """A pack of one's own to damage."""
    return Path(shutil.copytree(tiny_path, tmp_path / "copy"))


def reseal(folder: Path, edit: Edit | None = None, **files: bytes) -> None:
    """Change ``pack.json`` and files, and write checksums that fit: what a careful forger does."""
    for name, data in files.items():
        (folder / name.replace("__", ".")).write_bytes(data)
    if edit is not None:
        header = json.loads((folder / "pack.json").read_bytes())
        edit(header)
        (folder / "pack.json").write_text(json.dumps(header))
    digests = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.iterdir()
        if file.name != "checksums.json"
    }
    (folder / "checksums.json").write_bytes(pack_files._checksums_json(digests))


def test_round_trip_of_a_directory_and_of_a_zip(tmp_path: Path, tiny_path: Path) -> None:
    in_folder = read_metav_pack(tiny_path)
    in_zip = build_tiny_metav(tmp_path / "pack.zip")
    assert zipfile.is_zipfile(tmp_path / "pack.zip")
    assert in_folder == in_zip == read_metav_pack(tmp_path / "pack.zip")
    assert in_folder != in_folder.model_copy(update={"pack_id": "another"})
    for row in in_folder.queries:
        query = in_folder.inputs[row.id]
        assert isinstance(query, np.ndarray)
        assert (query.shape, query.dtype, query_digest(query)) == (SHAPE, np.float32, row.sha256)
        np.testing.assert_array_equal(query, in_zip.inputs[row.id])
    outputs = np.random.default_rng(0).dirichlet(np.ones(5), size=(3, QUERIES))
    np.testing.assert_array_equal(
        in_folder.meta_verifier.log_odds(outputs), in_zip.meta_verifier.log_odds(outputs)
    )


def test_round_trip_of_texts(text_path: Path) -> None:
    pack = read_metav_pack(text_path)
    assert all(isinstance(query, str) and " " in query for query in pack.inputs.values())
    assert list(pack.inputs) == [row.id for row in pack.queries]
    assert query_digest("größe") == hashlib.sha256("größe".encode()).hexdigest()


def test_a_digest_is_of_little_endian_float32() -> None:
    query = np.array([[1.0, -2.5]], dtype=">f4")
    assert query_digest(query) == hashlib.sha256(np.array([1.0, -2.5], dtype="<f4").tobytes()).hexdigest()


def test_the_same_pack_makes_the_same_zip(tmp_path: Path) -> None:
    build_tiny_metav(tmp_path / "one.zip")
    build_tiny_metav(tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_one_byte_changed_in_any_file_is_caught(copy: Path) -> None:
    """In every file, at its start, middle and end."""
    for file in copy.iterdir():
        data = file.read_bytes()
        for position in (0, len(data) // 2, len(data) - 1):
            damaged = bytearray(data)
            damaged[position] ^= 0x01
            file.write_bytes(damaged)
            with pytest.raises(PackError, match=f"{file.name} (was changed|is not JSON)"):
                read_metav_pack(copy)
        file.write_bytes(data)
    read_metav_pack(copy)


def test_a_changed_query_or_verifier_is_caught_under_new_checksums(copy: Path) -> None:
    """The digests in ``pack.json`` are what a commitment would hold."""
    pack = read_metav_pack(copy)
    queries = np.stack(list(pack.inputs.values()))
    queries[3, 0, 0] = np.nextafter(queries[3, 0, 0], np.float32(0))
    reseal(copy, queries__safetensors=save({"queries": queries}))
    with pytest.raises(PackError, match="query q003 does not match"):
        read_metav_pack(copy)
    build_tiny_metav(copy.with_name("fresh"))
    verifier = bytearray((copy.with_name("fresh") / "verifier.safetensors").read_bytes())
    verifier[-1] ^= 0x01
    reseal(copy.with_name("fresh"), verifier__safetensors=bytes(verifier))
    with pytest.raises(PackError, match=r"verifier\.safetensors does not match the digest"):
        read_metav_pack(copy.with_name("fresh"))


def shaped(*shape: int, fill: float = 0.0, dtype: Any = np.float32) -> bytes:
    return save({"queries": np.full(shape, fill, dtype=dtype)})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (shaped(QUERIES - 1, *SHAPE), f"holds {QUERIES - 1} queries, not {QUERIES}"),
        (shaped(0, *SHAPE), "holds 0 queries"),
        (shaped(QUERIES, *SHAPE[::-1]), "holds no float32 inputs"),
        (shaped(QUERIES, *SHAPE, 1), "holds no float32 inputs"),
        (shaped(), "holds no float32 inputs"),
        (shaped(QUERIES, *SHAPE, dtype=np.float64), "holds no float32 inputs"),
        (shaped(QUERIES, *SHAPE, fill=np.nan), "holds no float32 inputs"),
        (shaped(QUERIES, *SHAPE, fill=np.inf), "holds no float32 inputs"),
        (shaped(QUERIES, *SHAPE, fill=1.5), "holds no float32 inputs"),
        (save({"other": np.zeros(3, np.float32)}), "does not load"),
        (b"\x00" * 40, "does not load"),
        (b"", "does not load"),
    ],
)
def test_hostile_queries_are_refused(copy: Path, data: bytes, said: str) -> None:
    reseal(copy, queries__safetensors=data)
    with pytest.raises(PackError, match=said):
        read_metav_pack(copy)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"q000": "text"}', "is not a list of texts"),
        (b'["a", 1]', "is not a list of texts"),
        (b'["a"]', "holds 1 queries"),
        (b"\xff\xfe", "is not JSON"),
    ],
)
def test_hostile_texts_are_refused(text_path: Path, tmp_path: Path, data: bytes, said: str) -> None:
    copy = Path(shutil.copytree(text_path, tmp_path / "copy"))
    reseal(copy, queries__json=data)
    with pytest.raises(PackError, match=said):
        read_metav_pack(copy)


def test_half_of_a_surrogate_pair_is_no_text(text_path: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(text_path, tmp_path / "copy"))
    reseal(copy, queries__json=json.dumps(["\ud800"] * QUERIES).encode())
    with pytest.raises(PackError, match="not a list of texts"):
        read_metav_pack(copy)


def put(**fields: Any) -> Edit:
    return lambda header: header.update(fields)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (put(kind="sif"), "is of kind 'sif', not 'metav'"),
        (put(schema_version=2), "newer than this sifwatch reads"),
        (put(surprise=1), "surprise"),
        (put(queries=[]), "queries"),
        (put(input={"kind": "tensor", "shape": [], "low": 0, "high": 1}), "shape"),
        (put(input={"kind": "tensor", "shape": [2**40, 2**40], "low": -1, "high": 1}), "no float32 inputs"),
        (put(input={"kind": "pickle"}), "input"),
        (put(output={"kind": "values", "size": 2**30}), "output"),
        (put(output={"kind": "values", "size": 2**20}), "does not standardise"),
        (put(held_out={"negatives": {"full": [], "label": [1.0]}}), "without negatives"),
        (put(held_out={"negatives": {"fulll": [1.0]}}), "rounded-DECIMALS"),
        (lambda header: header["queries"][1].update(id="q000"), "a query id occurs twice"),
        (lambda header: header["queries"][1].update(id="../../x"), "id"),
        (lambda header: header["queries"].pop(), "holds 24 queries, not 23"),
    ],
)
def test_headers_that_do_not_fit_are_refused(copy: Path, edit: Edit, said: str) -> None:
    reseal(copy, edit)
    with pytest.raises(PackError, match=said):
        read_metav_pack(copy)


def test_numbers_that_are_not_finite_are_refused(copy: Path) -> None:
    reseal(copy, lambda header: header["held_out"]["negatives"]["full"].append(float("nan")))
    with pytest.raises(PackError, match="held_out"):
        read_metav_pack(copy)


def test_kinds_are_not_mistaken_for_each_other(tiny_path: Path) -> None:
    with pytest.raises(PackError, match="kind 'metav'"):
        read_pack(tiny_path)


def test_a_pack_that_was_not_read_has_no_files(tiny: MetaVPack) -> None:
    bare = MetaVPack.model_validate(tiny.model_dump())
    with pytest.raises(ValueError, match="not read from disk"):
        _ = bare.inputs
    with pytest.raises(ValidationError):
        MetaVPack.model_validate({**tiny.model_dump(), "created": "2026-01-01T00:00:00"})


def test_a_pack_without_its_own_files_is_not_returned(tmp_path: Path, tiny: MetaVPack) -> None:
    with pytest.raises(PackError, match=r"verifier\.safetensors is missing"):
        write_metav_pack(tmp_path / "pack", tiny, query_files(np.stack(list(tiny.inputs.values()))))  # type: ignore[arg-type]
