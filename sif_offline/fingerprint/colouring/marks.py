"""What a coloured answer shows, before it is drawn anywhere: which token counts, and what is safe to show.

An answer is a hostile endpoint's. Whatever would steer a terminal, a browser or the direction of the text
(control and format characters, lone surrogates, line separators) is shown as its code, ``[U+202E]``.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from sif_offline.fingerprint.pack_scorer import ScoredToken

Kind = Literal["text", "code", "sign"]

MAX_MARKS = 8
"""Combining marks drawn over one character; any further ones are shown as codes."""

_STEERING = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
_COMBINING = frozenset(("Mn", "Me"))
_GAP_ID = -1
_SIGNS = {"\n": "↵", "\t": "⇥"}
_NO_TEXT = "·"
_NO_BASE = "◌"


class Segment(NamedTuple):
    """A stretch of what a token shows.

    Attributes:
        text: free of control characters but newline and tab.
        kind: ``text`` of the answer; ``code`` in place of a character that is not shown itself; ``sign`` that
            stands for no text, so that a token without any is seen too.
    """

    text: str
    kind: Kind


class Mark(NamedTuple):
    """One token as it is shown; the outer white space of a word is left outside its box.

    Attributes:
        token: the token.
        counted: whether it is the first of its type, the one that counts; False where it is not scored.
        before: white space before the box.
        segments: what to show in the box, in order; empty between two answers (:func:`join_answers`).
        after: white space after the box.
    """

    token: ScoredToken
    counted: bool
    before: str
    segments: tuple[Segment, ...]
    after: str

    @property
    def words(self) -> str:
        """What the colour says, in words."""
        if self.token.green is None:
            return "not scored"
        return f"{'green' if self.token.green else 'red'}, {'counted here' if self.counted else 'a repeat'}"


@dataclass(frozen=True)
class Counts:
    """The counts of a coloured answer; those of its score.

    Attributes:
        tokens: tokens, repeats and unscored ones included.
        types: U, distinct scored types.
        greens: G, green ones among them.
    """

    tokens: int
    types: int
    greens: int

    @property
    def line(self) -> str:
        """One line to print above the answer."""
        share = f" (share {self.greens / self.types:.3f})" if self.types else ""
        return f"{self.greens} of {self.types} types green{share}; {self.tokens} tokens"


def count(tokens: Iterable[ScoredToken]) -> Counts:
    """Count every scored type once; several answers of one trigger are joined first."""
    greens: dict[int, bool] = {}
    number = 0
    for token in tokens:
        number += token.id != _GAP_ID
        if token.green is not None:
            greens[token.id] = token.green
    return Counts(tokens=number, types=len(greens), greens=sum(greens.values()))


def join_answers(answers: Iterable[Sequence[ScoredToken]]) -> list[ScoredToken]:
    """Repeats of one trigger as one answer, a blank line between them: a type counts in the first that has
    it.
    """
    joined: list[ScoredToken] = []
    for tokens in answers:
        if joined:
            joined.append(ScoredToken(_GAP_ID, None, "\n\n"))
        joined.extend(tokens)
    return joined


def marks(tokens: Iterable[ScoredToken]) -> Iterator[Mark]:
    """Every token in order, with what to show of it; white space and ``text`` segments join to the text, but
    for characters shown as codes.
    """
    seen: set[int] = set()
    run = 0
    for token in tokens:
        counted = token.green is not None and token.id not in seen
        seen.add(token.id)
        shown, run = _shown(token.piece, run)
        before, segments, after = ("", [], token.piece) if token.id == _GAP_ID else _boxed(shown)
        yield Mark(token, counted, before, tuple(segments), after)


def _boxed(shown: list[Segment]) -> tuple[str, list[Segment], str]:
    """What stands before, in and after the box; a sign for what would draw nothing, or over its neighbour."""
    if not shown:
        return "", [Segment(_NO_TEXT, "sign")], ""
    if len(shown) == 1 and shown[0].kind == "text" and shown[0].text.isspace():
        text = shown[0].text
        sign = next((sign for space, sign in _SIGNS.items() if space in text), "")
        signs = [Segment(sign, "sign")] if sign else []
        return ("", signs, text) if "\n" in text else ("", [*signs, *shown], "")
    before = after = ""
    if shown[0].kind == "text":
        body = shown[0].text.lstrip()
        before, shown[0] = shown[0].text[: len(shown[0].text) - len(body)], Segment(body, "text")
    if shown[-1].kind == "text":
        body = shown[-1].text.rstrip()
        after, shown[-1] = shown[-1].text[len(body) :], Segment(body, "text")
    segments = [segment for segment in shown if segment.text]
    if segments[0].kind == "text" and unicodedata.category(segments[0].text[0]) in _COMBINING:
        segments.insert(0, Segment(_NO_BASE, "sign"))
    return before, segments, after


def _shown(piece: str, run: int) -> tuple[list[Segment], int]:
    """``run`` combining marks stand before ``piece``; also returns how many stand at its end."""
    segments: list[Segment] = []
    plain: list[str] = []
    for char in piece:
        category = unicodedata.category(char)
        run = run + 1 if category in _COMBINING else 0
        noncharacter = ord(char) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(char) <= 0xFDEF
        hidden = category in _STEERING and char not in _SIGNS
        if not (hidden or noncharacter or run > MAX_MARKS):
            plain.append(char)
            continue
        if plain:
            segments.append(Segment("".join(plain), "text"))
            plain = []
        segments.append(Segment(code(char), "code"))
    if plain:
        segments.append(Segment("".join(plain), "text"))
    return segments, run


def code(char: str) -> str:
    """``[U+202E]`` for the right-to-left override."""
    return f"[U+{ord(char):04X}]"
