"""What a thief does at the endpoint, with the weights as they are: how a copy is served."""

from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sif_offline.suspects.base import SuspectError

Share = Annotated[float, Field(gt=0, lt=1)]


class Serving(BaseModel):
    """How an endpoint serves its model. The defaults change nothing.

    Pictures go through ``crop``, ``resize``, ``blur``, ``noise``, ``bits`` and ``jpeg`` in this order, and
    keep their size. Answers go through ``paraphrase``, then through ``screen``.

    Attributes:
        system: system prompt before every conversation.
        temperature: what the endpoint decodes at, whatever a client asks for; 0 is greedy. None: what a
            client asks for over HTTP, greedy elsewhere.
        top_p: mass of the nucleus that is sampled from; asks for a temperature.
        crop: share of height and width that is cut off, half at either side; the rest is scaled up again.
        resize: factor of a bicubic resize and back; two numbers: drawn between them for every request.
        blur: deviation of a Gaussian blur, pixels.
        noise: deviation of Gaussian noise in 1/255, drawn for every request.
        bits: bit depth of each channel.
        jpeg: JPEG quality as Pillow counts it, 4:2:0.
        paraphrase: share of the replaceable words that are replaced; above 0 sentences are reordered too.
        screen: name of the screen that stands in front (such as SDA); who opens the suspect brings it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str | None = Field(default=None, min_length=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    crop: Share | None = None
    resize: Annotated[float, Field(gt=0, le=4)] | tuple[float, float] | None = None
    blur: float | None = Field(default=None, gt=0, le=20)
    noise: float | None = Field(default=None, gt=0, le=255)
    bits: int | None = Field(default=None, ge=1, le=7)
    jpeg: int | None = Field(default=None, ge=1, le=100)
    paraphrase: float = Field(default=0.0, ge=0, le=1)
    screen: str | None = Field(default=None, min_length=1)

    @field_validator("resize")
    @classmethod
    def _range(cls, resize: "float | tuple[float, float] | None") -> "float | tuple[float, float] | None":
        if isinstance(resize, tuple) and not 0 < resize[0] < resize[1] <= 4:
            raise ValueError("two factors of a resize: the smaller one first, above 0 and at most 4")
        return resize

    @model_validator(mode="after")
    def _nucleus(self) -> "Serving":
        if self.top_p is not None and not self.temperature:
            raise ValueError("top_p says nothing without a temperature above 0")
        return self

    @property
    def perturbs(self) -> bool:
        """Whether a picture reaches the model as another one."""
        return any(
            value is not None
            for value in (self.crop, self.resize, self.blur, self.noise, self.bits, self.jpeg)
        )


def read_serving(text: str) -> Serving:
    """A YAML mapping, such as ``{jpeg: 75}``. Raises ``SuspectError``: no such thing; names the field."""
    try:
        return Serving.model_validate(yaml.safe_load(text))
    except yaml.YAMLError:
        raise SuspectError(f"serving {text!r}: not YAML") from None
    except ValidationError as error:
        raise SuspectError(f"serving {text!r}: {first_fault(error)}") from None


def first_fault(error: ValidationError) -> str:
    """``field.path: what is wrong`` of the first fault, without the value."""
    first = error.errors(include_url=False, include_input=False)[0]
    return ": ".join(part for part in (".".join(map(str, first["loc"])), first["msg"]) if part)
