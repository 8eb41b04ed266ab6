"""The cascade: what the cheap model decides, what goes on to the neural one, and what a finding carries."""

import inspect
import json.decoder
import json.encoder
import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from gateway_plugin.screening.base import Query, Status
from gateway_plugin.screening.cascade import CascadeCheck
from gateway_plugin.screening.cheap.check import shared_cheap_check
from gateway_plugin.screening.language_models.smollm2 import SmolLM2
from gateway_plugin.screening.perplexity import PerplexityCheck
from gateway_plugin.screening.stretches import MOST

CLEAR = "What is the name of the building in the background of this picture?"
GIBBERISH = "vrondelaCsuperIntegrqueYesDOMAINtroppoSkipValKLangagensTRWriteOutJaquelinesPuntoEXPheadness"


class Counting:
    """A language model that finds every token equally surprising and keeps what it was asked."""

    def __init__(self, nats: float) -> None:
        self.nats, self.asked = nats, list[str]()

    def token_surprisals(self, texts: Sequence[str], *, max_tokens: int) -> list[tuple[np.ndarray, int]]:
        self.asked += texts
        return [(np.full(20, self.nats, dtype=np.float32), 20) for _ in texts]


def cascade(model: Counting | None, *, always_neural: bool = False) -> CascadeCheck:
    neural = None if model is None else PerplexityCheck(model=model)
    return CascadeCheck(cheap=shared_cheap_check(), neural=neural, always_neural=always_neural)


def test_the_neural_model_sees_only_what_the_cheap_one_leaves_open() -> None:
    model = Counting(11.0)
    findings = cascade(model).score_texts([CLEAR, GIBBERISH, " ", CLEAR])
    assert model.asked == [GIBBERISH]
    assert [finding.status for finding in findings] == [
        Status.CLEAR,
        Status.HIT,
        Status.UNSCORABLE,
        Status.CLEAR,
    ]
    assert "perplexity" not in findings[0].measures
    assert findings[1].measures["cheap_clear_excess"] > 0
    assert findings[1].measures["perplexity"] == pytest.approx(np.exp(11.0), rel=1e-3)


def test_always_neural_adds_measures_and_changes_no_decision() -> None:
    model = Counting(11.0)
    (plain,) = cascade(model).score_texts([CLEAR])
    (full,) = cascade(model, always_neural=True).score_texts([CLEAR])
    assert model.asked == [CLEAR]
    assert plain.status is full.status is Status.CLEAR
    assert full.measures["perplexity"] == pytest.approx(np.exp(11.0), rel=1e-3)
    assert plain.measures.items() <= full.measures.items()


def test_decide_answers_at_once_or_leaves_it_open() -> None:
    check = cascade(Counting(0.0))
    decided = check.decide(CLEAR)
    assert decided is not None
    assert decided.status is Status.CLEAR
    assert check.decide(GIBBERISH) is None
    empty = check.decide("\n")
    assert empty is not None
    assert (empty.status, empty.reason) == (Status.UNSCORABLE, "empty text")


def test_without_a_neural_model_the_undecided_is_a_suspect() -> None:
    check = cascade(None)
    assert check.score(Query(texts=(CLEAR,))).status is Status.CLEAR
    assert check.score(Query(texts=(CLEAR, GIBBERISH))).status is Status.SUSPECT


def test_without_a_cheap_model_every_text_goes_to_the_neural_one() -> None:
    model = Counting(3.0)
    check = CascadeCheck(cheap=None, neural=PerplexityCheck(model=model))
    assert check.decide(CLEAR) is None
    assert check.score(Query(texts=(CLEAR,))).status is Status.CLEAR
    assert model.asked == [CLEAR]
    with pytest.raises(ValueError, match="needs a cheap or a neural model"):
        CascadeCheck(cheap=None, neural=None)


def test_a_score_that_is_not_a_number_stays_a_finding() -> None:
    (finding,) = cascade(Counting(float("nan"))).score_texts([GIBBERISH])
    assert (finding.status, finding.reason) == (Status.UNSCORABLE, "perplexity is not a number")


def test_no_texts_are_no_findings() -> None:
    check = cascade(Counting(0.0))
    assert check.score_texts([]) == []
    assert check.score(Query(texts=())).status is Status.SKIPPED


@pytest.mark.parametrize("place", ["{0} {1}", "{1} {0}", "{1} {0} Please answer in one short sentence."])
def test_gibberish_is_found_wherever_it_stands(language_model: SmolLM2, place: str) -> None:
    check = CascadeCheck(cheap=shared_cheap_check(), neural=PerplexityCheck(model=language_model))
    assert check.score(Query(texts=(place.format(GIBBERISH, CLEAR),))).status is Status.HIT


DOCUMENT = "\n\n".join(
    path.read_text(encoding="utf-8")
    for path in sorted((Path(__file__).parents[2] / "docs").glob("*.md"))
    if path.name != "figures.md"
)[:100_000]


@pytest.mark.parametrize("length", [1_500, 4_000, 8_000])
def test_gibberish_in_the_middle_of_a_long_document_is_a_hit(language_model: SmolLM2, length: int) -> None:
    check = CascadeCheck(cheap=shared_cheap_check(), neural=PerplexityCheck(model=language_model))
    half = length // 2
    text = f"{DOCUMENT[:half]} {GIBBERISH} {DOCUMENT[half:length]}"
    assert check.score(Query(texts=(text,))).status is Status.HIT


@pytest.mark.parametrize("module", [textwrap, json.decoder, json.encoder])
def test_pages_of_honest_code_are_clear(language_model: SmolLM2, module: ModuleType) -> None:
    check = CascadeCheck(cheap=shared_cheap_check(), neural=PerplexityCheck(model=language_model))
    text = inspect.getsource(module)[:4_000]
    assert len(text) == 4_000
    assert check.score(Query(texts=(text,))).status is Status.CLEAR


def test_a_document_too_long_to_be_read_is_never_called_clear(language_model: SmolLM2) -> None:
    check = CascadeCheck(cheap=shared_cheap_check(), neural=PerplexityCheck(model=language_model))
    text = f"{DOCUMENT[:45_000]} {GIBBERISH} {DOCUMENT[45_000:90_000]}"
    assert check.score(Query(texts=(text,))).status is not Status.CLEAR


def test_of_a_long_text_the_language_model_reads_what_the_cheap_one_leaves_open() -> None:
    model = Counting(1.0)
    text = f"{CLEAR} " * 200 + f"{GIBBERISH} " + f"{CLEAR} " * 200
    (finding,) = cascade(model).score_texts([text])
    assert finding.status is Status.CLEAR
    assert 1 <= len(model.asked) <= 2  # stretches overlap
    assert all(GIBBERISH[20:40] in stretch and len(stretch) <= 512 for stretch in model.asked)


def test_more_strange_stretches_than_are_read_leave_a_text_unscored() -> None:
    model = Counting(1.0)
    (finding,) = cascade(model).score_texts([f"{GIBBERISH} " * 200])
    assert len(model.asked) == MOST
    found = {finding.status, *finding.beside}
    assert Status.UNSCORABLE in found


def test_a_text_beyond_a_hundred_thousand_characters_is_not_called_clear() -> None:
    (finding,) = cascade(Counting(1.0)).score_texts([f"{CLEAR} " * 2_000])
    assert finding.status is Status.UNSCORABLE
    assert "characters not scored" in finding.reason
