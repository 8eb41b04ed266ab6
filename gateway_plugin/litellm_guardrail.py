"""The class that a LiteLLM proxy loads: ``guardrail: gateway_plugin.litellm_guardrail.SDAGuardrail``."""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Literal, NoReturn

from litellm.exceptions import GuardrailRaisedException
from litellm.integrations.custom_guardrail import CustomGuardrail
from litellm.litellm_core_utils.internal_call_metadata import sanitized_forwardable_call_metadata

from gateway_plugin.config import KEY, GatewayConfigError, check_modes, read_settings
from gateway_plugin.exchange import query_texts, reference_messages, why_not_replaceable
from gateway_plugin.metrics import GatewayMetrics, default_metrics
from gateway_plugin.reference import IN_REFERENCE_CALL, CallState, CallStates, ReferenceAnswer, ask_reference
from gateway_plugin.screener import Screener
from gateway_plugin.screening.base import Finding, Phase, Query, Status
from gateway_plugin.screening.policy import Action, Decision, OnFailure

logger = logging.getLogger("sifwatch.gateway")

_STATUS = {Action.ALLOW: "success", Action.LOG: "success", Action.FLAG: "guardrail_flagged"}


class QueryBlockedError(GuardrailRaisedException):  # type: ignore[misc]  # litellm is not typed for us
    """A block, in the shape that the proxy turns into a clean 400 of OpenAI's form."""

    type = "invalid_request_error"
    param = None
    code = "content_policy_violation"

    def __init__(self, *, guardrail_name: str | None, message: str) -> None:
        super().__init__(
            guardrail_name=guardrail_name,
            message=message,
            should_wrap_with_default_message=False,
            status_code=400,
            blocked_content=True,
        )


