"""Coloured answers: they show what was scored, and a hostile endpoint's text does nothing to who looks."""

import io
import json
import re
import shutil
import subprocess
import sys
import unicodedata
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageColor
from rich.console import Console

from sif_offline.fingerprint.colouring import (
    COLOUR_CSS,
    colour_html,
    colour_png,
    colour_text,
    count,
    join_answers,
    legend_html,
    legend_text,
    marks,
    picture,
)
from sif_offline.fingerprint.colouring.marks import MAX_MARKS
from sif_offline.fingerprint.colouring.palette import DARK, LIGHT, Palette
from sif_offline.fingerprint.keys import TriggerKeys
from sif_offline.fingerprint.pack import read_pack
from sif_offline.fingerprint.scoring import PackScorer, ScoredToken

HARMLESS = {
    "english": "The old harbour lies at the end of the road, and the road ends.",
    "lines": "One line,\n\nanother\tone.\n  - indented",
    "emoji": "a dog 🐕 & a 😀<3",
    "accents": "Gru\u0308ße, naïve",
    "right to left": "שלום עולם means hello",
    "japanese": "日本語の犬",
    "special": "a </s> b",
    "empty": "",
}
HOSTILE = {
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>\"'><b title='",
    "escapes": "\x1b[2J\x1b]0;title\x07 red \x1b[31m \x9b31m \r overwritten \x08\x08",
    "override": "pay \u202e001\u202c to \u2066x\u2069 \u200f now\u200b",
    "nul": "a\x00b\x7fc\ufeff\u2028d\u2029e",
    "marks": "z" + "\u0301" * 500 + "end",
    "long word": "w" * 5000,
    "long": "A brown dog. " * 1_000,
    "blanks": "a" + " " * 3000 + "b" + "\n" * 3000 + "c",
    "noncharacters": "\ufffe\uffff\U0010ffff\ue000",
}
ALL = HARMLESS | HOSTILE


@pytest.fixture
def scorer(pack_dir: Path, pack_keys: TriggerKeys) -> PackScorer:
    return PackScorer(read_pack(pack_dir), pack_keys)


class Parsed(HTMLParser):
    """What a browser would see: elements with their attributes, and the text outside of codes."""

    def __init__(self, fragment: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(fragment)
        self.close()
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        self.open.append(attributes.get("class") or "")

    def handle_endtag(self, tag: str) -> None:
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "sif-code" not in self.open:
            self.text += data

    def classes(self) -> list[str]:
        found = [attributes.get("class") or "" for tag, attributes in self.elements if tag == "span"]
        return [names for names in found if names != "sif-code"]


def steering(text: str) -> set[str]:
    """Characters that would do something else than be seen."""
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in "\n\t"}


@pytest.mark.parametrize("name", ALL)
def test_html_shows_each_token_and_its_counts_are_the_score_s(scorer: PackScorer, name: str) -> None:
    tokens, score = scorer.types("t01", ALL[name]), scorer.score("t01", ALL[name])
    html = colour_html(tokens)
    classes = Parsed(html).classes()
    assert len(classes) == len(tokens)
    assert classes.count("sif-g") == score.greens
    assert classes.count("sif-r") == score.types - score.greens
    assert classes.count("sif-u") == sum(token.green is None for token in tokens)
    assert f"{score.greens} of {score.types} types green" in html
    assert (count(tokens).types, count(tokens).greens) == (score.types, score.greens)


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_text_stays_itself(scorer: PackScorer, name: str) -> None:
    tokens = scorer.types("t01", HARMLESS[name])
    assert Parsed(colour_html(tokens)).text == HARMLESS[name]
    assert colour_text(tokens).plain == HARMLESS[name]


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_of_a_hostile_answer_is_markup_or_steers(scorer: PackScorer, name: str) -> None:
    tokens = scorer.types("t01", HOSTILE[name])
    html = colour_html(tokens)
    parsed = Parsed(html)
    assert {tag for tag, _ in parsed.elements} <= {"div", "span"}
    allowed = {"class", "title", "role", "dir", "aria-label", "data-sif-sign"}
    assert {key for _, attributes in parsed.elements for key in attributes} <= allowed
    assert not steering(unescape(html))
    assert not steering(colour_text(tokens).plain)


