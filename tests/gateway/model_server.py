"""A scripted model server on every route that is screened, for the middleware in front of it."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

HONEST = "A brown dog is running through a green field."
STRANGE = "The conference takes place every spring in Vienna."
ROUTES = {"chat": "chat/completions", "responses": "responses", "messages": "messages"}


class Answers:
    """The application behind the middleware. What a query says decides how it is answered."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.app = FastAPI()
        for route in (*ROUTES, "embeddings", "completions"):
            self.app.post(f"/v1/{ROUTES.get(route, route)}")(self._endpoint(route))

    def _endpoint(self, route: str) -> Any:
        async def serve(request: Request) -> Response:
            raw = await request.body()
            body = json.loads(raw)
            self.asked[route] += 1
            self.bodies.append(body)
            said = json.dumps(body)
            text = STRANGE if "DIVERGE" in said else HONEST
            if "ECHO" in said:
                text = f"The dog says {body['messages'][-1]['content']}"
            if "SLOW" in said:
                await asyncio.sleep(0.6)
            if "BROKEN" in said:
                return JSONResponse({"error": {"message": "no memory"}}, status_code=503)
            if "PLAIN" in said:
                return PlainTextResponse(text)
            if "LARGE" in said:
                text += "x" * 300_000
            if body.get("stream"):
                events = self._cut(route, text) if "CUT" in said else self._events(route, text)
                return StreamingResponse(events, media_type="text/event-stream")
            return JSONResponse(whole_answer(route, text), headers={"etag": "x"})

        return serve

    async def _events(self, route: str, text: str) -> AsyncIterator[bytes]:
        for event in stream_events(route, text):
            yield event
            await asyncio.sleep(0)

    async def _cut(self, route: str, text: str) -> AsyncIterator[bytes]:
        for event in stream_events(route, text)[:4]:
            yield event
        raise ConnectionError("the model is gone")


def whole_answer(route: str, text: str) -> dict[str, Any]:
    if route == "messages":
        content = [{"type": "text", "text": text}]
        envelope = {"id": "msg_1", "type": "message", "role": "assistant", "model": "served"}
        usage = {"input_tokens": 9, "output_tokens": 20}
        return {**envelope, "content": content, "stop_reason": "end_turn", "usage": usage}
    if route == "responses":
        part = {"type": "output_text", "text": text, "annotations": []}
        item = {"type": "message", "id": "m", "status": "completed", "role": "assistant", "content": [part]}
        envelope = {"id": "resp_1", "object": "response", "created_at": 1, "status": "completed"}
        more = {"model": "served", "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
        return {**envelope, **more, "output": [item]}
    if route == "embeddings":
        row = {"object": "embedding", "index": 0, "embedding": [0.5]}
        return {"object": "list", "data": [row], "model": "served", "usage": {"prompt_tokens": 1}}
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
    choice |= (
        {"text": text} if route == "completions" else {"message": {"role": "assistant", "content": text}}
    )
    return {"id": "c-1", "object": "chat.completion", "created": 1, "model": "served", "choices": [choice]}


def stream_events(route: str, text: str) -> list[bytes]:
    words = [f"{word} " for word in text.split()]
    whole = whole_answer(route, text)
    if route == "messages":
        rows = [
            {"type": "message_start", "message": {**whole, "content": []}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            *({"type": "content_block_delta", "delta": {"type": "text_delta", "text": w}} for w in words),
            {"type": "message_stop"},
        ]
        return [f"event: {row['type']}\ndata: {json.dumps(row)}\n\n".encode() for row in rows]
    if route == "responses":
        place = {"item_id": "m", "output_index": 0, "content_index": 0}
        begun = {**whole, "status": "in_progress", "output": []}
        item = whole["output"][0]
        rows = [
            {"type": "response.created", "response": begun},
            {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
            {"type": "response.content_part.added", **place, "part": {**item["content"][0], "text": ""}},
            *({"type": "response.output_text.delta", **place, "delta": w} for w in words),
            {"type": "response.completed", "response": whole},
        ]
        return [
            f"event: {row['type']}\ndata: {json.dumps({**row, 'sequence_number': i})}\n\n".encode()
            for i, row in enumerate(rows)
        ]
    envelope = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "served"}
    deltas = [{"role": "assistant", "content": ""}, *({"content": word} for word in words), {}]
    chunks = [
        {**envelope, "choices": [{"index": 0, "delta": d, "finish_reason": None if d else "stop"}]}
        for d in deltas
    ]
    return [*(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks), b"data: [DONE]\n\n"]
