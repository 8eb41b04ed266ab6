"""Endpoints that can be asked."""

from probes.targets.base import (
    FAILURE_KINDS,
    Answer,
    AnswerKind,
    AskFailure,
    FailureKind,
    Target,
    classify,
)
from probes.targets.litellm_target import LiteLLMTarget

__all__ = [
    "FAILURE_KINDS",
    "Answer",
    "AnswerKind",
    "AskFailure",
    "FailureKind",
    "LiteLLMTarget",
    "Target",
    "classify",
]
