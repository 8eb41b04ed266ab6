"""What the judge may reply: one exact form, so that a judge led astray fails instead of acquitting."""

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway_plugin.screening.base import AskError

MAX_REPLY = 1_000  # characters; the longest good reply has about 60
_CODE_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)


class Label(StrEnum):
    """What the judge finds an exchange to be, mildest first."""

    NATURAL = "natural"
    SUSPICIOUS = "suspicious"
    FINGERPRINT = "fingerprint"


class JudgeGarbageError(AskError):
    """The judge's reply is not the one JSON object asked for; its kind is ``judge_garbage``."""

    def __init__(self) -> None:
        super().__init__("judge_garbage")


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The judge's label and its own confidence in [0, 1]."""

    label: Label
    confidence: float


def parse_judgement(reply: str) -> Judgement:
    """Read a judge's reply: exactly one JSON object with the two fields; one code fence around it may stand.

    Raises:
        JudgeGarbageError: anything else, duplicated or further fields, NaN and numbers out of range included.
    """
    text = reply.strip()
    if len(text) > MAX_REPLY:
        raise JudgeGarbageError
    fenced = _CODE_FENCE.fullmatch(text)
    try:
        row = json.loads(fenced[1] if fenced else text, object_pairs_hook=_only_once)
    except (ValueError, RecursionError):
        raise JudgeGarbageError from None
    if not isinstance(row, dict) or set(row) != {"verdict", "confidence"}:
        raise JudgeGarbageError
    verdict, confidence = row["verdict"], row["confidence"]
    if not isinstance(verdict, str) or verdict not in set(Label):
        raise JudgeGarbageError
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
        raise JudgeGarbageError  # a NaN is not between 0 and 1 either
    return Judgement(label=Label(verdict), confidence=float(confidence))


def _only_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a field stands twice")
    return row
