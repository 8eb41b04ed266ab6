"""What an owner fixes before the first probe: triggers, keys and the test, under one signed Merkle root.

Without the keys inside, an owner could look for a key that fits after seeing the answers; without the test,
for a test. The root is published (or given to a timestamp authority); the leaves stay secret until a bundle
discloses those of the triggers it used.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field, StringConstraints, ValidationError, model_validator

from sif_offline.fingerprint.evidence.canonical import canonical_json
from sif_offline.fingerprint.evidence.errors import EvidenceError
from sif_offline.fingerprint.evidence.merkle import inclusion_path, merkle_root, verify_inclusion
from sif_offline.fingerprint.evidence.signed import Signed, Stamp
from sif_offline.fingerprint.evidence.signing import SigningKey
from sif_offline.fingerprint.evidence.statement import Statement, make_statement
from sif_offline.fingerprint.greenlist import MAX_VOCAB_SIZE
from sif_offline.fingerprint.pack import Decoding, FingerprintPack, Owner
from sif_offline.fingerprint.replies import RULES
from sif_offline.fingerprint.schema import FrozenRow
from sif_offline.fingerprint.sequential import CONFIRMED, GRID_POINTS, SUSPICIOUS

COMMITMENT_TYPE = "urn:sifwatch:commitment:v1"
"""in-toto predicate type of a commitment."""
TEST: Final = "grid-mixture e-process over newly seen (trigger, type) pairs, in order of arrival"
STOPPING_RULE: Final = "any: the claim stands from the first moment at which E >= 1/alpha"

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class NullModel(FrozenRow):
    """An unrelated model that the transfer bound was measured on; the digest is "" where it is not known."""

    name: str
    weights_sha256: str = ""


class Policy(FrozenRow):
    """The test, fixed beforehand.

    Attributes:
        test: name of the test.
        stopping_rule: when a claim may be made.
        alpha: level of "confirmed"; at most that of "suspicious".
        gamma: green rate of independent text, N_g / V.
        transfer: m of the unrelated-model null; None: not measured, nothing can be confirmed.
        grid_points: bets in the mixture.
        wrong_keys: sets of keys in the wrong-key control.
        replies: rules by which a reply is an answer, a refusal or neither.
        keys_per_trigger: keys that a trigger's answer is scored under: the committed one.
        null_models: what ``transfer`` was measured on.
    """

    test: Literal["grid-mixture e-process over newly seen (trigger, type) pairs, in order of arrival"] = TEST
    stopping_rule: Literal["any: the claim stands from the first moment at which E >= 1/alpha"] = (
        STOPPING_RULE
    )
    alpha: float = Field(default=CONFIRMED, gt=0, le=SUSPICIOUS)
    gamma: float = Field(gt=0, lt=1)
    transfer: float | None = Field(default=None, ge=0, lt=1)
    grid_points: int = Field(default=GRID_POINTS, ge=1, le=1024)
    wrong_keys: int = Field(default=99, ge=1, le=1000)
    replies: Literal["replies-v1"] = RULES
    keys_per_trigger: Literal[1] = 1
    null_models: tuple[NullModel, ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> "Policy":
        if self.gamma + (self.transfer or 0.0) >= 1:
            raise ValueError("gamma and transfer leave no room below 1")
        if self.transfer is not None and not self.null_models:
            raise ValueError("a transfer bound without a null model")
        return self

    @classmethod
    def of(cls, pack: FingerprintPack, *, alpha: float = CONFIRMED, wrong_keys: int = 99) -> "Policy":
        """The policy that the pack's calibration supports."""
        calibration = pack.calibration
        weights = {} if calibration is None else calibration.null_weights
        return cls(
            alpha=alpha,
            gamma=pack.green_size / pack.vocab_size,
            transfer=None if calibration is None else calibration.transfer.bound,
            wrong_keys=wrong_keys,
            null_models=tuple(
                NullModel(name=name, weights_sha256=weights.get(name, ""))
                for name in ([] if calibration is None else calibration.null_models)
            ),
        )


class Leaf(FrozenRow):
    """Everything about one trigger that a score depends on; ``key_commitment`` binds and hides its key.

    ``variants`` are the other wordings under which the trigger may be asked. A leaf without any is encoded as
    before there were any, so that its digest stands.
    """

    trigger_id: str
    trigger_sha256: Digest
    clean_sha256: Digest
    prompt: str
    key_commitment: Digest
    tokenizer_sha256: Digest
    vocab_size: int = Field(ge=2, le=MAX_VOCAB_SIZE)
    scheme: str
    gamma: float = Field(gt=0, lt=1)
    reserve: bool
    variants: tuple[str, ...] = Field(default=(), exclude_if=lambda variants: not variants)

    @property
    def wordings(self) -> tuple[str, ...]:
        """Every prompt that was committed to, the trigger's own first."""
        return (self.prompt, *self.variants)

    def encoded(self) -> bytes:
        """The bytes under the Merkle root."""
        return canonical_json(self.model_dump())


class Disclosure(FrozenRow):
    """A leaf with its proof: its place under the root and the hashes beside the way up."""

    leaf: Leaf
    index: int
    path: tuple[Digest, ...]

    def is_under(self, *, root: bytes, size: int) -> bool:
        """Whether the leaf is where it says under the root of ``size`` leaves."""
        return verify_inclusion(
            leaf=self.leaf.encoded(),
            index=self.index,
            size=size,
            path=[bytes.fromhex(step) for step in self.path],
            root=root,
        )


