"""The photographs that ship in the wheels of other packages."""

import hashlib

import numpy as np
import pytest

from sif_offline.lab.photos import PHOTO_COUNT, SIDE, PhotoError, Source, demo_photos, write_photos


def test_there_are_enough_and_each_shows_something_of_its_own():
    photos = demo_photos()
    assert len(photos) == PHOTO_COUNT >= 24
    assert len({photo.id for photo in photos}) == PHOTO_COUNT
    small = []
    for photo in photos:
        pixels = np.asarray(photo.image(), dtype=np.float64)
        assert pixels.shape == (SIDE, SIDE, 3)
        assert pixels.std() > 20  # no empty sky or wall
        assert photo.licence
        assert photo.credit
        small.append(np.asarray(photo.image().convert("L").resize((16, 16)), dtype=np.float64).ravel())
    alike = np.corrcoef(np.stack(small)) - np.eye(PHOTO_COUNT)
    assert alike.max() < 0.95


def test_the_same_wheels_give_the_same_bytes_in_the_same_order():
    first = [hashlib.sha256(photo.png).hexdigest() for photo in demo_photos(5)]
    assert first == [hashlib.sha256(photo.png).hexdigest() for photo in demo_photos()[:5]]


def test_a_short_list_takes_different_photographs():
    assert len({photo.source for photo in demo_photos(9)}) == 9


def test_written_files_are_the_photos_and_name_their_sources(tmp_path):
    paths = write_photos(tmp_path / "new" / "folder", count=3)
    assert sorted(paths) == paths
    for path, photo in zip(paths, demo_photos(3), strict=True):
        assert path.read_bytes() == photo.png
    sources = (tmp_path / "new" / "folder" / "SOURCES.txt").read_text().splitlines()
    assert [row.split("\t")[0] for row in sources] == [path.name for path in paths]


@pytest.mark.parametrize("count", [0, PHOTO_COUNT + 1])
def test_a_count_that_cannot_be_had(count):
    with pytest.raises(PhotoError, match=f"{count} demo photos"):
        demo_photos(count)


def test_a_missing_package_is_named():
    for source in (Source("no_such_package", "a.png", "", ""), Source("skimage", "data/no.png", "", "")):
        with pytest.raises(PhotoError, match=f"{source.package}/{source.file}"):
            source.path()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PhotoError, match=str(tmp_path / "file")):
        write_photos(tmp_path / "file", count=1)
