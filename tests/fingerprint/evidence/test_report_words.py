"""The report's numbers in words: never a smaller chance, never more evidence than there is."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sif_offline.fingerprint.evidence.report.words import amount, in_words, moment, plain, pvalue_digits


@pytest.mark.parametrize(
    ("log_pvalue", "words"),
    [
        (0.0, "nearly always, about 100 times in 100"),
        (math.log(0.999), "nearly always, about 100 times in 100"),
        (math.log(0.73), "more often than not, about 73 times in 100"),
        (math.log(0.7201), "more often than not, about 73 times in 100"),
        (math.log(0.5), "about once in 2"),
        (math.log(0.4), "about once in 2.5"),
        (math.log(0.04), "about once in 25"),
        (math.log(0.00101), "about once in 990"),
        (math.log(0.001), "about once in 1,000"),
        (math.log(1 / 12_999), "about once in 12,000"),
        (math.log(3e-7), "about once in 3.3 million"),
        (math.log(1e-9), "about once in 1 billion"),
        (math.log(1e-12), "about once in 1 trillion"),
        (math.log(2e-15), "about once in 5.0 x 10^14"),
        (-5000 * math.log(10), "about once in 1.0 x 10^5000"),
        (-math.inf, "never, not once in any number of"),
    ],
)
def test_a_chance_in_words(log_pvalue: float, words: str) -> None:
    assert in_words(log_pvalue) == words


def as_number(words: str) -> float:
    """log10 of an amount, by another way than the one it was written by."""
    text = words.replace(",", "")
    for name, place in (("million", 6), ("billion", 9), ("trillion", 12)):
        if text.endswith(name):
            return math.log10(float(text.removesuffix(name))) + place
    mantissa, _, power = text.partition(" x 10^")
    return math.log10(float(mantissa)) + float(power or 0)


@given(st.floats(-5000, -0.31).map(lambda place: place * math.log(10)))
def test_a_chance_is_never_said_to_be_smaller_than_it_is(log_pvalue: float) -> None:
    once_in = as_number(in_words(log_pvalue).removeprefix("about once in ")) * math.log(10)
    assert once_in <= -log_pvalue * (1 + 1e-12) + 1e-12
    assert once_in > -log_pvalue - 0.11, "two digits say more than that"
    assert log_pvalue - 1e-9 <= as_number(pvalue_digits(log_pvalue)) * math.log(10) < log_pvalue + 0.11


@given(st.floats(-3000, 3000))
def test_an_amount_of_evidence_is_never_said_to_be_larger_than_it_is(log_value: float) -> None:
    assert log_value - 0.11 < as_number(amount(log_value)) * math.log(10) <= log_value + 1e-9


@pytest.mark.parametrize("log_pvalue", [0.1, math.nan, math.inf])
def test_what_is_no_probability_has_no_words(log_pvalue: float) -> None:
    with pytest.raises(ValueError, match="not the log of a probability"):
        in_words(log_pvalue)


def test_times_and_texts_of_strangers() -> None:
    assert moment(0.0) == "1970-01-01 00:00:00 UTC"
    assert {moment(1e300), moment(-1e300), moment(math.nan)} == {"a time that no calendar holds"}
    assert plain("a\u202eb\x1b\ud800\n") == "a[U+202E]b[U+001B][U+D800]\n"
