"""The engine's events as OpenAI's objects: one completion, or a stream of chunks."""

import json
import logging
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from sif_offline.lab.server.engine import Delta, Event, Finished
from sif_offline.lab.server.errors import internal_error

_LOG = logging.getLogger(__name__)


class EventStream(StreamingResponse):
    """Gives back what the stream holds however it ends, even if the client left before its first byte."""

    def __init__(self, content: AsyncIterator[str], held: AsyncExitStack) -> None:
        super().__init__(content, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


class Reply:
    """Puts the engine's events into OpenAI's objects."""

    def __init__(self, model: str, prompt_tokens: int) -> None:
        self._common = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._prompt_tokens = prompt_tokens

    async def whole(self, events: AsyncIterator[Event]) -> dict[str, Any]:
        """One ``chat.completion`` object."""
        text: list[str] = []
        async for event in events:
            if isinstance(event, Delta):
                text.append(event.text)
            elif isinstance(event, Finished):
                message = {"role": "assistant", "content": "".join(text), "refusal": None}
                choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": event.reason}
                return self._object("chat.completion", [choice], usage=self._usage(event))
        raise RuntimeError("the engine ended without an answer")

    async def stream(self, events: AsyncIterator[Event], *, usage: bool) -> AsyncIterator[str]:
        """Server-sent events: role, words, finish reason, usage if ``usage``, ``[DONE]``."""
        nothing = {"usage": None} if usage else {}
        yield self._chunk({"role": "assistant", "content": ""}, None, **nothing)
        try:
            async for event in events:
                if isinstance(event, Delta):
                    yield self._chunk({"content": event.text}, None, **nothing)
                elif isinstance(event, Finished):
                    yield self._chunk({}, event.reason, **nothing)
                    if usage:
                        yield _sse(self._object("chat.completion.chunk", [], usage=self._usage(event)))
                    yield "data: [DONE]\n\n"
        except Exception:
            # The status 200 is already on its way: an error event, and no [DONE], is the honest end.
            _LOG.exception("an answer broke off")
            yield _sse(internal_error().body())

    def _chunk(self, delta: dict[str, Any], reason: str | None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _sse(self._object("chat.completion.chunk", [choice], **more))

    def _object(self, kind: str, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {**self._common, "object": kind, "choices": choices, "system_fingerprint": None, **more}

    def _usage(self, end: Finished) -> dict[str, int]:
        prompt, completion = self._prompt_tokens, end.completion_tokens
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _sse(payload: dict[str, Any]) -> str:
    return f"data: {json.dumps(payload, ensure_ascii=False)}\n\n"
