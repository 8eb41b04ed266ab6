"""Screening without traffic: prompts from a file under the checks that need no model of the gateway's."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gateway_plugin.config import GatewaySettings
from gateway_plugin.loading import request_checks
from gateway_plugin.screening import calibration
from gateway_plugin.screening.base import Finding, Query
from gateway_plugin.screening.policy import Action, Policy

BATCH = 64
SHIPPED = GatewaySettings.model_validate({"action": "block", "checks": {"divergence": {"enabled": False}}})
_SAID = {
    Action.ALLOW: "allow",
    Action.LOG: "allow",
    Action.FLAG: "flag",
    Action.BLOCK: "block",
    Action.REPLACE: "replace",
}


def score_prompts(prompts: Sequence[str], *, settings: GatewaySettings = SHIPPED) -> Iterator[dict[str, Any]]:
    """One row a prompt, in order: decision, perplexity (``None`` where it cannot be), other measures, check,
    reason. The language model runs on every prompt; decisions are those of the cascade."""
    policy = settings.policy()
    for findings in _screened(prompts, settings):
        yield _row(findings, policy)


def _screened(prompts: Sequence[str], settings: GatewaySettings) -> Iterator[list[Finding]]:
    """The findings on each prompt, in order, the language model's measures among them."""
    if not prompts:
        return
    cascade, mixing = request_checks(settings, always_neural=True)
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        found: list[list[Finding]] = [[] for _ in batch]
        if cascade is not None:
            for place, finding in zip(found, cascade.score_texts(batch), strict=True):
                place.append(finding)
        if mixing is not None:
            for place, prompt in zip(found, batch, strict=True):
                place.append(mixing.score(Query(texts=(prompt,))))
        yield from found


def _row(findings: list[Finding], policy: Policy) -> dict[str, Any]:
    decision = policy.decide(findings)
    measures = {key: round(value, 3) for finding in findings for key, value in finding.measures.items()}
    return {
        "decision": _SAID[decision.action],
        "perplexity": measures.pop("perplexity", None),
        "worst_window_perplexity": measures.pop("worst_window_perplexity", None),
        **measures,
        "check": decision.by or None,
        "reason": decision.reason,
    }


def calibrate_on_prompts(
    prompts: Sequence[str],
    *,
    rate: float,
    settings: GatewaySettings = SHIPPED,
    on_progress: Callable[[int], None] = lambda done: None,
) -> calibration.Calibration:
    """Thresholds from benign prompts at a false-positive rate. Raises ``CalibrationError``."""
    findings = []
    for done, each in enumerate(_screened(prompts, settings), start=1):
        findings.append(each)
        on_progress(done)
    rows, missing = calibration.rows_of_findings(findings)
    return calibration.calibrate(rows, rate=rate, not_measured=missing)


def summary(found: calibration.Calibration) -> dict[str, Any]:
    """The calibration for a machine: settings by check, and each threshold with its rates."""
    return {
        "rate": found.rate,
        "not_measured": found.not_measured,
        "checks": found.settings(),
        "thresholds": [
            {
                "check": each.measure.check,
                "setting": each.measure.setting,
                "value": each.value,
                "rate": each.rate,
                "rate_95": each.rate_95,
                "n": each.n,
            }
            for each in found.thresholds
        ],
    }
