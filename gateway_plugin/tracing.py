"""OpenTelemetry spans around screening, where the process has an SDK configured; otherwise nothing happens.

Spans carry numbers and a few words of the gateway's own (a check, a status, an action), never a text of
prompt or answer: a string is kept under the names in ``WORDS`` alone. An exception is recorded by its type.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from numbers import Real
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

WORDS = frozenset(
    {
        "action",
        "bypassed",
        "by",
        "check",
        "effective",
        "guardrail",
        "kind",
        "outcome",
        "phase",
        "route",
        "status",
    }
)
"""Attributes that may be strings: each is one of a few words that code or configuration chose."""

_LONGEST_WORD = 64
_PREFIX = "sif."


class Attributes(Protocol):
    """What the body of a span says once it knows more."""

    def set(self, **attributes: object) -> None:
        """Set attributes, under the rules of :func:`span`."""
        ...


class _Untraced:
    def set(self, **attributes: object) -> None:
        pass


class _Traced:
    def __init__(self, traced: Any) -> None:
        self._traced = traced

    def set(self, **attributes: object) -> None:
        self._traced.set_attributes(dict(_kept(attributes)))


@contextmanager
def span(name: str, **attributes: object) -> Iterator[Attributes]:
    """A span around the body, below the current one; an exception passes through.

    Costs a few microseconds where no SDK is configured (or the API is not installed)::

        with span("sif.check", check=check.name, phase=check.phase) as current:
            finding = check.score(query)
            current.set(status=finding.status, measures=finding.measures)

    Args:
        name: of the span; a constant.
        attributes: strings (or sequences of them) under the names in ``WORDS``, cut after 64 characters;
            finite numbers and truth values under any name; ``measures``, a mapping of numbers. All are
            recorded as ``sif.<name>`` (``sif.measure.<name>``), anything else is left out.
    """
    tracer = _tracer()
    if tracer is None:
        yield _Untraced()
        return
    with tracer.start_as_current_span(
        name, attributes=dict(_kept(attributes)), record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield _Traced(current)
        except BaseException as error:
            current.set_attribute("error.type", type(error).__qualname__)
            if isinstance(error, Exception):  # a cancelled task is not an error
                from opentelemetry.trace import StatusCode

                current.set_status(StatusCode.ERROR)
            raise


def _kept(attributes: Mapping[str, object]) -> Iterator[tuple[str, Any]]:
    for name, value in attributes.items():
        if name == "measures" and isinstance(value, Mapping):
            yield from _kept({f"measure.{key}": measure for key, measure in value.items()})
        elif isinstance(value, bool | int):
            yield _PREFIX + name, value
        elif isinstance(value, Real) and math.isfinite(value):
            yield _PREFIX + name, float(value)
        elif name in WORDS and isinstance(value, str):
            yield _PREFIX + name, _word(value)
        elif name in WORDS and isinstance(value, list | tuple):
            yield _PREFIX + name, [_word(each) for each in value if isinstance(each, str)]


def _word(value: str) -> str:
    return value[:_LONGEST_WORD].encode("utf-8", "replace").decode()


def _tracer() -> "Tracer | None":
    trace = _api()
    if trace is None:
        return None
    try:
        provider = trace.get_tracer_provider()
    except Exception:  # a provider that the environment names and that cannot be loaded stops no traffic
        return None
    return None if isinstance(provider, trace.ProxyTracerProvider) else _tracer_of(provider)


@lru_cache(maxsize=1)
def _api() -> ModuleType | None:
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    return trace


@lru_cache(maxsize=1)
def _tracer_of(provider: Any) -> Any:
    return provider.get_tracer("sifwatch.gateway")
