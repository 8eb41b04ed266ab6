"""What is checked of every bundle, whatever its pack: signatures, times, the chain, the files.

Every step is taken whatever the others found, so that one changed byte is named where it is and not only
where it first shows.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Generic, TypeVar

from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.evidence.bundle_files import EVIDENCE_TYPE, STATEMENT, BundleFiles
from sif_offline.fingerprint.evidence.checked import Checked, Judged, Step, Trust, said_in_lines
from sif_offline.fingerprint.evidence.differences import differences, shortened
from sif_offline.fingerprint.evidence.errors import EvidenceError
from sif_offline.fingerprint.evidence.signed import Signed
from sif_offline.fingerprint.evidence.timestamping import Timestamp
from sif_offline.fingerprint.evidence.transcript import Record, chain_faults, head_of

CLOCK_SLACK_S = 120.0
"""How far the owner's clock may run behind the authority's, seconds."""

B = TypeVar("B", bound=BundleFiles)
J = TypeVar("J", bound=Judged)


@dataclass(frozen=True)
class Outcome:
    """What one step found. ``done`` is false where there was nothing to check."""

    faults: Sequence[str]
    notes: Sequence[str] = ()
    done: bool = True


NamedStep = tuple[str, Callable[[], Outcome]]


class Check(ABC, Generic[B, J]):
    """One pass over one bundle. Each step is a method that returns its outcome, or raises."""

    def __init__(self, bundle: B, trust: Trust) -> None:
        self._bundle = bundle
        self._trust = trust
        self._committed_at: datetime | None = None
        self._judgement: J | None = None

    @abstractmethod
    def _steps(self) -> Sequence[NamedStep]:
        """In the order in which they are taken."""

    def run(self) -> Checked[J]:
        """Take every step."""
        steps = tuple(self._take(name, step) for name, step in self._steps())
        return Checked(steps, self._judgement)

    def _take(self, name: str, step: Callable[[], Outcome]) -> Step:
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

    def _signed_commitment(self, pack_id: str) -> Outcome:
        """Once its signature has been checked; ``pack_id``: what it commits to."""
        commitment, faults = self._bundle.commitment, []
        if self._trust.owner is not None and commitment.signer != self._trust.owner:
            faults.append(
                f"signed by {commitment.signer.fingerprint[:16]}, not by the owner's key that you gave"
            )
        if pack_id != self._bundle.info.pack_id:
            faults.append(f"commits to pack {pack_id}, the bundle is of {self._bundle.info.pack_id}")
        known = (
            "the key you gave" if self._trust.owner else "a key that nobody vouched for (give --owner-key)"
        )
        return Outcome(faults, [f"signed by {commitment.signer.fingerprint[:16]}, {known}"])

    def _commitment_timestamp(self) -> Outcome:
        return self._timestamp(self._bundle.commitment, True)

    def _bundle_timestamp(self) -> Outcome:
        return self._timestamp(self._bundle.statement, False)

    def _timestamp(self, signed: Signed, is_commitment: bool) -> Outcome:
        if signed.timestamp is None:
            return Outcome([], ["none: the times are the signer's own claim"], done=False)
        stamp = signed.time(roots=self._trust.authorities)
        if stamp is None:
            raise EvidenceError("timestamp: missing")
        if is_commitment:
            self._committed_at = stamp.time
        return Outcome([], [_describe(stamp)])

    def _chain(self) -> Outcome:
        exchanges, info = self._bundle.exchanges, self._bundle.info
        faults = chain_faults(exchanges)
        if any((e.record.target, e.record.pack_id) != (info.target, info.pack_id) for e in exchanges):
            faults.append("the chain is of another target or pack than bundle.json says")
        stated = self._bundle.statement.unchecked_statement(EVIDENCE_TYPE).predicate
        if stated.get("chain_head") != head_of(exchanges) or stated.get("exchanges") != len(exchanges):
            faults.append("the chain does not end where the bundle's statement says")
        return Outcome(faults, [f"{len(exchanges)} exchanges"], done=bool(exchanges))

    def _time_faults(self, record: Record, *, committed: datetime) -> list[str]:
        """``committed``: when, by the owner's own clock."""
        earliest = (self._committed_at or committed).timestamp() - CLOCK_SLACK_S
        latest = self._bundle.info.created.timestamp() + CLOCK_SLACK_S
        faults = []
        if record.asked_at < earliest:
            faults.append("asked before the commitment was made")
        if not record.asked_at <= record.settled_at <= latest:
            faults.append("answered before it was asked, or after the bundle was made")
        return faults

    def _figures(self, judgement: J) -> Outcome:
        """Keep the recomputed ``judgement``; every figure stated against it, and the signed verdict."""
        self._judgement = judgement
        stated: dict[str, Any] = {k: v for k, v in self._bundle.numbers.items() if k != "policy"}
        faults = [
            f"{where}: stated {shortened(said)}, recomputed {shortened(found)}"
            for where, said, found in differences(stated, judgement.numbers())
        ]
        signed = self._bundle.statement.unchecked_statement(EVIDENCE_TYPE).predicate
        if signed.get("verdict") != judgement.verdict:
            faults.append("the signed verdict is not the recomputed one")
        return Outcome(faults, [f"every figure recomputed; verdict {judgement.verdict}"])

    def _bundle_signature(self) -> Outcome:
        signed = self._bundle.statement
        if signed.to_json() != self._bundle.files.read(STATEMENT):
            raise EvidenceError(f"{STATEMENT}: not in the one form it is written in")
        signed.statement(EVIDENCE_TYPE)
        wanted = self._trust.bundler or self._trust.owner or self._bundle.commitment.signer
        faults = []
        if signed.signer != wanted:
            faults.append(
                f"signed by {signed.signer.fingerprint[:16]}, expected {wanted.fingerprint[:16]} "
                "(a replay by somebody else: give --bundler-key)"
            )
        return Outcome(faults, [f"signed by {signed.signer.fingerprint[:16]}"])

    def _files(self) -> Outcome:
        listed = self._bundle.statement.unchecked_statement(EVIDENCE_TYPE).subjects
        found = set(self._bundle.files.names) - {STATEMENT}
        faults = [f"{name} is missing" for name in sorted(listed.keys() - found)]
        faults += [f"{name} is not listed in the statement" for name in sorted(found - listed.keys())]
        faults += [
            f"{name} was changed after signing"
            for name in sorted(found & listed.keys())
            if sha256(self._bundle.files.read(name)).hexdigest() != listed[name]
        ]
        return Outcome(faults, [f"{len(found)} files as they were signed"])


def _describe(stamp: Timestamp) -> str:
    who = (
        stamp.authority if stamp.trusted else f"{stamp.authority}, which nobody vouched for (give --tsa-root)"
    )
    return f"{stamp.time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC by {who}"