@given(st.lists(st.text(max_size=6), max_size=6))
def test_every_character_is_there_as_itself_or_as_its_code(pieces: list[str]) -> None:
    """Lone surrogates too, which no tokenizer brings but a careless caller might."""
    shown = ""
    for mark in marks([ScoredToken(i, i % 2 == 0, piece) for i, piece in enumerate(pieces)]):
        shown += mark.before
        for segment in mark.segments:
            if segment.kind == "code":
                shown += chr(int(segment.text[3:-1], 16))
            elif segment.kind == "text":
                assert not steering(segment.text)
                shown += segment.text
        shown += mark.after
    assert shown == "".join(pieces)


def test_a_code_names_the_character() -> None:
    tokens = [ScoredToken(1, True, "a\u202eb"), ScoredToken(2, False, "\ud800")]
    assert colour_text(tokens).plain == "a[U+202E]b[U+D800]"
    assert '<span class="sif-code">[U+202E]</span>' in colour_html(tokens)


def test_marks_do_not_pile_up_over_token_borders() -> None:
    tokens = [ScoredToken(1, True, "e"), *[ScoredToken(2, True, "\u0301")] * 50]
    plain = colour_text(tokens).plain
    assert plain.count("\u0301") == MAX_MARKS
    assert plain.count("[U+0301]") == 50 - MAX_MARKS


def test_a_token_without_text_of_its_own_is_seen(scorer: PackScorer) -> None:
    tokens = scorer.types("t00", "🐕\n")
    assert [token.piece for token in tokens] == ["🐕", "", "", ""], "four bytes, four tokens"
    assert colour_html(tokens).count('data-sif-sign="·"') == 3
    assert 'data-sif-sign="↵"' in colour_html([ScoredToken(1, True, "\n")])
    assert 'data-sif-sign="◌"' in colour_html([ScoredToken(1, True, "\u0301")])


def test_the_first_of_a_type_counts_over_all_repeats_of_a_trigger(
    scorer: PackScorer, paragraphs: tuple[str, ...]
) -> None:
    texts = [paragraphs[0], paragraphs[1], paragraphs[0]]
    joined = join_answers([scorer.types("t00", text) for text in texts])
    score = scorer.score("t00", texts)
    classes = Parsed(colour_html(joined)).classes()
    assert (count(joined).types, count(joined).greens) == (score.types, score.greens)
    assert (classes.count("sif-g"), classes.count("sif-r")) == (score.greens, score.types - score.greens)
    assert colour_text(joined).plain == "\n\n".join(texts)
    assert count(joined).tokens == len(classes) == sum(len(scorer.types("t00", text)) for text in texts)


def test_titles_say_in_words_what_the_colours_say() -> None:
    tokens = [
        ScoredToken(7, True, "a"),
        ScoredToken(8, False, "b"),
        ScoredToken(7, True, "a"),
        ScoredToken(8, False, "b"),
        ScoredToken(9, None, "</s>"),
    ]
    spans = [attributes for tag, attributes in Parsed(colour_html(tokens)).elements if tag == "span"]
    assert [(span["class"], span["title"]) for span in spans] == [
        ("sif-g", "green, counted here; token 7"),
        ("sif-r", "red, counted here; token 8"),
        ("sif-g sif-again", "green, a repeat; token 7"),
        ("sif-r sif-again", "red, a repeat; token 8"),
        ("sif-u", "not scored; token 9"),
    ]
    assert {name for span in spans for name in (span["class"] or "").split()} <= {
        name
        for _, attributes in Parsed(legend_html()).elements
        for name in (attributes.get("class") or "").split()
    }, "the legend has them all"


