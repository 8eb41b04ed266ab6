"""An answer for the page: every token in its colour, as lists of words too, and never more than a page bears.

The colours show part of a trigger's green list, as every coloured answer does.
"""

from dataclasses import dataclass

from markupsafe import Markup

from sif_offline.fingerprint.colouring import colour_html, marks
from sif_offline.fingerprint.pack_scorer import ScoredToken
from sif_offline.fingerprint.scoring import PackScorer

MAX_CHARACTERS = 4000
"""Of an answer that is read for the page."""
MAX_TOKENS = 800
"""Of an answer that is drawn."""


@dataclass(frozen=True)
class Coloured:
    """An answer as it is shown.

    Attributes:
        html: the tokens in their order.
        green: the distinct counted types that are green, as shown; ``plain`` those that are not.
        shown: characters drawn; ``length`` is how many there are.
    """

    html: Markup
    green: tuple[str, ...]
    plain: tuple[str, ...]
    shown: int
    length: int


def coloured(scorer: PackScorer, trigger_id: str, text: str, *, length: int, scored: bool) -> Coloured:
    """An answer under the key of its trigger.

    Args:
        scorer: the pack with its keys.
        trigger_id: the trigger that was sent, or whose clean photo was.
        text: its first ``MAX_CHARACTERS`` at most.
        length: characters of the whole answer.
        scored: False for a refusal and the like: nothing of it counts, so nothing is coloured.
    """
    text = text[:MAX_CHARACTERS]
    tokens = scorer.types(trigger_id, text)[:MAX_TOKENS]
    if not scored:
        tokens = [ScoredToken(token.id, None, token.piece) for token in tokens]
    shown = sum(len(token.piece) for token in tokens)
    lists: dict[bool, list[str]] = {True: [], False: []}
    for mark in marks(tokens):
        if mark.counted and mark.token.green is not None:
            lists[mark.token.green].append("".join(segment.text for segment in mark.segments))
    cut = shown < len(text.strip()) or len(text) < length
    return Coloured(
        html=Markup(colour_html(tokens)),
        green=tuple(lists[True]),
        plain=tuple(lists[False]),
        shown=shown if cut else length,
        length=length,
    )


def shown(text: object, limit: int = 300) -> str:
    """A short text of an endpoint's, with whatever would steer the page as its code, cut at ``limit``."""
    said = str(text)
    (mark,) = marks([ScoredToken(0, None, said[:limit])])
    inside = "".join(segment.text for segment in mark.segments if segment.kind != "sign")
    return mark.before + inside + mark.after + (" …" if len(said) > limit else "")
