"""What a watch asks with: the one pack of a configuration, with all that scores its answers."""

from probes.fingerprints.base import Fingerprint, MakeTarget, Watched, resolve_host, round_settings
from probes.fingerprints.metav import MetaVFingerprint
from probes.fingerprints.reading import read_any_pack, read_fingerprint, trigger_ids
from probes.fingerprints.sif import SifFingerprint

__all__ = [
    "Fingerprint",
    "MakeTarget",
    "MetaVFingerprint",
    "SifFingerprint",
    "Watched",
    "read_any_pack",
    "read_fingerprint",
    "resolve_host",
    "round_settings",
    "trigger_ids",
]
