"""Timestamps, against ``openssl ts`` as the authority: nothing altered, foreign or premature passes."""

import socket
import subprocess
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from rfc3161_client import VerifierBuilder, decode_timestamp_response

from sif_offline.fingerprint.evidence.errors import EvidenceError
from sif_offline.fingerprint.evidence.timestamping import Timestamp, check_timestamp, request_timestamp
from tests.fingerprint.evidence.authority import OPENSSL, Authority, Key, issue, transplant

DATA = b"what was committed to"
GOLDEN = Path(__file__).parent / "golden"
TIME_STAMPING = ExtendedKeyUsageOID.TIME_STAMPING

pytestmark = pytest.mark.skipif(
    OPENSSL is None, reason="needs the openssl command, which plays the authority"
)


@pytest.fixture(scope="module")
def token(timestamp_authority: Authority) -> bytes:
    return request_timestamp(DATA, url=timestamp_authority.url)


Make = Callable[..., Authority]


@pytest.fixture
def authority(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Another authority, made to order."""
    return lambda **options: Authority(tmp_path_factory.mktemp("authority"), **options)


class TestWhatATimestampSays:
    def test_with_a_trusted_root(self, token: bytes, timestamp_authority: Authority) -> None:
        found = check_timestamp(token, data=DATA, roots=[timestamp_authority.root_pem])
        assert isinstance(found, Timestamp)
        assert found.time.utcoffset() == timedelta(0)
        assert abs(found.time - datetime.now(UTC)) < timedelta(minutes=5)
        assert (found.authority, found.policy, found.trusted) == (
            "CN=Test timestamp authority",
            "1.2.3.4.1",
            True,
        )

    def test_without_roots_it_is_checked_and_not_trusted(
        self, token: bytes, timestamp_authority: Authority
    ) -> None:
        found = check_timestamp(token, data=DATA)
        trusted = check_timestamp(token, data=DATA, roots=[timestamp_authority.root_pem])
        assert not found.trusted
        assert (found.time, found.serial) == (trusted.time, trusted.serial)

    def test_serials_count_up(self, timestamp_authority: Authority) -> None:
        first, second = (check_timestamp(timestamp_authority.stamp(DATA), data=DATA) for _ in range(2))
        assert second.serial == first.serial + 1

    def test_openssl_agrees(self, token: bytes, timestamp_authority: Authority, tmp_path: Path) -> None:
        for name, content in (("a.tsr", token), ("data", DATA), ("root.pem", timestamp_authority.root_pem)):
            (tmp_path / name).write_bytes(content)
        command = [str(OPENSSL), "ts", "-verify", "-in", "a.tsr", "-data", "data", "-CAfile", "root.pem"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "Verification: OK" in done.stdout + done.stderr

    def test_one_of_several_roots_is_enough(
        self, token: bytes, timestamp_authority: Authority, authority: Make
    ) -> None:
        stranger = authority().root_pem
        for roots in (
            [stranger, timestamp_authority.root_pem],
            [stranger + timestamp_authority.root_pem],
            [timestamp_authority.root_pem] * 2,
        ):
            assert check_timestamp(token, data=DATA, roots=roots).trusted

    def test_a_name_cannot_steer_the_terminal(self, authority: Make) -> None:
        root = issue("root")
        signer = issue("Good \x1b[31mName", by=root, usage=[TIME_STAMPING])
        found = check_timestamp(authority(root=root, signer=signer).stamp(DATA), data=DATA)
        assert found.authority == "CN=Good ?[31mName"


class TestKindsOfAuthority:
    """What real authorities use: RSA or ECDSA, an intermediate CA, SHA-1 or SHA-2 certificate hashes."""

    @pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
    @pytest.mark.parametrize("ess", ["sha1", "sha256", "sha512"])
    @pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
    def test_keys_and_digests(self, kind: str, ess: str, digest: str, authority: Make) -> None:
        key = (
            rsa.generate_private_key(65537, 2048)
            if kind == "rsa"
            else ec.generate_private_key(ec.SECP384R1())
        )
        root = issue("root")
        signer = issue("signer", by=root, key=key, usage=[TIME_STAMPING])
        made = authority(root=root, signer=signer, signer_digest=digest, ess_digest=ess)
        token = made.stamp(DATA)
        assert check_timestamp(token, data=DATA, roots=[made.root_pem]).trusted
        with pytest.raises(EvidenceError, match="other data"):
            check_timestamp(token, data=DATA + b".")

    @pytest.mark.parametrize("ess", ["sha256", "sha512"])
    def test_a_sha512_imprint(self, authority: Make, ess: str) -> None:
        made = authority(ess_digest=ess)
        token = made.stamp(DATA, sha512=True)
        assert check_timestamp(token, data=DATA, roots=[made.root_pem]).trusted

    def test_an_intermediate_in_the_token(self, authority: Make) -> None:
        """openssl sends it in the order of the chain, which is not DER's, and authorities run on openssl."""
        root = issue("root")
        middle = issue("middle", by=root, ca=True)
        signer = issue("signer", by=middle, usage=[TIME_STAMPING])
        token = authority(root=root, signer=signer, chain=[middle]).stamp(DATA)
        assert check_timestamp(token, data=DATA, roots=[root.pem]).trusted
        for at in range(0, len(token), 7):  # the intermediate's bytes, too
            changed = token[:at] + bytes([token[at] ^ 4]) + token[at + 1 :]
            with warnings.catch_warnings(action="ignore"), pytest.raises(EvidenceError):
                check_timestamp(changed, data=DATA, roots=[root.pem])

    def test_a_missing_intermediate_is_no_chain(self, authority: Make) -> None:
        root = issue("root")
        signer = issue("signer", by=issue("middle", by=root, ca=True), usage=[TIME_STAMPING])
        token = authority(root=root, signer=signer).stamp(DATA)
        assert not check_timestamp(token, data=DATA).trusted
        with pytest.raises(EvidenceError, match="does not chain"):
            check_timestamp(token, data=DATA, roots=[root.pem])

    def test_fractions_of_a_second(self, authority: Make) -> None:
        made = authority(precision=3)
        before = datetime.now(UTC)
        found = check_timestamp(made.stamp(DATA), data=DATA, roots=[made.root_pem])
        assert abs(found.time - before) < timedelta(minutes=5)


class TestTampering:
    @pytest.mark.parametrize("trusting", [True, False])
    def test_a_changed_bit_anywhere_is_caught(
        self, token: bytes, timestamp_authority: Authority, trusting: bool
    ) -> None:
        """Each byte, two of its bits: also those that rfc3161-client itself lets pass (next test)."""
        roots = [timestamp_authority.root_pem] if trusting else []
        check_timestamp(token, data=DATA, roots=roots)
        with warnings.catch_warnings(action="ignore"):
            for at in range(len(token)):
                for bit in (at % 8, (at + 3) % 8):
                    changed = bytearray(token)
                    changed[at] ^= 1 << bit
                    with pytest.raises(EvidenceError):
                        check_timestamp(bytes(changed), data=DATA, roots=roots)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("2a8648ce3d040302", "2a8648ce3d040303"),  # ecdsa-with-SHA256 to -SHA384
            ("2a8648ce3d040302", "2b8648ce3d040302"),  # to nothing known
            ("0c1e54657374", "131e54657374"),  # UTF8String to PrintableString in the name of the issuer
        ],
    )
    def test_the_library_alone_would_miss_some(
        self, old: str, new: str, token: bytes, timestamp_authority: Authority
    ) -> None:
        """Why ``cms`` exists: when this fails, the library has closed a gap."""
        at = token.rindex(bytes.fromhex(old))
        changed = token[:at] + bytes.fromhex(new) + token[at + len(old) // 2 :]
        verifier = VerifierBuilder(roots=[timestamp_authority.root.certificate]).build()
        assert verifier.verify_message(decode_timestamp_response(changed), DATA)
        for roots in ([], [timestamp_authority.root_pem]):
            with pytest.raises(EvidenceError):
                check_timestamp(changed, data=DATA, roots=roots)

    @pytest.mark.parametrize("at", [0, 7, len(DATA) - 1])
    def test_changed_data(self, token: bytes, at: int) -> None:
        changed = bytearray(DATA)
        changed[at] ^= 1
        with pytest.raises(EvidenceError, match="other data"):
            check_timestamp(token, data=bytes(changed))

    def test_more_or_less_of_the_token(self, token: bytes) -> None:
        for changed in (token + b"\0", token[:-1], token[:100], b"", token + token):
            with pytest.raises(EvidenceError, match="not an RFC 3161 answer"):
                check_timestamp(changed, data=DATA)
        with pytest.raises(EvidenceError, match="too long"):
            check_timestamp(token + bytes(2**20), data=DATA)

    def test_another_certificate_of_the_same_key_and_number(self, authority: Make) -> None:
        """The hash of the certificate is signed: one with other dates does not take its place."""
        made = authority()
        with pytest.raises(EvidenceError, match="other than the one that signed"):
            check_timestamp(with_certificate(made, usage=[TIME_STAMPING]), data=DATA)

    def test_another_signer(self, token: bytes, timestamp_authority: Authority) -> None:
        """A key of the forger's, whose certificate claims the name and number of the authority's."""
        forged = with_certificate(
            timestamp_authority, usage=[TIME_STAMPING], key=ec.generate_private_key(ec.SECP256R1())
        )
        with pytest.raises(EvidenceError, match="other than the one that signed"):
            check_timestamp(forged, data=DATA)


class TestAuthoritiesThatAreNotTrusted:
    def test_another_authority_of_the_same_name(
        self, timestamp_authority: Authority, authority: Make
    ) -> None:
        impostor = authority()
        token = impostor.stamp(DATA)
        assert not check_timestamp(token, data=DATA).trusted
        with pytest.raises(EvidenceError, match="does not chain to a trusted root"):
            check_timestamp(token, data=DATA, roots=[timestamp_authority.root_pem])

    def test_a_certificate_that_had_expired(self, authority: Make) -> None:
        root = issue("root")
        lives = (timedelta(days=-20), timedelta(days=-10))
        signer = issue("signer", by=root, lives=lives, usage=[TIME_STAMPING])
        token = authority(root=root, signer=signer).stamp(DATA)
        for roots in ([], [root.pem]):
            with pytest.raises(EvidenceError, match="not valid at that time"):
                check_timestamp(token, data=DATA, roots=roots)

    def test_a_root_that_had_expired(self, authority: Make) -> None:
        root = issue("root", lives=(timedelta(days=-20), timedelta(days=-10)))
        token = authority(root=root).stamp(DATA)
        with pytest.raises(EvidenceError, match="does not chain"):
            check_timestamp(token, data=DATA, roots=[root.pem])

    def test_a_certificate_that_expired_since_is_good(self) -> None:
        """A token of this very fixture, whose certificates lived for the second in which it was made."""
        token, root = ((GOLDEN / f"expired.{kind}").read_bytes() for kind in ("tsr", "pem"))
        assert x509.load_pem_x509_certificate(root).not_valid_after_utc < datetime.now(UTC)
        assert check_timestamp(token, data=DATA, roots=[root]).trusted

    @pytest.mark.parametrize(
        ("usage", "critical"),
        [
            ([TIME_STAMPING], False),
            ([TIME_STAMPING, ExtendedKeyUsageOID.CODE_SIGNING], True),
            ([ExtendedKeyUsageOID.CODE_SIGNING], True),
        ],
    )
    def test_a_certificate_that_is_not_for_timestamping_alone(
        self, usage: list[x509.ObjectIdentifier], critical: bool, authority: Make
    ) -> None:
        """openssl does not sign with such a one, so it is put into a proper token."""
        token = with_certificate(authority(), usage=usage, critical=critical)
        with pytest.raises(EvidenceError, match="not for timestamping alone"):
            check_timestamp(token, data=DATA)

    @pytest.mark.parametrize("certificate", [True, False])
    def test_no_signing_certificate(self, certificate: bool, authority: Make) -> None:
        made = authority()
        token = with_certificate(made) if certificate else made.stamp(DATA, certificate=False)
        with pytest.raises(EvidenceError, match="no usable signing certificate"):
            check_timestamp(token, data=DATA, roots=[made.root_pem])

    @pytest.mark.parametrize("root", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
    def test_a_root_that_is_none(self, token: bytes, root: bytes) -> None:
        with pytest.raises(EvidenceError, match="a root is not a certificate in PEM"):
            check_timestamp(token, data=DATA, roots=[root])


class TestAsking:
    @pytest.mark.parametrize(
        ("page", "reason"),
        [
            ("wrong-nonce", "another request"),
            ("wrong-data", "other data"),
            ("refuse", "refused with status 2"),
            ("html", "not an RFC 3161 answer"),
            ("garbage", "not an RFC 3161 answer"),
            ("empty", "not an RFC 3161 answer"),
            ("error", "HTTP 503"),
            ("nowhere", "HTTP 404"),
            ("huge", "more than 1048576 bytes"),
        ],
    )
    def test_an_authority_that_misbehaves(
        self, page: str, reason: str, timestamp_authority: Authority
    ) -> None:
        url = timestamp_authority.url + page
        with pytest.raises(EvidenceError, match=reason) as raised:
            request_timestamp(DATA, url=url)
        assert str(raised.value).startswith(f"{url}: ")

    def test_the_limit_is_on_the_whole_exchange(self, timestamp_authority: Authority) -> None:
        with pytest.raises(EvidenceError, match=r"drip: no whole answer within 0.3 s"):
            request_timestamp(DATA, url=timestamp_authority.url + "drip", timeout_s=0.3)

    def test_nobody_there(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, not listening
            url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
            with pytest.raises(EvidenceError, match=f"^{url}: ."):
                request_timestamp(DATA, url=url)

    @pytest.mark.parametrize(
        "url", ["", "tsa.example.org", "ftp://tsa.example.org/", "file:///etc/passwd", "http://"]
    )
    def test_not_a_url(self, url: str) -> None:
        with pytest.raises(EvidenceError, match="not an http or https URL"):
            request_timestamp(DATA, url=url)

    def test_a_broken_url(self) -> None:
        with pytest.raises(EvidenceError, match="not a URL"):
            request_timestamp(DATA, url="http://[::1/")

    def test_a_password_stays_out_of_the_message(self, timestamp_authority: Authority) -> None:
        url = timestamp_authority.url.replace("http://", "http://user:hunter2@") + "error"
        with pytest.raises(EvidenceError) as raised:
            request_timestamp(DATA, url=url)
        assert "hunter2" not in str(raised.value)
        assert "HTTP 503" in str(raised.value)


def with_certificate(
    made: Authority,
    *,
    usage: Sequence[x509.ObjectIdentifier] = (),
    critical: bool = True,
    key: Key | None = None,
) -> bytes:
    """A token of ``made`` in which the signer's certificate gave way to another of its name and number."""
    old = made.signer.certificate
    new = issue(
        "Test timestamp authority",
        by=made.root,
        key=key or made.signer.key,
        number=old.serial_number,
        usage=usage,
        critical=critical,
        lives=(timedelta(days=-2), timedelta(days=2)),
    )
    return transplant(
        made.stamp(DATA), old.public_bytes(Encoding.DER), new.certificate.public_bytes(Encoding.DER)
    )
