"""Keys on disk, and DSSE envelopes: ours open elsewhere, theirs here, and nothing altered anywhere."""

import base64
import copy
import hashlib
import os
import pickle
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from hypothesis import given
from hypothesis import strategies as st

from sif_offline.fingerprint.evidence.errors import EvidenceError
from sif_offline.fingerprint.evidence.signing import (
    SigningKey,
    VerifyingKey,
    open_envelope,
    pre_authentication_encoding,
    sign_envelope,
)
from sif_offline.fingerprint.private_files import KeyFileError

KIND = "application/vnd.in-toto+json"
PAYLOAD = b'{"a":1}'


@pytest.fixture
def key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
def envelope(key: SigningKey) -> dict[str, Any]:
    return sign_envelope(PAYLOAD, payload_type=KIND, key=key)


class TestKeyFiles:
    def test_written_private_and_read_back(self, key: SigningKey, tmp_path: Path) -> None:
        old = os.umask(0)
        try:
            key.write(tmp_path / "signer.pem")
        finally:
            os.umask(old)
        assert stat.S_IMODE((tmp_path / "signer.pem").stat().st_mode) == 0o600
        assert SigningKey.read(tmp_path / "signer.pem").public == key.public
        assert isinstance(
            load_pem_private_key((tmp_path / "signer.pem").read_bytes(), password=None), Ed25519PrivateKey
        )

    def test_never_overwritten(self, key: SigningKey, tmp_path: Path) -> None:
        (tmp_path / "signer.pem").write_text("mine")
        with pytest.raises(KeyFileError, match="never overwritten"):
            key.write(tmp_path / "signer.pem")
        assert (tmp_path / "signer.pem").read_text() == "mine"

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
    def test_refused_when_others_may_read_it(self, key: SigningKey, tmp_path: Path, mode: int) -> None:
        key.write(tmp_path / "signer.pem")
        (tmp_path / "signer.pem").chmod(mode)
        with pytest.raises(KeyFileError, match="chmod 600"):
            SigningKey.read(tmp_path / "signer.pem")

    @pytest.mark.parametrize("content", ["none", "empty", "public", "other kind", "encrypted", "master key"])
    def test_refused_when_it_is_something_else(self, key: SigningKey, tmp_path: Path, content: str) -> None:
        def private(other: Any, encryption: Any = None) -> bytes:
            return bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))

        found = {
            "empty": b"",
            "public": key.public.pem.encode(),
            "other kind": private(ec.generate_private_key(ec.SECP256R1())),
            "encrypted": private(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"pw")),
            "master key": b"sif-master-v1:" + b"0" * 64,
        }.get(content)
        path = tmp_path / "signer.pem"
        if found is not None:
            path.write_bytes(found)
            path.chmod(0o600)
        with pytest.raises(KeyFileError, match=f"^{path}: "):
            SigningKey.read(path)

    def test_keeps_its_secret(self, key: SigningKey, tmp_path: Path) -> None:
        key.write(tmp_path / "signer.pem")
        secret = "".join((tmp_path / "signer.pem").read_text().splitlines()[1:-1])
        shown = f"{key!r} {key} {key.public!r}"
        assert secret not in shown
        assert base64.b64decode(secret)[-32:].hex() not in shown
        assert key.public.fingerprint in repr(key)
        for copied in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="neither pickled nor copied"):
                copied(key)

    def test_public_half(self, key: SigningKey, tmp_path: Path) -> None:
        (tmp_path / "a.pub.pem").write_text(key.public.pem)
        read = VerifyingKey.read(tmp_path / "a.pub.pem")
        assert read == key.public == VerifyingKey.from_pem(key.public.pem)
        assert hash(read) == hash(key.public)
        assert read != SigningKey.generate().public
        assert read != key.public.pem
        der = load_pem_public_key(key.public.pem.encode()).public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        assert read.fingerprint == hashlib.sha256(der).hexdigest()

    @pytest.mark.parametrize(
        "pem", ["", "\u00e4", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
    )
    def test_a_public_key_that_is_none(self, pem: str, tmp_path: Path) -> None:
        with pytest.raises(EvidenceError, match="not an Ed25519 public key"):
            VerifyingKey.from_pem(pem)
        (tmp_path / "a.pem").write_text(pem, encoding="utf-8")
        with pytest.raises(KeyFileError, match=r"a\.pem: not an Ed25519 public key"):
            VerifyingKey.read(tmp_path / "a.pem")
        with pytest.raises(KeyFileError, match=r"b\.pem: No such file"):
            VerifyingKey.read(tmp_path / "b.pem")

    def test_a_public_key_in_evidence_has_one_spelling(self, key: SigningKey, tmp_path: Path) -> None:
        pem = key.public.pem
        for changed in (pem + "\n", "text\n" + pem, pem.replace("\n", "\r\n"), pem[:-1]):
            with pytest.raises(EvidenceError, match="not an Ed25519 public key"):
                VerifyingKey.from_pem(changed)
            (tmp_path / "signer.pub.pem").write_bytes(changed.encode())
            assert VerifyingKey.read(tmp_path / "signer.pub.pem") == key.public  # somebody's editor

    def test_a_public_key_of_another_kind(self) -> None:
        other = ec.generate_private_key(ec.SECP256R1()).public_key()
        pem = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        with pytest.raises(EvidenceError, match="not an Ed25519 public key"):
            VerifyingKey.from_pem(pem)


class TestEnvelopes:
    def test_encoding_of_the_specification(self) -> None:
        found = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
        assert found == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"

    def test_lengths_count_bytes(self) -> None:
        assert pre_authentication_encoding("\u00e4", "\u00f6".encode()) == b"DSSEv1 2 \xc3\xa4 2 \xc3\xb6"

    @given(st.binary(max_size=200))
    def test_what_was_signed_comes_out(self, payload: bytes) -> None:
        key = SigningKey.generate()
        envelope = sign_envelope(payload, payload_type=KIND, key=key)
        assert open_envelope(envelope, key=key.public, payload_type=KIND) == payload
        assert envelope["signatures"][0]["keyid"] == key.public.fingerprint

    def test_signing_is_deterministic(self, key: SigningKey, envelope: dict[str, Any]) -> None:
        assert sign_envelope(PAYLOAD, payload_type=KIND, key=key) == envelope

    def test_another_key(self, envelope: dict[str, Any]) -> None:
        with pytest.raises(EvidenceError, match=r"^signature is not by key [0-9a-f]{64} over this content$"):
            open_envelope(envelope, key=SigningKey.generate().public, payload_type=KIND)

    def test_any_changed_bit_of_payload_or_signature(self, key: SigningKey, envelope: dict[str, Any]) -> None:
        rows = envelope["signatures"]
        for at in range(8 * len(PAYLOAD)):
            payload = (int.from_bytes(PAYLOAD, "big") ^ 1 << at).to_bytes(len(PAYLOAD), "big")
            with pytest.raises(EvidenceError, match=r"^signature"):
                open_envelope(
                    envelope | {"payload": base64.b64encode(payload).decode()},
                    key=key.public,
                    payload_type=KIND,
                )
        signature = base64.b64decode(rows[0]["sig"])
        for at in range(8 * len(signature)):
            changed = (int.from_bytes(signature, "big") ^ 1 << at).to_bytes(len(signature), "big")
            row = {"sig": base64.b64encode(changed).decode()}
            with pytest.raises(EvidenceError, match=r"^signature"):
                open_envelope(envelope | {"signatures": [row]}, key=key.public, payload_type=KIND)

    def test_any_changed_character_of_the_texts(self, key: SigningKey, envelope: dict[str, Any]) -> None:
        """Stray bits in base64 included, which decode to the same bytes elsewhere."""
        for name in ("payload", "sig"):
            text = envelope["payload"] if name == "payload" else envelope["signatures"][0]["sig"]
            for at in range(len(text)):
                changed = text[:at] + ("B" if text[at] == "A" else "A") + text[at + 1 :]
                row = {"payload": changed} if name == "payload" else {"signatures": [{"sig": changed}]}
                with pytest.raises(EvidenceError):
                    open_envelope(envelope | row, key=key.public, payload_type=KIND)

    def test_the_type_is_signed(self, key: SigningKey, envelope: dict[str, Any]) -> None:
        with pytest.raises(EvidenceError, match="payload type is not text/plain"):
            open_envelope(envelope, key=key.public, payload_type="text/plain")
        with pytest.raises(EvidenceError, match=r"^signature"):
            open_envelope(envelope | {"payloadType": "text/plain"}, key=key.public, payload_type="text/plain")

    def test_one_good_signature_among_several(self, key: SigningKey, envelope: dict[str, Any]) -> None:
        others = [
            sign_envelope(PAYLOAD, payload_type=KIND, key=SigningKey.generate())["signatures"][0]
            for _ in range(3)
        ]
        both = envelope | {"signatures": [*others, *envelope["signatures"]], "unknown": 1}
        assert open_envelope(both, key=key.public, payload_type=KIND) == PAYLOAD
        many = envelope | {"signatures": [*others[:1] * 16, *envelope["signatures"]]}
        with pytest.raises(EvidenceError, match="1 to 16 signatures"):
            open_envelope(many, key=key.public, payload_type=KIND)

    def test_the_key_id_is_not_believed(self, key: SigningKey, envelope: dict[str, Any]) -> None:
        signature = envelope["signatures"][0]["sig"]
        for row in ({"sig": signature}, {"keyid": "x", "sig": signature}, {"keyid": None, "sig": signature}):
            assert (
                open_envelope(envelope | {"signatures": [row]}, key=key.public, payload_type=KIND) == PAYLOAD
            )
        forger = SigningKey.generate()
        row = sign_envelope(PAYLOAD, payload_type=KIND, key=forger)["signatures"][0]
        with pytest.raises(EvidenceError, match=r"^signature"):
            open_envelope(
                envelope | {"signatures": [row | {"keyid": key.public.fingerprint}]},
                key=key.public,
                payload_type=KIND,
            )

    @pytest.mark.parametrize(
        "changed",
        [
            {"payload": None},
            {"payload": 3},
            {"payload": "a"},
            {"payload": "\u00e4\u00e4\u00e4\u00e4"},
            {"payload": "A" * (90 * 2**20)},
            {"payloadType": None},
            {"payloadType": ["x"]},
            {"signatures": None},
            {"signatures": []},
            {"signatures": {}},
            {"signatures": "abc"},
            {"signatures": [3]},
            {"signatures": [{}]},
            {"signatures": [{"sig": None}]},
            {"signatures": [{"sig": ""}]},
            {"signatures": [{"sig": "AAAA"}]},
            {"signatures": [{"sig": "A" * 10_000}]},
            {"signatures": [{"sig": "AAAA"}] * 17},
        ],
        ids=lambda changed: str(changed)[:50],
    )
    def test_hostile_envelopes(
        self, changed: dict[str, Any], key: SigningKey, envelope: dict[str, Any]
    ) -> None:
        with pytest.raises(EvidenceError, match=r"^(envelope|signature)"):
            open_envelope(envelope | changed, key=key.public, payload_type=KIND)

    @pytest.mark.parametrize("found", [None, [], "x", 3, {}])
    def test_no_envelope_at_all(self, found: Any, key: SigningKey) -> None:
        with pytest.raises(EvidenceError, match=r"^envelope"):
            open_envelope(found, key=key.public, payload_type=KIND)


class TestInterchange:
    """The same envelopes through securesystemslib and through nothing but cryptography."""

    def test_ours_opens_in_securesystemslib(self, key: SigningKey, envelope: dict[str, Any]) -> None:
        from securesystemslib.dsse import Envelope
        from securesystemslib.exceptions import VerificationError
        from securesystemslib.signer import SSlibKey

        public = load_pem_public_key(key.public.pem.encode())
        theirs = SSlibKey.from_crypto(public, keyid=key.public.fingerprint)  # type: ignore[arg-type]
        found = Envelope.from_dict(copy.deepcopy(envelope))
        assert list(found.verify([theirs], 1).values()) == [theirs]
        assert found.payload == PAYLOAD
        found.payload += b" "
        with pytest.raises(VerificationError):
            found.verify([theirs], 1)

    def test_theirs_opens_here(self) -> None:
        from securesystemslib.dsse import Envelope
        from securesystemslib.signer import CryptoSigner

        signer = CryptoSigner.generate_ed25519()
        theirs = Envelope(payload=PAYLOAD, payload_type=KIND, signatures={})
        theirs.sign(signer)
        public = VerifyingKey.from_pem(_pem_of(signer))
        assert open_envelope(theirs.to_dict(), key=public, payload_type=KIND) == PAYLOAD

    def test_ours_holds_under_plain_cryptography(self, key: SigningKey, envelope: dict[str, Any]) -> None:
        public = load_pem_public_key(key.public.pem.encode())
        payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"]
        message = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
        public.verify(base64.b64decode(envelope["signatures"][0]["sig"]), message)  # type: ignore[union-attr, call-arg]


def _pem_of(signer: Any) -> str:
    """Their key as PEM: for Ed25519 they keep the 32 bytes in hex."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    raw = bytes.fromhex(signer.public_key.keyval["public"])
    return (
        Ed25519PublicKey.from_public_bytes(raw)
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )
