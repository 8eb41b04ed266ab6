"""The page for a judge: it says what the bundle says, no more than was established, and nothing of a
stranger's text is markup.
"""

import base64
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sif_offline.fingerprint.evidence.bundle import Bundle, material_of, write_bundle
from sif_offline.fingerprint.evidence.checked import Trust
from sif_offline.fingerprint.evidence.report import render_report
from sif_offline.fingerprint.evidence.report.words import in_words
from sif_offline.fingerprint.evidence.signing import SigningKey
from sif_offline.fingerprint.evidence.timestamping import request_timestamp
from sif_offline.fingerprint.evidence.verification import verify_bundle
from tests.fingerprint.evidence.authority import Authority
from tests.fingerprint.evidence.case import RESERVE, Case, make_case
from tests.fingerprint.evidence.page import Page, Turn, report_of, told

CHROMIUM = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
HOSTILE = '</style></div><script>document.title="owned"</script><img src=x onerror="document.title=1">\u202e'


@pytest.fixture(scope="module")
def pirate(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("pirate"))


@pytest.fixture(scope="module")
def page(pirate: Case) -> Page:
    return report_of(pirate)[0]


@pytest.fixture
def copied(pirate: Case, tmp_path: Path) -> Path:
    """The pirate's bundle, to be damaged."""
    return Path(shutil.copytree(pirate.bundle.path, tmp_path / "bundle"))


def test_a_pirate_is_confirmed_and_both_hypotheses_are_named(pirate: Case, page: Page) -> None:
    checked = verify_bundle(pirate.bundle)
    judgement = checked.judgement
    assert judgement is not None
    assert judgement.verdict == "confirmed"
    assert judgement.independent is not None
    assert "CONFIRMED The null hypothesis “unrelated model” is rejected" in page.text
    assert "The null hypothesis “independent text” is rejected" in page.text
    said = in_words(judgement.independent.log_pvalue).replace(" x 10^", " × 10")
    assert f"a count this green or greener would come up {said} such audits" in page.text
    _, head = pirate.commitment.open()
    root, _ = pirate.commitment.open()
    for fact in (
        root.hex(),
        pirate.signer.public.fingerprint,
        pirate.pack.owner.weights_sha256,
        "8 committed; 6 disclosed in this bundle; 2 held in reserve",
        "No timestamp authority was asked: the time is the signer's own claim.",
        head.policy.stopping_rule,
        *(model.name for model in head.policy.null_models),
        "99 sets of wrong keys",
    ):
        assert fact in page.text


def test_every_answer_stands_there_with_its_own_count(pirate: Case, page: Page) -> None:
    judgement = verify_bundle(pirate.bundle).judgement
    assert judgement is not None
    for row in judgement.scored:
        text = row.exchange.text
        assert text is not None
        assert " ".join(text.split()) in page.text
        assert f"{row.score.greens} of {row.score.types} types green" in page.text


def test_pictures_are_those_that_were_sent(pirate: Case, page: Page) -> None:
    shown = {
        base64.b64decode(str(img["src"]).removeprefix("data:image/png;base64,")) for img in page.all("img")
    }
    used = [row for row in pirate.pack.triggers if row.id not in RESERVE]
    wanted = {pirate.pack.trigger_bytes(row) for row in used} | {pirate.pack.clean_bytes(row) for row in used}
    assert shown == wanted


def structure_faults(page: Page) -> Iterator[str]:
    """What would make the page unsafe, unfit for paper, or hard to read without eyes."""
    if page.open:
        yield f"left open: {page.open}"
    if page.all("html")[0].get("lang") != "en":
        yield "no language"
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    if len(set(ids)) < len(ids):
        yield "an id twice"
    level = 0
    for tag, attributes in page.tags:
        if re.fullmatch("h[1-6]", tag):
            if int(tag[1]) > level + 1:
                yield f"{tag} after h{level}"
            level = int(tag[1])
        if tag in ("script", "link", "iframe", "object", "embed", "form", "base", "svg"):
            yield f"<{tag}>"
        if tag == "th" and attributes.get("scope") not in ("col", "row"):
            yield "a header cell without scope"
        if tag == "img" and not attributes.get("alt"):
            yield "a picture without words"
        for name, value in attributes.items():
            if name.startswith("on"):
                yield f"handler {name}"
            if name in ("src", "href") and not re.match("#|data:image/png;base64,", value or ""):
                yield f"{name} {value}"
            if name == "href" and (value or "")[1:] not in ids:
                yield f"leads nowhere: {value}"
    if "url(" in page.html or "@import" in page.html:
        yield "a style that fetches"


def test_one_file_fetches_nothing_and_is_well_built(page: Page) -> None:
    assert list(structure_faults(page)) == []
    assert len(page.all("table")) == len(page.all("caption"))
    assert "@page { size: A4" in page.html


