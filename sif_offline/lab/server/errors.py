"""Error bodies in the shape that OpenAI's clients parse: ``{"error": {message, type, param, code}}``."""

from typing import Any

from pydantic import ValidationError


class ApiError(Exception):
    """An answer other than 200. ``message`` is shown to the client: it never repeats image data or keys."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        """The JSON object to send."""
        return {
            "error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code},
        }


def model_not_found(name: str) -> ApiError:
    """404 for a model that this server does not serve."""
    shown = name if len(name) <= 100 else name[:100] + "..."
    return ApiError(f"The model '{shown}' does not exist", status=404, code="model_not_found", param="model")


def context_exceeded(*, limit: int, prompt: int, completion: int) -> ApiError:
    """400 for a prompt and completion that together do not fit into ``limit`` tokens."""
    return ApiError(
        f"This model's maximum context length is {limit} tokens. However, you requested {prompt + completion} tokens "
        f"({prompt} in the messages, {completion} in the completion).",
        code="context_length_exceeded",
        param="messages",
    )


def server_busy(waiting: int) -> ApiError:
    """503 when the queue is full."""
    return ApiError(
        f"The server is busy: {waiting} requests are already waiting; try again later",
        status=503,
        kind="server_error",
        code="queue_full",
        headers={"Retry-After": "1"},
    )


def from_validation(error: ValidationError) -> ApiError:
    """400 that names the first wrong field; the offending value, which may be a whole picture, is left out."""
    # A value that fits no arm of a union fails once for each arm: the deepest place is the most telling one.
    first = max(error.errors(include_input=False, include_url=False), key=lambda row: len(row["loc"]))
    # pydantic names the arm of a union inside the path ("list[...]", "text"): those are no fields of the request.
    arms = {"str", "text", "image_url"} if len(first["loc"]) > 4 else {"str"}
    place = [str(p) for at, p in enumerate(first["loc"]) if not (isinstance(p, str) and ("[" in p or _arm(p, at, arms)))]
    param = ".".join(place) or None
    return ApiError(f"{param}: {first['msg']}" if param else first["msg"], param=param)


def _arm(part: str, at: int, arms: set[str]) -> bool:
    # messages . 0 . content . list[...] . 1 . image_url(arm) . image_url(field) . url
    return part in arms and at in (3, 5)
