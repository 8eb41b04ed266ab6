"""The class that a LiteLLM proxy loads: ``guardrail: gateway_plugin.litellm_guardrail.SDAGuardrail``."""

import time
from collections.abc import Mapping
from typing import Any, Literal

import litellm
from litellm.exceptions import GuardrailRaisedException, ModifyResponseException
from litellm.integrations.custom_guardrail import CustomGuardrail
from litellm.litellm_core_utils.internal_call_metadata import sanitized_forwardable_call_metadata
from litellm.types.llms.openai import ResponseAPIUsage

from gateway_plugin.config import KEY, GatewayConfigError, check_modes, read_configuration
from gateway_plugin.engine import Gateway
from gateway_plugin.exchange import Exchange
from gateway_plugin.litellm_exchange import proxy_metadata, read_exchange
from gateway_plugin.litellm_headers import disclose, install
from gateway_plugin.litellm_shutdown import close_with_proxy
from gateway_plugin.metrics import default_metrics
from gateway_plugin.reference import IN_REFERENCE_CALL, Complete, is_local
from gateway_plugin.references import Models
from gateway_plugin.screening.base import Finding, Status
from gateway_plugin.screening.policy import Action
from gateway_plugin.verdict import Verdict

_STATUS = {Action.ALLOW: "success", Action.LOG: "success", Action.FLAG: "guardrail_flagged"}


class QueryBlockedError(GuardrailRaisedException):  # type: ignore[misc]  # litellm is not typed for us
    """A block, in the shape that the proxy turns into a clean 400 of OpenAI's form."""

    type = "invalid_request_error"
    param = None
    code = "content_policy_violation"

    def __init__(self, *, guardrail_name: str | None, message: str, judged: bool = True) -> None:
        """``judged``: false where a broken check failed closed, so that nothing was found in the content."""
        super().__init__(
            guardrail_name=guardrail_name,
            message=message,
            should_wrap_with_default_message=False,
            status_code=400,
            blocked_content=judged,
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
        configuration = read_configuration(kwargs.pop(KEY, None), where=where)
        check_modes(event_hook, configuration, where=where)
        super().__init__(
            guardrail_name=guardrail_name, event_hook=event_hook, default_on=default_on, **kwargs
        )
        try:
            self._gateway = Gateway(
                configuration,
                name=str(guardrail_name),
                models=Models(complete=_router_completion, address=_router_address, metadata=_own_metadata),
                metrics=default_metrics(),
            )
        except GatewayConfigError:
            raise
        except Exception as error:
            raise GatewayConfigError(f"{where}: {str(error).splitlines()[0]}") from error
        install()
        close_with_proxy(self._gateway)
        # Held-back answers cost token-by-token delivery, so only where an answer can still be taken away.
        self.streaming_buffer_until_moderated = self._gateway.holds_answers_back
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
        started = time.time()
        exchange = read_exchange(inputs, request_data, phase=input_type, logging_obj=logging_obj)
        act = self._gateway.on_request if input_type == "request" else self._gateway.on_response
        verdict = await act(exchange)
        self._record(verdict, request_data, started)
        disclose(verdict.headers)
        if verdict.action is Action.BLOCK:
            raise QueryBlockedError(
                guardrail_name=self.guardrail_name, message=verdict.message, judged=_judged(verdict)
            )
        if verdict.action is Action.REPLACE and input_type == "response":
            raise self._replacement(verdict, exchange, request_data)
        return inputs

    def _replacement(
        self, verdict: Verdict, exchange: Exchange, request: dict[str, Any]
    ) -> ModifyResponseException:
        """The reference's answer in the answer's place, with the usage that it caused."""
        reference = verdict.reference
        if reference is None or reference.text is None:
            raise RuntimeError("a replacement without a reference answer")
        asked, said = reference.prompt_tokens, reference.completion_tokens
        usage: Any
        # Each route keeps the billed model's name in its own class of usage only; messages drops it.
        if exchange.route == "responses":
            usage = ResponseAPIUsage(
                input_tokens=asked, output_tokens=said, total_tokens=asked + said, **verdict.billing
            )
        else:
            usage = litellm.Usage(
                prompt_tokens=asked, completion_tokens=said, total_tokens=asked + said, **verdict.billing
            )
        original = litellm.ModelResponse(model=exchange.model)
        original.usage = usage
        return ModifyResponseException(
            message=reference.text,
            model=exchange.model,
            request_data=request,
            guardrail_name=self.guardrail_name,
            original_response=original,
        )

    def _record(self, verdict: Verdict, request: dict[str, Any], started: float) -> None:
        """One entry in LiteLLM's own logs; numbers only, never a text."""
        decision = verdict.decision
        if decision is None:
            return
        ended, status = time.time(), _STATUS.get(verdict.action, "guardrail_intervened")
        self.add_standard_logging_guardrail_information_to_request_data(
            guardrail_json_response={
                "action": verdict.action.value,
                "would": verdict.would.value,
                "check": decision.by,
                "audit_id": verdict.audit_id,
                "bypassed": list(decision.bypassed),
                "findings": {finding.check: _numbers(finding) for finding in decision.findings},
            },
            request_data=request,
            guardrail_status="guardrail_failed_to_respond"
            if decision.failed and status == "success"
            else status,
            start_time=started,
            end_time=ended,
            duration=ended - started,
            guardrail_provider="sifwatch",
        )


def _judged(verdict: Verdict) -> bool:
    """Whether the deciding check came to a finding; LiteLLM drops a batch's record only then."""
    decision = verdict.decision
    return decision is None or not any(
        finding.check == decision.by and finding.status is Status.FAILED for finding in decision.findings
    )


def _numbers(finding: Finding) -> dict[str, str | float]:
    measures = {name: round(value, 4) for name, value in finding.measures.items()}
    return {"status": finding.status.value, **measures}


def _router() -> Any:
    from litellm.proxy.proxy_server import llm_router  # set by the proxy's start, after our constructor

    return llm_router


def _router_completion() -> Complete | None:
    router = _router()
    return None if router is None else router.acompletion


def _router_address(alias: str) -> str | None:
    """The API base of the alias's deployments where all of them have one and the same kind; else ``None``."""
    router = _router()
    rows = [] if router is None else router.get_model_list(model_name=alias) or []
    addresses = [(row.get("litellm_params") or {}).get("api_base") for row in rows]
    # One deployment that is not local makes the alias not local.
    return next((a for a in addresses if not is_local(a)), addresses[0] if addresses else None)


def _own_metadata(request: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata: Mapping[str, Any] = sanitized_forwardable_call_metadata(
        proxy_metadata(request), "sif_gateway_reference"
    )
    return metadata
