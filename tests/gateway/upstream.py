"""A scripted OpenAI-compatible model server, for proxies in front of it, and the ways in which one breaks."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

HONEST = "A brown dog is running through a green field of tall grass while its owner watches from the fence."
LIKE_HONEST = "A brown dog runs across a grassy field and a person at the fence watches it."
UNRELATED = "The International Conference on Learning Representations takes place every spring in Vienna."


@dataclass
class Upstream:
    """An OpenAI-compatible server. A query that says DIVERGE gets an unrelated answer from the main model."""

    url: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def app(self) -> FastAPI:
        app = FastAPI()

        def answer(body: dict[str, Any], said: object) -> str:
            self.asked[body["model"]] += 1
            self.bodies.append(body)
            if body["model"] == "ref":
                return LIKE_HONEST
            return UNRELATED if "DIVERGE" in str(said) or body.get("tools") else HONEST

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Any:
            body = await request.json()
            model, text = body["model"], answer(body, body["messages"])
            if model in FAULTS:
                return await faulty(model)
            if body.get("stream"):
                return StreamingResponse(chunks(model, text), media_type="text/event-stream")
            return JSONResponse(completion(model, *[text] * (body.get("n") or 1)))

        @app.post("/v1/responses")  # LiteLLM sends /v1/messages of an openai/ model here as well
        async def responses(request: Request) -> Any:
            body = await request.json()
            whole = response_object(body["model"], answer(body, body["input"]))
            if body.get("stream"):
                return StreamingResponse(response_events(whole), media_type="text/event-stream")
            return whole

        @app.post("/v1/completions")
        async def completions(request: Request) -> Any:
            body = await request.json()
            row = {"id": "t", "object": "text_completion", "created": 1, "model": body["model"]}
            choice = {"index": 0, "text": answer(body, body["prompt"]), "logprobs": None}
            whole = {**row, "choices": [{**choice, "finish_reason": "stop"}]}
            if body.get("stream"):
                lines = (f"data: {json.dumps(whole)}\n\n", "data: [DONE]\n\n")
                return StreamingResponse(iter(lines), media_type="text/event-stream")
            return {**whole, "usage": {"prompt_tokens": 9, "completion_tokens": 20, "total_tokens": 29}}

        @app.post("/v1/embeddings")
        async def embeddings(request: Request) -> Any:
            body = await request.json()
            answer(body, "")
            row = {"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}
            usage = {"prompt_tokens": 3, "total_tokens": 3}
            return {"object": "list", "data": [row], "model": body["model"], "usage": usage}

        return app


FAULTS = ("down", "slow", "no-choices", "empty", "other-json", "not-json", "html", "cut")


async def faulty(kind: str) -> Response:
    """What a broken model server says."""
    if kind == "down":
        return JSONResponse({"error": {"message": "out of memory"}}, status_code=503)
    if kind == "slow":
        await asyncio.sleep(5)
    if kind == "no-choices":
        return JSONResponse({**completion(kind, ""), "choices": []})
    if kind == "other-json":
        return JSONResponse({"status": "ok", "items": [1, 2]})
    if kind == "not-json":
        return Response('{"id": "chatcmpl-1", "choi', media_type="application/json")
    if kind == "html":
        return HTMLResponse("<html><body>Welcome to nginx!</body></html>")
    if kind == "cut":  # the length of the body is a lie, the connection ends early
        return Response("{}", headers={"content-length": "4000"}, media_type="application/json")
    return JSONResponse(completion(kind, ""))


def response_object(model: str, answer: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": answer, "annotations": []}
    message = {"type": "message", "id": "m", "status": "completed", "role": "assistant", "content": [part]}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": model,
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {"input_tokens": 9, "output_tokens": 20, "total_tokens": 29},
    }


def response_events(whole: dict[str, Any]) -> Iterator[str]:
    """The answer as the responses route streams it."""
    item = whole["output"][0]
    part = item["content"][0]
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        *(
            {"type": "response.output_text.delta", **place, "delta": f"{word} "}
            for word in part["text"].split()
        ),
        {"type": "response.output_text.done", **place, "text": part["text"]},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]
    for number, event in enumerate(events):
        yield f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': number})}\n\n"


def completion(model: str, *answers: str) -> dict[str, Any]:
    prompt, answered = (7, 13) if model == "ref" else (9, 20)
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [
            {"index": i, "message": {"role": "assistant", "content": a}, "finish_reason": "stop"}
            for i, a in enumerate(answers)
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": answered,
            "total_tokens": prompt + answered,
        },
    }


def chunks(model: str, answer: str) -> Iterator[str]:
    words = [f"{word} " for word in answer.split()]
    deltas: list[dict[str, str]] = [
        {"role": "assistant", "content": ""},
        *({"content": w} for w in words),
        {},
    ]
    for delta in deltas:
        choice = {"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}
        row = {
            "id": "c",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": model,
            "choices": [choice],
        }
        yield f"data: {json.dumps(row)}\n\n"
    yield "data: [DONE]\n\n"
