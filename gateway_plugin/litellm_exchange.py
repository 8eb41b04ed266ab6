"""Reading an exchange out of what LiteLLM hands a guardrail, whatever the route."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from gateway_plugin.exchange import Caller, Exchange
from gateway_plugin.wire.queries import ROUTES, ReadQuery, read_query

# LiteLLM serves them under other prefixes too, and under none.
_ENDS = {path.removeprefix("/v1/"): route for path, route in ROUTES.items()}
CHATS = frozenset({"chat", "responses", "messages"})


def read_exchange(
    inputs: Mapping[str, Any], request: Mapping[str, Any], *, phase: str, logging_obj: Any
) -> Exchange:
    """``phase``: LiteLLM's word, ``request`` or ``response``."""
    texts = tuple(text for text in inputs.get("texts") or () if isinstance(text, str))
    late, route = phase == "response", _route(request)
    query = read_query(route, request) if route in CHATS else ReadQuery()
    return Exchange(
        call=_call(request, logging_obj),
        route=route,
        model=str(request.get("model") or ""),
        messages=tuple(_messages(inputs, query)),
        texts=() if late else query.texts or texts,
        unread=query.unread,
        request=request,
        headers=_headers(request),
        caller=caller_of(proxy_metadata(request)),
        answers=texts if late else (),
        has_tool_calls=late and bool(inputs.get("tool_calls")),
    )


def _call(request: Mapping[str, Any], logging_obj: Any) -> str:
    """The same in both phases of one call. A client can choose its call id (a header), so that alone could
    make two of its calls share a state; the logging object is the proxy's own."""
    call_id = request.get("litellm_call_id")
    own = logging_obj if logging_obj is not None else request.get("litellm_logging_obj")
    return f"{call_id}/{id(own):x}" if call_id else ""


def _route(request: Mapping[str, Any]) -> str:
    received = request.get("proxy_server_request")
    path = urlsplit(str(received.get("url") or "")).path if isinstance(received, Mapping) else ""
    return next((route for end, route in _ENDS.items() if path.endswith(end)), "other")


def _headers(request: Mapping[str, Any]) -> dict[str, str]:
    received = request.get("proxy_server_request")
    headers = received.get("headers") if isinstance(received, Mapping) else None
    return {str(k).lower(): str(v) for k, v in headers.items()} if isinstance(headers, Mapping) else {}


def proxy_metadata(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the proxy wrote down about who asks: in one of two places, depending on the route.

    The other place may be the client's own, or LiteLLM's copy under other names, so the one with the key's
    hash is taken; LiteLLM strips every ``user_api_key_*`` from what a client sends.
    """
    places = [request.get("metadata"), request.get("litellm_metadata")]
    found = [place for place in places if isinstance(place, Mapping)]
    return next((place for place in found if place.get("user_api_key_hash")), found[-1] if found else {})


def caller_of(own: Mapping[str, Any]) -> Caller:
    """As the proxy authenticated them, from what it wrote down about who asks."""

    def named(*names: str) -> list[str]:
        return [value for name in names if isinstance(value := own.get(name), str) and value]

    user = named("user_api_key_end_user_id", "user_api_key_user_id")
    return Caller(
        teams=frozenset(named("user_api_key_team_alias", "user_api_key_team_id")),
        keys=frozenset(
            named("user_api_key_alias", "user_api_key_key_alias", "user_api_key_hash", "user_api_key_token")
        ),
        end_user=user[0] if user else "",
    )


def _messages(inputs: Mapping[str, Any], query: ReadQuery) -> Sequence[Mapping[str, Any]]:
    """The chat messages in OpenAI's shape; empty where the route has none that we understand, and where a
    conversation goes on that the model's server alone holds: no other model can be asked the same.

    A chat of pictures alone never reaches the request phase: then they are read from the request itself.
    """
    if query.texts or query.unread:
        return []
    messages = inputs.get("structured_messages") or query.messages
    return [row for row in map(_mapping, messages) if row is not None]


def _mapping(message: Any) -> Mapping[str, Any] | None:
    if isinstance(message, Mapping):
        return message
    dump = getattr(message, "model_dump", None)
    dumped = dump() if callable(dump) else None
    return dumped if isinstance(dumped, Mapping) else None
