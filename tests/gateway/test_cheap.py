"""The cheap language model: its table, what it sees of a text, its windows, and bounded time."""

import hashlib
import random
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from gateway_plugin.screening.cheap.check import (
    MAX_CHARACTERS,
    CheapCheck,
    CheapThresholds,
    ScriptLimits,
    Triage,
    shared_cheap_check,
)
from gateway_plugin.screening.cheap.hashing import (
    LAYOUT,
    ORDERS,
    context_keys,
    gram_keys,
    mixed,
    seen_characters,
    seen_text,
)
from gateway_plugin.screening.cheap.model import (
    CHUNK,
    EMPTY,
    FLOOR,
    STEPS,
    CharacterModel,
    CheapModelError,
    shared_character_model,
)
from gateway_plugin.screening.cheap.scripts import SCRIPTS, carried, script_ids

SENTENCE = "The man on the left is holding an umbrella and a newspaper. "


def empty_table() -> np.ndarray:
    return np.full(1 << 10, EMPTY, dtype=np.uint16)


def put(table: np.ndarray, key: np.uint64, value: float) -> None:
    """One entry, as the training script writes it."""
    quantised = np.uint16(round(-np.log2(value) * STEPS))
    table[int(key) & (len(table) - 1)] = (int(key >> np.uint64(56)) << 8) | int(quantised)


def test_a_table_gives_the_probabilities_of_interpolated_discounting() -> None:
    """p(b) = 1/4, and after an "a": f = 1/2 with b = 1/8, so 1/2 + 1/8 x 1/4."""
    codes = seen_characters("ab")
    keys = list(context_keys(codes))
    table = empty_table()
    put(table, mixed(gram_keys(keys[0], codes))[1], 0.25)
    put(table, mixed(gram_keys(keys[1], codes))[1], 0.5)
    put(table, mixed(keys[1])[1], 0.125)
    bits = CharacterModel(table).surprisals(codes)
    assert bits[0] == pytest.approx(-np.log2(FLOOR))
    assert bits[1] == pytest.approx(-np.log2(0.5 + 0.125 * (0.25 + FLOOR)), abs=0.02)


def test_what_is_seen_of_a_text() -> None:
    assert seen_text("  a\n\tb  1987 e\u0301 ") == "a b 0000 é"
    assert seen_characters("aé😀").tolist() == [0x61, 0xE9, 0x1F600]
    assert len(list(context_keys(seen_characters("abc")))) == ORDERS


def test_a_long_text_scores_as_if_in_one_piece() -> None:
    model = shared_character_model()
    text = SENTENCE * (3 * CHUNK // len(SENTENCE))
    codes = seen_characters(text)
    whole = model.surprisals(codes)
    assert len(whole) == len(codes) > 2 * CHUNK
    for place in (CHUNK, 2 * CHUNK):
        alone = model.surprisals(codes[place - ORDERS + 1 : place + 40])[ORDERS - 1 :]
        np.testing.assert_array_equal(whole[place : place + 40], alone)


def test_natural_text_is_cheaper_than_its_shuffled_letters() -> None:
    model, rng = shared_character_model(), random.Random(0)
    for text in (
        SENTENCE,
        "На фотографии изображены два человека и собака.",
        "公交车后面的牌子上写着什么，请写一封简短的邮件。",
        "この写真で帽子をかぶっている人は何人いますか。",
        "이 사진에서 모자를 쓴 사람은 몇 명인가요?",
        "كم عدد الأشخاص الذين يرتدون قبعات في هذه الصورة؟",
        "इस तस्वीर में कितने लोगों ने टोपी पहनी है?",
    ):
        letters = list(text)
        rng.shuffle(letters)
        assert model.bits_per_character("".join(letters)) > model.bits_per_character(text) + 1.0, text


def test_a_table_of_another_shape_or_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheapModelError, match="power of two"):
        CharacterModel(np.zeros(1000, dtype=np.uint16))
    with pytest.raises(CheapModelError, match="cannot be read"):
        CharacterModel.load(tmp_path / "absent.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no table")
    with pytest.raises(CheapModelError, match=r"broken\.safetensors: cannot be read"):
        CharacterModel.load(tmp_path / "broken.safetensors")
    save_file({"table": empty_table()}, tmp_path / "old.safetensors", metadata={"layout": str(LAYOUT + 1)})
    with pytest.raises(CheapModelError, match=f"layout {LAYOUT + 1}, expected {LAYOUT}"):
        CharacterModel.load(tmp_path / "old.safetensors")


