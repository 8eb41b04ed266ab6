"""Check a bundle of a MetaV pack with numpy alone: no torch, no model, no network."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.evidence.checked import WARNING, Checked, Trust
from sif_offline.fingerprint.evidence.checking import Check, NamedStep, Outcome
from sif_offline.fingerprint.evidence.errors import EvidenceError
from sif_offline.fingerprint.evidence.metav.bundle import MetaVBundle
from sif_offline.fingerprint.evidence.metav.judgement import Asked, MetaVJudgement, judge_metav, numbers_in
from sif_offline.fingerprint.evidence.transcript import ANSWERED, Exchange
from sif_offline.fingerprint.metav.pack import Query, query_digest
from sif_offline.fingerprint.metav.protocols import Codec, NotOutputError, codec_of, protocol_digest

WRONG_SIZE = "wrong_size"
"""Numbers, but not as many as the pack's outputs have: recorded, and no part of a score."""
_REQUEST = {
    *("model", "endpoint", "image_sha256", "prompt", "max_tokens", "temperature"),
    *("kind", "view", "protocol_sha256"),
}
_SILENT = ("failed:", "in_doubt:")


def verify_metav_bundle(bundle: MetaVBundle, *, trust: Trust | None = None) -> Checked[MetaVJudgement]:
    """Take every step over ``bundle``; never raises for what a bundle holds, however broken."""
    return _MetaVCheck(bundle, trust or Trust()).run()


class _MetaVCheck(Check[MetaVBundle, MetaVJudgement]):
    def _steps(self) -> Sequence[NamedStep]:
        return [
            ("commitment signature", self._commitment_signature),
            ("commitment timestamp", self._commitment_timestamp),
            ("pack", self._pack),
            ("policy", self._policy),
            ("protocol", self._protocol),
            ("chain", self._chain),
            ("requests", self._requests),
            ("answers", self._answers),
            ("scores", self._scores),
            ("bundle signature", self._bundle_signature),
            ("files", self._files),
            ("bundle timestamp", self._bundle_timestamp),
        ]

    def _commitment_signature(self) -> Outcome:
        _, head = self._bundle.commitment.open()
        return self._signed_commitment(head.pack_id)

    def _pack(self) -> Outcome:
        committed, head = self._bundle.commitment.unchecked()
        faults = []
        for name, digest in committed.items():
            try:
                data = self._bundle.files.read(name)
            except SifError as error:
                faults.append(str(error))
                continue
            if sha256(data).hexdigest() != digest:
                faults.append(f"{name} is not the committed one")
        if not faults:
            pack = self._bundle.pack
            if not pack.files().keys() <= committed.keys():
                faults.append("a file of the pack was not committed to")
            negatives = {view: len(scores) for view, scores in pack.held_out.negatives.items()}
            if (pack.pack_id, negatives) != (head.pack_id, head.negatives):
                faults.append("pack.json is of another pack than the commitment says")
        return Outcome(faults, [f"{head.queries} queries, the verifier and the held-out models' scores"])

    def _policy(self) -> Outcome:
        _, head = self._bundle.commitment.unchecked()
        stated = self._bundle.numbers.get("policy")
        same = stated == head.policy.model_dump(mode="json")
        alpha = "none: nothing can be confirmed" if head.policy.alpha is None else f"{head.policy.alpha:g}"
        return Outcome(
            [] if same else ["the policy in numbers.json is not the committed one"], [f"alpha {alpha}"]
        )

    def _protocol(self) -> Outcome:
        digest, whom = protocol_digest(self._bundle.protocol), self._whom()
        if whom is None:
            return Outcome([], ["nothing was asked"], done=False)
        if whom.protocol_sha256 != digest:
            return Outcome(["protocol.json is not the protocol that the newest request was made in"])
        return Outcome([], [self._bundle.protocol.kind])

    def _requests(self) -> Outcome:
        queries: Mapping[str, Query] = self._bundle.pack.inputs
        _, head = self._bundle.commitment.unchecked()
        faults, whoms = [], set()
        for item in self._bundle.exchanges:
            record = item.record
            found = _request_faults(item, queries.get(record.trigger_id))
            found += self._time_faults(record, committed=head.created)
            faults += [f"exchange {record.index}: {fault}" for fault in found]
            whoms.add(Asked.of(item))
        count = len(self._bundle.exchanges)
        notes = [f"{count} requests asked committed queries, after they were committed"]
        if len(whoms) > 1:
            named = "; ".join(f"{w.model} at {w.endpoint} through {w.view}" for w in sorted(whoms))
            notes.append(
                f"{WARNING}not all of one model at one address in one way, and the newest counts: {named}"
            )
        return Outcome(faults, notes, done=count > 0)

    def _answers(self) -> Outcome:
        exchanges, whom = self._bundle.exchanges, self._whom()
        codec = None
        if whom is not None:
            codec = codec_of(self._bundle.protocol, model=whom.model, view=whom.view)
        size = self._bundle.pack.output.size
        faults = [
            f"exchange {item.record.index}: {fault}"
            for item in exchanges
            for fault in _answer_faults(item, codec if Asked.of(item) == whom else None, size=size)
        ]
        answered = sum(item.record.outcome == ANSWERED for item in exchanges)
        notes = [f"{answered} answers; {len(exchanges) - answered} exchanges without one count for nothing"]
        return Outcome(faults, notes, done=answered > 0)

    def _scores(self) -> Outcome:
        _, head = self._bundle.commitment.unchecked()
        found = judge_metav(self._bundle.exchanges, pack=self._bundle.pack, policy=head.policy)
        outcome = self._figures(found)
        notes = [*outcome.notes]
        if found.score is not None:
            notes.append(
                f"p {found.score.pvalue:.3g} among {found.score.negatives} held-out models, never below "
                f"{found.score.floor:.3g}; {len(found.pvalues)} looks, none of them multiplied"
            )
        if found.pvalues and found.verdict != "none" and max(found.pvalues) > found.pvalues[-1]:
            notes.append(
                f"{WARNING}the answers vary: at another look p was {max(found.pvalues):.3g}, and whoever "
                "chose the moment chose the p"
            )
        return Outcome(outcome.faults, notes)

    def _whom(self) -> Asked | None:
        exchanges = self._bundle.exchanges
        return Asked.of(exchanges[-1]) if exchanges else None


