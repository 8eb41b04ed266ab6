"""Letters of several scripts stirred together, and honest text that only holds several scripts."""

import random

import pytest

from gateway_plugin.screening.base import Query, Status
from gateway_plugin.screening.script_mixing import ScriptMixingCheck, densest_mixing

HONEST = [
    "iPhone15を買うならAppleStoreとAmazonのどちらがいいですか？",
    "このTシャツのデザインはカッコいいですね。サイズはMとLがあります",
    "サンドイッチとコーヒーとケーキを食べたい",
    "A型、B型、AB型とO型の違いは？",
    "在Python中用pandas读取csv文件并用matplotlib画图",
    "КПД двигателя BMW M3 и α-частицы с β-распадом",
    "Я люблю JavaScript и Python, а ещё C++ и Rust",
    "한글과 漢字와 English를 섞어 쓴 문장",
    "Was heißt „Übergrößenträger“ auf Französisch (œuvre, naïveté)?",
    "What do 天, キ, д and א mean?",
    "",
]


@pytest.mark.parametrize("text", HONEST)
def test_honest_multilingual_text_passes(text: str) -> None:
    assert ScriptMixingCheck().score(Query(texts=(text,))).status is Status.CLEAR


def test_stirred_scripts_are_a_hit_with_and_without_a_frame() -> None:
    """30 random triggers in the manner of Instruction-Fingerprint, seeded. Four scripts drawn evenly change
    at 75 % of the neighbours: under 13 changes in the first 31 pairs has a chance below 1e-4 a trigger."""
    scripts = ["天命诏皇帝生", "アカキモャン", "дйвыроси", "aegkmrstu"]
    source = random.Random(5)
    check = ScriptMixingCheck()
    for _ in range(30):
        soup = "".join(source.choice(source.choice(scripts)) for _ in range(80))
        assert check.score(Query(texts=(soup,))).status is Status.HIT
        framed = f"Could you please tell me what the following means: {soup} Thank you in advance."
        assert check.score(Query(texts=("What is this?", framed))).status is Status.HIT


def test_changes_are_counted_in_one_window_only() -> None:
    assert densest_mixing("aдaдa") == 4
    assert densest_mixing("aд " * 5) == 5
    assert densest_mixing(("aд" + " " * 40) * 30) == 1
    assert densest_mixing("a д a д a д") == 0
