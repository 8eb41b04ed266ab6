"""The watch inside a real LiteLLM proxy: its own models as targets, its own /metrics, its own shutdown."""

import asyncio
import os
import secrets
import sqlite3
import subprocess
import sys
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from benchmarks.ports import free_port
from probes.config import ConfigError
from probes.testing.endpoint import ScriptedEndpoint
from probes.testing.tiny_pack import TinyPack
from tests.gateway.conftest import proxy_environment, stop, wait_until_ready

SHIPPED = yaml.safe_load((Path(__file__).parents[2] / "deploy/litellm/config-probes.yaml").read_text())
DEPLOYMENT_KEY = "sk-deployment-of-the-proxy"


def proxy_config(pirate: str, innocent: str) -> dict[str, Any]:
    """A proxy that would retry, fall back to another model and cache, if it were asked like a client asks."""

    def model(name: str, url: str) -> dict[str, Any]:
        params = {"model": "openai/x", "api_base": url, "api_key": DEPLOYMENT_KEY, "max_retries": 2}
        return {"model_name": name, "litellm_params": params}

    return {
        "model_list": [model("pirate-alias", pirate), model("innocent-alias", innocent)],
        "general_settings": SHIPPED["general_settings"],
        "litellm_settings": {
            **SHIPPED["litellm_settings"],
            "num_retries": 2,
            "cache": True,
            "cache_params": {"type": "local"},
        },
        "router_settings": {
            "num_retries": 2,
            "retry_policy": {"InternalServerErrorRetries": 2},
            "fallbacks": [{"pirate-alias": ["innocent-alias"]}],
            "disable_cooldowns": True,
        },
    }


def watch_config(tiny: TinyPack, folder: Path, **keys: object) -> Path:
    """Rounds every two seconds over two models of the proxy; the same triggers may go out again at once."""

    def target(name: str, alias: str) -> dict[str, Any]:
        return {"name": name, "model": f"proxy/{alias}", "authorised_by": "the test", "purpose": "a test"}

    body = {
        "pack": str(tiny.folder),
        "trigger_keys": str(tiny.keys_path),
        "store": "sqlite:///watch.sqlite",
        "interval": 2,
        "cooldown": 1,
        "triggers_per_round": 4,
        "clean_share": 0,
        "targets": [
            target("pirate", "pirate-alias"),
            target("innocent", "innocent-alias"),
            target("typo", "pirate-alais"),
        ],
    } | keys
    path = folder / "probes.yaml"
    path.write_text(yaml.safe_dump(body), "utf-8")
    return path


class Metrics:
    """What the proxy's own /metrics says."""

    def __init__(self, client: httpx.Client) -> None:
        text = client.get("/metrics/").raise_for_status().text
        self.text = text
        self.samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def value(self, name: str, **labels: str) -> float | None:
        """The one sample of ours with these labels, None where there is none."""
        found = [
            sample.value
            for sample in self.samples
            if sample.name == f"sif_probe_{name}" and labels.items() <= sample.labels.items()
        ]
        assert len(found) <= 1, f"{name} {labels} is exported {len(found)} times"
        return found[0] if found else None


def start(
    config: Path,
    port: int,
    key: str,
    log: Path,
    *,
    workers: int = 1,
    options: tuple[str, ...] = (),
    **environment: str,
) -> "subprocess.Popen[bytes]":
    """``litellm --config``; a worker that a busy machine keeps waiting is not to be killed for it."""
    command = [
        str(Path(sys.executable).with_name("litellm")),
        *("--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"),
        *("--num_workers", str(workers), "--timeout_worker_healthcheck", "120", *options),
    ]
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            env={**proxy_environment(key, ""), **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=config.parent,
        )


def wait_for(what: str, condition: Callable[[], bool], log: Path, *, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}\n{log.read_text()[-3000:]}"
        time.sleep(0.25)


