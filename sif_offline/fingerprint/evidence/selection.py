"""What could be gained by choosing which committed triggers to disclose."""

import math


def choice_left(*, disclosed: int, committed: int) -> list[str]:
    """What an owner gains who committed to several keys for a picture and discloses the one that fits.

    With k disclosed of n leaves there are at most (n/k)^k ways to take one leaf a picture (in groups as equal
    as whole numbers allow). Under the null the largest of W e-values is below their sum, whose mean is at
    most W.
    """
    if not 0 < disclosed < committed:
        return []
    each, more = divmod(committed, disclosed)
    log10_ways = more * math.log10(each + 1) + (disclosed - more) * math.log10(each)
    ways = f"{round(10**log10_ways):,}" if log10_ways < 6 else f"10^{log10_ways:.1f}"
    return [
        f"{committed - disclosed} are not disclosed: if they were other keys for these pictures, choosing "
        f"among them afterwards could multiply E by up to {ways}"
    ]
