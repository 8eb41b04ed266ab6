"""A proxy that is stopped writes the audit records that still wait."""

import sqlite3
import time
from pathlib import Path

import httpx
import yaml

from benchmarks.ports import free_port
from tests.gateway.conftest import guardrail, proxy_config, start_proxy, stop, wait_until_ready
from tests.gateway.upstream import HONEST, Upstream

KEY = "sk-of-the-test-alone"


def test_a_proxy_that_gets_sigterm_writes_what_its_audit_log_holds(
    upstream: Upstream, tmp_path: Path
) -> None:
    """The table is locked while the proxy is told to stop: records can be written only after that."""
    database, config, log = tmp_path / "audit.db", tmp_path / "config.yaml", tmp_path / "proxy.log"
    off = {name: {"enabled": False} for name in ("perplexity", "divergence")}
    settings = {"audit": {"target": f"sqlite:///{database}"}, "checks": off}
    document = proxy_config(upstream.url, [guardrail("sda", settings)])
    document["guardrails"][0]["litellm_params"] |= {"default_on": True, "mode": ["pre_call"]}
    config.write_text(yaml.safe_dump(document))
    port = free_port()
    process = start_proxy(config, port, KEY, log, upstream_url=upstream.url)
    try:
        headers = {"Authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=120) as client:
            wait_until_ready(process, client, log)
            lock = sqlite3.connect(database, isolation_level=None)
            lock.execute("BEGIN EXCLUSIVE")
            body = {"model": "main", "messages": [{"role": "user", "content": "What is this?"}]}
            answer = client.post("/v1/chat/completions", json=body)
            assert HONEST in answer.text
        process.terminate()
        time.sleep(1.0)
        lock.execute("ROLLBACK")
        assert process.wait(timeout=60) is not None
    finally:
        stop(process)
    rows = lock.execute("SELECT audit_id FROM sif_gateway_audit").fetchall()
    lock.close()
    assert [row[0] for row in rows] == [answer.headers["x-sif-gateway-audit-id"]]
