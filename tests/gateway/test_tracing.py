"""Spans where an SDK is configured, nothing where none is; never a text."""

import asyncio
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode

from gateway_plugin.screening.base import Phase
from gateway_plugin.screening.base import Status as FindingStatus
from gateway_plugin.tracing import span

PRIVATE = "private words of a prompt"


@dataclass
class Recorded(NonRecordingSpan):
    """One span as the API lets an SDK see it."""

    name: str
    parent: Any
    attributes: dict[str, Any] = field(default_factory=dict)
    events: list[Any] = field(default_factory=list)
    status: StatusCode | None = None
    ended: int = 0

    def is_recording(self) -> bool:
        return not self.ended

    def get_span_context(self) -> SpanContext:
        return SpanContext(trace_id=1, span_id=id(self) % 2**64 or 1, is_remote=False)

    def set_attributes(self, attributes: Any) -> None:
        self.attributes |= attributes

    def set_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value

    def record_exception(self, exception: BaseException, *args: Any, **kwargs: Any) -> None:
        self.events.append(exception)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        assert description is None
        self.status = status if isinstance(status, StatusCode) else status.status_code

    def end(self, end_time: int | None = None) -> None:
        self.ended += 1


class Provider(trace.TracerProvider, trace.Tracer):
    """The least SDK: keeps every span in a list."""

    def __init__(self) -> None:
        self.spans: list[Recorded] = []

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        return self

    def start_span(self, name: str, context: Any = None, **options: Any) -> trace.Span:
        self.spans.append(
            Recorded(name, trace.get_current_span(context), dict(options.get("attributes") or {}))
        )
        return self.spans[-1]

    @contextmanager
    def start_as_current_span(self, name: str, **options: Any) -> Iterator[trace.Span]:  # type: ignore[override]
        own = {key: options.pop(key) for key in ("record_exception", "set_status_on_exception")}
        with trace.use_span(self.start_span(name, **options), end_on_exit=True, **own) as current:
            yield current


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    provider = Provider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return provider.spans


def test_a_span_says_what_was_found(spans: list[Recorded]) -> None:
    with span("sif.check", check="perplexity", phase=Phase.REQUEST) as current:
        current.set(status=FindingStatus.HIT, action="block", measures={"worst_window": 12_000.5, "texts": 2})
    (one,) = spans
    assert (one.name, one.ended, one.status) == ("sif.check", 1, None)
    assert one.attributes == {
        "sif.check": "perplexity",
        "sif.phase": "request",
        "sif.status": "hit",
        "sif.action": "block",
        "sif.measure.worst_window": 12_000.5,
        "sif.measure.texts": 2,
    }


def test_values_are_of_the_types_that_exporters_take(spans: list[Recorded]) -> None:
    with span("s", seconds=np.float32(0.5), dry_run=True, bypassed=("judge",), check="\ud800" + "x" * 100):
        pass
    attributes = spans[0].attributes
    assert attributes == {
        "sif.seconds": 0.5,
        "sif.dry_run": True,
        "sif.bypassed": ["judge"],
        "sif.check": "?" + "x" * 63,
    }
    assert {type(value) for value in attributes.values()} == {float, bool, list, str}


def test_no_text_gets_into_a_span(spans: list[Recorded]) -> None:
    with span(
        "s", prompt=PRIVATE, texts=[PRIVATE], query={"text": PRIVATE}, measures={"x": PRIVATE}
    ) as current:
        current.set(reason=PRIVATE, answer=PRIVATE, image=b"\x89PNG", nothing=None, cosine=math.nan)
    assert spans[0].attributes == {}


def test_spans_nest(spans: list[Recorded]) -> None:
    with span("sif.request"), span("sif.check"):
        pass
    outer, inner = spans
    assert inner.parent is outer
    assert outer.parent is trace.INVALID_SPAN


def test_spans_of_tasks_at_once_do_not_mix(spans: list[Recorded]) -> None:
    async def screen(number: int) -> None:
        with span("outer", number=number):
            await asyncio.sleep(0)
            with span("inner", number=number):
                await asyncio.sleep(0)

    async def both() -> None:
        await asyncio.gather(*(screen(number) for number in range(5)))

    asyncio.run(both())
    inner = [each for each in spans if each.name == "inner"]
    assert len(inner) == 5
    assert all(each.parent.attributes == each.attributes for each in inner)


def test_an_exception_is_its_type_and_passes_through(spans: list[Recorded]) -> None:
    with pytest.raises(ValueError, match=PRIVATE), span("s"):
        raise ValueError(PRIVATE)
    (one,) = spans
    assert one.attributes == {"error.type": "ValueError"}
    assert (one.events, one.status, one.ended) == ([], StatusCode.ERROR, 1)


def test_a_cancelled_task_is_no_error(spans: list[Recorded]) -> None:
    with pytest.raises(asyncio.CancelledError), span("s"):
        raise asyncio.CancelledError
    (one,) = spans
    assert (one.attributes, one.status, one.ended) == ({"error.type": "CancelledError"}, None, 1)


def test_without_an_sdk_nothing_happens() -> None:
    before = trace.get_current_span()
    with span("s", check="perplexity") as current:
        current.set(status="hit")
        assert trace.get_current_span() is before
    with pytest.raises(ValueError, match="passes"), span("s"):
        raise ValueError("passes")


def run(script: str, **environment: str) -> None:
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, env=environment)


def test_without_the_api_nothing_happens() -> None:
    run("""
import sys
sys.modules["opentelemetry"] = None  # as if it were not installed
from gateway_plugin.tracing import span
with span("s", check="perplexity") as current:
    current.set(status="hit")
""")


def test_a_provider_that_cannot_be_loaded_stops_no_traffic() -> None:
    run(
        """
from gateway_plugin.tracing import span
done = []
for _ in range(2):
    with span("s", check="perplexity") as current:
        current.set(status="hit")
        done.append(1)
assert done == [1, 1]
""",
        OTEL_PYTHON_TRACER_PROVIDER="no_such_provider",
    )


def test_with_the_real_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="opentelemetry-sdk is not installed")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    provider, exporter = sdk.TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    with span("sif.request", phase=Phase.REQUEST) as current:
        current.set(action="flag")
        with pytest.raises(ValueError, match=PRIVATE), span("sif.check", check="x", measures={"m": 0.5}):
            raise ValueError(PRIVATE)
    inner, outer = exporter.get_finished_spans()
    assert outer.attributes == {"sif.phase": "request", "sif.action": "flag"}
    assert inner.attributes == {"sif.check": "x", "sif.measure.m": 0.5, "error.type": "ValueError"}
    assert inner.parent.span_id == outer.context.span_id
    assert (inner.status.status_code, inner.status.description, inner.events) == (StatusCode.ERROR, None, ())
    assert inner.instrumentation_scope.name == "sifwatch.gateway"
    assert PRIVATE not in inner.to_json() + outer.to_json()
    provider.shutdown()
