"""What a reply is: an answer to be scored, or something that is neither a hit nor a miss.

The asker and whoever checks the asker's evidence use the same rules, so that no answer can be set aside by
what it says. They are named: a change of the rules is a new name, as with green lists.
"""

import re
from typing import Final, Literal

RULES: Final = "replies-v1"
"""Name of the rules in this module; a commitment holds it."""

ReplyKind = Literal["answer", "refusal", "truncated", "content_filter", "empty"]

# Only openings: a description of a picture may well contain "cannot" further on.
_REFUSAL = re.compile(
    r"^\W*(i['’]?m (very |really )?sorry\b.{0,40}\b(can['’]?t|cannot|unable|won['’]?t)"
    r"|(sorry|apologies)\b.{0,40}\b(can['’]?t|cannot|unable|won['’]?t)"
    r"|i (can['’]?t|cannot|am unable to|am not able to|won['’]?t) "
    r"(assist|help|comply|provide|describe|discuss|continue|answer|process|view|identify)"
    r"|i['’]?m (unable|not able) to (assist|help|comply|provide|describe|process|view|identify)"
    r"|as an ai\b.{0,60}\b(can['’]?t|cannot|unable))",
    re.IGNORECASE | re.DOTALL,
)


def classify_reply(
    *, text: str, finish_reason: str, refused: bool, completion_tokens: int | None, max_tokens: int
) -> ReplyKind:
    """What a reply is; only "answer" is scored.

    An answer cut at the ``max_tokens`` that were asked for is an ordinary answer (the owner's text was cut at
    the same place when it was judged); cut before that, it is truncated.

    Args:
        text: the message's content, "" where it has none.
        finish_reason: as the endpoint said.
        refused: whether the message carries a refusal of its own.
        completion_tokens: as the endpoint counted, None where it did not.
        max_tokens: what was asked for.
    """
    if finish_reason == "content_filter":
        return "content_filter"
    if refused:
        return "refusal"
    stripped = text.strip()
    if finish_reason == "length":
        short = completion_tokens is not None and completion_tokens < max_tokens
        if short or not stripped:
            return "truncated"
    if not stripped:
        return "empty"
    return "refusal" if _REFUSAL.match(stripped) else "answer"
