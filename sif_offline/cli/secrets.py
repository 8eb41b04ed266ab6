"""Which key a command works with: shared by ``sif forge``, ``sif calibrate`` and ``sif verify``."""

from pathlib import Path

from sif_offline.fingerprint.keys import (
    DEMO_SECRET,
    ENVIRONMENT_VARIABLE,
    KeyFileError,
    KeyRing,
    MasterSecret,
    TriggerKeys,
    derive_pack_keys,
    master_from_environment,
    read_key_file,
    read_key_ring,
    ring_from_environment,
    write_key_file,
)
from sif_offline.fingerprint.pack import FingerprintPack


def forging_secret(*, key_file: Path | None, insecure_demo_key: bool) -> tuple[MasterSecret, bool]:
    """The secret to forge under, a key's newest generation, and whether its file was made just now.

    A key file that does not exist yet is made with a fresh secret (mode 0600). Without a file the environment
    variable counts. The published demo secret is refused unless it is asked for by name.

    Raises:
        KeyFileError: no key named, two of them, a file that cannot be used, or the demo secret unasked for.
    """
    if insecure_demo_key:
        if key_file is not None:
            raise KeyFileError(f"{key_file}: give --key-file or --insecure-demo-key, not both")
        return DEMO_SECRET, False
    if key_file is not None and not key_file.exists():
        secret = MasterSecret.generate()
        write_key_file(key_file, secret)
        return secret, True
    found = read_key_file(key_file) if key_file is not None else master_from_environment()
    if found is None:
        raise KeyFileError(f"no key: give --key-file FILE (made if missing) or set {ENVIRONMENT_VARIABLE}")
    if found.is_demo:
        where = key_file or f"environment variable {ENVIRONMENT_VARIABLE}"
        raise KeyFileError(
            f"{where}: holds the published demo secret, which protects nothing; use a fresh key"
        )
    return found, False


def key_ring(key_file: Path | None) -> KeyRing:
    """The generations in a key file or, without one, in the environment.

    Raises:
        KeyFileError: neither is there, or it cannot be used.
    """
    ring = read_key_ring(key_file) if key_file is not None else ring_from_environment()
    if ring is None:
        raise KeyFileError(f"no key: give --key-file or set {ENVIRONMENT_VARIABLE}")
    return ring


def pack_keys(pack: FingerprintPack, *, key_file: Path | None, trigger_keys: Path | None) -> TriggerKeys:
    """The trigger keys of a pack: from a file of them, a master key file, or the environment.

    Of a master key with several generations, the one that opens the pack counts.

    A pack that was made under the published demo secret needs no file.

    Raises:
        KeyFileError: no key named, two of them, or a file that cannot be used.
        WrongKeyError: the key is not the pack's.
    """
    if key_file is not None and trigger_keys is not None:
        raise KeyFileError(f"{trigger_keys}: give --key-file or --trigger-keys, not both")
    if trigger_keys is not None:
        keys = TriggerKeys.read(trigger_keys)
        keys.check(pack)
        return keys
    ring = read_key_ring(key_file) if key_file is not None else ring_from_environment()
    if ring is None and pack.demo_key:
        ring = KeyRing((DEMO_SECRET,))
    if ring is None:
        raise KeyFileError(
            f"pack {pack.pack_id}: no key: give --key-file or --trigger-keys, or set {ENVIRONMENT_VARIABLE}"
        )
    return derive_pack_keys(ring, pack)
