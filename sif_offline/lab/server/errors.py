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
        f"This model's maximum context length is {limit} tokens. However, you requested "
        f"{prompt + completion} tokens ({prompt} in the messages, {completion} in the completion).",
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


def internal_error() -> ApiError:
    """500 without details: they are in the server's log."""
    return ApiError("The server had an error while processing the request", status=500, kind="server_error")


def from_validation(error: ValidationError) -> ApiError:
    """400 naming the first wrong field; its value, which may be a whole picture, is left out."""
    # A value that fits no arm of a union fails once for each arm: the deepest place is the most telling one.
    row = max(error.errors(include_input=False, include_url=False), key=lambda each: len(each["loc"]))
    param = ".".join(_field_path(row["loc"])) or None
    return ApiError(f"{param}: {row['msg']}" if param else row["msg"], param=param)


def _field_path(place: tuple[int | str, ...]) -> list[str]:
    """Without the union arms that pydantic puts in: after ``content``, and after the number of a part."""
    if place[:1] == ("messages",) and place[2:3] == ("content",):
        place = place[:3] + place[4:5] + place[6:]
    return [str(step) for step in place]
