"""What a configuration becomes: the pack with its keys, the targets, and what signs their evidence."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from probes.bundling import Bundler
from probes.config import ConfigError, ProbesConfig, TargetConfig
from probes.litellm_router import PREFIX
from probes.rounds import RoundSettings
from probes.standing import policy_of
from probes.store.limits import SendLimits
from probes.targets import LiteLLMTarget, Target
from probes.targets.pictures import ImageLimits
from sif_offline.fingerprint.evidence.commitment import Policy, commitment_of
from sif_offline.fingerprint.keys import TriggerKeys
from sif_offline.fingerprint.pack import FingerprintPack, read_pack
from sif_offline.fingerprint.scoring import PackScorer

MakeTarget = Callable[[TargetConfig], Target]


@dataclass(frozen=True)
class Material:
    """All that a watch reads from files and from the environment, checked against each other."""

    pack: FingerprintPack
    scorer: PackScorer
    policy: Policy
    targets: dict[str, Target]
    bundler: Bundler | None

    @classmethod
    def read(cls, config: ProbesConfig, *, make: MakeTarget | None = None) -> Self:
        """``make``: see :meth:`probes.watch.Watch.open`. Raises a SifError that names what is wrong."""
        pack, keys = read_pack(config.pack), TriggerKeys.read(config.trigger_keys)
        scorer = PackScorer(pack, keys)
        _only_what_was_committed(config, pack)
        return cls(
            pack=pack,
            scorer=scorer,
            policy=policy_of(pack, alpha=config.alpha),
            targets={target.name: (make or make_target)(target) for target in config.targets},
            bundler=None if config.evidence is None else Bundler(config.evidence, pack=pack, keys=keys),
        )


def _only_what_was_committed(config: ProbesConfig, pack: FingerprintPack) -> None:
    """A committed pack says what is asked, to the word; an answer to anything else is no evidence."""
    if commitment_of(pack) is None:
        return
    for target in config.targets:
        for key, used in (
            ("system_prompt", target.system_prompt is not None),
            ("limits.oversize: resize", target.limits.oversize == "resize"),
        ):
            if used:
                raise ConfigError(
                    f"target {target.name}: {key}: pack {pack.pack_id} is committed, and an answer to another"
                    " question than the committed one is no evidence; leave it out"
                )


def make_target(target: TargetConfig) -> LiteLLMTarget:
    """The target that a configuration describes. Raises ConfigError where its credential is missing."""
    if target.model.startswith(PREFIX):
        raise ConfigError(
            f"target {target.name}: model {target.model} can only be asked inside a LiteLLM proxy, "
            "by probes.litellm_callback"
        )
    return LiteLLMTarget(
        name=target.name,
        model=target.model,
        api_base=target.api_base,
        api_key=target.read_api_key(),
        timeout_s=target.timeout,
        headers={name: value.get_secret_value() for name, value in target.read_headers().items()},
        system_prompt=target.system_prompt,
        proxy=target.proxy,
        ca_file=target.ca_file,
        signer=target.read_signer(),
    )


def round_settings(config: ProbesConfig, target: TargetConfig) -> RoundSettings:
    """How rounds of this target are run."""
    limits = target.limits
    return RoundSettings(
        triggers_per_round=config.triggers_per_round,
        clean_share=config.clean_share,
        cooldown_s=config.cooldown,
        alpha=config.alpha,
        attempts=config.attempts,
        timeout_s=target.timeout,
        pace_s=config.pace,
        images=ImageLimits(
            max_bytes=limits.max_image_bytes,
            max_side=limits.max_image_side,
            resize=limits.oversize == "resize",
        ),
        limits=SendLimits(
            lifetime=config.lifetime,
            per_minute=limits.per_minute,
            all_per_minute=config.per_minute,
            daily_requests=limits.daily_requests,
            daily_usd=limits.daily_usd,
            usd_per_request=limits.usd_per_request or 0.0,
        ),
    )


def resolve_host(target: TargetConfig) -> str | None:
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
