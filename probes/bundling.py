"""The evidence bundle that a watch writes by itself when a target is confirmed."""

import logging
from datetime import UTC, datetime
from pathlib import Path

from probes.config.probes import EvidenceConfig
from probes.store import Store
from probes.store.chain import read_chain
from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.evidence.bundle import material_of, write_bundle
from sif_offline.fingerprint.evidence.commitment import commitment_of
from sif_offline.fingerprint.evidence.errors import EvidenceError
from sif_offline.fingerprint.evidence.signing import SigningKey
from sif_offline.fingerprint.keys import TriggerKeys
from sif_offline.fingerprint.pack import FingerprintPack

logger = logging.getLogger(__name__)


class Bundler:
    """Writes one bundle a confirmed target: ``FOLDER/TARGET.PACK.zip``, never over an older one.

    The bundle holds the keys of the triggers used, so it is as secret as they are until it is handed out.

    Raises:
        EvidenceError: the pack is not committed, or the key is not the owner's to sign with.
        SifError: the signing key cannot be read.
    """

    def __init__(self, config: EvidenceConfig, *, pack: FingerprintPack, keys: TriggerKeys) -> None:
        commitment = commitment_of(pack)
        if commitment is None:
            raise EvidenceError(
                f"pack {pack.pack_id}: not committed, so no bundle can be made of its answers; run"
                " `sif evidence commit` before probing, or leave evidence out"
            )
        self._folder, self._pack, self._keys, self._commitment = config.folder, pack, keys, commitment
        self._signing_key = SigningKey.read(config.signing_key)

    def path(self, target: str) -> Path:
        """Where a target's bundle is, or would be."""
        return self._folder / f"{target}.{self._pack.pack_id}.zip"

    def write(self, store: Store, target: str) -> Path | None:
        """Write a confirmed target's bundle. None where there is one already, or where it failed: that is
        logged in one line, and the next round tries again.
        """
        path = self.path(target)
        if path.exists():
            return None
        try:
            exchanges = read_chain(store.reading(), target, pack_id=self._pack.pack_id)
            if not exchanges:
                return None
            sent = {link.record.trigger_id for link in exchanges}
            used = [row.id for row in self._pack.triggers if row.id in sent]
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_bundle(
                path,
                material_of(self._pack, self._commitment, self._keys, trigger_ids=used),
                exchanges,
                target=target,
                key=self._signing_key,
                created=datetime.now(UTC),
            )
        except (SifError, OSError) as error:
            logger.error("target %s: the evidence bundle could not be written: %s", target, error)
            return None
        logger.warning("target %s: confirmed; evidence bundle written to %s", target, path)
        return path