def rows(store: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


SOAK = pytest.mark.skipif("SIF_SOAK" not in os.environ, reason="three imports of LiteLLM: set SIF_SOAK=1")


@pytest.mark.parametrize(
    ("workers", "options"),
    [
        pytest.param(1, (), id="one worker"),
        # forks its workers from a process that has imported all, which uvicorn's do one after the other
        pytest.param(2, ("--run_gunicorn",), id="two workers of gunicorn"),
        pytest.param(2, (), id="two workers of uvicorn", marks=SOAK),
    ],
)
def test_a_proxy_watches_its_own_models(
    tiny: TinyPack, tmp_path: Path, workers: int, options: tuple[str, ...]
) -> None:
    """From its start to its stop; two workers share one store, so that a round is never run twice at once."""
    config, log, store = tmp_path / "config.yaml", tmp_path / "proxy.log", tmp_path / "watch.sqlite"
    key, port = f"sk-{secrets.token_hex(16)}", free_port()
    with (
        ScriptedEndpoint(tiny.pirate(), faults=["http_500", "rate_limited"], retry_after="0") as pirate,
        ScriptedEndpoint(tiny.innocent(seed=1)) as innocent,
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {key}"}, timeout=60
        ) as client,
    ):
        config.write_text(yaml.safe_dump(proxy_config(pirate.url, innocent.url)))
        process = start(
            config,
            port,
            key,
            log,
            workers=workers,
            options=options,
            SIF_PROBES_CONFIG=str(watch_config(tiny, tmp_path)),
            **({"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")} if workers > 1 else {}),
        )
        try:
            wait_until_ready(process, client, log)
            assert client.get("/metrics/", headers={"Authorization": "none"}).status_code == 401
            clients = Counter[str]()

            def chatted_until_both_are_judged() -> bool:
                """Ordinary traffic goes on beside the watch."""
                body = {"model": "innocent-alias", "messages": [{"role": "user", "content": "Hello?"}]}
                reply = client.post("/v1/chat/completions", json=body).raise_for_status().json()
                clients[reply["choices"][0]["message"]["content"]] += 1
                metrics = Metrics(client)
                completed = [
                    metrics.value("round_duration_seconds_count", monitor=name) or 0
                    for name in ("pirate", "innocent")
                ]
                return min(completed) >= 3

            wait_for("three rounds of each", chatted_until_both_are_judged, log)
            assert len(clients) == 1, "the endpoint says the same to the same question"

            metrics = Metrics(client)
            z, tau = (
                metrics.value(name, monitor="pirate") for name in ("watermark_zscore", "threshold_zscore")
            )
            assert z is not None
            assert tau is not None
            assert z > tau
            assert metrics.value("verdict", monitor="pirate") == 2
            z, tau = (
                metrics.value(name, monitor="innocent") for name in ("watermark_zscore", "threshold_zscore")
            )
            assert z is not None
            assert tau is not None
            assert z < tau
            assert metrics.value("verdict", monitor="innocent") == 0
            # the fault of the first question is one error: no retry by the proxy, no fallback model
            assert metrics.value("errors_total", monitor="pirate", kind="http") == 1
            assert metrics.value("errors_total", monitor="pirate", kind="rate_limited") == 1
            assert (metrics.value("errors_total", monitor="typo", kind="misconfigured") or 0) >= 1
            assert metrics.value("store_readable") == 1
            assert "the proxy has no model pirate-alais" in log.read_text()
            assert DEPLOYMENT_KEY not in metrics.text
            counted = {sample.labels.get("requested_model") for sample in metrics.samples if sample.value}
            assert "pirate-alias" not in counted, "the proxy's logging services learn no trigger"
            if workers == 1:
                assert "innocent-alias" in counted, "but clients' requests are logged as ever"

            # stopped in the middle of a question
            pirate.delay_s = 1.0
            asked = len(pirate.questions)
            wait_for("a question on its way", lambda: len(pirate.questions) > asked, log)
            process.terminate()
            process.wait(timeout=60)
        finally:
            stop(process)
        for name, endpoint in (("pirate", pirate), ("innocent", innocent)):
            query = f"SELECT image_sha256 FROM asks WHERE target = '{name}'"
            sent = Counter(digest for (digest,) in rows(store, query))
            arrived = Counter(q.image_sha256 for q in endpoint.questions if q.image is not None)
            assert arrived == sent, "each send is one question at its own endpoint, none from a cache"
            assert max(sent.values()) > 1, "some trigger was sent twice, so that a cache could have answered"
    began = [
        at for (at,) in rows(store, "SELECT started_at FROM rounds WHERE target = 'innocent' ORDER BY id")
    ]
    assert all(later - earlier > 0.9 for earlier, later in pairwise(began)), (
        "one round an interval, not a worker"
    )
    assert rows(store, "SELECT count(*) FROM asks WHERE state = 'intent'") == [(0,)]
    assert rows(store, "SELECT count(*) FROM rounds WHERE state = 'running'") == [(0,)]
    assert rows(store, "SELECT count(*) FROM leases") == [(0,)]
    said = log.read_text()
    assert said.count("target typo: the proxy has no model pirate-alais") == workers, "each worker watches"
    assert "Task exception was never retrieved" not in said
    assert "never awaited" not in said


