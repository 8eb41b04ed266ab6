"""Which triggers a pack keeps when more were forged than it is to hold.

Some photos resist: triggers of one run differ in z by more than one. Forging half as many again and keeping
the best is the cheapest strength there is, but choosing by z alone would also choose keys whose green lists
happen to suit what any honest model says about the photo. So what the clean photo says under the same key
counts against a trigger, by half: in full it would give away as much strength again (docs/forging.md).
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

from sif_offline.forging.plan import Job
from sif_offline.forging.workdir import Finished

CLEAN_WEIGHT = 0.5
_NO_ANSWER_OF_THE_TRIGGER = frozenset({"teacher", "select", "clean"})


def worth(judged: Mapping[str, float]) -> float:
    """Mean z of the trigger's answers over the conditions it was judged under, less half the clean photo's.

    Args:
        judged: condition -> z, as a pack's row has it; at least one answer of the trigger.
    """
    answers = [z for condition, z in judged.items() if condition not in _NO_ANSWER_OF_THE_TRIGGER]
    return fmean(answers) - CLEAN_WEIGHT * judged.get("clean", 0.0)


def kept(rows: Sequence[tuple[Job, Finished]], *, keep: int) -> list[tuple[Job, Finished]]:
    """The ``keep`` worthiest rows, in the order that they came in; of equals the earlier."""
    ranked = sorted(range(len(rows)), key=lambda place: -worth(rows[place][1].judged))
    return [rows[place] for place in sorted(ranked[:keep])]
