"""The whole file."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, SecretStr, Tag, model_validator

from probes.config.fields import ConfigError, Duration, Pause, Strict, Text, secret_from
from probes.config.metav_target import MetaVTargetConfig
from probes.config.target import TargetConfig

SHORTEST_TOKEN = 16


def _kind(target: Any) -> Any:
    """Of a target as the file has it, or as it was read; without a kind it is one of SIF."""
    return target.get("kind", "sif") if isinstance(target, dict) else getattr(target, "kind", "sif")


AnyTargetConfig = Annotated[
    Annotated[TargetConfig, Tag("sif")] | Annotated[MetaVTargetConfig, Tag("metav")],
    Discriminator(
        _kind,
        custom_error_type="kind",
        custom_error_message="kind: must be sif, which it is by itself, or metav",
    ),
]
"""A target of either kind."""


class Listen(Strict):
    """Where the service serves. Port 0 takes a free one."""

    host: Text = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 9464


class WebConfig(Strict):
    """``token_env`` names the environment variable with the token that lets somebody change something by HTTP
    (pause, resume, reload); without it the service only shows.
    """

    token_env: Text | None = None

    def read_token(self) -> SecretStr | None:
        """Raises ConfigError where the variable holds fewer than 16 characters."""
        token = secret_from(environment=self.token_env, owner="web")
        if token is not None and len(token.get_secret_value()) < SHORTEST_TOKEN:
            raise ConfigError(f"web: environment variable {self.token_env} holds fewer than 16 characters")
        return token


class EvidenceConfig(Strict):
    """Where a bundle is written by itself when a target is confirmed, and the key that signs it
    (``sif evidence keygen``)."""

    folder: Path
    signing_key: Path


class ProbesConfig(Strict):
    """The whole file. Times are seconds here, whatever unit the file used.

    Args:
        pack: the fingerprint pack whose triggers, or queries, are sent; its kind is that of all targets.
        trigger_keys: what ``sif keys derive --pack`` wrote; never the master secret. Of SIF packs alone.
        store: a SQLAlchemy URL.
        scheduler: ``apscheduler`` for one process, ``dbos`` for several on one PostgreSQL; ``auto`` goes by
            the store.
        interval: time between two rounds of one target.
        jitter: each round starts at a random moment of so long a window after it is due.
        pace: mean time between two questions of a round; each is random, up to twice that.
        per_minute: questions a minute to all targets together.
        lifetime: how often one picture is sent to one target, ever.
        retention: texts and replies older than that are dropped, of targets that were never suspicious.
        targets_folder: a folder of further targets, one YAML file each (``sif-probes add`` writes them).
        triggers_per_round: how many triggers or queries one round may send to one target.
        clean_share: clean photos asked for as paired controls, as a share of the triggers sent.
        prompt_variants: questions carry any wording of the prompt that the pack allows, drawn at random;
            off, the own one.
        cooldown: a trigger is not sent to the same target again before that.
        alpha: a target is confirmed when its e-value reaches 1/alpha; the chance that an innocent ever is.
            Left out, it is the committed one, or 1e-6. With a MetaV pack a target is confirmed when its p is
            at most alpha, which takes 1/alpha - 1 held-out models; left out, none ever is.
        attempts: sends a question may take when the target says 429 or cannot be reached.
    """

    pack: Path
    trigger_keys: Path | None = None
    # a URL of a server may hold a password
    store: Annotated[str, Field(repr=False)] = "sqlite:///sif-probes.sqlite"
    scheduler: Literal["auto", "apscheduler", "dbos"] = "auto"
    listen: Listen = Listen()
    web: WebConfig = WebConfig()
    evidence: EvidenceConfig | None = None
    interval: Duration = 3600.0
    jitter: Pause = 0.0
    pace: Pause = 0.0
    per_minute: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    lifetime: Annotated[int, Field(ge=1)] | None = None
    retention: Duration | None = None
    triggers_per_round: Annotated[int, Field(ge=1, le=10_000)] = 16
    clean_share: Annotated[float, Field(ge=0, le=1)] = 0.25
    prompt_variants: bool = True
    cooldown: Duration = 3000.0
    alpha: Annotated[float, Field(gt=0, le=0.05)] | None = None
    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    targets_folder: Path | None = None
    targets: tuple[AnyTargetConfig, ...] = ()

    @model_validator(mode="after")
    def _targets_have_names(self) -> Self:
        # a min_length of the field would also complain whenever a target is wrong
        if not self.targets and self.targets_folder is None:
            raise ValueError("targets: at least one is needed")
        if self.jitter >= self.interval:
            raise ValueError("jitter: must be shorter than interval")
        names = [target.name for target in self.targets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two targets are named {twice[0]}")
        return self
