"""Trigger by trigger: the pictures, what was asked and when, and every answer in its colours."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from markupsafe import Markup

from sif_offline.fingerprint.colouring import colour_html, count, join_answers
from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.evidence.bundle import Bundle
from sif_offline.fingerprint.evidence.commitment import Disclosure
from sif_offline.fingerprint.evidence.judgement import Judgement, ScoredExchange
from sif_offline.fingerprint.evidence.transcript import Exchange
from sif_offline.fingerprint.pack_scorer import ScoredToken, TextScorer


class Picture(NamedTuple):
    """A picture as a data URL; "" and a fault where it is not there or not the committed one."""

    url: str
    fault: str = ""


class Answer(NamedTuple):
    """One text that came back, once however often it came.

    Attributes:
        sent: the exchanges that brought this very text, in order.
        text: as it came.
        coloured: its tokens, what earlier answers to the same picture had already being pale; None where it
            cannot be scored.
        scored: its own score; None where it was not scored.
        new_types: types that no earlier answer to the same picture had.
        new_greens: green ones among them.
    """

    sent: tuple[Exchange, ...]
    text: str
    coloured: Markup | None
    scored: ScoredExchange | None
    new_types: int
    new_greens: int


@dataclass(frozen=True)
class Side:
    """One picture of a trigger with everything that was asked with it."""

    picture: Picture
    sent: tuple[Exchange, ...]
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Trigger:
    """A trigger beside its clean photo; ``leaf`` is None where it was asked but not disclosed."""

    id: str
    disclosure: Disclosure | None
    trigger: Side
    clean: Side


def triggers_of(bundle: Bundle, judgement: Judgement | None) -> tuple[Trigger, ...]:
    """Every trigger disclosed or asked, as far as the bundle can be read; never raises for its content."""
    leaves = {item.leaf.trigger_id: item for item in _disclosures(bundle)}
    exchanges = exchanges_of(bundle)
    scorer = _scorer(bundle)
    scored = {} if judgement is None else {row.exchange.record.index: row for row in judgement.scored}
    ids = [*leaves, *sorted({item.record.trigger_id for item in exchanges} - leaves.keys())]

    def side(trigger_id: str, control: bool) -> Side:
        sent = tuple(
            item
            for item in exchanges
            if (item.record.trigger_id, item.record.control) == (trigger_id, control)
        )
        picture = _picture(bundle, trigger_id, leaves.get(trigger_id), control=control)
        return Side(picture, sent, _answers(trigger_id, sent, scorer, scored))

    return tuple(
        Trigger(trigger_id, leaves.get(trigger_id), side(trigger_id, False), side(trigger_id, True))
        for trigger_id in ids
    )


def exchanges_of(bundle: Bundle) -> tuple[Exchange, ...]:
    """The transcript; empty where it cannot be read."""
    try:
        return bundle.exchanges
    except SifError:
        return ()


def _disclosures(bundle: Bundle) -> tuple[Disclosure, ...]:
    try:
        return bundle.disclosures
    except SifError:
        return ()


def _scorer(bundle: Bundle) -> TextScorer | None:
    """The owner's tokenizer with the disclosed keys; None where it cannot be made."""
    try:
        return bundle.material.scorer(name=bundle.info.pack_id)
    except SifError:
        return None


def _picture(bundle: Bundle, trigger_id: str, disclosure: Disclosure | None, *, control: bool) -> Picture:
    if disclosure is None:
        return Picture("", "not in the bundle")
    try:
        data = bundle.picture(trigger_id, control=control)
    except SifError as error:
        return Picture("", str(error))
    leaf = disclosure.leaf
    if sha256(data).hexdigest() != (leaf.clean_sha256 if control else leaf.trigger_sha256):
        return Picture("", "the file in the bundle is not the committed picture")
    return Picture(f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}")


def _answers(
    trigger_id: str,
    sent: Sequence[Exchange],
    scorer: TextScorer | None,
    scored: Mapping[int, ScoredExchange],
) -> tuple[Answer, ...]:
    same: dict[str, list[Exchange]] = {}
    for item in sent:
        if item.text is not None:
            same.setdefault(item.text, []).append(item)
    answers: list[Answer] = []
    seen: dict[int, ScoredToken] = {}
    for text, brought in same.items():
        coloured, fresh = None, []
        row = scored.get(brought[0].record.index)
        if scorer is not None and row is not None:
            tokens = scorer.types(trigger_id, text)
            types = {token.id: token for token in tokens if token.green is not None}
            coloured = _coloured([seen[i] for i in types if i in seen], tokens)
            fresh = [token for i, token in types.items() if i not in seen]
            seen |= types
        greens = sum(bool(token.green) for token in fresh)
        answers.append(Answer(tuple(brought), text, coloured, row, len(fresh), greens))
    return tuple(answers)


def _coloured(earlier: list[ScoredToken], tokens: list[ScoredToken]) -> Markup:
    """An answer in which a type counts only if it is not in ``earlier``, one token a type.

    A type counts where it first occurs, so the earlier types are coloured in front, and then cut off.
    """
    if not earlier:
        return Markup(colour_html(tokens))
    opening, _, body = colour_html(join_answers([earlier, tokens])).partition(">")
    front = colour_html(join_answers([earlier, []])).partition(">")[2].removesuffix("</div>")
    if not body.startswith(front):
        raise ValueError("a coloured answer does not begin with what stands before it")
    own = opening.replace(count([*earlier, *tokens]).line, count(tokens).line)
    return Markup(f"{own}>{body.removeprefix(front)}")
