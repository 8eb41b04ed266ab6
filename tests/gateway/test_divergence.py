"""Answers against a reference model's: MiniLM from its package, Jaccard, and short answers."""

from collections.abc import Sequence

import numpy as np
import pytest

from gateway_plugin.screening.base import Query, Status
from gateway_plugin.screening.divergence import (
    DivergenceCheck,
    DivergenceThresholds,
    MiniLM,
    content_words,
    jaccard,
    shared_embedder,
)

QUERY = Query(texts=())
DOG = "A brown dog is running through a green field of tall grass while its owner watches."
SAME = "A dog with brown fur runs across a grassy field and a person looks on."
ELSE = "The International Conference on Learning Representations takes place every spring."


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return shared_embedder()


class Fixed:
    """An embedder that always sees this cosine."""

    def __init__(self, cosine: float) -> None:
        self._pair = np.array([[1.0, 0.0], [cosine, np.sqrt(1 - cosine**2)]], dtype=np.float32)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return self._pair


def test_embeddings_are_unit_vectors_that_do_not_depend_on_the_batch(minilm: MiniLM) -> None:
    together = minilm.embed([DOG, ELSE, "Yes"])
    assert together.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(minilm.embed(["Yes"])[0], together[2], atol=1e-4)


@pytest.mark.parametrize(
    ("response", "reference", "status"),
    [
        (DOG, DOG, Status.CLEAR),
        (DOG, SAME, Status.CLEAR),
        (DOG, ELSE, Status.HIT),
        ("ICLR Conference", DOG, Status.HIT),
        ("Yes.", "Yes, there is a dog in the picture.", Status.CLEAR),
        ("Paris", "The Eiffel Tower is in Paris.", Status.CLEAR),
        ("", DOG, Status.UNSCORABLE),
        (DOG, "...", Status.UNSCORABLE),
        (DOG, None, Status.SKIPPED),
    ],
)
def test_agreeing_answers_pass_and_unrelated_ones_hit(
    minilm: MiniLM, response: str, reference: str | None, status: Status
) -> None:
    assert DivergenceCheck(embedder=minilm).score(QUERY, response, reference).status is status


def test_no_measure_decides_alone() -> None:
    far = DivergenceCheck(embedder=Fixed(0.0))
    near = DivergenceCheck(embedder=Fixed(0.9))
    assert far.score(QUERY, DOG, DOG).status is Status.CLEAR  # the same words
    assert near.score(QUERY, DOG, ELSE).status is Status.CLEAR  # the same meaning
    finding = far.score(QUERY, DOG, ELSE)
    assert finding.status is Status.HIT
    assert finding.measures["jaccard"] == 0.0
    assert DivergenceCheck(embedder=Fixed(0.4)).score(QUERY, DOG, ELSE).status is Status.SUSPECT


def test_jaccard_says_nothing_under_five_content_words() -> None:
    four, five = frozenset("abcd"), frozenset("abcde")
    assert jaccard(four, five) is None
    assert jaccard(five, five) == 1.0
    assert jaccard(five, frozenset("vwxyz")) == 0.0
    assert "jaccard" not in DivergenceCheck(embedder=Fixed(0.0)).score(QUERY, "red", DOG).measures
    assert content_words("The dog's ball is NOT the dog’s") == {"dog's", "ball", "not"}


def test_a_word_count_ratio_can_be_asked_for() -> None:
    check = DivergenceCheck(embedder=Fixed(0.9), thresholds=DivergenceThresholds(suspect_word_ratio=0.3))
    assert check.score(QUERY, "dog", DOG).status is Status.SUSPECT
    with pytest.raises(ValueError, match="hit_cosine <= suspect_cosine"):
        DivergenceThresholds(hit_cosine=0.6, suspect_cosine=0.5)