class SDAGuardrail(CustomGuardrail):  # type: ignore[misc]
    """Screens queries, compares answers with a reference model's, and acts as its policy says.

    ``**kwargs`` holds some forty defaults of other vendors' guardrails; only ``gateway_plugin`` is ours.
    """

    def __init__(
        self,
        *,
        guardrail_name: str | None = None,
        event_hook: Any = None,
        default_on: bool = False,
        **kwargs: Any,
    ) -> None:
        """Raises :class:`GatewayConfigError` (a ``RuntimeError``, so that the proxy does not start) when a
        setting is wrong or a model cannot be loaded."""
        where = f"guardrail {guardrail_name!r}"
        settings = read_settings(kwargs.pop(KEY, None), where=where)
        check_modes(event_hook, settings, where=where)
        super().__init__(
            guardrail_name=guardrail_name, event_hook=event_hook, default_on=default_on, **kwargs
        )
        self._settings = settings
        self._policy = settings.policy()
        self._metrics: GatewayMetrics = default_metrics()
        self._states = CallStates(max_calls=settings.max_calls, ttl_s=settings.state_ttl_s)
        try:
            self._screener = Screener.load(settings, metrics=self._metrics)
        except Exception as error:
            raise GatewayConfigError(f"{where}: {str(error).splitlines()[0]}") from error
        # Held-back answers cost token-by-token delivery, so only where an answer can still be taken away.
        self.streaming_buffer_until_moderated = settings.may_hold_answers_back
        self.streaming_end_of_stream_only = True

    # On the leaf class: the proxy looks in type(callback).__dict__ and skips an inherited one silently.
    async def apply_guardrail(
        self,
        inputs: Any,
        request_data: dict[str, Any],
        input_type: Literal["request", "response"],
        logging_obj: Any = None,
    ) -> Any:
        """Called by the proxy before and after the main call; returns ``inputs`` unchanged, or raises to
        block or replace."""
        if IN_REFERENCE_CALL.get():
            return inputs
        if input_type == "request":
            await self._screen_request(inputs, request_data, key=_call_key(request_data, logging_obj))
        else:
            await self._screen_response(inputs, request_data, key=_call_key(request_data, logging_obj))
        return inputs

    async def _screen_request(self, inputs: Mapping[str, Any], request: dict[str, Any], *, key: str) -> None:
        started = time.time()
        texts, unread = query_texts(inputs)
        findings = await self._screener.score_query(Query(texts=texts), unread=unread)
        decision = self._policy.decide(findings)
        effective = decision.action
        if effective is Action.REPLACE and (why := self._why_no_reference(inputs, request)):
            effective = self._instead_of_replacing(decision.by, kind="not_replaceable", why=why)
        replacing = effective is Action.REPLACE
        self._metrics.count(
            Phase.REQUEST, decision, effective=effective, pending=decision.by if replacing else ""
        )
        self._record(decision, effective, Phase.REQUEST, request, started)
        if effective is Action.BLOCK:
            self._block(decision, "The query")
        if not key or not (replacing or self._compares(request)):
            return
        state = self._states.open(key)
        if replacing:
            state.wants_replacement = next(f for f in findings if f.check == decision.by)
        state.reference = self._start_reference(inputs, request)

    async def _screen_response(self, inputs: Mapping[str, Any], request: dict[str, Any], *, key: str) -> None:
        started = time.time()
        # No state: LiteLLM skips the request phase of a chat of pictures alone.
        state = self._states.take(key) or CallState(born=time.monotonic())
        if state.wants_replacement is None and not self._compares(request):
            return
        task = state.reference or self._start_reference(inputs, request)
        answers = [text for text in inputs.get("texts") or () if isinstance(text, str)]
        reference = await task if task is not None else None
        findings = await self._compare(answers, reference)
        if state.wants_replacement is not None:
            findings = [state.wants_replacement, *findings]
        decision = self._policy.decide(findings)
        effective = decision.action
        if effective is Action.REPLACE:
            why = why_not_replaceable(inputs, request)
            kind = "not_replaceable"
            if not why and (reference is None or reference.text is None):
                kind = reference.failure if reference is not None else "reference_error"
                why = "there is no reference answer"
            if why:
                effective = self._instead_of_replacing(decision.by, kind=kind, why=why)
        self._metrics.count(Phase.RESPONSE, decision, effective=effective)
        self._record(decision, effective, Phase.RESPONSE, request, started)
        if effective is Action.BLOCK:
            self._block(decision, "The answer")
        if effective is Action.REPLACE and reference is not None and reference.text is not None:
            self.raise_passthrough_exception(reference.text, request)

    async def _compare(self, answers: list[str], reference: ReferenceAnswer | None) -> list[Finding]:
        name = "divergence"
        if name not in self._settings.each():
            return []
        if reference is None:
            return [Finding(check=name, status=Status.SKIPPED, reason="no messages for a reference model")]
        self._metrics.reference_seconds.labels("ok" if reference.text is not None else "failed").observe(
            reference.seconds
        )
        if reference.text is None:
            self._metrics.failures.labels(check=name, kind=reference.failure).inc()
            return [Finding(check=name, status=Status.FAILED, reason=reference.failure)]
        return await self._screener.compare(answers, reference.text)

    def _compares(self, request: Mapping[str, Any]) -> bool:
        """Whether this call's answer is held against a reference; a model is not compared with itself."""
        return (
            "divergence" in self._settings.each() and request.get("model") != self._settings.reference_model
        )

    def _why_no_reference(self, inputs: Mapping[str, Any], request: Mapping[str, Any]) -> str:
        """Why no reference answer can take this call's answer's place; empty when one can."""
        if request.get("model") == self._settings.reference_model:
            return "the reference model itself is asked"
        if not reference_messages(inputs, request):
            return "there are no messages to put to the reference model"
        return why_not_replaceable({}, request)

    def _start_reference(
        self, inputs: Mapping[str, Any], request: Mapping[str, Any]
    ) -> "asyncio.Task[ReferenceAnswer] | None":
        messages = reference_messages(inputs, request)
        if not messages:
            return None
        from litellm.proxy.proxy_server import llm_router  # set by the proxy's start, after our constructor

        if llm_router is None:
            return None
        parent = request.get("litellm_metadata") or request.get("metadata") or {}
        return asyncio.create_task(
            ask_reference(
                llm_router.acompletion,
                model=str(self._settings.reference_model),
                messages=messages,
                request=request,
                metadata=sanitized_forwardable_call_metadata(parent, "sif_gateway_reference"),
                timeout_s=self._settings.reference_timeout_s,
                max_tokens=self._settings.reference_max_tokens,
            )
        )

    def _instead_of_replacing(self, check: str, *, kind: str, why: str) -> Action:
        """Where no replacement can be had: pass it flagged, or block it where the check fails closed."""
        self._metrics.failures.labels(check=check, kind=kind).inc()
        closed = self._policy.rule(check).on_failure is OnFailure.CLOSED
        action = Action.BLOCK if closed else Action.FLAG
        logger.warning(
            "%s: %s asked for a replacement, but %s: %s", self.guardrail_name, check, why, action.value
        )
        return action

    def _block(self, decision: Decision, what: str) -> NoReturn:
        """The client learns which check, not its numbers: those would help to get round it."""
        raise QueryBlockedError(
            guardrail_name=self.guardrail_name,
            message=f"{what} was refused by the gateway's screening ({decision.by}).",
        )

    def _record(
        self, decision: Decision, effective: Action, phase: Phase, request: dict[str, Any], started: float
    ) -> None:
        """One entry in LiteLLM's own logs and one line in ours; numbers only, never a text."""
        detail = {
            "action": effective.value,
            "check": decision.by,
            "bypassed": list(decision.bypassed),
            "findings": {
                f.check: {"status": f.status.value, **{k: round(v, 4) for k, v in f.measures.items()}}
                for f in decision.findings
            },
        }
        ended = time.time()
        failed = any(f.status is Status.FAILED for f in decision.findings)
        status = _STATUS.get(effective, "guardrail_intervened")
        self.add_standard_logging_guardrail_information_to_request_data(
            guardrail_json_response=detail,
            request_data=request,
            guardrail_status="guardrail_failed_to_respond" if failed and status == "success" else status,
            start_time=started,
            end_time=ended,
            duration=ended - started,
            guardrail_provider="sifwatch",
        )
        if effective is not Action.ALLOW or failed:
            level = logging.INFO if effective is Action.LOG else logging.WARNING
            logger.log(
                level,
                "%s: %s %s by %s: %s",
                self.guardrail_name,
                phase.value,
                effective.value,
                decision.by or "nobody",
                decision.reason or ", ".join(f"{f.check} {f.reason}" for f in decision.findings if f.reason),
            )


def _call_key(request: Mapping[str, Any], logging_obj: Any) -> str:
    """The same in both phases of one call. A client can choose its call id (a header), so that alone could
    make two of its calls share a state; the logging object is the proxy's own."""
    call_id = request.get("litellm_call_id")
    own = logging_obj if logging_obj is not None else request.get("litellm_logging_obj")
    return f"{call_id}/{id(own):x}" if call_id else ""
