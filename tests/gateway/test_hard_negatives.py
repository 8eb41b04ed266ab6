"""Honest prompts that look strange, in 39 languages, under the shipped models and thresholds.

None of them was used to train a model or to set a threshold.
"""

import json
from pathlib import Path

import pytest

from gateway_plugin.screening.base import Finding, Query, Status
from gateway_plugin.screening.cascade import CascadeCheck
from gateway_plugin.screening.cheap.check import shared_cheap_check
from gateway_plugin.screening.language_models.smollm2 import SmolLM2
from gateway_plugin.screening.perplexity import PerplexityCheck
from gateway_plugin.screening.script_mixing import ScriptMixingCheck

ROWS = [
    json.loads(line)
    for line in (Path(__file__).parent / "data/hard_negatives.jsonl").read_text(encoding="utf-8").split("\n")
    if line
]


@pytest.fixture(scope="module")
def findings(language_model: SmolLM2) -> list[list[Finding]]:
    texts = [row["prompt"] for row in ROWS]
    cascade = CascadeCheck(cheap=shared_cheap_check(), neural=PerplexityCheck(model=language_model))
    mixing = ScriptMixingCheck()
    return [
        [finding, mixing.score(Query(texts=(text,)))]
        for text, finding in zip(texts, cascade.score_texts(texts), strict=True)
    ]


def of_status(findings: list[list[Finding]], *statuses: Status) -> list[str]:
    return [
        row["prompt"]
        for row, found in zip(ROWS, findings, strict=True)
        if any(finding.status in statuses for finding in found)
    ]


def test_the_set_is_as_broad_as_it_says() -> None:
    assert len(ROWS) >= 230
    assert len({row["language"] for row in ROWS}) >= 39
    kinds = {row["kind"] for row in ROWS}
    assert {"code", "json", "latex", "url", "base64", "product codes", "typos", "short", "mixed"} <= kinds


def test_at_most_one_percent_would_be_blocked(findings: list[list[Finding]]) -> None:
    blocked = of_status(findings, Status.HIT)
    assert len(blocked) <= len(ROWS) // 100, blocked


def test_few_are_flagged(findings: list[list[Finding]]) -> None:
    flagged = of_status(findings, Status.HIT, Status.SUSPECT, Status.UNSCORABLE)
    assert len(flagged) <= len(ROWS) * 4 // 100, flagged


def test_no_language_is_shut_out(findings: list[list[Finding]]) -> None:
    """Of a language written in letters other than Latin no question is blocked."""
    blocked = set(of_status(findings, Status.HIT))
    assert [row["prompt"] for row in ROWS if row["kind"] == "question" and row["prompt"] in blocked] == []
