"""From a configuration to the fingerprint that its pack holds."""

from pathlib import Path

from probes.config import ProbesConfig
from probes.fingerprints.metav import MetaVFingerprint
from probes.fingerprints.sif import SifFingerprint
from sif_offline.fingerprint.metav.pack import MetaVPack, read_metav_pack
from sif_offline.fingerprint.pack import FingerprintPack, read_pack
from sif_offline.fingerprint.pack_files import pack_kind


def read_fingerprint(config: ProbesConfig) -> SifFingerprint | MetaVFingerprint:
    """Read the pack, and what scores its answers. Raises a SifError that names what is wrong."""
    if pack_kind(config.pack) == "metav":
        return MetaVFingerprint.read(config)
    return SifFingerprint.read(config)


def read_any_pack(path: Path) -> FingerprintPack | MetaVPack:
    """A pack of either kind, without keys. Raises PackError."""
    return read_metav_pack(path) if pack_kind(path) == "metav" else read_pack(path)


def trigger_ids(pack: FingerprintPack | MetaVPack) -> list[str]:
    """The names of what a pack asks."""
    return [row.id for row in (pack.queries if isinstance(pack, MetaVPack) else pack.triggers)]