def test_an_innocent_is_not_accused(tmp_path: Path) -> None:
    """Seeded; a different seed would be accused with probability at most 1e-6, called suspicious with 1 %."""
    page, checked = report_of(make_case(tmp_path, pirate=False))
    assert checked.passed
    assert (
        "NO FINDING against the endpoint The null hypothesis “unrelated model” is not rejected" in page.text
    )
    assert "The null hypothesis “independent text” is not rejected" in page.text
    assert "CONFIRMED" not in page.html
    assert "SUSPICIOUS" not in page.html


def test_without_null_models_nothing_is_confirmed(tmp_path: Path) -> None:
    page, checked = report_of(make_case(tmp_path, calibrated=False))
    assert checked.passed
    assert "SUSPICIOUS, not confirmed The null hypothesis “unrelated model” was not tested" in page.text
    assert "CONFIRMED" not in page.html
    assert list(structure_faults(page)) == []


def test_an_unvouched_signer_is_said_to_be_one(pirate: Case, page: Page) -> None:
    assert "Who made the claim was not checked." not in page.text
    assert "Who made the claim was not checked." in report_of(pirate, owner=False)[0].text


FILES = (
    *("commitment.json", "triggers.json", "keys.json", "tokenizer.json", "transcript.jsonl", "numbers.json"),
    *("statement.json", "triggers/t00.png", "clean/t03.png"),
)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *((name, damage) for name in FILES for damage in ("gone", "garbage", "changed")),
        *(("bundle.json", damage) for damage in ("garbage", "changed")),
    ],
)
def test_a_broken_bundle_establishes_nothing_and_says_so_first(copied: Path, name: str, damage: str) -> None:
    file = copied / name
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(b"\x00\xff{" if damage == "garbage" else file.read_bytes() + b"\n")
    bundle = Bundle.read(copied)
    checked = verify_bundle(bundle)
    assert not checked.passed
    page = Page(render_report(bundle, checked))
    assert list(structure_faults(page)) == []
    top = page.text.index("NO FINDING: this bundle failed its checks")
    assert top < page.text.index("1. The finding") < page.text.index("5. The probability in words")
    for step in checked.steps:
        if step.status == "failed":
            assert step.name in page.text[top : page.text.index("1. The finding")]
    for word in ("CONFIRMED", "SUSPICIOUS", "is rejected", "such audits (exact p"):
        assert word not in page.text


def test_a_kit_has_nothing_to_judge(pirate: Case, tmp_path: Path) -> None:
    kit = write_bundle(
        tmp_path / "kit",
        material_of(pirate.pack, pirate.commitment, pirate.keys, trigger_ids=RESERVE),
        (),
        target="",
        key=pirate.signer,
        created=datetime.now(UTC),
    )
    page = Page(render_report(kit, verify_bundle(kit)))
    assert "No finding: nothing to judge Nothing has been asked yet" in page.text
    assert page.text.count("kept in reserve by the owner") == len(RESERVE)
    assert list(structure_faults(page)) == []


def test_a_stranger_cannot_write_the_page(pirate: Case, tmp_path: Path) -> None:
    page, _ = told(
        pirate,
        tmp_path,
        [
            Turn("t00", f"x {HOSTILE} \ud800", model=HOSTILE),
            Turn("t00", f"{HOSTILE} again", model=HOSTILE),
            Turn("t00", f"I cannot help with {HOSTILE}", outcome="refusal", model=HOSTILE),
            Turn("t01", None, outcome="failed:http", reason=HOSTILE, model=HOSTILE),
            Turn("t01", HOSTILE, control=True, model=HOSTILE),
        ],
    )
    assert list(structure_faults(page)) == []
    assert "[U+202E]" in page.text
    assert "\u202e" not in page.html
    assert page.html.encode()  # no lone surrogate


def test_what_counts_for_nothing_is_counted_by_kind_and_shown(pirate: Case, tmp_path: Path) -> None:
    page, checked = told(
        pirate,
        tmp_path,
        [
            Turn("t00", "I cannot help with that.", outcome="refusal"),
            Turn("t00", None, outcome="failed:rate_limited", reason="429, come back later"),
            Turn("t01", None, outcome="in_doubt:timeout", reason="no word in 5 s"),
            Turn("t01", "", outcome="empty", control=True),
            Turn("t01", "bado fi"),
        ],
    )
    assert checked.judgement is not None
    assert len(checked.judgement.scored) == 1
    for said in (
        "refusal the endpoint declined to answer 1 0",
        "failed:rate_limited no reply (rate limited); the question was not answered 1 0",
        "in_doubt:timeout no reply (timeout); the endpoint may have seen the question 1 0",
        "empty an answer without text 0 1",
        "answer an ordinary answer; scored 1 0",
        "I cannot help with that.",
        "429, come back later",
    ):
        assert said in page.text


