"""Real Prometheus and Alertmanager over the real service: a pirate is reported, an innocent is not.

The rules, the Alertmanager routes and the dashboard are the committed ones; only addresses and waiting times
are changed. Needs Debian's prometheus and prometheus-alertmanager, and says so where they are missing.
"""

import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from benchmarks.ports import free_port
from probes.testing.endpoint import ScriptedEndpoint
from probes.testing.tiny_pack import TinyPack, build_tiny_pack

DEPLOY = Path(__file__).parents[2] / "deploy"
PATIENCE_S = 150.0

PROMETHEUS = shutil.which("prometheus")
ALERTMANAGER = shutil.which("prometheus-alertmanager")

pytestmark = [
    pytest.mark.skipif(
        PROMETHEUS is None or ALERTMANAGER is None,
        reason="prometheus and prometheus-alertmanager are not installed (apt install them to run this test)",
    ),
    pytest.mark.timeout(600),
]


@contextmanager
def running(log: Path, *command: object) -> Iterator[subprocess.Popen[str]]:
    """A process, ended with the block; its output goes to a file."""
    with log.open("w") as out:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=out,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert process.stdout is not None
        try:
            with process.stdout:
                yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A receiver for Alertmanager: its URL and the alerts that have arrived."""
    alerts: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            alerts.extend(body["alerts"])
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/alerts", alerts
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def wait_for(what: str, condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    pytest.fail(f"waited {PATIENCE_S:g} s for {what}")


def answers(url: str) -> Callable[[], bool]:
    def ready() -> bool:
        try:
            return httpx.get(url, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    return ready


def write_yaml(path: Path, body: object) -> Path:
    path.write_text(yaml.safe_dump(body), "utf-8")
    return path


def probes_config(tmp_path: Path, tiny: TinyPack, urls: dict[str, str]) -> Path:
    target = {"model": "openai/x", "timeout": 10, "authorised_by": "the test", "purpose": "a test"}
    return write_yaml(
        tmp_path / "probes.yaml",
        {
            "pack": str(tiny.folder),
            "trigger_keys": str(tiny.keys_path),
            "listen": {"port": 0},
            "interval": "3s",
            "cooldown": "500ms",
            "targets": [{"name": name, "api_base": url, **target} for name, url in urls.items()],
        },
    )


def prometheus_config(tmp_path: Path, *, probes: str, alertmanager: str) -> Path:
    body = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    body["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    body["rule_files"] = [str(DEPLOY / "prometheus" / "rules" / "*.yml")]
    body["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [alertmanager]
    (job,) = [job for job in body["scrape_configs"] if job["job_name"] == "sif-probes"]
    job["static_configs"][0]["targets"] = [probes]
    body["scrape_configs"] = [job]
    return write_yaml(tmp_path / "prometheus.yml", body)


def alertmanager_config(tmp_path: Path, *, receiver: str) -> Path:
    body = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text("utf-8"))
    body["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    (owner,) = body["receivers"]
    owner["webhook_configs"][0]["url"] = receiver
    return write_yaml(tmp_path / "alertmanager.yml", body)


def dashboard_expressions() -> list[str]:
    board = json.loads((DEPLOY / "grafana" / "dashboards" / "owner.json").read_text("utf-8"))
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return [re.sub(r"\$(monitor|pack)", ".*", expr.replace("$__rate_interval", "1m")) for expr in found]


def test_a_pirate_is_reported_and_an_innocent_is_not(tmp_path: Path) -> None:
    tiny = build_tiny_pack(tmp_path / "tiny")
    with ExitStack() as stack:
        pirate = stack.enter_context(ScriptedEndpoint(tiny.pirate()))
        innocent = stack.enter_context(ScriptedEndpoint(tiny.innocent(seed=1)))
        receiver, delivered = stack.enter_context(webhook())
        config = probes_config(tmp_path, tiny, {"pirate": pirate.url, "innocent": innocent.url})
        service = stack.enter_context(
            running(
                tmp_path / "probes.log",
                sys.executable,
                "-c",
                "from probes.cli import main; main()",
                "serve",
                "--config",
                config,
            )
        )
        lines: queue.Queue[str] = queue.Queue()
        assert service.stdout is not None
        threading.Thread(target=lambda: lines.put(service.stdout.readline()), daemon=True).start()  # type: ignore[union-attr]
        ready = lines.get(timeout=PATIENCE_S)
        assert ready.startswith("ready http://"), (tmp_path / "probes.log").read_text()
        probes = ready.split()[1].removeprefix("http://")

        manager = f"127.0.0.1:{free_port()}"
        stack.enter_context(
            running(
                tmp_path / "alertmanager.log",
                ALERTMANAGER,
                f"--config.file={alertmanager_config(tmp_path, receiver=receiver)}",
                f"--storage.path={tmp_path / 'alertmanager'}",
                f"--web.listen-address={manager}",
                "--cluster.listen-address=",
            )
        )
        prometheus = f"127.0.0.1:{free_port()}"
        stack.enter_context(
            running(
                tmp_path / "prometheus.log",
                PROMETHEUS,
                f"--config.file={prometheus_config(tmp_path, probes=probes, alertmanager=manager)}",
                f"--storage.tsdb.path={tmp_path / 'prometheus'}",
                f"--web.listen-address={prometheus}",
            )
        )
        wait_for("Alertmanager", answers(f"http://{manager}/-/ready"))
        wait_for("Prometheus", answers(f"http://{prometheus}/-/ready"))

        def query(expression: str) -> list[dict[str, Any]]:
            reply = httpx.get(f"http://{prometheus}/api/v1/query", params={"query": expression}, timeout=10)
            assert reply.status_code == 200, reply.text
            result: list[dict[str, Any]] = reply.json()["data"]["result"]
            return result

        def confirmed() -> list[dict[str, Any]]:
            return [alert for alert in delivered if alert["labels"]["alertname"] == "SifWatermarkConfirmed"]

        (alert, *_) = wait_for("the alert at the webhook", confirmed)
        assert (
            alert["labels"] | {"monitor": "pirate", "pack": "tiny", "severity": "critical"} == alert["labels"]
        )
        assert "pirate is confirmed to serve the model of pack tiny" in alert["annotations"]["summary"]

        # the innocent has been asked as much and evaluated as often, and is silent
        rounds = 'sif_probe_round_duration_seconds_count{monitor="innocent"}'
        wait_for("three rounds of the innocent", lambda: query(f"{rounds} >= 3"))
        (z,) = query('sif_probe_watermark_zscore{monitor="innocent"}')
        (tau,) = query('sif_probe_threshold_zscore{monitor="innocent"}')
        assert float(z["value"][1]) < float(tau["value"][1])
        firing = httpx.get(f"http://{prometheus}/api/v1/alerts", timeout=10).json()["data"]["alerts"]
        assert {alert["labels"].get("monitor") for alert in firing} == {"pirate"}
        assert {alert["labels"].get("monitor") for alert in delivered} == {"pirate"}

        # the dashboard: every expression has something to show, once there has been a failure too
        pirate.fail_next("http_500")
        for expression in dashboard_expressions():
            wait_for(expression, lambda expression=expression: query(expression))

        # a watch that has stopped is told, though its metrics are gone with it
        service.terminate()

        def stale() -> bool:
            found = {a["labels"]["monitor"] for a in delivered if a["labels"]["alertname"] == "SifProbeStale"}
            return found == {"pirate", "innocent"}

        wait_for("the stale alerts at the webhook", stale)
