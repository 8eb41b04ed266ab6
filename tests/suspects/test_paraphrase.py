"""The rule-based rewording: it says the same in other words, and how much it does is in hand."""

import re

import pytest

from sif_offline.suspects.paraphrase import _table, paraphrase

TEXT = (
    "A man in a red shirt is riding a bike on the street. Two dogs are running through the grass. "
    "The children look at a large building. A boy is jumping into"
)


def words(text):
    return set(re.findall(r"[a-z]+", text.lower()))


def test_nothing_at_zero_and_a_seed_decides_the_rest():
    assert paraphrase(TEXT, share=0.0, seed=1) == TEXT
    assert paraphrase("", share=1.0, seed=1) == ""
    assert paraphrase(TEXT, share=1.0, seed=1) == paraphrase(TEXT, share=1.0, seed=1)
    assert len({paraphrase(TEXT, share=1.0, seed=seed) for seed in range(8)}) > 3


def test_more_is_changed_at_a_larger_share():
    def kept(share):
        shares = [
            len(words(TEXT) & words(paraphrase(TEXT, share=share, seed=seed))) / len(words(TEXT))
            for seed in range(20)
        ]
        return sum(shares) / len(shares)

    assert 1 > kept(0.2) > kept(0.6) > kept(1.0) > 0.2


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("A biker sits on the hill.", "On the slope, a cyclist rests."),
        ("Blue sky.", "Azure sky."),
        ("There is a crowd near the river!", "Near the river, there is a crowd!"),
    ],
)
def test_places_come_to_the_front_and_capitals_follow(before, after):
    for seed in range(40):
        made = paraphrase(before, share=1.0, seed=seed)
        assert made[0].isupper()
        assert made[-1] == before[-1]
    if before != "There is a crowd near the river!":
        assert paraphrase(before, share=1.0, seed=0) == after
    else:
        assert "river" not in made
        assert "one can see" in made


def test_articles_fit_what_follows():
    for seed in range(10):
        made = paraphrase("A blue car. A old man. An large dog.", share=1.0, seed=seed)
        assert "a azure" not in made.lower()
        assert "An azure automobile." in made
        assert "An elderly guy." in made
        assert "A big hound." in made


def test_a_sentence_that_breaks_off_stays_last():
    for seed in range(10):
        made = paraphrase(TEXT, share=1.0, seed=seed)
        assert not made.rstrip().endswith(".")
        assert made.count(".") == TEXT.count(".")


def test_no_word_is_replaced_by_itself():
    assert all(word not in others and others for word, others in _table().items())
    assert all(word == word.lower() for word in _table())
