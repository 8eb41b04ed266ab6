"""Check a bundle of a SIF pack on a machine that has neither the owner's model nor the network.

Keys are held against their leaves before anything is computed with them.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256

from sif_offline.fingerprint import pack_files
from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.evidence.bundle import Bundle
from sif_offline.fingerprint.evidence.checked import WARNING, Checked, Trust
from sif_offline.fingerprint.evidence.checking import Check, NamedStep, Outcome
from sif_offline.fingerprint.evidence.exchange_checks import reply_faults, request_faults
from sif_offline.fingerprint.evidence.judgement import Judgement
from sif_offline.fingerprint.evidence.selection import choice_left
from sif_offline.fingerprint.evidence.transcript import ANSWERED
from sif_offline.fingerprint.keys import DEMO_SECRET, derive_trigger_key, key_commitment


def verify_bundle(bundle: Bundle, *, trust: Trust | None = None) -> Checked[Judgement]:
    """Take every step over ``bundle``; never raises for what a bundle holds, however broken."""
    return _SifCheck(bundle, trust or Trust()).run()


class _SifCheck(Check[Bundle, Judgement]):
    def _steps(self) -> Sequence[NamedStep]:
        return [
            ("keys", self._keys),
            ("leaves", self._leaves),
            ("commitment signature", self._commitment_signature),
            ("commitment timestamp", self._commitment_timestamp),
            ("policy", self._policy),
            ("triggers", self._triggers),
            ("tokenizer", self._tokenizer),
            ("chain", self._chain),
            ("requests", self._requests),
            ("answers", self._answers),
            ("scores", self._scores),
            ("bundle signature", self._bundle_signature),
            ("files", self._files),
            ("bundle timestamp", self._bundle_timestamp),
        ]

    def _keys(self) -> Outcome:
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
        return Outcome(faults, notes)

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

    def _leaves(self) -> Outcome:
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
        return Outcome(
            faults,
            [
                count,
                f"{head.reserve} were held in reserve",
                *_worded([len(item.leaf.variants) for item in disclosures]),
                *choice_left(disclosed=len(disclosures), committed=head.triggers),
            ],
        )

    def _commitment_signature(self) -> Outcome:
        _, head = self._bundle.commitment.open()
        return self._signed_commitment(head.pack_id)

    def _policy(self) -> Outcome:
        _, head = self._bundle.commitment.unchecked()
        committed, stated = head.policy.model_dump(mode="json"), self._bundle.numbers.get("policy")
        faults = [] if stated == committed else ["the policy in numbers.json is not the committed one"]
        _, gamma, _ = self._bundle.material.leaf_facts()
        if abs(gamma - head.policy.gamma) > 0.5 / self._bundle.disclosures[0].leaf.vocab_size + 1e-12:
            faults.append("gamma of the policy is not that of the leaves")
        transfer = head.policy.transfer
        bound = "not measured" if transfer is None else f"at most {head.policy.gamma + transfer:.3f}"
        return Outcome(
            faults,
            [
                f"alpha {head.policy.alpha:g}; unrelated models' green rate {bound}, over "
                f"{len(head.policy.null_models)} null models"
            ],
        )

    def _triggers(self) -> Outcome:
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
        return Outcome(faults, [f"{len(self._bundle.disclosures)} triggers with their clean photos"])

    def _tokenizer(self) -> Outcome:
        digest = sha256(self._bundle.files.read(pack_files.TOKENIZER)).hexdigest()
        fits = all(item.leaf.tokenizer_sha256 == digest for item in self._bundle.disclosures)
        return Outcome([] if fits else ["tokenizer.json is not the committed one"], [digest[:16]])

    def _requests(self) -> Outcome:
        leaves = {item.leaf.trigger_id: item for item in self._bundle.disclosures}
        _, head = self._bundle.commitment.unchecked()
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
            found += self._time_faults(record, committed=head.created)
            faults += [f"exchange {record.index}: {fault}" for fault in found]
            addresses.add((str(item.asked.get("model")), str(item.asked.get("endpoint"))))
        count = len(self._bundle.exchanges)
        notes = [f"{count} requests asked what was committed, after it was"]
        if len(addresses) > 1:
            named = "; ".join(f"{model} at {endpoint}" for model, endpoint in sorted(addresses))
            notes.append(f"{WARNING}not all of one model at one address: {named}")
        return Outcome(faults, notes, done=count > 0)

    def _answers(self) -> Outcome:
        exchanges = self._bundle.exchanges
        faults = [
            f"exchange {item.record.index}: {fault}" for item in exchanges for fault in reply_faults(item)
        ]
        answered = sum(item.record.outcome == ANSWERED for item in exchanges)
        notes = [f"{answered} answers; {len(exchanges) - answered} exchanges without one count for nothing"]
        return Outcome(faults, notes, done=answered > 0)

    def _scores(self) -> Outcome:
        _, head = self._bundle.commitment.unchecked()
        return self._figures(self._bundle.material.judge(self._bundle.exchanges, head=head))


def _worded(counts: Sequence[int]) -> list[str]:
    if not any(counts):
        return []
    return [f"{sum(map(bool, counts))} may be asked under up to {max(counts)} other committed wordings"]
