"""What a chat-completions request may say, and its translation into one job for the engine."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sif_offline.fingerprint.images import MAX_BYTES, ImageError, from_data_url
from sif_offline.lab.server.errors import ApiError, from_validation

MAX_MESSAGES = 256
# The one neutral value of each parameter this server does not implement; anything else is an honest 400.
_NEUTRAL: MappingProxyType[str, tuple[Any, ...]] = MappingProxyType(
    {
        "n": (1,),
        "frequency_penalty": (0,),
        "presence_penalty": (0,),
        "logprobs": (False,),
        "logit_bias": ({},),
        "tools": ([],),
        "functions": ([],),
        "response_format": ({"type": "text"},),
        "modalities": (["text"],),
    }
)
# Said about the caller, not about the answer: accepted and not used.
_IGNORED = frozenset({"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"})


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Text(_Strict):
    type: Literal["text"]
    text: str


class _ImageURL(_Strict):
    url: str
    detail: Literal["auto", "low", "high"] | None = None


class _Image(_Strict):
    type: Literal["image_url"]
    image_url: _ImageURL


_Part = Annotated[_Text | _Image, Field(discriminator="type")]


class _Message(_Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[_Part], Field(max_length=64)]
    name: str | None = None


class _StreamOptions(_Strict):
    include_usage: bool = False
    include_obfuscation: bool = False


class ChatRequest(BaseModel):
    """The body of ``POST /v1/chat/completions``."""

    model_config = ConfigDict(extra="allow", frozen=True)

    model: str
    messages: list[_Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


@dataclass(frozen=True, kw_only=True)
class ChatJob:
    """One answer to compute: ``messages`` in the processor's chat form, ``images`` as undecoded files."""

    messages: tuple[dict[str, Any], ...]
    images: tuple[bytes, ...]
    temperature: float
    top_p: float
    max_tokens: int | None
    seed: int | None
    stop: tuple[str, ...]

    @classmethod
    def words(cls, text: str, *, max_tokens: int) -> "ChatJob":
        """One user turn without a picture, answered greedily."""
        message = {"role": "user", "content": [{"type": "text", "text": text}]}
        return cls(
            messages=(message,), images=(), temperature=0, top_p=1, max_tokens=max_tokens, seed=None, stop=()
        )


def parse_request(body: bytes) -> ChatRequest:
    """The validated request. Raises ``ApiError`` (400): broken JSON, a wrong field, an unsupported one."""
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise from_validation(error) from None
    for name, value in (request.model_extra or {}).items():
        if value is None or name in _IGNORED:
            continue
        if name not in _NEUTRAL:
            raise ApiError(f"Unrecognized request argument supplied: {name[:100]}", param=name[:100])
        if value not in _NEUTRAL[name]:
            raise ApiError(f"This server supports '{name}' only as {_NEUTRAL[name][0]!r}", param=name)
    if request.stream_options is not None and not request.stream:
        raise ApiError("'stream_options' is only allowed when 'stream' is true", param="stream_options")
    return request


def to_job(request: ChatRequest, *, max_image_bytes: int = MAX_BYTES) -> ChatJob:
    """The engine's job. Raises ``ApiError`` (400): a URL that is no data URL is refused, never fetched."""
    images: list[bytes] = []
    messages = tuple(_message(row, at, images, max_image_bytes) for at, row in enumerate(request.messages))
    stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    if len(stop) > 4 or not all(stop):
        raise ApiError("'stop' is one to four strings that are not empty", param="stop")
    limits = {value for value in (request.max_tokens, request.max_completion_tokens) if value is not None}
    if len(limits) > 1:
        raise ApiError("'max_tokens' and 'max_completion_tokens' disagree: send one", param="max_tokens")
    return ChatJob(
        messages=messages,
        images=tuple(images),
        temperature=request.temperature or 0.0,
        top_p=1.0 if request.top_p is None else request.top_p,
        max_tokens=limits.pop() if limits else None,
        seed=request.seed,
        stop=stop,
    )


def _message(message: _Message, at: int, images: list[bytes], max_image_bytes: int) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role
    parts = message.content
    if isinstance(parts, str):
        parts = [_Text(type="text", text=parts)]
    content: list[dict[str, str]] = []
    for place, part in enumerate(parts):
        if isinstance(part, _Text):
            content.append({"type": "text", "text": part.text})
            continue
        param = f"messages.{at}.content.{place}.image_url.url"
        if role != "user":
            raise ApiError("Only a user message may hold an image", param=param)
        if not part.image_url.url.startswith("data:"):
            raise ApiError(
                "image_url has to be a data URL (data:image/...;base64,...): this server fetches no URL",
                param=param,
                code="invalid_image_url",
            )
        try:
            images.append(from_data_url(part.image_url.url, max_bytes=max_image_bytes))
        except ImageError as error:
            raise ApiError(str(error), param=param, code="invalid_image") from None
        content.append({"type": "image"})
    return {"role": role, "content": content}
