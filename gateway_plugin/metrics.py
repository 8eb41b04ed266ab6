"""The gateway's own Prometheus metrics: LiteLLM counts a block as a failed request, so it cannot tell us.

| metric | labels |
|---|---|
| sif_gateway_decisions_total | phase, check, result |
| sif_gateway_check_failures_total | check, kind |
| sif_gateway_check_seconds | check |
| sif_gateway_reference_seconds | outcome |
| sif_gateway_cache_hits_total | - |
| sif_gateway_cheap_decisions_total | - |
| sif_gateway_reference_tokens_total | kind (prompt, completion) |
| sif_gateway_reference_cost_usd_total | - |
| sif_gateway_asked_calls_total | - |
| sif_gateway_audit_lost_total | kind (full, sink) |
| sif_gateway_states_lost_total | kind (expired, full) |
| sif_gateway_queue_depth | - |

phase: request, response. result: allowed, logged, flagged, blocked, replaced, bypassed (the check failed and
the exchange passed, or the caller is on the allow-list: check ``allow_list``), would_block and would_replace
(a dry run). kind: timeout, queue_full, error, reference_timeout, reference_error, reference_empty,
reference_budget, not_replaceable, unknown_call, lost_state, unread_answer; of checks that ask a model also
empty, budget, too_many_parts, judge_garbage, content_not_shared, images_not_shared; of ``allow_list`` why a
header was refused; of ``call_id`` in_use. outcome: ok, failed.
"""

from functools import lru_cache

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from gateway_plugin.screening.base import Phase
from gateway_plugin.screening.policy import Action, Decision

SECONDS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
RESULTS = {
    Action.ALLOW: "allowed",
    Action.LOG: "logged",
    Action.FLAG: "flagged",
    Action.BLOCK: "blocked",
    Action.REPLACE: "replaced",
}
WOULD = {Action.BLOCK: "would_block", Action.REPLACE: "would_replace"}


class GatewayMetrics:
    """Counters and histograms in one registry; making two in the same registry is an error of the caller."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.decisions = Counter(
            "sif_gateway_decisions",
            "What was done with exchanges, one count a check and phase",
            ["phase", "check", "result"],
            registry=registry,
        )
        self.failures = Counter(
            "sif_gateway_check_failures",
            "Times a check could not do its work",
            ["check", "kind"],
            registry=registry,
        )
        self.check_seconds = Histogram(
            "sif_gateway_check_seconds",
            "Time until a check's finding was there, waiting included",
            ["check"],
            buckets=SECONDS,
            registry=registry,
        )
        self.reference_seconds = Histogram(
            "sif_gateway_reference_seconds",
            "Duration of calls to the reference model",
            ["outcome"],
            buckets=SECONDS,
            registry=registry,
        )
        self.cache_hits = Counter(
            "sif_gateway_cache_hits", "Texts whose finding was remembered", registry=registry
        )
        self.cheap_decisions = Counter(
            "sif_gateway_cheap_decisions",
            "Texts that the statistical model decided without the language model",
            registry=registry,
        )
        self.reference_tokens = Counter(
            "sif_gateway_reference_tokens",
            "Tokens of calls to the reference model",
            ["kind"],
            registry=registry,
        )
        self.reference_cost = Counter(
            "sif_gateway_reference_cost_usd",
            "Cost of calls to the reference model, where LiteLLM knows the price",
            registry=registry,
        )
        self.asked_calls = Counter(
            "sif_gateway_asked_calls", "Calls to models that checks made themselves", registry=registry
        )
        self.audit_lost = Counter(
            "sif_gateway_audit_lost", "Audit records that were not kept", ["kind"], registry=registry
        )
        self.states_lost = Counter(
            "sif_gateway_states_lost",
            "Calls that were given up before their answer came",
            ["kind"],
            registry=registry,
        )
        self.queue_depth = Gauge(
            "sif_gateway_queue_depth",
            "Texts waiting for the language model",
            registry=registry,
            multiprocess_mode="livesum",
        )

    def count(
        self,
        phase: Phase,
        decision: Decision,
        *,
        effective: Action,
        pending: str = "",
        dry_run: bool = False,
    ) -> None:
        """One decision: the deciding check under what was really done, every other under its own wish.

        ``pending`` is a check whose action is still to come: it is counted when it has happened.
        """
        for check, asked in decision.actions.items():
            if check == pending:
                continue
            done = effective if check == decision.by else asked
            if check in decision.bypassed:
                result = "bypassed"
            elif dry_run and done in WOULD:
                result = WOULD[done]
            else:
                result = RESULTS[done]
            self.decisions.labels(phase=phase.value, check=check, result=result).inc()


@lru_cache(maxsize=1)
def default_metrics() -> GatewayMetrics:
    """The one set in prometheus_client's default registry, which the proxy's ``/metrics`` shows."""
    return GatewayMetrics(REGISTRY)
