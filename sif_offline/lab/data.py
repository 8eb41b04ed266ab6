"""Flickr8k as the lab uses it: photos, captions, and the split that is never trained on."""

import csv
import hashlib
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.images import decode_image

HELD_OUT_DIVISOR = 8
SHORTEST_SENTENCE = 9
"""Characters; a shorter caption says nothing."""


class DatasetError(SifError):
    """The training archive is missing or is not what it should be."""


@dataclass(frozen=True)
class Captioned:
    """One photo's file name and its captions, as sentences."""

    name: str
    captions: tuple[str, ...]


def is_held_out(name: str) -> bool:
    """Whether a photo is kept for measurements: sha256(file name) divisible by 8."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest(), "big") % HELD_OUT_DIVISOR == 0


def in_half(name: str, half: int | None) -> bool:
    """Whether a photo belongs to half 0 or 1 (by another bit of the same hash); None takes all."""
    return half is None or hashlib.sha256(name.encode()).digest()[0] & 1 == half


def as_sentence(caption: str) -> str:
    """Flickr8k's tokenised caption as an English sentence: capital, no space before marks, full stop."""
    text = " ".join(caption.replace('"', "").split()).rstrip(" .")
    text = re.sub(r"\s+([,.;:!?'])", r"\1", text)
    return text[:1].upper() + text[1:] + "." if text else ""


def read_captions(archive: Path) -> list[Captioned]:
    """All photos that have at least three captions, sorted by name.

    Raises:
        DatasetError: no such archive, or no captions.csv inside.
    """
    try:
        with tarfile.open(archive) as tar:
            member = tar.extractfile("captions.csv")
            if member is None:
                raise KeyError("captions.csv")
            text = member.read().decode("utf-8")
    except (OSError, tarfile.TarError, KeyError) as error:
        raise DatasetError(
            f"{archive}: not a readable Flickr8k archive with captions.csv ({error})"
        ) from None
    by_name: Mapping[str, list[str]] = defaultdict(list)
    # A caption may hold commas without quotes: the file name ends at the first one.
    for line in text.splitlines()[1:]:
        name, _, caption = line.partition(",")
        unquoted = next(csv.reader([caption]))[0] if caption.startswith('"') else caption
        sentence = as_sentence(unquoted)
        if len(sentence) >= SHORTEST_SENTENCE:
            by_name[name].append(sentence)
    return [Captioned(name, tuple(rows)) for name, rows in sorted(by_name.items()) if len(rows) >= 3]


def read_photos(archive: Path, names: set[str]) -> Iterator[tuple[str, Image.Image]]:
    """The named photos, decoded, in the archive's order."""
    with tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name).name
            if name in names and (handle := tar.extractfile(member)) is not None:
                yield name, decode_image(handle.read(), name=name)
