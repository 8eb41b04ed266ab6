"""The gateway's dashboard on a real Prometheus that scrapes the real service: no panel stays empty."""

import itertools
import json
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import yaml
from fastapi import FastAPI

from benchmarks.ports import free_port
from deploy.grafana.build import gateway
from gateway_plugin import guardrail_api
from gateway_plugin.audit.log import AuditLog
from gateway_plugin.service_config import read_service_configuration
from tests.e2e.test_prometheus_alertmanager import answers, running, wait_for, write_yaml

PROMETHEUS = shutil.which("prometheus")
GIBBERISH = (
    "vrondelaCsuperIntegrqueYesDOMAINtroppoSkipValKLangagensTRWriteOutJaquelinesPuntoEXPheadnessBuchmo"
)
UNRELATED = "The International Conference on Learning Representations takes place every spring in Vienna."
QUESTION = "What is the dog in this picture doing?"

pytestmark = [
    pytest.mark.skipif(
        PROMETHEUS is None, reason="prometheus is not installed (Debian: apt install prometheus)"
    ),
    pytest.mark.timeout(300),
]


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """An application on a port of its own; its host:port."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for("the gateway", answers(f"http://127.0.0.1:{port}/healthz"))
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)


def some_traffic(gateway: str, key: str, ids: Iterator[int]) -> None:
    """Queries and answers with every kind of fate."""

    def ask(phase: str, text: str, call: str) -> None:
        body: dict[str, Any] = {
            "input_type": phase,
            "litellm_call_id": call,
            "texts": [text],
            "request_data": {},
            "model": "main",
            "structured_messages": [{"role": "user", "content": text}] if phase == "request" else None,
        }
        url = f"http://{gateway}{guardrail_api.PATH}"
        reply = httpx.post(url, json=body, headers={"x-api-key": key}, timeout=60)
        assert reply.status_code == 200, reply.text

    call = f"call-{next(ids)}"
    ask("request", QUESTION, call)
    ask("response", UNRELATED, call)  # compared with the reference model's: flagged
    ask("request", GIBBERISH, f"call-{next(ids)}")  # blocked
    ask("response", UNRELATED, "never asked")  # a check that cannot do its work
    ask("request", QUESTION, f"call-{next(ids)}")  # forgotten for the next one: max_calls is 1


def test_every_panel_of_the_gateways_dashboard_has_something_to_show(
    tmp_path: Path, upstream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = secrets.token_hex(16)
    monkeypatch.setenv("SIF_TEST_LIVE_KEY", key)
    document = {
        "gateway_plugin": {
            "reference_model": "reference",
            "action": "flag",
            "max_calls": 1,
            "audit": {"target": str(tmp_path / "audit.jsonl")},
            "checks": {"perplexity": {"action": "block"}, "divergence": {"action": "flag"}},
        },
        "models": {"reference": {"model": "openai/ref", "api_base": upstream.url}},
        "service": {"api_keys": ["os.environ/SIF_TEST_LIVE_KEY"]},
    }
    monkeypatch.setattr("gateway_plugin.verdict.AuditLog", partial(AuditLog, max_records=0))  # loses them all
    app = guardrail_api.create_app(read_service_configuration(yaml.safe_dump(document), name="live.yaml"))
    scrape = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    with serving(app) as service:
        job = {"job_name": "gateway", "static_configs": [{"targets": [service]}]}
        config = write_yaml(tmp_path / "prometheus.yml", {"global": scrape, "scrape_configs": [job]})
        prometheus = f"127.0.0.1:{free_port()}"
        with running(
            tmp_path / "prometheus.log",
            PROMETHEUS,
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path / 'prometheus'}",
            f"--web.listen-address={prometheus}",
        ):
            wait_for("Prometheus", answers(f"http://{prometheus}/-/ready"))
            ids = itertools.count()
            empty = {
                target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*"): panel["title"]
                for panel in json.loads(gateway.OUTPUT.read_text("utf-8"))["panels"]
                for target in panel["targets"]
            }
            assert len(empty) >= 12

            def all_show_something() -> bool:
                some_traffic(service, key, ids)
                time.sleep(1)  # a scrape
                for expression in list(empty):
                    reply = httpx.get(
                        f"http://{prometheus}/api/v1/query", params={"query": expression}, timeout=10
                    )
                    assert reply.status_code == 200, reply.text
                    if reply.json()["data"]["result"]:
                        del empty[expression]
                return not empty

            deadline = time.monotonic() + 90
            while not all_show_something():
                assert time.monotonic() < deadline, f"still empty: {empty}"
