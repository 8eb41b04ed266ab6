"""Which key a command works with: shared by ``sif forge``, ``sif calibrate`` and ``sif verify``."""

from pathlib import Path

from sif_offline.fingerprint.keys import (
    DEMO_SECRET,
    ENVIRONMENT_VARIABLE,
    KeyFileError,
    MasterSecret,
    TriggerKeys,
    derive_pack_keys,
    master_from_environment,
    read_key_file,
    write_key_file,
)
from sif_offline.fingerprint.pack import FingerprintPack


def forging_secret(*, key_file: Path | None, insecure_demo_key: bool) -> tuple[MasterSecret, bool]:
    """The secret to forge under, and whether its key file was made just now.

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


def pack_keys(pack: FingerprintPack, *, key_file: Path | None, trigger_keys: Path | None) -> TriggerKeys:
    """The trigger keys of a pack: from a file of them, a master key file, or the environment.

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
    secret = read_key_file(key_file) if key_file is not None else master_from_environment()
    if secret is None and pack.demo_key:
        secret = DEMO_SECRET
    if secret is None:
        raise KeyFileError(
            f"pack {pack.pack_id}: no key: give --key-file or --trigger-keys, or set {ENVIRONMENT_VARIABLE}"
        )
    return derive_pack_keys(secret, pack)
