"""Check a bundle on a machine that has neither the owner's model nor the network.

Every step is taken whatever the others found, so that one changed byte is named where it is and not only
where it first shows. Keys are held against their leaves before anything is computed with them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from sif_offline.fingerprint import pack_files
from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.evidence import bundle as files
from sif_offline.fingerprint.evidence.bundle import EVIDENCE_TYPE, Bundle
from sif_offline.fingerprint.evidence.checked import WARNING, Checked, Step, Trust, said_in_lines
from sif_offline.fingerprint.evidence.differences import differences, shortened
from sif_offline.fingerprint.evidence.errors import EvidenceError
from sif_offline.fingerprint.evidence.exchange_checks import reply_faults, request_faults
from sif_offline.fingerprint.evidence.judgement import Judgement
from sif_offline.fingerprint.evidence.selection import choice_left
from sif_offline.fingerprint.evidence.signed import Signed
from sif_offline.fingerprint.evidence.timestamping import Timestamp
from sif_offline.fingerprint.evidence.transcript import ANSWERED, chain_faults, head_of
from sif_offline.fingerprint.keys import DEMO_SECRET, derive_trigger_key, key_commitment

CLOCK_SLACK_S = 120.0
"""How far the owner's clock may run behind the authority's, seconds."""


def verify_bundle(bundle: Bundle, *, trust: Trust | None = None) -> Checked:
    """Take every step over ``bundle``; never raises for what a bundle holds, however broken."""
    return _Check(bundle, trust or Trust()).run()


class _Check:
    """One pass over one bundle. Each ``_step`` method returns its details and raises, or lists, faults."""

    def __init__(self, bundle: Bundle, trust: Trust) -> None:
        self._bundle = bundle
        self._trust = trust
        self._judgement: Judgement | None = None
        self._committed_at: datetime | None = None

    def run(self) -> Checked:
        steps = [
            self._take("keys", self._keys),
            self._take("leaves", self._leaves),
            self._take("commitment signature", self._commitment_signature),
            self._take("commitment timestamp", lambda: self._timestamp(self._bundle.commitment, True)),
            self._take("policy", self._policy),
            self._take("triggers", self._triggers),
            self._take("tokenizer", self._tokenizer),
            self._take("chain", self._chain),
            self._take("requests", self._requests),
            self._take("answers", self._answers),
            self._take("scores", self._scores),
            self._take("bundle signature", self._bundle_signature),
            self._take("files", self._files),
            self._take("bundle timestamp", lambda: self._timestamp(self._bundle.statement, False)),
        ]
        return Checked(tuple(steps), self._judgement)

    def _take(self, name: str, step: Callable[[], "_Outcome"]) -> Step:
        try:
            outcome = step()
        except SifError as error:
            return Step(name, "failed", said_in_lines([str(error)]))
        except Exception as error:  # whatever a foreign tokenizer, picture or number brings about
            return Step(
                name, "failed", (f"cannot be computed from what the bundle holds ({type(error).__name__})",)
            )
        if outcome.faults:
            return Step(name, "failed", said_in_lines(outcome.faults))
        return Step(name, "ok" if outcome.done else "not checked", said_in_lines(outcome.notes))

    def _keys(self) -> "_Outcome":
        keys, disclosures = self._bundle.keys, self._bundle.disclosures
        faults = [
            f"key of trigger {item.leaf.trigger_id} does not open its leaf"
            for item in disclosures
            if item.leaf.trigger_id not in keys
            or key_commitment(item.leaf.trigger_id, keys[item.leaf.trigger_id]) != item.leaf.key_commitment
        ]
        extra = keys.keys() - {item.leaf.trigger_id for item in disclosures}
        faults += [f"key of {trigger_id} belongs to no leaf" for trigger_id in sorted(extra)]
        notes = [f"{len(keys)} keys open their leaves"]
        if self._demo(keys):
            notes.append(
                f"{WARNING}keys derived from the published demo secret, so this proves nothing about anybody"
            )
        return _Outcome(faults, notes)

    def _demo(self, keys: Mapping[str, bytes]) -> bool:
        _, head = self._bundle.commitment.unchecked()
        owner = head.owner
        return any(
            derive_trigger_key(
                DEMO_SECRET, owner=owner.id, model_hash=owner.weights_sha256, trigger_id=trigger_id
            )
            == key
            for trigger_id, key in keys.items()
        )

    def _leaves(self) -> "_Outcome":
        root, head = self._bundle.commitment.unchecked()
        faults = [
            f"leaf of trigger {item.leaf.trigger_id} (pictures, prompt, key, tokenizer, V) is not under the "
            "root"
            for item in self._bundle.disclosures
            if not item.is_under(root=root, size=head.triggers)
        ]
        disclosures = self._bundle.disclosures
        for what, values in (
            ("picture", [item.leaf.trigger_sha256 for item in disclosures]),
            ("key", [item.leaf.key_commitment for item in disclosures]),
        ):
            if len(set(values)) < len(values):
                faults.append(f"two triggers share one {what}")
        count = f"{len(disclosures)} of {head.triggers} committed triggers disclosed"
        return _Outcome(
            faults,
            [
                count,
                f"{head.reserve} were held in reserve",
                *_worded([len(item.leaf.variants) for item in disclosures]),
                *choice_left(disclosed=len(disclosures), committed=head.triggers),
            ],
        )

    def _commitment_signature(self) -> "_Outcome":
        commitment = self._bundle.commitment
        _, head = commitment.open()
        faults = []
        if self._trust.owner is not None and commitment.signer != self._trust.owner:
            faults.append(
                f"signed by {commitment.signer.fingerprint[:16]}, not by the owner's key that you gave"
            )
        if head.pack_id != self._bundle.info.pack_id:
            faults.append(f"commits to pack {head.pack_id}, the bundle is of {self._bundle.info.pack_id}")
        known = (
            "the key you gave" if self._trust.owner else "a key that nobody vouched for (give --owner-key)"
        )
        return _Outcome(faults, [f"signed by {commitment.signer.fingerprint[:16]}, {known}"])

    def _timestamp(self, signed: Signed, is_commitment: bool) -> "_Outcome":
        if signed.timestamp is None:
            return _Outcome([], ["none: the times are the signer's own claim"], done=False)
        stamp = signed.time(roots=self._trust.authorities)
        if stamp is None:
            raise EvidenceError("timestamp: missing")
        if is_commitment:
            self._committed_at = stamp.time
        return _Outcome([], [_describe(stamp)])

    def _policy(self) -> "_Outcome":
        _, head = self._bundle.commitment.unchecked()
        committed, stated = head.policy.model_dump(mode="json"), self._bundle.numbers.get("policy")
        faults = [] if stated == committed else ["the policy in numbers.json is not the committed one"]
        _, gamma, _ = self._bundle.material.leaf_facts()
        if abs(gamma - head.policy.gamma) > 0.5 / self._bundle.disclosures[0].leaf.vocab_size + 1e-12:
            faults.append("gamma of the policy is not that of the leaves")
        transfer = head.policy.transfer
        bound = "not measured" if transfer is None else f"at most {head.policy.gamma + transfer:.3f}"
        return _Outcome(
            faults,
            [
                f"alpha {head.policy.alpha:g}; unrelated models' green rate {bound}, over "
                f"{len(head.policy.null_models)} null models"
            ],
        )

    def _triggers(self) -> "_Outcome":
        faults = []
        for item in self._bundle.disclosures:
            for control, digest in ((False, item.leaf.trigger_sha256), (True, item.leaf.clean_sha256)):
                try:
                    data = self._bundle.picture(item.leaf.trigger_id, control=control)
                except SifError as error:
                    faults.append(str(error))
                    continue
                if sha256(data).hexdigest() != digest:
                    what = "clean photo" if control else "picture"
                    faults.append(f"{what} of trigger {item.leaf.trigger_id} is not the committed one")
        return _Outcome(faults, [f"{len(self._bundle.disclosures)} triggers with their clean photos"])

    def _tokenizer(self) -> "_Outcome":
        digest = sha256(self._bundle.files.read(pack_files.TOKENIZER)).hexdigest()
        fits = all(item.leaf.tokenizer_sha256 == digest for item in self._bundle.disclosures)
        return _Outcome([] if fits else ["tokenizer.json is not the committed one"], [digest[:16]])

    def _chain(self) -> "_Outcome":
        exchanges, info = self._bundle.exchanges, self._bundle.info
        faults = chain_faults(exchanges)
        if any((e.record.target, e.record.pack_id) != (info.target, info.pack_id) for e in exchanges):
            faults.append("the chain is of another target or pack than bundle.json says")
        stated = self._bundle.statement.unchecked_statement(EVIDENCE_TYPE).predicate
        if stated.get("chain_head") != head_of(exchanges) or stated.get("exchanges") != len(exchanges):
            faults.append("the chain does not end where the bundle's statement says")
        return _Outcome(faults, [f"{len(exchanges)} exchanges"], done=bool(exchanges))

    def _requests(self) -> "_Outcome":
        leaves = {item.leaf.trigger_id: item for item in self._bundle.disclosures}
        _, head = self._bundle.commitment.unchecked()
        earliest = (self._committed_at or head.created).timestamp() - CLOCK_SLACK_S
        latest = self._bundle.info.created.timestamp() + CLOCK_SLACK_S
        by_owner = self._bundle.statement.public_key == self._bundle.commitment.public_key
        faults, addresses = [], set()
        for item in self._bundle.exchanges:
            record = item.record
            if record.trigger_id not in leaves:
                faults.append(f"exchange {record.index}: trigger {record.trigger_id} is not disclosed")
                continue
            leaf = leaves[record.trigger_id].leaf
            found = request_faults(item, leaf, max_tokens=head.decoding.max_new_tokens)
            if leaf.reserve and by_owner:
                found.append(f"trigger {leaf.trigger_id} was held in reserve, not for its owner to send")
            if record.asked_at < earliest:
                found.append("asked before the commitment was made")
            if not record.asked_at <= record.settled_at <= latest:
                found.append("answered before it was asked, or after the bundle was made")
            faults += [f"exchange {record.index}: {fault}" for fault in found]
            addresses.add((str(item.asked.get("model")), str(item.asked.get("endpoint"))))
        count = len(self._bundle.exchanges)
        notes = [f"{count} requests asked what was committed, after it was"]
        if len(addresses) > 1:
            named = "; ".join(f"{model} at {endpoint}" for model, endpoint in sorted(addresses))
            notes.append(f"{WARNING}not all of one model at one address: {named}")
        return _Outcome(faults, notes, done=count > 0)

    def _answers(self) -> "_Outcome":
        exchanges = self._bundle.exchanges
        faults = [
            f"exchange {item.record.index}: {fault}" for item in exchanges for fault in reply_faults(item)
        ]
        answered = sum(item.record.outcome == ANSWERED for item in exchanges)
        notes = [f"{answered} answers; {len(exchanges) - answered} exchanges without one count for nothing"]
        return _Outcome(faults, notes, done=answered > 0)

    def _scores(self) -> "_Outcome":
        _, head = self._bundle.commitment.unchecked()
        self._judgement = self._bundle.material.judge(self._bundle.exchanges, head=head)
        stated = {name: value for name, value in self._bundle.numbers.items() if name != "policy"}
        faults = [
            f"{where}: stated {shortened(said)}, recomputed {shortened(found)}"
            for where, said, found in differences(stated, self._judgement.numbers())
        ]
        if (
            self._bundle.statement.unchecked_statement(EVIDENCE_TYPE).predicate.get("verdict")
            != self._judgement.verdict
        ):
            faults.append("the signed verdict is not the recomputed one")
        return _Outcome(faults, [f"every figure recomputed; verdict {self._judgement.verdict}"])

    def _bundle_signature(self) -> "_Outcome":
        signed = self._bundle.statement
        if signed.to_json() != self._bundle.files.read(files.STATEMENT):
            raise EvidenceError(f"{files.STATEMENT}: not in the one form it is written in")
        signed.statement(EVIDENCE_TYPE)
        wanted = self._trust.bundler or self._trust.owner or self._bundle.commitment.signer
        faults = []
        if signed.signer != wanted:
            faults.append(
                f"signed by {signed.signer.fingerprint[:16]}, expected {wanted.fingerprint[:16]} "
                "(a replay by somebody else: give --bundler-key)"
            )
        return _Outcome(faults, [f"signed by {signed.signer.fingerprint[:16]}"])

    def _files(self) -> "_Outcome":
        listed = self._bundle.statement.unchecked_statement(EVIDENCE_TYPE).subjects
        found = set(self._bundle.files.names) - {files.STATEMENT}
        faults = [f"{name} is missing" for name in sorted(listed.keys() - found)]
        faults += [f"{name} is not listed in the statement" for name in sorted(found - listed.keys())]
        faults += [
            f"{name} was changed after signing"
            for name in sorted(found & listed.keys())
            if sha256(self._bundle.files.read(name)).hexdigest() != listed[name]
        ]
        return _Outcome(faults, [f"{len(found)} files as they were signed"])


@dataclass(frozen=True)
class _Outcome:
    faults: Sequence[str]
    notes: Sequence[str] = ()
    done: bool = True


def _worded(counts: Sequence[int]) -> list[str]:
    if not any(counts):
        return []
    return [f"{sum(map(bool, counts))} may be asked under up to {max(counts)} other committed wordings"]


def _describe(stamp: Timestamp) -> str:
    who = (
        stamp.authority if stamp.trusted else f"{stamp.authority}, which nobody vouched for (give --tsa-root)"
    )
    return f"{stamp.time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC by {who}"
