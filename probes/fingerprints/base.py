"""What every kind of fingerprint is to a watch."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol
from urllib.parse import urlsplit

from probes.config import AnyTargetConfig, ConfigError, ProbesConfig, TargetConfig
from probes.rounds import RoundSettings
from probes.rounds.trials import Trials
from probes.store import Store
from probes.store.limits import SendLimits
from probes.targets import Answer, Target
from probes.targets.pictures import ImageLimits
from sif_offline.fingerprint.metav.pack import MetaVPack
from sif_offline.fingerprint.pack import FingerprintPack

MakeTarget = Callable[[TargetConfig], Target]

Kind = Literal["sif", "metav"]


@dataclass(frozen=True)
class Watched:
    """One target, ready for rounds.

    Attributes:
        trials: what its rounds ask.
        settings: how they are run.
        reach: asks something short that is no trial. Raises AskFailure.
    """

    trials: Trials
    settings: RoundSettings
    reach: Callable[[], Answer]


class Fingerprint(Protocol):
    """A pack of one kind with all that scores its answers."""

    @property
    def kind(self) -> Kind:
        """The pack's kind."""
        ...

    @property
    def pack(self) -> FingerprintPack | MetaVPack:
        """The pack with its files."""
        ...

    @property
    def pack_id(self) -> str:
        """The pack's name."""
        ...

    @property
    def alpha(self) -> float:
        """The level at which a target is confirmed; 0 where nothing can confirm one."""
        ...

    def watched(self, config: ProbesConfig, *, make: MakeTarget | None = None) -> Mapping[str, Watched]:
        """Every target of the configuration by its name.

        ``make``: how a configured target becomes one that can be asked, where the kind leaves it open.
        Raises ConfigError.
        """
        ...

    def describe(self) -> list[str]:
        """The pack in lines for people, without a secret."""
        ...

    def describe_target(self, config: ProbesConfig, target: AnyTargetConfig) -> str:
        """What is particular of a target with this pack, "" for nothing; makes its questions as a round
        would. Raises ConfigError where nothing could be asked of it.
        """
        ...

    def confirmed(self, store: Store, target: str) -> None:
        """Called after each round of a confirmed target."""
        ...


def round_settings(config: ProbesConfig, target: AnyTargetConfig) -> RoundSettings:
    """How rounds of this target are run."""
    limits = target.limits
    images = ImageLimits()
    if isinstance(target, TargetConfig):
        images = ImageLimits(
            max_bytes=target.limits.max_image_bytes,
            max_side=target.limits.max_image_side,
            resize=target.limits.oversize == "resize",
        )
    return RoundSettings(
        triggers_per_round=config.triggers_per_round,
        clean_share=config.clean_share,
        prompt_variants=config.prompt_variants,
        cooldown_s=config.cooldown,
        alpha=config.alpha,
        attempts=config.attempts,
        timeout_s=target.timeout,
        pace_s=config.pace,
        images=images,
        limits=SendLimits(
            lifetime=config.lifetime,
            per_minute=limits.per_minute,
            all_per_minute=config.per_minute,
            daily_requests=limits.daily_requests,
            daily_usd=limits.daily_usd,
            usd_per_request=limits.usd_per_request or 0.0,
        ),
    )


def resolve_host(target: AnyTargetConfig) -> str | None:
    """The address that the target's host name has, None where litellm knows the URL. Raises ConfigError."""
    if target.api_base is None:
        return None
    parts = urlsplit(target.proxy or target.api_base)  # behind a proxy only the proxy knows the target's name
    host = parts.hostname or ""
    try:
        found = socket.getaddrinfo(host, parts.port or (443 if parts.scheme == "https" else 80))
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise ConfigError(f"target {target.name}: {host}: {said}") from None
    return str(found[0][4][0])