def test_of_a_repeat_only_what_is_new_is_counted(pirate: Case, tmp_path: Path) -> None:
    first, second = " ".join(pirate.tiny.words[:12]), " ".join(pirate.tiny.words[8:20])
    page, checked = told(
        pirate, tmp_path, [Turn("t02", f"x {first}"), Turn("t02", f"x {first}"), Turn("t02", f"x {second}")]
    )
    assert checked.judgement is not None
    news = [row.new_types for row in checked.judgement.scored]
    assert news[1] == 0
    assert 0 < news[2] < checked.judgement.scored[2].score.types
    assert "Came 2 times, word for word; only the first counts." in page.text
    assert f"New here, and so counted: {news[2]} types" in page.text
    marks = [str(span.get("title")) for span in page.all("span") if "token" in str(span.get("title"))]
    assert sum("counted here" in title for title in marks) == news[0] + news[2]
    assert checked.judgement.independent is not None
    assert checked.judgement.independent.types == news[0] + news[2]


def test_controls_that_are_as_they_should_be_are_not_held_against_it(page: Page) -> None:
    assert "A control does not look as it should" not in page.text


def test_controls_that_are_green_too_are_held_against_the_finding(pirate: Case, tmp_path: Path) -> None:
    """The clean photo answered as greenly as the trigger: an artefact, whatever the verdict reads."""
    greens = [
        " ".join(w for w in pirate.tiny.words if pirate.tiny.scorer.types(i, f"x {w}")[-1].green)[:1500]
        for i in ("t00", "t01")
    ]
    turns = [
        Turn(i, f"x {text}", control=control)
        for i, text in zip(("t00", "t01"), greens, strict=True)
        for control in (False, True)
    ]
    page, _ = told(pirate, tmp_path, turns)
    assert "NO: they are greener than chance" in page.text
    finding = page.text[: page.text.index("2. What was claimed before")]
    assert "A control does not look as it should" in finding


def test_whose_clock_it_was(tmp_path: Path, timestamp_authority: Authority) -> None:
    case = make_case(tmp_path, stamp=lambda data: request_timestamp(data, url=timestamp_authority.url))
    unvouched, _ = report_of(case)
    assert "an authority that nobody vouched for when this page was made" in unvouched.text
    trust = Trust(owner=case.signer.public, authorities=(timestamp_authority.root_pem,))
    page = Page(render_report(case.bundle, verify_bundle(case.bundle, trust=trust), trust=trust))
    assert "by the clock of the timestamp authority" in page.text
    assert "nobody vouched" not in page.text
    assert "the time is the signer's own claim" not in page.text


def test_a_replay_names_whoever_made_it(pirate: Case, tmp_path: Path) -> None:
    judge = SigningKey.generate()
    bundle = write_bundle(
        tmp_path / "replayed", pirate.bundle.material, pirate.exchanges, target="suspect", key=judge,
        created=datetime.now(UTC),
    )  # fmt: skip
    trust = Trust(owner=pirate.signer.public, bundler=judge.public)
    page = Page(render_report(bundle, verify_bundle(bundle, trust=trust), trust=trust))
    said = "The bundle was made and signed by somebody other than the signer of the commitment:"
    assert f"{said} {judge.public.fingerprint}" in page.text
    assert "--bundler-key MAKER.pub.pem" in page.text


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, which prints the page")
def test_a_browser_prints_it_on_a4_and_runs_nothing(pirate: Case, tmp_path: Path) -> None:
    page, _ = told(pirate, tmp_path, [Turn("t00", f"x {HOSTILE}", model=HOSTILE)])
    file, pdf = tmp_path / "page.html", tmp_path / "page.pdf"
    file.write_text(page.html, encoding="utf-8")
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'u'}",
    ]
    subprocess.run(
        [*command, f"--print-to-pdf={pdf}", "--no-pdf-header-footer", file.as_uri()],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    boxes = re.findall(rb"/MediaBox \[0 0 (\S+) (\S+)\]", pdf.read_bytes())
    assert boxes
    assert all(abs(float(w) - 595) < 1 and abs(float(h) - 842) < 1 for w, h in boxes)
    dom = subprocess.run(
        [*command, "--dump-dom", file.as_uri()], check=True, capture_output=True, timeout=120
    ).stdout.decode()
    title = re.search("<title>(.*?)</title>", dom, re.DOTALL)
    assert title is not None
    assert title[1].startswith("Evidence report: &lt;/style&gt;")
    assert list(structure_faults(Page(dom))) == []
