"""Second half of the demo: a LiteLLM proxy with the guardrail, and three queries."""

import base64
import secrets
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from examples.demo.processes import Servers, free_port

PROMPT = "Describe this image in detail."
# Written by hand in the manner of ProFLingo's optimised prefixes (arXiv 2405.02466); not one of theirs.
OPTIMISED_PREFIX = "zxqvTableauonymREFlijkEXPRbeganWHERqualestionesTasksINDusctypeRepTrueDIRnochSurlineal"
MAIN, REFERENCE = "main", "reference"


@dataclass(frozen=True)
class Exchange:
    """One query through the gateway: HTTP status, what the client got, whether it was replaced."""

    title: str
    prompt: str
    image: bytes | None
    expected: str
    status: int
    replaced: bool
    text: str

    @property
    def outcome(self) -> str:
        """passed, blocked or replaced."""
        if self.status == 400:
            return "blocked"
        if self.status != 200:
            return f"error {self.status}"
        return "replaced" if self.replaced else "passed"


class Gateway:
    """A running proxy in front of the suspect ``main`` and the reference model."""

    def __init__(
        self, servers: Servers, work: Path, *, main: str, main_name: str, reference: str, reference_name: str
    ) -> None:
        self._key = f"sk-{secrets.token_hex(16)}"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        config = work / "litellm.yaml"
        config.write_text(
            yaml.safe_dump(_config(main, main_name, reference, reference_name), sort_keys=False)
        )
        servers.start(
            "gateway",
            ["litellm", "--config", config, "--host", "127.0.0.1", "--port", port],
            env={
                "LITELLM_MASTER_KEY": self._key,
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "OMP_NUM_THREADS": "2",
            },
        )
        servers.wait("gateway", self._alive, timeout_s=180)

    def _alive(self) -> str | None:
        try:
            return "up" if httpx.get(f"{self.url}/health/readiness", timeout=2).status_code == 200 else None
        except httpx.HTTPError:
            return None

    def ask(self, title: str, *, prompt: str, image: bytes | None, expected: str) -> Exchange:
        """Send one chat completion as any client would."""
        content: list[dict[str, object]] = [{"type": "text", "text": prompt}]
        if image is not None:
            url = "data:image/png;base64," + base64.b64encode(image).decode()
            content.insert(0, {"type": "image_url", "image_url": {"url": url}})
        before = self._replaced()
        reply = httpx.post(
            f"{self.url}/v1/chat/completions",
            headers={"Authorization": f"Bearer {self._key}"},
            json={"model": MAIN, "messages": [{"role": "user", "content": content}]},
            timeout=120,
        )
        body = reply.json()
        if reply.status_code == 200:
            text = body["choices"][0]["message"]["content"]
        else:
            text = str(body.get("error", body).get("message", body))
        return Exchange(title, prompt, image, expected, reply.status_code, self._replaced() > before, text)

    def _replaced(self) -> float:
        """Answers replaced so far, as the guardrail counts them: a client cannot tell."""
        return sum(float(line.rpartition(" ")[2]) for line in self.metrics() if 'result="replaced"' in line)

    def metrics(self) -> list[str]:
        """The guardrail's counters on the proxy's own /metrics."""
        reply = httpx.get(
            f"{self.url}/metrics/", headers={"Authorization": f"Bearer {self._key}"}, timeout=30
        )
        return [line for line in reply.text.splitlines() if line.startswith("sif_gateway_decisions_total")]


def _config(main: str, main_name: str, reference: str, reference_name: str) -> dict[str, object]:
    def model(alias: str, url: str, name: str) -> dict[str, object]:
        params = {"model": f"openai/{name}", "api_base": url, "api_key": "none"}
        return {"model_name": alias, "litellm_params": params}

    return {
        "model_list": [model(MAIN, main, main_name), model(REFERENCE, reference, reference_name)],
        "guardrails": [
            {
                "guardrail_name": "sda",
                "litellm_params": {
                    "guardrail": "gateway_plugin.litellm_guardrail.SDAGuardrail",
                    "mode": ["pre_call", "post_call"],
                    "default_on": True,
                    "gateway_plugin": {
                        "reference_model": REFERENCE,
                        "action": "replace",
                        "checks": {"perplexity": {"action": "block"}, "script_mixing": {"action": "block"}},
                    },
                },
            }
        ],
        "litellm_settings": {"callbacks": ["prometheus"]},
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
    }