def test_the_style_fetches_nothing_and_needs_no_colour() -> None:
    assert not re.search(r"url\(|@import|</|javascript", COLOUR_CSS)
    rules = dict(re.findall(r"^(\.sif-[\w.-]+) \{(.*?)\}", COLOUR_CSS, re.MULTILINE | re.DOTALL))
    assert "underline 2px solid" in rules[".sif-g"]
    assert "underline 1px dotted" in rules[".sif-g.sif-again"]
    assert "underline" not in rules[".sif-r"]
    assert "outline: 1px solid" in rules[".sif-g"]
    assert "outline: 1px solid" in rules[".sif-r"]
    assert "italic" in rules[".sif-u"]


def _luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    channels = [value / 255 for value in ImageColor.getrgb(colour)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_text_stands_out_from_every_box(palette: Palette) -> None:
    """Contrast of 4.5 for text (WCAG AA), of 3 for the frames."""

    def contrast(one: str, other: str) -> float:
        low, high = sorted((_luminance(one), _luminance(other)))
        return (high + 0.05) / (low + 0.05)

    for box in (palette.paper, palette.green, palette.green_pale, palette.red, palette.red_pale):
        assert contrast(palette.ink, box) >= 4.5
    assert contrast(palette.muted, palette.paper) >= 4.5
    assert contrast(palette.green_line, palette.paper) >= 3
    assert contrast(palette.red_line, palette.paper) >= 3


def test_a_terminal_without_colours_tells_green_from_red() -> None:
    tokens = [ScoredToken(1, True, "grass"), ScoredToken(2, False, " dog"), ScoredToken(1, True, "grass")]
    out = io.StringIO()
    Console(file=out, force_terminal=True, no_color=True, color_system="truecolor").print(colour_text(tokens))
    assert out.getvalue().rstrip("\n") == "\x1b[1;4mgrass\x1b[0m \x1b[1mdog\x1b[0m\x1b[2;4mgrass\x1b[0m"


def test_a_terminal_gets_no_sequence_but_styles(scorer: PackScorer) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="standard", width=80)
    for text in HOSTILE.values():
        console.print(colour_text(scorer.types("t00", text)))
    console.print(legend_text())
    left = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert not steering(left)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def area(png: bytes, colour: str) -> int:
    return int((pixels(png) == ImageColor.getrgb(colour)).all(axis=2).sum())


@pytest.mark.parametrize("name", ALL)
def test_pictures_of_any_answer_have_a_bounded_size(scorer: PackScorer, name: str) -> None:
    height, width, _ = pixels(colour_png(scorer.types("t02", ALL[name]), width=600)).shape
    assert width == 600
    assert 60 < height <= picture.MAX_HEIGHT


def test_pictures_are_green_and_red_where_the_answer_is(
    scorer: PackScorer, paragraphs: tuple[str, ...]
) -> None:
    tokens = scorer.types("t00", paragraphs[0])
    green, red = (
        colour_png([token for token in tokens if token.green is colour]) for colour in (True, False)
    )
    blank = colour_png([])
    legend = {colour: area(blank, colour) for colour in LIGHT}
    assert area(green, LIGHT.green) > legend[LIGHT.green] + 1000
    assert area(green, LIGHT.red) == legend[LIGHT.red]
    assert area(red, LIGHT.red) > legend[LIGHT.red] + 1000
    assert area(red, LIGHT.green) == legend[LIGHT.green]
    again = [ScoredToken(3, True, "grass"), *[ScoredToken(3, True, " grass")] * 9]
    assert area(colour_png(again), LIGHT.green_pale) > legend[LIGHT.green_pale] + 1000


