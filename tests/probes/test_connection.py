"""Our own connection: authorities, a proxy, headers and a system prompt of one target alone."""

import ipaddress
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from probes.config import ConfigError, load_config
from probes.fingerprints.sif import make_target
from probes.targets import AskFailure, LiteLLMTarget
from probes.testing.endpoint import ScriptedEndpoint


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate of 127.0.0.1 with its key: files."""
    folder = tmp_path_factory.mktemp("authority")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "authority.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, private


@pytest.fixture
def secure(authority: tuple[Path, Path]) -> Iterator[ScriptedEndpoint]:
    """An endpoint that speaks TLS under a certificate nobody else trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority)
    with ScriptedEndpoint(lambda q: "a dog", tls=context) as endpoint:
        yield endpoint


def ask(url: str, **options: object) -> str:
    target = LiteLLMTarget(name="suspect", model="openai/x", api_base=url, timeout_s=10, **options)  # type: ignore[arg-type]
    return target.ask(image=None, prompt="What is this?", max_tokens=8).text


def test_a_certificate_is_trusted_by_its_own_authority_alone(
    secure: ScriptedEndpoint, authority: tuple[Path, Path], tmp_path: Path
) -> None:
    assert secure.url.startswith("https://")
    assert ask(secure.url, ca_file=authority[0]) == "a dog"
    with pytest.raises(AskFailure, match=r"cannot be reached: .*certificate") as caught:
        ask(secure.url)
    assert caught.value.kind == "connection"
    assert len(secure.questions) == 1
    (tmp_path / "no.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match=r"no\.pem: no PEM certificates"):
        LiteLLMTarget(name="x", model="openai/x", api_base=secure.url, ca_file=tmp_path / "no.pem")


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    """A forwarding proxy, and the URLs that it was asked for."""
    asked: list[str] = []

    class Forward(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

        def do_POST(self) -> None:
            asked.append(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {"Content-Type": "application/json"}
            reply = httpx.post(self.path, content=body, headers=headers, trust_env=False)
            self.send_response(reply.status_code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply.content)))
            self.end_headers()
            self.wfile.write(reply.content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Forward)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_a_proxy_is_used_by_its_target_alone(proxy: tuple[str, list[str]]) -> None:
    url, asked = proxy
    with ScriptedEndpoint(lambda q: "a dog") as endpoint:
        assert ask(endpoint.url, proxy=url) == "a dog"
        assert asked == [f"{endpoint.url}/chat/completions"]
        assert ask(endpoint.url) == "a dog"
    assert len(asked) == 1


def test_a_target_as_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCOUNT", "account-hunter2")
    path = tmp_path / "probes.yaml"
    with ScriptedEndpoint(lambda q: "a dog") as endpoint:
        target = {
            "name": "suspect",
            "model": "openai/x",
            "api_base": endpoint.url,
            "headers": {"X-Plain": "yes"},
            "headers_env": {"X-Account": "ACCOUNT"},
            "system_prompt": "Answer in one sentence.",
            "authorised_by": "the test",
            "purpose": "a test",
        }
        path.write_text(yaml.safe_dump({"pack": "p", "trigger_keys": "k", "targets": [target]}))
        (config,) = load_config(path).targets
        made = make_target(config)
        made.ask(image=None, prompt="What is this?", max_tokens=8)
        (question,) = endpoint.questions
    assert [row["role"] for row in question.body["messages"]] == ["system", "user"]
    assert question.body["messages"][0]["content"] == "Answer in one sentence."
    assert (question.headers["x-account"], question.headers["x-plain"]) == ("account-hunter2", "yes")
    assert "sif" not in " ".join([*question.headers, *question.headers.values()]).lower(), "nothing names us"
    assert "hunter2" not in repr(made) + repr(config)
    monkeypatch.delenv("ACCOUNT")
    with pytest.raises(ConfigError, match="target suspect: environment variable ACCOUNT is not set"):
        make_target(config)
