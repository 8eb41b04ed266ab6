"""What a target is: something that can be asked about a picture, and answers or fails in a named way."""

import re
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

from sif_offline.fingerprint.errors import SifError

FailureKind = Literal[
    "connection",  # never reached: refused, no such host, TLS
    "interrupted",  # reached, then cut: may have been answered
    "timeout",
    "rate_limited",
    "http",  # any other status that is not a success
    "auth",  # 401, 403
    "content_policy",  # the provider refused the question by a status
    "not_json",
    "not_chat",  # JSON, yet no chat completion with a message in it
    "misconfigured",  # litellm knows no such provider, or has no credential: nothing was sent
]
FAILURE_KINDS: tuple[FailureKind, ...] = get_args(FailureKind)

AnswerKind = Literal["answer", "refusal", "truncated", "content_filter", "empty"]

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


@dataclass(frozen=True)
class Answer:
    """One answer of an endpoint.

    ``latency_s`` is in seconds; token counts and ``cost_usd`` (US dollars) are None where the endpoint or
    litellm's price list does not say. ``raw`` is the JSON-able reply, kept for evidence.
    """

    text: str
    finish_reason: str
    served_model: str
    latency_s: float
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    raw: dict[str, Any] = field(default_factory=dict, repr=False)


class AskFailure(SifError):  # noqa: N818 - a failure is an outcome of a round, not a bug
    """An ask that brought no answer.

    Args:
        target: the target's configured name; it opens the message.
        reason: one line, without credentials.
        kind: see ``FailureKind``.
        in_doubt: the endpoint may have seen, and even answered, the question; it must not be sent again
            before its cool-down.
        retry_after_s: what the endpoint asked for, seconds, or None.
        status: the HTTP status, or None.
    """

    def __init__(
        self,
        *,
        target: str,
        reason: str,
        kind: FailureKind,
        in_doubt: bool,
        retry_after_s: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(f"{target}: {' '.join(reason.split())}")
        self.target = target
        self.kind: FailureKind = kind
        self.in_doubt = in_doubt
        self.retry_after_s = retry_after_s
        self.status = status

    @property
    def may_retry(self) -> bool:
        """Whether sending again at once (after ``retry_after_s``) cannot ask the question twice."""
        return not self.in_doubt and self.kind in ("connection", "rate_limited")


class Target(Protocol):
    """Something to ask. Implementations are synchronous and safe to call from several threads."""

    @property
    def name(self) -> str:
        """The configured name."""
        ...

    @property
    def model(self) -> str:
        """The model asked for, for the record of what was asked."""
        ...

    @property
    def api_base(self) -> str | None:
        """The URL asked, None for the provider's own; holds no credential."""
        ...

    def ask(self, *, image: bytes | None, prompt: str, max_tokens: int) -> Answer:
        """Ask one question (``image``: PNG bytes, sent unchanged). Raises AskFailure."""
        ...


def classify(answer: Answer, *, max_tokens: int) -> AnswerKind:
    """What an answer is; only "answer" is scored, the rest are neither hits nor misses.

    An answer cut at the ``max_tokens`` that we asked for is an ordinary answer (the owner's text was cut at
    the same place when it was judged); cut before that, it is truncated.
    """
    if answer.finish_reason == "content_filter":
        return "content_filter"
    choices = answer.raw.get("choices")
    message = choices[0].get("message") if isinstance(choices, list) and choices else None
    if isinstance(message, dict) and message.get("refusal"):
        return "refusal"
    text = answer.text.strip()
    if answer.finish_reason == "length":
        short = answer.completion_tokens is not None and answer.completion_tokens < max_tokens
        if short or not text:
            return "truncated"
    if not text:
        return "empty"
    return "refusal" if _REFUSAL.match(text) else "answer"
