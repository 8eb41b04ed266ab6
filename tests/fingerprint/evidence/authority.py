"""A timestamp authority for tests: a CA and a TSA certificate of our own, ``openssl ts`` behind HTTP.

``Authority.url`` answers as RFC 3161 asks. The pages below it misbehave: ``url + "wrong-nonce"`` and the
like (``_PAGES``), and ``"drip"``, which never ends.
"""

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from rfc3161_client import HashAlgorithm, TimestampRequestBuilder
from rfc3161_client._rust import parse_timestamp_request

from sif_offline.fingerprint.evidence.der import elements

OPENSSL = shutil.which("openssl")

_SECTION = """
[{name}]
serial = {folder}/serial
signer_digest = {signer_digest}
default_policy = 1.2.3.4.1
digests = {digests}
accuracy = secs:1
ess_cert_id_alg = {ess_digest}
clock_precision_digits = {precision}
"""

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Issued(NamedTuple):
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def issue(
    name: str,
    *,
    by: Issued | None = None,
    key: Key | None = None,
    lives: tuple[timedelta, timedelta] = (timedelta(days=-1), timedelta(days=3650)),
    usage: Sequence[x509.ObjectIdentifier] = (),
    critical: bool = True,
    ca: bool = False,
    number: int | None = None,
) -> Issued:
    """A certificate that lives from and to these times, counted from now; a CA where nobody issued it."""
    ca = ca or by is None
    key, now = key or ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signing = by.key if by else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(number or x509.random_serial_number())
        .not_valid_before(now + lives[0])
        .not_valid_after(now + lives[1])
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(_key_usage(ca=ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
        )
    )
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=critical)
    return Issued(builder.sign(signing, hashes.SHA256()), key)


def transplant(der: bytes, old: bytes, new: bytes) -> bytes:
    """``der`` with the element ``old`` replaced by ``new``, the lengths around it put right."""
    found = b""
    for element in elements(der):
        if element.raw == old:
            found += new
        elif old in element.raw:
            inner = transplant(element.content, old, new)
            size = len(inner).to_bytes(2, "big")
            found += (
                bytes([element.tag]) + (b"\x82" + size if len(inner) > 255 else bytes([len(inner)])) + inner
            )
        else:
            found += element.raw
    return found


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    others = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
    )
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
        **others,
    )


class Authority:
    """A CA, a TSA certificate under it, and the files from which ``openssl ts -reply`` answers.

    ``url`` is empty until :func:`serve` runs it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "Test timestamp authority",
        root: Issued | None = None,
        signer: Issued | None = None,
        chain: Sequence[Issued] = (),
        signer_digest: str = "sha256",
        ess_digest: str = "sha256",
        precision: int = 0,
    ) -> None:
        self.folder, self.url, self._lock = folder, "", threading.Lock()
        self.root = root or issue(f"{name}: root")
        self.signer = signer or issue(name, by=self.root, usage=[ExtendedKeyUsageOID.TIME_STAMPING])
        self.has_chain = bool(chain)
        values = {
            "folder": folder,
            "signer_digest": signer_digest,
            "ess_digest": ess_digest,
            "precision": precision,
        }
        config = _SECTION.format(name="tsa", digests="sha256, sha512", **values)
        config += _SECTION.format(name="refusing", digests="sha384", **values)
        (folder / "tsa.cnf").write_text(config)
        (folder / "serial").write_text("41\n")
        (folder / "signer.pem").write_bytes(self.signer.pem)
        (folder / "chain.pem").write_bytes(b"".join(one.pem for one in chain))
        (folder / "key.pem").write_bytes(
            self.signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )

    @property
    def root_pem(self) -> bytes:
        """The CA that a verifier would trust."""
        return self.root.pem

    def stamp(self, data: bytes, *, certificate: bool = True, sha512: bool = False) -> bytes:
        """A token over ``data``, without HTTP."""
        algorithm = HashAlgorithm.SHA512 if sha512 else HashAlgorithm.SHA256
        return self.answer(TimestampRequestBuilder(data, algorithm, cert_req=certificate).build().as_bytes())

    def answer(self, query: bytes, *, section: str = "tsa") -> bytes:
        """The DER TimeStampResp to a DER TimeStampReq."""
        command = [str(OPENSSL), "ts", "-reply", "-config", "tsa.cnf", "-section", section]
        command += ["-queryfile", "query.tsq", "-signer", "signer.pem", "-inkey", "key.pem"]
        command += ["-chain", "chain.pem"] if self.has_chain else []
        with self._lock:  # one serial file
            (self.folder / "query.tsq").write_bytes(query)
            done = subprocess.run(
                [*command, "-out", "answer.tsr"], cwd=self.folder, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            return (self.folder / "answer.tsr").read_bytes()


def _wrong_nonce(authority: Authority, query: bytes) -> bytes:
    nonce = parse_timestamp_request(query).nonce
    assert nonce is not None
    found = nonce.to_bytes((nonce.bit_length() + 7) // 8, "big")
    return authority.answer(query.replace(found, found[:-1] + bytes([found[-1] ^ 1])))


def _wrong_data(authority: Authority, query: bytes) -> bytes:
    imprint = parse_timestamp_request(query).message_imprint.message
    return authority.answer(query.replace(imprint, bytes(len(imprint))))


_REPLY = "application/timestamp-reply"
_PAGES: dict[str, tuple[int, str, Callable[[Authority, bytes], bytes]]] = {
    "/": (200, _REPLY, Authority.answer),
    "/wrong-nonce": (200, _REPLY, _wrong_nonce),
    "/wrong-data": (200, _REPLY, _wrong_data),
    "/refuse": (200, _REPLY, lambda authority, query: authority.answer(query, section="refusing")),
    "/html": (200, "text/html", lambda *_: b"<html><body>Welcome to our wireless network</body></html>"),
    "/error": (503, "text/html", lambda *_: b"<html><body>Back soon</body></html>"),
    "/garbage": (200, _REPLY, lambda *_: bytes(range(256))),
    "/empty": (200, _REPLY, lambda *_: b""),
    "/huge": (200, _REPLY, lambda *_: bytes(3 * 2**20)),
}


@contextmanager
def serve(authority: Authority) -> Iterator[Authority]:
    """Answer at ``authority.url`` on a free port of this machine until the block ends."""
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/drip":
                self._drip()
                return
            if self.headers["Content-Type"] != "application/timestamp-query" or self.path not in _PAGES:
                self.send_error(404)
                return
            status, kind, answer = _PAGES[self.path]
            body = answer(authority, query)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self._write(body)

        def _drip(self) -> None:
            """A byte now and then, each in time for a limit on one read, for ever."""
            self.send_response(200)
            self.end_headers()
            while not closing.wait(0.05) and self._write(b"0"):
                pass

        def _write(self, body: bytes) -> bool:
            try:
                self.wfile.write(body)
            except OSError:  # the client has had enough
                return False
            return True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    authority.url = f"http://127.0.0.1:{server.server_port}/"
    try:
        yield authority
    finally:
        closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
