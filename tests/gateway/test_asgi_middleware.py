"""The middleware without a server: start-up, settings, where bodies are parsed."""

import asyncio
import threading
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from gateway_plugin.asgi import GatewayMiddleware, hashed_key
from gateway_plugin.config import GatewayConfigError, read_configuration
from gateway_plugin.metrics import GatewayMetrics
from gateway_plugin.references import Models
from gateway_plugin.screener import Screener
from gateway_plugin.wire.bodies import BodyError, parse_object
from tests.gateway.model_server import Answers
from tests.gateway.words import GIBBERISH, WordScreener


def test_what_would_take_seconds_to_parse_is_refused() -> None:
    with pytest.raises(BodyError, match="more than 200000 values"):
        parse_object(b'{"messages": [' + b"[]," * 200_000 + b"[]]}")
    with pytest.raises(BodyError, match="more than 8000000 escaped characters"):
        parse_object(b'{"prompt": "' + b"\\n" * 8_000_001 + b'"}')


def test_a_large_body_is_parsed_off_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, parsed = Answers(), []

    def parse(body: bytes) -> dict[str, Any]:
        parsed.append((len(body) > 100_000, threading.get_ident() == loop_thread))
        return parse_object(body)

    @answers.app.get("/thread")
    async def thread() -> int:
        return threading.get_ident()

    monkeypatch.setattr("gateway_plugin.asgi.parse_object", parse)
    answers.app.add_middleware(
        GatewayMiddleware,
        configuration=read_configuration({"reference_model": "ref"}, where="test"),
        models=Models(complete=lambda: None),
        metrics=(metrics := GatewayMetrics(CollectorRegistry())),
        screeners=lambda _: WordScreener(metrics=metrics),
    )
    with TestClient(answers.app) as client:
        loop_thread = client.get("/thread").json()
        for size in (10, 200_000):
            body = {"model": "main", "messages": [{"role": "user", "content": "x" * size}]}
            assert client.post("/v1/chat/completions", json=body).status_code == 200
    assert parsed == [(False, True), (True, False)]


def test_the_case_of_the_scheme_makes_no_other_caller() -> None:
    def keys(header: str) -> frozenset[str]:
        return hashed_key({"headers": [(b"authorization", header.encode())]}).keys

    assert keys("Bearer sk-1") == keys("bearer sk-1") == keys("BEARER  sk-1") != keys("Bearer sk-2")


def middleware(app: Any, **more: Any) -> GatewayMiddleware:
    metrics = GatewayMetrics(CollectorRegistry())
    return GatewayMiddleware(
        app,
        configuration=read_configuration({"reference_model": "ref"}, where="test"),
        models=Models(complete=lambda: None),
        **{"metrics": metrics, "screeners": lambda _: WordScreener(metrics=metrics), **more},
    )


def test_models_are_loaded_at_start_up_and_a_failure_stops_it_in_one_line() -> None:
    loaded: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        loaded.append((await receive())["type"])
        await send({"type": "lifespan.startup.complete"})
        await receive()

    async def start(made: GatewayMiddleware) -> list[Any]:
        sent: list[Any] = []
        incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

        async def receive() -> Any:
            return incoming.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        await made({"type": "lifespan"}, receive, send)
        return sent

    metrics = GatewayMetrics(CollectorRegistry())

    def load(_: Any) -> Screener:
        loaded.append("models")
        return WordScreener(metrics=metrics)

    def broken(_: Any) -> Screener:
        raise OSError("no such model\nand more")

    assert asyncio.run(start(middleware(app, screeners=load))) == [{"type": "lifespan.startup.complete"}]
    assert loaded == ["models", "lifespan.startup"]
    failed = asyncio.run(start(middleware(app, screeners=broken)))
    assert failed == [{"type": "lifespan.startup.failed", "message": "no such model"}]


def test_an_application_adds_it_like_any_middleware() -> None:
    answers, metrics = Answers(), GatewayMetrics(CollectorRegistry())
    answers.app.add_middleware(
        GatewayMiddleware,
        configuration=read_configuration({"reference_model": "ref", "action": "block"}, where="test"),
        models=Models(complete=lambda: None),
        metrics=metrics,
        screeners=lambda _: WordScreener(metrics=metrics),
    )
    with TestClient(answers.app) as client:
        for text, status in ((GIBBERISH, 400), ("What is it?", 200)):
            body = {"model": "main", "messages": [{"role": "user", "content": text}]}
            assert client.post("/v1/chat/completions", json=body).status_code == status


def test_an_unknown_kind_of_route_is_an_error_of_the_operator() -> None:
    with pytest.raises(GatewayConfigError, match=r"routes: 'chats' is none of chat, "):
        middleware(None, routes={"/chat": "chats"})