def _request_faults(item: Exchange, query: Query | None) -> list[str]:
    """How the request differs from asking a committed query, and no word more."""
    if query is None:
        return [f"query {item.record.trigger_id} is none of the pack's"]
    if item.request is None:
        return ["the request is no longer held"]
    asked, faults = item.asked, []
    if asked.get("image_sha256") != query_digest(query):
        faults.append(f"the query sent is not the committed {item.record.trigger_id}")
    if asked.get("prompt") != (query if isinstance(query, str) else ""):
        faults.append("the text sent is not the committed one")
    if (asked.get("kind"), asked.get("max_tokens"), asked.get("temperature")) != ("metav", 0, 0):
        faults.append("the request is none of a query")
    if asked.keys() != _REQUEST:
        faults.append("the request holds other fields than a query has")
    if item.record.control:
        faults.append("a control, which MetaV has none of")
    return faults


def _answer_faults(item: Exchange, codec: Codec | None, *, size: int) -> list[str]:
    """How the outcome set down differs from the reply that is held: every answer has to be scored and nothing
    else, or answers could be chosen by what they say.

    ``codec``: None where the reply came in another protocol than the bundle's; it is not scored either.
    """
    outcome = item.record.outcome
    if outcome.startswith(_SILENT):
        return []
    if outcome not in (ANSWERED, WRONG_SIZE):
        return ["an outcome that there is not"]
    if item.response is None:
        return ["the answer is no longer held"] if outcome == ANSWERED else []
    text, raw = item.reply.get("text"), item.reply.get("raw")
    try:
        numbers = numbers_in(text if isinstance(text, str) else "")
    except EvidenceError as error:
        return [str(error)]
    if (outcome == ANSWERED) != (len(numbers) == size):
        return [f"set down as {outcome}, and has {len(numbers)} numbers"]
    if codec is None:
        return []
    try:
        said = codec.decode(_reply(raw)).numbers
    except (NotOutputError, RecursionError) as error:
        return [f"the raw reply holds no output ({str(error)[:60]})"]
    return [] if said == numbers else ["the numbers are not those of the raw reply"]


def _reply(raw: Any) -> Any:
    return raw.get("reply") if isinstance(raw, dict) else None
