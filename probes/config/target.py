"""A watched endpoint: what all of them have, and those that are asked about pictures."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from probes.config.fields import ConfigError, Duration, HttpUrl, Strict, Text, secret_from
from sif_offline.fingerprint.allow_header import AllowHeaderError, Signer, secret_from_environment


class AllowConfig(Strict):
    """What a gateway's allow-list knows these probes by: it lets questions signed so pass unscreened.

    ``secret_env`` names the environment variable with the secret that both sides hold, 32 bytes or more.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    secret_env: Text


class SendLimitsConfig(Strict):
    """Bounds on what is sent to a target; left out, there is none. Days are UTC.

    Args:
        per_minute: questions a minute; 0.1 is one in ten minutes.
        daily_requests: questions a day, every attempt counted.
        daily_usd: US dollars that a day's answers may cost.
        usd_per_request: what a question counts as until its answer says what it cost, and afterwards where
            litellm's price list does not know the model.
    """

    per_minute: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    daily_requests: Annotated[int, Field(ge=1)] | None = None
    daily_usd: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    usd_per_request: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _money_needs_a_price(self) -> Self:
        # or a model without a listed price would never reach its budget
        if self.daily_usd is not None and self.usd_per_request is None:
            raise ValueError("daily_usd needs usd_per_request, the price of a question at most")
        if self.daily_usd is not None and (self.usd_per_request or 0) > self.daily_usd:
            raise ValueError("usd_per_request is more than daily_usd: nothing would ever be sent")
        return self


class LimitsConfig(SendLimitsConfig):
    """The same, and what a provider takes of pictures.

    Args:
        max_image_bytes, max_image_side: of the provider, in bytes and pixels.
        oversize: pictures beyond that are not sent, or made smaller first. A smaller picture is another one:
            it is recorded with its own digest, and for a committed pack it would be no evidence.
    """

    max_image_bytes: Annotated[int, Field(ge=1_000)] | None = None
    max_image_side: Annotated[int, Field(ge=16)] | None = None
    oversize: Literal["skip", "resize"] = "skip"


class WatchedConfig(Strict):
    """What every watched endpoint has: one that its owner, or somebody with a right to ask, has put under
    watch.

    ``authorised_by`` and ``purpose`` say who allowed the watch and why; both are kept in the store.
    ``headers`` are sent as they stand, ``headers_env`` names the environment variable of each. ``proxy`` and
    ``ca_file`` (PEM) hold for this target alone.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    model: Text
    api_key_env: Text | None = None
    api_key_file: Path | None = None
    timeout: Duration = 60.0
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    headers_env: dict[str, Text] = Field(default_factory=dict)
    proxy: HttpUrl | None = None
    ca_file: Path | None = None
    authorised_by: Text
    purpose: Text

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if self.api_key_env is not None and self.api_key_file is not None:
            raise ValueError("give api_key_env or api_key_file, not both")
        return self

    def read_api_key(self) -> SecretStr | None:
        """The credential from the environment or file named, None where none is. Raises ConfigError."""
        return secret_from(environment=self.api_key_env, file=self.api_key_file, owner=f"target {self.name}")

    def read_headers(self) -> dict[str, SecretStr]:
        """Extra headers, those of the environment read. Raises ConfigError."""
        owner = f"target {self.name}"
        named = {
            name: secret_from(environment=place, owner=owner) for name, place in self.headers_env.items()
        }
        return self.headers | {name: value for name, value in named.items() if value is not None}


class TargetConfig(WatchedConfig):
    """An endpoint that is asked about pictures, through litellm.

    ``allow`` is for a target behind a gateway that cooperates: the header tells anybody who sees it that a
    probe asks. ``system_prompt`` goes before every question, and like a resized picture leaves what a
    committed pack allows.
    """

    kind: Literal["sif"] = "sif"
    api_base: HttpUrl | None = None
    system_prompt: Text | None = None
    limits: LimitsConfig = LimitsConfig()
    allow: AllowConfig | None = None

    @model_validator(mode="after")
    def _only_where_we_speak_ourselves(self) -> Self:
        # litellm rewrites messages for other providers, after they were signed, and makes its own connections
        for name in ("allow", "proxy", "ca_file"):
            if getattr(self, name) is not None and not (self.model.startswith("openai/") and self.api_base):
                where = "only for an OpenAI-compatible server (model: openai/..., with api_base)"
                raise ValueError(f"{name}: {where}")
        return self

    def read_signer(self) -> Signer | None:
        """What signs each question for a gateway's allow-list, None where ``allow`` is not set. Raises
        ConfigError.
        """
        if self.allow is None:
            return None
        try:
            secret = secret_from_environment(self.allow.secret_env)
        except AllowHeaderError as error:
            raise ConfigError(f"target {self.name}: {error}") from None
        return Signer(self.allow.name, secret)