def test_a_wrong_file_stops_the_proxys_start(tiny: TinyPack, tmp_path: Path) -> None:
    config, log = tmp_path / "config.yaml", tmp_path / "proxy.log"
    config.write_text(yaml.safe_dump(proxy_config("http://127.0.0.1:1/v1", "http://127.0.0.1:1/v1")))
    file = watch_config(tiny, tmp_path, intervall=5)
    process = start(config, free_port(), "sk-x-of-a-test", log, SIF_PROBES_CONFIG=str(file))
    try:
        assert process.wait(timeout=120) != 0
    finally:
        stop(process)
    assert f"{file}: intervall: unknown key" in log.read_text()


def test_with_several_workers_the_page_of_litellm_shows_theirs_and_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LiteLLM's own mount, on a bare application: the page then reads files that workers have written."""
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    worker = "from prometheus_client import Counter; Counter('of_a_worker', 'x').inc(3)"
    subprocess.run([sys.executable, "-c", worker], check=True, timeout=60)
    app = FastAPI()
    import litellm.proxy

    proxy_server = types.SimpleNamespace(app=app)
    monkeypatch.setitem(sys.modules, "litellm.proxy.proxy_server", proxy_server)
    monkeypatch.setattr(litellm.proxy, "proxy_server", proxy_server, raising=False)
    from litellm.integrations.prometheus import PrometheusLogger

    from probes.litellm_callback import show_on_metrics_page

    class Ours(Collector):
        def collect(self) -> Iterator[Metric]:
            yield GaugeMetricFamily("of_ours", "x", 5)

    PrometheusLogger._mount_metrics_endpoint()
    with TestClient(app) as client:
        assert "of_a_worker_total 3.0" in client.get("/metrics/").text
        show_on_metrics_page(Ours())
        text = client.get("/metrics/").text
    assert "of_a_worker_total 3.0" in text
    assert "of_ours 5.0" in text


def test_a_monitor_outside_a_proxy_says_what_it_is_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import probes.litellm_callback as callback

    monkeypatch.delenv("SIF_PROBES_CONFIG", raising=False)
    with pytest.raises(ConfigError, match="SIF_PROBES_CONFIG is not set: it names the probes' YAML file"):
        _ = callback.monitor
    monkeypatch.setenv("SIF_PROBES_CONFIG", str(tmp_path / "nowhere.yaml"))
    with pytest.raises(ConfigError, match="is for a LiteLLM proxy's callbacks"):
        _ = callback.monitor

    async def inside() -> None:
        with pytest.raises(ConfigError, match=r"nowhere\.yaml: No such file"):
            _ = callback.monitor

    asyncio.run(inside())
