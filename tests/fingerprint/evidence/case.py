"""A whole case without a model: a committed pack, a pirate probed by the real store, a bundle."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from probes.rounds import RoundSettings, sif_runner
from probes.store import open_store
from probes.store.chain import read_chain
from probes.testing.endpoint import Question, Rule, ScriptedEndpoint
from probes.testing.plain_target import PlainTarget
from probes.testing.tiny_pack import TinyPack, build_tiny_pack
from sif_offline.fingerprint.evidence.bundle import Bundle, material_of, write_bundle
from sif_offline.fingerprint.evidence.checked import Checked
from sif_offline.fingerprint.evidence.commitment import Commitment, Policy, commit
from sif_offline.fingerprint.evidence.signed import Stamp
from sif_offline.fingerprint.evidence.signing import SigningKey
from sif_offline.fingerprint.evidence.transcript import Exchange
from sif_offline.fingerprint.keys import TriggerKeys
from sif_offline.fingerprint.pack import FingerprintPack, attach_commitment, read_pack
from sif_offline.fingerprint.scoring import PackScorer

RESERVE = ("t06", "t07")


@dataclass(frozen=True)
class Case:
    """One owner against one endpoint."""

    tiny: TinyPack
    pack: FingerprintPack
    keys: TriggerKeys
    commitment: Commitment
    signer: SigningKey
    exchanges: tuple[Exchange, ...]
    bundle: Bundle
    sent: tuple[Question, ...]


def make_case(
    folder: Path,
    *,
    stamp: Stamp | None = None,
    rounds: int = 2,
    pirate: bool = True,
    calibrated: bool = True,
    variants: tuple[str, ...] = (),
) -> Case:
    """Forge (tiny), calibrate, commit, probe ``rounds`` times, bundle."""
    tiny = build_tiny_pack(folder, calibrated=calibrated, variants=variants)
    signer = SigningKey.generate()
    commitment = commit(
        tiny.pack,
        key=signer,
        policy=Policy.of(tiny.pack),
        created=datetime.now(UTC) - timedelta(seconds=1),
        reserve=RESERVE,
        stamp=stamp,
    )
    attach_commitment(tiny.folder, commitment.to_json())
    pack, keys = read_pack(tiny.folder), TriggerKeys.read(tiny.keys_path)
    rule: Rule = tiny.pirate() if pirate else tiny.innocent(seed=3)
    with ScriptedEndpoint(rule) as endpoint, open_store(f"sqlite:///{folder / 'probes.sqlite'}") as store:
        runner = sif_runner(
            target=PlainTarget(name="suspect", url=endpoint.url),
            scorer=PackScorer(pack, keys),
            store=store,
            settings=RoundSettings(
                triggers_per_round=4,
                clean_share=0.5,
                cooldown_s=0.0,
                alpha=1e-6,
                attempts=1,
                timeout_s=5.0,
            ),
        )
        for _ in range(rounds):
            runner.run()
        exchanges = read_chain(store.reading(), "suspect", pack_id=pack.pack_id)
        sent = tuple(endpoint.questions)
    used = sorted({item.record.trigger_id for item in exchanges})
    bundle = write_bundle(
        folder / "bundle",
        material_of(pack, commitment, keys, trigger_ids=used),
        exchanges,
        target="suspect",
        key=signer,
        created=datetime.now(UTC),
        stamp=stamp,
    )
    return Case(tiny, pack, keys, commitment, signer, exchanges, bundle, sent)


def failures(checked: Checked) -> dict[str, str]:
    """Steps that failed, and what each says."""
    return {step.name: "; ".join(step.details) for step in checked.steps if step.status == "failed"}
