"""``sif score``: answers that are already there, on the command line, in files, many at a time."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor

from sif_offline.fingerprint.calibration import calibrate
from sif_offline.fingerprint.colouring.palette import LIGHT
from sif_offline.fingerprint.keys import DEMO_SECRET, MasterSecret, derive_pack_keys, write_key_file
from sif_offline.fingerprint.pack import read_pack, update_pack
from sif_offline.fingerprint.scoring import PackScorer, combine

Sif = Callable[..., Any]
OneLine = Callable[..., None]

TEXT = "A brown dog is running through a field of grass, and the dog is brown."
OTHER = "In the kitchen there is a table, and on the table there is a bowl."


@pytest.fixture
def scorer(pack: Path) -> PackScorer:
    content = read_pack(pack)
    return PackScorer(content, derive_pack_keys(DEMO_SECRET, content))


@pytest.fixture
def calibrated(pack: Path, scorer: PackScorer) -> Path:
    """The pack, calibrated by two "models" with an answer to each trigger."""
    ids = [row.id for row in scorer.pack.triggers]
    nulls = {name: {i: scorer.score(i, f"{name} sees {TEXT}") for i in ids} for name in ("null-a", "null-b")}
    update_pack(pack, calibration=calibrate(nulls))
    return pack


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    return lambda data: monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")
    )


def answers_file(path: Path, *rows: tuple[str, str]) -> Path:
    path.write_text("".join(json.dumps({"trigger": i, "text": text}) + "\n" for i, text in rows))
    return path


def test_one_answer_by_every_way_in(
    sif: Sif, pack: Path, scorer: PackScorer, tmp_path: Path, stdin: Callable[[bytes], None]
) -> None:
    (tmp_path / "answer.txt").write_text(TEXT)
    expected = scorer.score("t001", TEXT)
    said = []
    for way in (["--text", TEXT], ["--file", tmp_path / "answer.txt"], ["-"], ["--file", "-"]):
        stdin(TEXT.encode())
        result = sif("score", pack, "--trigger", "t001", *way, "--json", "--seed", 7)
        assert result.code == 0, result.stderr
        said.append(json.loads(result.stdout))
    assert all(found == said[0] for found in said)
    for name in ("types", "greens", "z", "pvalue", "green_share"):
        assert said[0][name] == getattr(expected, name)
    assert said[0]["random_key_null"]["keys"] == 9_999
    assert said[0]["random_key_null"]["statistic"] == expected.greens
    assert said[0]["random_key_null"]["pvalue"] == pytest.approx(expected.pvalue, abs=0.025), (
        "5 sd of the draw"
    )
    assert said[0]["calibrated_z"] is said[0]["tau"] is said[0]["unrelated_model"] is None


def test_repeats_are_pooled(sif: Sif, pack: Path, scorer: PackScorer, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text(OTHER)
    result = sif(
        "score", pack, "--trigger", "t000", "--text", TEXT, "--file", tmp_path / "other.txt", "--json"
    )
    found = json.loads(result.stdout)
    expected = scorer.score("t000", [TEXT, OTHER])
    assert (found["answers"], found["types"], found["greens"]) == (2, expected.types, expected.greens)


def test_the_terminal_gets_the_numbers_by_name_and_the_answer(
    sif: Sif, calibrated: Path, scorer: PackScorer
) -> None:
    score = scorer.score("t000", TEXT)
    row = read_pack(calibrated).calibration.row("t000")  # type: ignore[union-attr]
    result = sif("score", calibrated, "--trigger", "t000", "--text", TEXT + "\x1b[31m")
    assert result.code == 0, result.stderr
    assert "\x1b" not in result.stdout
    assert TEXT + "[U+001B][31m" in result.stdout, "not wrapped where no terminal reads it"
    plain = sif("score", calibrated, "--trigger", "t000", "--text", TEXT).stdout
    for words in (
        f"{score.types} distinct types scored, {score.greens} green, share {score.green_share:.3f}",
        f"exact p {score.pvalue:.2g}, displayed z {score.z:.2f}",
        f"calibrated z {row.calibrated_z(score):.2f}",
        f"tau {row.tau_for(score.types):.3f}",
        "1/3 test",
        "of 9999 fresh keys",
        "control, 99 wrong keys",
        'against "independent text"',
        'against "unrelated model"',
    ):
        assert words in plain


def test_controls_can_be_left_out(sif: Sif, pack: Path) -> None:
    result = sif("score", pack, "--trigger", "t000", "--text", TEXT, "--wrong-keys", 0, "--null-keys", 0)
    assert "control" not in result.stdout
    assert "random-key" not in result.stdout
    assert "not calibrated" in result.stdout
    found = sif(
        "score", pack, "--trigger", "t000", "--text", TEXT, "--wrong-keys", 0, "--null-keys", 0, "--json"
    )
    said = json.loads(found.stdout)
    assert said["wrong_key_control"] is said["random_key_null"] is None


def test_many_answers_combine_over_triggers_with_repeats_pooled(
    sif: Sif, calibrated: Path, scorer: PackScorer, tmp_path: Path
) -> None:
    rows = [("t002", OTHER), ("t000", TEXT), ("t002", TEXT)]
    path = answers_file(tmp_path / "answers.jsonl", *rows)
    result = sif("score", calibrated, "--answers", path, "--json")
    assert result.code == 0, result.stderr
    *lines, together = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["trigger"], line["answers"]) for line in lines] == [("t002", 2), ("t000", 1)]
    scores = [scorer.score("t002", [OTHER, TEXT]), scorer.score("t000", TEXT)]
    bound = read_pack(calibrated).calibration.transfer.bound  # type: ignore[union-attr]
    assert [line["greens"] for line in lines] == [score.greens for score in scores]
    assert together["independent_text"]["pvalue"] == combine(scores).pvalue
    assert together["unrelated_model"]["pvalue"] == combine(scores, transfer=bound).pvalue
    assert together["unrelated_model"]["null"] == "unrelated model"
    assert together["unanswered"] == ["t001"]
    table = sif("score", calibrated, "--answers", path).stdout
    assert "no answer to 1 of 3 triggers: t001" in table
    for line in lines:
        assert f"{line['calibrated_z']:.2f}" in table, "no figure is cut at 80 columns"
        assert f"{line['pvalue']:.2g}" in table


def test_the_page_has_the_numbers_and_the_answers_and_is_no_more_than_a_page(
    sif: Sif, calibrated: Path, scorer: PackScorer, tmp_path: Path
) -> None:
    hostile = TEXT + "</div><script>alert(1)</script>"
    path = answers_file(tmp_path / "answers.jsonl", ("t000", hostile), ("t001", OTHER))
    result = sif("score", calibrated, "--answers", path, "--html", tmp_path / "page.html", "--seed", 1)
    assert result.code == 0, result.stderr
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for trigger, text in (("t000", hostile), ("t001", OTHER)):
        score = scorer.score(trigger, text)
        assert f"{score.greens} of {score.types} types green" in page
        assert f"exact p {score.pvalue:.2g}" in page
    assert "&quot;unrelated model&quot;" in page.replace("&#34;", "&quot;")
    assert page.count("<script") == page.count("<img") == 0
    assert "http" not in page.replace("http-equiv", ""), "nothing is fetched"
    sif("score", calibrated, "--answers", path, "--html", tmp_path / "again.html", "--seed", 1)
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page


def test_a_picture_of_one_answer(sif: Sif, pack: Path, tmp_path: Path) -> None:
    out = tmp_path / "answer.png"
    result = sif("score", pack, "--trigger", "t000", "--text", TEXT, "--png", out, "--json")
    assert result.code == 0, result.stderr
    pixels = np.asarray(Image.open(out))
    assert pixels.shape[1] == 900
    for colour in (LIGHT.green, LIGHT.red):
        assert (pixels == ImageColor.getrgb(colour)).all(axis=2).sum() > 500


def test_an_answer_of_nothing_scores_nothing(sif: Sif, pack: Path) -> None:
    found = json.loads(sif("score", pack, "--trigger", "t000", "--text", " \n", "--json").stdout)
    assert (found["types"], found["pvalue"], found["random_key_null"]["pvalue"]) == (0, 1.0, 1.0)


def test_a_lone_surrogate_in_an_answer_is_no_crash(sif: Sif, pack: Path, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"trigger": "t000", "text": "a \\ud800 dog \\ud83d\\udc15"}\n')
    assert sif("score", pack, "--answers", path, "--json").code == 0
    assert sif("score", pack, "--trigger", "t000", "--text", "a \udcff dog", "--json").code == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{not json", "not JSON"),
        (b'{"trigger": "t000", "text": "cut', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'["t000", "text"]', "want an object"),
        (b'{"trigger": "t000"}', 'no "text"'),
        (b'{"text": "a dog"}', 'no "trigger"'),
        (b'{"trigger": "t000", "text": null}', '"text" is no string'),
        (b'{"trigger": "t0\\u001b[31m", "text": "a"}', r"no trigger 't0\x1b[31m'"),
        (b'{"trigger": "t000", "text": "\xff"}', "not UTF-8"),
    ],
)
def test_a_malformed_line_is_named_and_nothing_is_half_done(
    sif: Sif, one_line: OneLine, pack: Path, tmp_path: Path, line: bytes, said: str
) -> None:
    path, page = tmp_path / "answers.jsonl", tmp_path / "page.html"
    good = json.dumps({"trigger": "t000", "text": TEXT}).encode()
    page.write_text("of last week")
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join([good, b"", line, good]))
    one_line(
        sif("score", pack, "--answers", path, "--html", page), f"{path}, line 3: ", said, "nothing was scored"
    )
    path.write_bytes(b"\n".join([line, good, line, line]))
    one_line(sif("score", pack, "--answers", path, "--html", page), "line 1: ", "2 more lines")
    assert page.read_text() == "of last week"


def test_mistakes_are_one_line(
    sif: Sif, one_line: OneLine, pack: Path, tmp_path: Path, stdin: Callable[[bytes], None]
) -> None:
    empty, latin = tmp_path / "empty.jsonl", tmp_path / "latin.txt"
    empty.write_text("\n \n")
    latin.write_bytes(b"caf\xe9")
    stdin(b"")
    one = ["score", pack, "--trigger", "t000"]
    one_line(sif("score", pack, "--text", TEXT), "--trigger", "t000, t001, t002")
    one_line(sif("score", pack, "--trigger", "t99", "--text", TEXT), "no trigger 't99'", "t000")
    one_line(sif(*one), "--text", "--answers")
    one_line(sif(*one, "-", "--file", "-"), "standard input is named twice")
    one_line(sif(*one, "answer.txt"), "--file answer.txt")
    one_line(sif(*one, "--file", tmp_path / "none.txt"), "none.txt", "No such file")
    one_line(sif(*one, "--file", latin), "latin.txt", "not UTF-8")
    one_line(sif("score", pack, "--answers", empty), "empty.jsonl", "no answer")
    one_line(sif("score", pack, "--answers", empty, "--trigger", "t000"), "--answers goes with neither")
    one_line(sif("score", pack, "--answers", empty, "--png", "x.png"), "--answers goes with neither")
    one_line(sif(*one, "--text", TEXT, "--html", tmp_path / "none" / "page.html"), "page.html")
    wrong = tmp_path / "wrong.key"
    write_key_file(wrong, MasterSecret.from_bytes(bytes(32)))
    one_line(sif(*one, "--text", TEXT, "--key-file", wrong), "wrong key")
