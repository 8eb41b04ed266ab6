"""From the configuration to a target."""

from probes.config.metav_target import (
    EmbeddingsProtocol,
    JsonProtocol,
    KServeProtocol,
    KServeV1Protocol,
    MetaVTargetConfig,
)
from probes.targets.metav.codec import Codec
from probes.targets.metav.embeddings import Embeddings
from probes.targets.metav.kserve import KServe, KServeV1
from probes.targets.metav.plain_json import PlainJson
from probes.targets.metav.target import MetaVTarget
from sif_offline.fingerprint.evidence.canonical import canonical_json, sha256_hex


def codec_of(config: MetaVTargetConfig) -> Codec:
    """The protocol of a target with its settings."""
    match config.protocol:
        case KServeProtocol() as protocol:
            return KServe(config.model, protocol)
        case KServeV1Protocol() as protocol:
            return KServeV1(config.model, protocol)
        case EmbeddingsProtocol():
            return Embeddings(config.model)
        case JsonProtocol() as protocol:
            return PlainJson(protocol, view=config.view)


def make_metav_target(config: MetaVTargetConfig) -> MetaVTarget:
    """The target that a configuration describes. Raises ConfigError where its credential is missing."""
    return MetaVTarget(
        name=config.name,
        url=config.url,
        model=config.model,
        codec=codec_of(config),
        protocol_sha256=sha256_hex(canonical_json(config.protocol.model_dump(mode="json"))),
        api_key=config.read_api_key(),
        timeout_s=config.timeout,
        headers={name: value.get_secret_value() for name, value in config.read_headers().items()},
        proxy=config.proxy,
        ca_file=config.ca_file,
    )