class Head(FrozenRow):
    """What is signed over the root.

    Attributes:
        pack_id: of the pack.
        owner: the fingerprinted model, its weights by their hash.
        decoding: what is asked of an endpoint.
        triggers: leaves under the root.
        reserve: how many of them are never sent by the owner, but kept for a third party's replay.
        policy: the test.
        created: when, by the owner's own clock.
    """

    pack_id: str
    owner: Owner
    decoding: Decoding
    triggers: int = Field(ge=1)
    reserve: int = Field(ge=0)
    policy: Policy
    created: AwareDatetime


class Commitment(Signed):
    """``commitment.json``: a signed head over the Merkle root; safe to publish.

    Attributes:
        reserve: ids of the triggers kept in reserve: a note to the owner's own probes, proven by the leaves.
    """

    reserve: tuple[str, ...] = ()

    def open(self) -> tuple[bytes, Head]:
        """Root and head, once the signature has been checked.

        Raises:
            EvidenceError: the signature does not fit, or what is signed is no commitment.
        """
        return _head(self.statement(COMMITMENT_TYPE))

    def unchecked(self) -> tuple[bytes, Head]:
        """Root and head without regard to the signature. Raises EvidenceError."""
        return _head(self.unchecked_statement(COMMITMENT_TYPE))


def _head(statement: Statement) -> tuple[bytes, Head]:
    try:
        (root,) = statement.subjects.values()
        return bytes.fromhex(root), Head.model_validate(statement.predicate)
    except (ValidationError, ValueError):
        raise EvidenceError("commitment: what is signed is no commitment of this kind") from None


def leaves_of(pack: FingerprintPack, *, reserve: Collection[str]) -> tuple[Leaf, ...]:
    """The leaves of a pack, in its order."""
    return tuple(
        Leaf(
            trigger_id=row.id,
            trigger_sha256=row.sha256,
            clean_sha256=row.clean_sha256,
            prompt=row.prompt,
            key_commitment=row.key_commitment,
            tokenizer_sha256=pack.tokenizer_sha256,
            vocab_size=pack.vocab_size,
            scheme=pack.scheme,
            gamma=pack.gamma,
            reserve=row.id in reserve,
            variants=tuple(variant.prompt for variant in row.variants),
        )
        for row in pack.triggers
    )


def commit(
    pack: FingerprintPack,
    *,
    key: SigningKey,
    policy: Policy,
    created: datetime,
    reserve: Collection[str] = (),
    stamp: Stamp | None = None,
) -> Commitment:
    """Commit to a pack.

    Args:
        pack: forged, and calibrated if anything is ever to be confirmed.
        key: the owner's signing key.
        policy: the test.
        created: now, with its zone.
        reserve: ids of triggers that the owner will never send.
        stamp: asks a timestamp authority: data -> RFC 3161 response in DER.

    Raises:
        EvidenceError: no trigger would be left to send, a reserve that the pack does not have, or a picture
            or key that two triggers share.
    """
    unknown = sorted(set(reserve) - {row.id for row in pack.triggers})
    if unknown:
        raise EvidenceError(f"pack {pack.pack_id}: no trigger {', '.join(unknown)} to keep in reserve")
    if len(set(reserve)) == len(pack.triggers):
        raise EvidenceError(f"pack {pack.pack_id}: every trigger in reserve leaves none to send")
    leaves = leaves_of(pack, reserve=reserve)
    for what, values in (
        ("picture", {leaf.trigger_sha256 for leaf in leaves}),
        ("key", {leaf.key_commitment for leaf in leaves}),
    ):
        if len(values) < len(leaves):
            raise EvidenceError(f"pack {pack.pack_id}: two triggers share one {what}")
    head = Head(
        pack_id=pack.pack_id,
        owner=pack.owner,
        decoding=pack.decoding,
        triggers=len(leaves),
        reserve=len(set(reserve)),
        policy=policy,
        created=created,
    )
    statement = make_statement(
        subjects={f"sif-pack:{pack.pack_id}": merkle_root([leaf.encoded() for leaf in leaves]).hex()},
        predicate_type=COMMITMENT_TYPE,
        predicate=head.model_dump(mode="json"),
    )
    return Commitment.sign(statement, key=key, stamp=stamp, reserve=tuple(sorted(set(reserve))))


def disclose(
    pack: FingerprintPack, *, reserve: Collection[str], trigger_ids: Sequence[str]
) -> list[Disclosure]:
    """The leaves of some triggers with their proofs."""
    leaves = leaves_of(pack, reserve=reserve)
    encoded = [leaf.encoded() for leaf in leaves]
    places = {leaf.trigger_id: place for place, leaf in enumerate(leaves)}
    return [
        Disclosure(
            leaf=leaves[places[trigger_id]],
            index=places[trigger_id],
            path=tuple(step.hex() for step in inclusion_path(encoded, places[trigger_id])),
        )
        for trigger_id in trigger_ids
    ]


def commitment_of(pack: FingerprintPack) -> Commitment | None:
    """The commitment inside a pack, its signature unchecked; None where the pack is not committed.

    Raises:
        EvidenceError: the file is no commitment.
    """
    data = pack.commitment_json()
    return None if data is None else Commitment.parse(data, name=f"pack {pack.pack_id}: commitment.json")


def reserved_triggers(pack: FingerprintPack) -> frozenset[str]:
    """Ids that the owner's own probes must never send; empty where the pack is not committed."""
    commitment = commitment_of(pack)
    return frozenset() if commitment is None else frozenset(commitment.reserve)
