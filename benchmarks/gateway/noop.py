"""A guardrail that does nothing: what LiteLLM itself charges for having one."""

from typing import Any

from litellm.integrations.custom_guardrail import CustomGuardrail


class Noop(CustomGuardrail):
    """Called before and after the main call, and lets everything pass."""

    async def apply_guardrail(
        self, inputs: Any, request_data: dict[str, Any], input_type: str, logging_obj: Any = None
    ) -> Any:
        return inputs
