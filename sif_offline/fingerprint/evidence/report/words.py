"""Chances, amounts, times and strangers' text as a reader without statistics meets them.

Every figure is rounded towards the null hypothesis: a chance is never said to be smaller than it is, an
amount of evidence never larger.
"""

import math
import unicodedata
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

_DIGITS = Context(prec=40, Emax=10**9, Emin=-(10**9))
_NAMES = ((12, "trillion"), (9, "billion"), (6, "million"))
_STEERING = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))


def in_words(log_pvalue: float) -> str:
    """How often something of probability p comes up, to be followed by "such audits".

    "about once in 3.3 x 10^42" with N = 1/p rounded down to two digits; "more often than not, about 73 times
    in 100" above one half, rounded up.

    Args:
        log_pvalue: natural log of p, in [-inf, 0].

    Raises:
        ValueError: no log of a probability.
    """
    if not log_pvalue <= 0:
        raise ValueError(f"{log_pvalue} is not the log of a probability")
    if log_pvalue == -math.inf:
        return "never, not once in any number of"
    if log_pvalue < -math.log(2):
        return f"about once in {amount(-log_pvalue)}"
    hundredths = int((_exp(log_pvalue, towards=-1) * 100).to_integral_value(rounding=ROUND_CEILING))
    if hundredths == 50:
        return "about once in 2"
    if hundredths == 100:
        return "nearly always, about 100 times in 100"
    return f"more often than not, about {hundredths} times in 100"


def amount(log_value: float) -> str:
    """``e**log_value`` in two digits, rounded down: "2.9", "1,200", "35 million", "3.3 x 10^42".

    Names reach to a trillion, digits from 0.0001; beyond, powers of ten.

    Args:
        log_value: natural log of the amount; -inf is "0".
    """
    if log_value == -math.inf:
        return "0"
    return _two_digits(_exp(log_value, towards=1), rounding=ROUND_FLOOR)


def pvalue_digits(log_pvalue: float) -> str:
    """p in two digits, rounded up: "0.031", "1.3 x 10^-12", "0" for an impossible event."""
    if log_pvalue == -math.inf:
        return "0"
    return _two_digits(min(_exp(log_pvalue, towards=-1), Decimal(1)), rounding=ROUND_CEILING)


def _exp(log_value: float, *, towards: int) -> Decimal:
    """``e**log_value``, whatever its size. The log is read as exact to 8 units in its last place, in the
    direction given, so that the log of 1/1000 reads "1,000" and not "990".
    """
    return _DIGITS.create_decimal(log_value + towards * 8 * math.ulp(log_value)).exp(context=_DIGITS)


def _two_digits(value: Decimal, *, rounding: str) -> str:
    rounded = value.quantize(Decimal(1).scaleb(value.adjusted() - 1), rounding=rounding, context=_DIGITS)
    place = rounded.adjusted()
    if not -4 <= place <= 12:
        mantissa = rounded.scaleb(-place, context=_DIGITS).quantize(Decimal("0.1"))
        return f"{mantissa} x 10^{place}"
    for least, name in _NAMES:
        if place >= least:
            return f"{_shortest(rounded.scaleb(-least))} {name}"
    return _shortest(rounded)


def _shortest(value: Decimal) -> str:
    return f"{int(value):,}" if value == value.to_integral_value() else f"{value.normalize():f}"


def moment(at: datetime | float) -> str:
    """A time in UTC to the second; one that no calendar holds is called so."""
    try:
        when = at if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC)
        return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return "a time that no calendar holds"


def counted(number: int, one: str, many: str = "") -> str:
    """ "1 answer", "2 answers"."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def plain(text: str) -> str:
    """A stranger's text with everything that steers a page or cannot be written (control and format
    characters, lone surrogates) shown as its code, ``[U+202E]``.
    """
    return "".join(
        sign if sign in "\n\t" or unicodedata.category(sign) not in _STEERING else f"[U+{ord(sign):04X}]"
        for sign in text
    )
