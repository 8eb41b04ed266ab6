"""A guardrail that the proxy of the tests loads: it writes down what LiteLLM calls it with."""

import json
import os
from pathlib import Path
from typing import Any

from litellm.integrations.custom_guardrail import CustomGuardrail
from litellm.litellm_core_utils.internal_call_metadata import sanitized_forwardable_call_metadata


class Spy(CustomGuardrail):  # type: ignore[misc]
    """One JSON line a call, appended to the file that ``SPY_CALLS`` names."""

    streaming_buffer_until_moderated = False
    streaming_end_of_stream_only = True

    async def apply_guardrail(
        self, inputs: Any, request_data: dict[str, Any], input_type: str, logging_obj: Any = None
    ) -> Any:
        from litellm.proxy.proxy_server import llm_router

        received = request_data.get("proxy_server_request") or {}
        places = [request_data.get(name) or {} for name in ("metadata", "litellm_metadata")]
        metadata = next((place for place in places if place.get("user_api_key_hash")), {})
        own = logging_obj if logging_obj is not None else request_data.get("litellm_logging_obj")
        rows = llm_router.get_model_list(model_name="ref") if llm_router is not None else []
        seen = {
            "phase": input_type,
            "texts": list(inputs.get("texts") or ()),
            "messages": inputs.get("structured_messages"),
            "call": request_data.get("litellm_call_id"),
            "logging_object": id(own) if own is not None else None,
            "url": str(received.get("url") or ""),
            "headers": sorted(map(str.lower, received.get("headers") or {})),
            "model": request_data.get("model"),
            "key_hash": metadata.get("user_api_key_hash"),
            "metadata": sorted(name for name, value in metadata.items() if value),
            "forwardable": sorted(sanitized_forwardable_call_metadata(metadata, "spy")),
            "router": callable(getattr(llm_router, "acompletion", None)),
            "reference_address": [(row.get("litellm_params") or {}).get("api_base") for row in rows or ()],
        }
        with Path(os.environ["SPY_CALLS"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(seen, default=str) + "\n")
        return inputs