def test_scripts_are_told_apart_and_marks_carry_the_last_one() -> None:
    text = "a, я。漢字かナ한! ไทย"
    ids = script_ids(np.array([ord(c) for c in text], dtype=np.uint32))
    names = [SCRIPTS[i] for i in ids]
    assert names == [
        *("latin", "common", "common", "cyrillic", "common", "han", "han", "hiragana", "katakana", "hangul"),
        *("common", "common", "thai", "thai", "thai"),
    ]
    assert [SCRIPTS[i] for i in carried(ids)][:5] == ["latin", "latin", "latin", "cyrillic", "cyrillic"]
    assert [SCRIPTS[i] for i in carried(script_ids(np.array([33, 34], dtype=np.uint32)))] == [
        "latin",
        "latin",
    ]
    assert script_ids(np.array([0x10FFFF], dtype=np.uint32)).tolist() in ([0], [SCRIPTS.index("han")])


def limited(clear: float, suspect: float) -> CheapCheck:
    return CheapCheck(
        model=shared_character_model(),
        thresholds=CheapThresholds(by_script={"latin": ScriptLimits(clear=clear, suspect=suspect)}),
    )


def test_the_worst_window_decides_wherever_it_stands() -> None:
    strange = "xqzvkwjqxzvkqwjzxvqkwzjxqv "
    check = limited(6.0, 9.0)
    assert check.score_text(SENTENCE * 4).triage is Triage.CLEAR
    for text in (strange + SENTENCE * 4, SENTENCE * 4 + strange, SENTENCE * 2 + strange + SENTENCE * 2):
        score = check.score_text(text)
        assert score.clear_excess > 0
        assert score.triage is not Triage.CLEAR
        assert score.bits_per_character < 6.0  # the whole text would have hidden it


def test_a_script_without_limits_is_never_decided() -> None:
    score = limited(18.0, 19.0).score_text("На фотографии изображены два человека и собака.")
    assert score.triage is Triage.UNDECIDED


def test_an_unknown_script_is_refused() -> None:
    with pytest.raises(ValueError, match="klingon"):
        CheapCheck(
            model=shared_character_model(),
            thresholds=CheapThresholds(by_script={"klingon": ScriptLimits(clear=1.0, suspect=2.0)}),
        )


def test_of_a_huge_text_the_ends_are_seen_and_nothing_is_cleared() -> None:
    check = shared_cheap_check()
    huge = SENTENCE * (2 * MAX_CHARACTERS // len(SENTENCE))
    score = check.score_text(huge)
    assert (score.triage, score.complete) == (Triage.UNDECIDED, False)
    assert check.score_text(SENTENCE * (MAX_CHARACTERS // len(SENTENCE))).triage is Triage.CLEAR


@pytest.mark.parametrize(
    "text", ["", "\0\0\0", "\U0010ffff" * 40, "a\u0301" * 500, "\u200b" * 50, "🤷‍♀️" * 30]
)
def test_odd_characters_are_scored_without_error(text: str) -> None:
    score = shared_cheap_check().score_text(text)
    assert np.isfinite([score.bits_per_character, score.clear_excess, score.suspect_excess]).all()


def test_marks_stacked_on_marks_are_put_in_order_in_bounded_time() -> None:
    stacked = "\u0300\u0316" * 50_000  # each second one belongs before all first ones: 8 s of processor time
    before = time.process_time()
    assert len(seen_text("e" + stacked)) <= 31
    assert time.process_time() - before < 2
    honest = "Việt Nam, e\u0323\u0302, " + "\u05e9\u05c1\u05bc" * 40
    assert seen_text(honest) == unicodedata.normalize("NFC", honest)


def test_the_shipped_table_is_the_one_the_documentation_names() -> None:
    package = Path(__file__).parents[2]
    digest = hashlib.sha256(
        (package / "gateway_plugin/screening/cheap/characters.safetensors").read_bytes()
    ).hexdigest()
    assert digest in (package / "docs/screening.md").read_text(encoding="utf-8")
