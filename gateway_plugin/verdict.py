"""From a decision to what the adapters do, and to what metrics, log and audit record say about it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway_plugin.audit import AuditLog, AuditRecord, open_sink
from gateway_plugin.config import GatewaySettings
from gateway_plugin.config.base import secret_text
from gateway_plugin.exchange import Exchange, query_texts
from gateway_plugin.metrics import GatewayMetrics
from gateway_plugin.reference import ReferenceAnswer
from gateway_plugin.screening.base import Phase
from gateway_plugin.screening.policy import Action, Decision

logger = logging.getLogger("sifwatch.gateway")

REPLACED_HEADER = "x-sif-gateway-replaced"
AUDIT_HEADER = "x-sif-gateway-audit-id"
BILLED_HEADER = "x-sif-gateway-billed-models"
ALLOW_LIST = "allow_list"  # stands where a check's name does
_WHAT = {Phase.REQUEST: "The query", Phase.RESPONSE: "The answer"}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What an adapter is to do with an exchange.

    action: ``allow``, ``log`` and ``flag`` let it pass; ``block`` answers with a 400 that says ``message``;
        ``replace`` serves ``reference``'s text in the answer's place.
    would: what was asked for, which a dry run does not do; otherwise the same as ``action``.
    headers: for the client's response, as far as the settings disclose.
    billing: what the answer's usage is to say about who was billed, as far as the settings disclose.
    decision: ``None`` where nothing was screened (an allow-listed caller, nothing to do in this phase).
    """

    action: Action = Action.ALLOW
    would: Action = Action.ALLOW
    message: str = ""
    reference: ReferenceAnswer | None = field(default=None, repr=False)
    reference_model: str = ""
    audit_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    billing: Mapping[str, str] = field(default_factory=dict)
    decision: Decision | None = field(default=None, repr=False)


class Reporter:
    """Makes verdicts and tells everybody who should know."""

    def __init__(self, *, name: str, settings: GatewaySettings, metrics: GatewayMetrics) -> None:
        self._name, self._metrics = name, metrics
        self._prompts = settings.audit is not None and settings.audit.prompts
        self._audit: AuditLog | None = None
        if settings.audit is not None:
            sink = open_sink(secret_text(settings.audit.target, where="audit.target"))
            self._audit = AuditLog(sink, on_lost=lambda kind, n: metrics.audit_lost.labels(kind).inc(n))

    def verdict(
        self,
        exchange: Exchange,
        settings: GatewaySettings,
        *,
        phase: Phase,
        decision: Decision,
        effective: Action,
        audit_id: str,
        seconds: float,
        pending: str = "",
        reference: ReferenceAnswer | None = None,
    ) -> Verdict:
        """``effective``: the decision's action, or what takes the place of a replacement that cannot be.

        pending: a check whose action is still to come; it is counted when it has happened.
        """
        dry = settings.dry_run and effective in (Action.BLOCK, Action.REPLACE)
        done = Action.ALLOW if dry else effective
        self._metrics.count(phase, decision, effective=effective, pending=pending, dry_run=settings.dry_run)
        replaced = done is Action.REPLACE and phase is Phase.RESPONSE
        verdict = Verdict(
            action=done,
            would=effective,
            message=f"{_WHAT[phase]} was refused by the gateway's screening ({decision.by}).",
            reference=reference,
            reference_model=settings.reference_model or "",
            audit_id=audit_id,
            headers=self._headers(settings, exchange, audit_id, replaced=replaced),
            billing={"billed_model": settings.reference_model or ""}
            if replaced and settings.disclosure == "full"
            else {},
            decision=decision,
        )
        self._log(verdict, phase)
        if self._audit is not None:
            self._audit.put(self._record(exchange, settings, phase, verdict, replaced=replaced))
        return verdict

    def exempted(self, exchange: Exchange, *, audit_id: str, name: str) -> Verdict:
        """An allow-listed caller's exchange: nothing was screened, and that is counted and kept."""
        self._metrics.decisions.labels(phase=Phase.REQUEST.value, check=ALLOW_LIST, result="bypassed").inc()
        if self._audit is not None:
            self._audit.put(
                AuditRecord(
                    **self._who(exchange, audit_id),
                    phase=Phase.REQUEST.value,
                    action=Action.ALLOW.value,
                    effective=Action.ALLOW.value,
                    by=ALLOW_LIST,
                    bypassed=(ALLOW_LIST,),
                    findings={ALLOW_LIST: {"status": "skipped", "reason": f"signed by {name}"}},
                )
            )
        return Verdict(audit_id=audit_id)

    def _who(self, exchange: Exchange, audit_id: str) -> dict[str, Any]:
        return {
            "audit_id": audit_id,
            "guardrail": self._name,
            "route": exchange.route,
            "call_id": exchange.call.partition("/")[0],
            "model": exchange.model,
            "team": exchange.caller.team,
            "key": exchange.caller.key,
            "end_user": exchange.caller.end_user,
        }

    def close(self) -> None:
        """Write the audit records that still wait (seconds at most)."""
        if self._audit is not None:
            self._audit.close()

    def _record(
        self, exchange: Exchange, settings: GatewaySettings, phase: Phase, verdict: Verdict, *, replaced: bool
    ) -> AuditRecord:
        decision, reference = verdict.decision, verdict.reference
        if decision is None:
            raise ValueError("a verdict without a decision has nothing to keep")
        asked = reference is not None and reference.left_out is None
        late = phase is Phase.RESPONSE
        return AuditRecord(
            **self._who(exchange, verdict.audit_id),
            phase=phase.value,
            action=decision.action.value,
            effective=verdict.action.value,
            by=decision.by,
            dry_run=settings.dry_run,
            bypassed=decision.bypassed,
            findings={
                f.check: {"status": f.status.value, "reason": f.reason, **f.measures}
                for f in decision.findings
            },
            replaced_by=verdict.reference_model if replaced else "",
            billed_models=(exchange.model, *((verdict.reference_model,) if asked else ())) if late else (),
            reference={}
            if reference is None
            else {
                "outcome": reference.failure or "ok",
                "seconds": reference.seconds,
                "prompt_tokens": reference.prompt_tokens,
                "completion_tokens": reference.completion_tokens,
                "cost": reference.cost,
            },
            prompt="\n\n".join(query_texts(exchange)[0]) if self._prompts else None,
            answer="\n\n".join(exchange.answers) if self._prompts and late else None,
        )

    def _headers(
        self, settings: GatewaySettings, exchange: Exchange, audit_id: str, *, replaced: bool
    ) -> dict[str, str]:
        headers: dict[str, str] = {}
        if settings.disclosure != "none":
            headers[AUDIT_HEADER] = audit_id
        if settings.disclosure == "full" and replaced:
            headers[REPLACED_HEADER] = "true"
            billed = ", ".join(filter(None, (exchange.model, settings.reference_model)))
            headers[BILLED_HEADER] = "".join(
                c if " " <= c <= "~" else "?" for c in billed
            )  # a client's words
        return headers

    def _log(self, verdict: Verdict, phase: Phase) -> None:
        decision = verdict.decision
        if decision is None or (verdict.would is Action.ALLOW and not decision.failed):
            return
        logger.log(
            logging.INFO if verdict.would is Action.LOG else logging.WARNING,
            "%s: %s %s%s by %s: %s (audit id %s)",
            self._name,
            phase.value,
            "would " if verdict.would is not verdict.action else "",
            verdict.would.value,
            decision.by or "nobody",
            decision.reason or ", ".join(f"{f.check} {f.reason}" for f in decision.findings if f.reason),
            verdict.audit_id,
        )