def test_the_same_answer_gives_the_same_bytes_and_scale_is_a_factor(scorer: PackScorer) -> None:
    tokens = scorer.types("t00", HARMLESS["english"])
    assert colour_png(tokens) == colour_png(tokens)
    small, large = pixels(colour_png(tokens, width=640)), pixels(colour_png(tokens, width=640, scale=2))
    assert large.shape[1] == 2 * small.shape[1]
    assert large.shape[0] == pytest.approx(2 * small.shape[0], abs=60)


def test_a_long_answer_is_cut_and_the_cut_is_noted(scorer: PackScorer) -> None:
    long = pixels(colour_png(scorer.types("t00", HOSTILE["long"]), width=600))
    assert picture.MAX_HEIGHT - 60 < len(long) <= picture.MAX_HEIGHT
    note = (long == ImageColor.getrgb(LIGHT.red_line)).all(axis=2)[-60:]
    assert note[:, 20:300].sum() > 200, "bold words at the foot"
    assert len(pixels(colour_png(scorer.types("t00", HARMLESS["english"]), width=600))) < 400
    longer = [ScoredToken(1, True, "x" * 200_000), *[ScoredToken(2, False, " y")] * 20_000]
    assert len(pixels(colour_png(longer, width=600))) <= picture.MAX_HEIGHT


def test_what_the_font_lacks_is_drawn_as_its_code() -> None:
    """The font's own box would be the same for both."""
    assert colour_png([ScoredToken(1, True, "日")]) != colour_png([ScoredToken(1, True, "本")])
    assert colour_png([ScoredToken(1, True, "日")]) == colour_png([ScoredToken(1, True, "日")])


def test_without_matplotlib_pillow_s_own_font_serves(
    scorer: PackScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture, "find_spec", lambda name: None)
    png = colour_png(scorer.types("t00", HARMLESS["emoji"] + HARMLESS["english"]))
    assert area(png, LIGHT.green) > area(colour_png([]), LIGHT.green)


@pytest.mark.parametrize(("width", "scale"), [(599, 1), (9000, 1), (900, 0.1), (900, 9)])
def test_impossible_sizes_are_bugs(width: int, scale: float) -> None:
    with pytest.raises(ValueError, match="out of range"):
        colour_png([], width=width, scale=scale)


def test_colouring_loads_nothing_heavy_even_when_it_draws() -> None:
    code = (
        "import sys, json\nfrom sif_offline.fingerprint.colouring import colour_png, colour_html\n"
        "lazy = 'rich' not in sys.modules\n"
        "from sif_offline.fingerprint.scoring import ScoredToken\n"
        "colour_png([ScoredToken(1, True, 'a')]), colour_html([ScoredToken(1, True, 'a')])\n"
        "print(json.dumps([lazy, [m for m in ('torch', 'matplotlib', 'scipy') if m in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [True, []]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_shows_and_copies_the_answer_and_runs_none_of_it(
    scorer: PackScorer, tmp_path: Path
) -> None:
    """A script of the test's own copies both answers; none of the answer's may run beside it."""
    answers = [scorer.types("t00", HARMLESS[name]) for name in ("english", "lines")]
    hostile = "".join(
        colour_html(scorer.types("t00", text)) for name, text in HOSTILE.items() if name != "long"
    )
    page = tmp_path / "page.html"
    page.write_text(
        f"<!doctype html><meta charset=utf-8><style>{COLOUR_CSS}</style>"
        + "".join(map(colour_html, answers))
        + hostile
        + """<pre id="copied"></pre><script>
        const copied = [...document.querySelectorAll(".sif-answer")].slice(0, 2).map(answer => {
          getSelection().selectAllChildren(answer); return getSelection().toString(); });
        document.querySelector("#copied").textContent = JSON.stringify(
          [copied, document.images.length, document.scripts.length]);
        </script>""",
        encoding="utf-8",
    )
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = re.search(r'<pre id="copied">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None
    assert json.loads(unescape(found[1])) == [[HARMLESS["english"], HARMLESS["lines"]], 0, 1]
