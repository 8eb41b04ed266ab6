"""The service: its pages, its checks, and how it starts and stops."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastapi.testclient import TestClient
from pydantic import SecretStr

from probes.config import ConfigError, load_config
from probes.metrics import ReloadState
from probes.service import create_app
from probes.testing.endpoint import ScriptedEndpoint
from probes.testing.tiny_pack import TinyPack
from probes.watch import Watch


class ManualScheduler:
    """Runs a job when the test says so."""

    def __init__(self) -> None:
        self.jobs: dict[str, tuple[float, float, Callable[[], None]]] = {}
        self.events: list[str] = []

    def every(
        self, *, name: str, interval_s: float, first_in_s: float, job: Callable[[], None], jitter_s: float = 0
    ) -> None:
        self.jobs[name] = (interval_s, first_in_s, job)

    def remove(self, name: str) -> None:
        self.jobs.pop(name, None)

    def wake(self, name: str) -> None:
        self.jobs[name][2]()

    def next_run(self, name: str) -> float | None:
        return 1.8e9 if name in self.jobs else None

    def start(self) -> None:
        self.events.append("start")

    def stop(self, *, grace_s: float) -> bool:
        self.events.append("stop")
        return True


@pytest.fixture
def endpoint(tiny: TinyPack) -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(tiny.pirate()) as serving:
        yield serving


@pytest.fixture
def watch(endpoint: ScriptedEndpoint, write_config: Any) -> Iterator[Watch]:
    with Watch.open(load_config(write_config({"pirate": endpoint.url}))) as opened:
        yield opened


def test_rounds_show_on_the_metrics_and_the_page(watch: Watch) -> None:
    scheduler = ManualScheduler()
    with TestClient(create_app(watch, scheduler=scheduler)) as client:
        assert client.get("/health").text == "ok\n"
        assert "No round yet." in client.get("/").text
        interval_s, first_in_s, job = scheduler.jobs["pirate"]
        assert (interval_s, first_in_s) == (3600, 0)
        job()
        page, metrics = client.get("/").text, client.get("/metrics")
        assert metrics.headers["content-type"].startswith("text/plain; version=")
        assert 'sif_probe_verdict{monitor="pirate",pack="tiny"} 2.0' in metrics.text
        assert '<span class="verdict confirmed">confirmed</span>' in page
        assert "8 of 8" in page
        assert "published demo key" in page
        assert scheduler.events == ["start"]
    assert scheduler.events == ["start", "stop"]
    assert watch.stop.is_set()


def test_a_restart_waits_for_what_is_left_of_the_interval(watch: Watch) -> None:
    watch.run_round("pirate")
    scheduler = ManualScheduler()
    watch.schedule(scheduler)
    assert 3500 < scheduler.jobs["pirate"][1] <= 3600


def test_probe_takes_a_configured_name_only_and_asks_once_in_a_while(
    watch: Watch, endpoint: ScriptedEndpoint
) -> None:
    with TestClient(create_app(watch, scheduler=ManualScheduler())) as client:
        assert client.get("/probe").status_code == 422
        for name in ("unknown", "http://127.0.0.1:1/", "../pirate"):
            assert client.get("/probe", params={"target": name}).status_code == 404
        assert endpoint.questions == []
        for _ in range(3):
            reply = client.get("/probe", params={"target": "pirate"})
            assert (reply.status_code, reply.json()["reachable"]) == (200, True)
        assert len(endpoint.questions) == 1, "the result is kept for a while"
        assert endpoint.questions[0].image is None, "a check sends no trigger"
        assert (
            'sif_probe_trials_total{monitor="pirate",outcome="hit",pack="tiny"} 0.0'
            in client.get("/metrics").text
        )


def test_a_paused_target_is_not_asked_even_whether_it_is_there(
    watch: Watch, endpoint: ScriptedEndpoint
) -> None:
    watch.pause("*", by="the test")
    with TestClient(create_app(watch, scheduler=ManualScheduler())) as client:
        reply = client.get("/probe", params={"target": "pirate"})
    assert (reply.status_code, reply.json()["kind"]) == (503, "paused")
    assert endpoint.questions == []


def test_an_unreachable_target_is_a_503_with_its_reason(write_config: Any) -> None:
    config = write_config({"gone": "http://127.0.0.1:9/v1"})
    with (
        Watch.open(load_config(config)) as watch,
        TestClient(create_app(watch, scheduler=ManualScheduler())) as client,
    ):
        reply = client.get("/probe", params={"target": "gone"})
    assert (reply.status_code, reply.json()["kind"]) == (503, "connection")


def test_nothing_on_the_page_is_markup(write_config: Any, tiny: TinyPack) -> None:
    path: Path = write_config({"suspect": "http://127.0.0.1:9/v1"})
    path.write_text(path.read_text().replace("a test", "<script>alert(1)</script>"))
    with (
        Watch.open(load_config(path)) as watch,
        TestClient(create_app(watch, scheduler=ManualScheduler())) as client,
    ):
        reply = client.get("/")
    assert "<script" not in reply.text
    assert "&lt;script&gt;" in reply.text
    assert "default-src 'none'" in reply.headers["content-security-policy"]


def test_a_store_that_breaks_fails_the_scrape(watch: Watch) -> None:
    with TestClient(create_app(watch, scheduler=ManualScheduler())) as client:
        with watch.store.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE tallies")
        assert client.get("/metrics").status_code == 503, "a broken store must not read as zero"


def test_a_second_worker_leaves_a_target_that_was_just_asked(
    watch: Watch, endpoint: ScriptedEndpoint, write_config: Any
) -> None:
    """Two workers, one store, a clock each: without a look at the store the cost is times the workers."""
    with Watch.open(load_config(write_config({"pirate": endpoint.url}, triggers_per_round=2))) as other:
        first, second = ManualScheduler(), ManualScheduler()
        watch.schedule(first)
        other.schedule(second)
        first.jobs["pirate"][2]()
        asked = len(endpoint.questions)
        assert asked > 0
        second.jobs["pirate"][2]()
        assert len(endpoint.questions) == asked


@pytest.fixture
def echo() -> Iterator[str]:
    """An endpoint that turns everybody away and repeats the credentials it was given."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            said = f"unknown: {self.headers['Authorization']} and {self.headers['X-Token']}"
            body = json.dumps({"error": {"message": said}}).encode()
            self.send_response(401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_debug_page_shows_what_became_of_each_question_without_secrets(
    endpoint: ScriptedEndpoint, echo: str, write_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, header = "sk-secret-of-the-test", "secret-of-a-header"
    monkeypatch.setenv("SIF_TEST_KEY", key)
    path = write_config({"pirate": endpoint.url, "echo": echo}, triggers_per_round=4)
    body = yaml.safe_load(path.read_text())
    body["targets"][1] |= {"api_key_env": "SIF_TEST_KEY", "headers": {"X-Token": header}}
    path.write_text(yaml.safe_dump(body))
    endpoint.fail_next("refusal")
    with Watch.open(load_config(path)) as watch:
        watch.run_round("pirate")
        watch.run_round("echo")
        with TestClient(create_app(watch, scheduler=ManualScheduler())) as client:
            reply = client.get("/debug/rounds")
            pages = reply.text + client.get("/").text + client.get("/metrics").text
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-content-type-options"] == "nosniff"
    newest, oldest = reply.json()
    (asked,) = newest["asks"]  # the first refusal of the credential ends the round
    assert asked["failure"] == "auth"
    assert "unknown: Bearer *** and ***" in asked["reason"]
    assert sorted(ask["kind"] for ask in oldest["asks"]) == ["answer", "answer", "answer", "refusal"]
    assert newest["id"] > oldest["id"]
    assert key not in pages
    assert header not in pages


def reload_app(watch: Watch, reload: Callable[[], None] | None) -> Any:
    return create_app(
        watch, scheduler=ManualScheduler(), reload=reload, token=SecretStr("the token of the test")
    )


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {}, 200),
        ("10.0.0.7", {}, 403),
        ("10.0.0.7", {"Authorization": "Bearer the token of the test"}, 200),
        ("10.0.0.7", {"Authorization": "Bearer another token"}, 403),
        ("127.0.0.1", {"Authorization": "Bearer another token"}, 403),
        ("127.0.0.1", {"X-Forwarded-For": "198.51.100.7"}, 403),
        ("127.0.0.1", {"Origin": "http://evil.example"}, 403),
        ("not an address", {}, 403),
    ],
)
def test_reload_is_for_loopback_or_the_token(
    watch: Watch, address: str, headers: dict[str, str], status: int
) -> None:
    calls: list[str] = []
    app = reload_app(watch, lambda: calls.append("reload"))
    with TestClient(app, client=(address, 50000)) as client:
        reply = client.post("/-/reload", headers=headers)
        assert client.get("/-/reload").status_code == 405
    assert reply.status_code == status
    assert calls == (["reload"] if status == 200 else [])
    if status == 200:
        assert reply.text == "reloaded\n"


def test_a_refused_reload_says_why_and_the_metrics_remember_it(watch: Watch) -> None:
    state = ReloadState(at=1_000.0)
    wrong = True

    def reload() -> None:
        if wrong:
            state.failed()
            raise ConfigError("probes.yaml: intervall: unknown key")
        state.succeeded()

    app = create_app(watch, scheduler=ManualScheduler(), reload=reload, reload_state=state)
    with TestClient(app, client=("127.0.0.1", 50000)) as client:
        assert "sif_probe_config_last_reload_successful 1.0" in client.get("/metrics").text
        reply = client.post("/-/reload")
        assert (reply.status_code, reply.text) == (400, "probes.yaml: intervall: unknown key\n")
        metrics = client.get("/metrics").text
        assert "sif_probe_config_last_reload_successful 0.0" in metrics
        assert "sif_probe_config_last_reload_success_timestamp_seconds 1000.0" in metrics
        wrong = False
        assert client.post("/-/reload").status_code == 200
        metrics = client.get("/metrics").text
        assert "sif_probe_config_last_reload_successful 1.0" in metrics
        assert state.at > 1.7e9


def test_without_a_reload_there_is_no_such_page(watch: Watch) -> None:
    with TestClient(reload_app(watch, None), client=("127.0.0.1", 50000)) as client:
        assert client.post("/-/reload").status_code == 404


def start(config: Path) -> tuple[subprocess.Popen[str], str]:
    """`sif-probes serve` as a process, and the URL of its ready line."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from probes.cli import main; main()", "serve", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    lines: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    threading.Thread(target=lambda out=process.stdout: lines.put(out.readline()), daemon=True).start()
    ready = lines.get(timeout=60)
    assert ready.startswith("ready http://127.0.0.1:"), ready
    return process, ready.split()[1]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_stops_cleanly_in_the_middle_of_a_round(
    sent: signal.Signals, code: int, tiny: TinyPack, write_config: Any
) -> None:
    with ScriptedEndpoint(tiny.pirate(), delay_s=0.3) as endpoint:
        process, url = start(write_config({"pirate": endpoint.url}))
        try:
            deadline = time.monotonic() + 90
            while len(endpoint.questions) < 2:
                assert time.monotonic() < deadline, "no round began"
                time.sleep(0.05)
            assert httpx.get(f"{url}/health", timeout=10).text == "ok\n"
            process.send_signal(sent)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
        assert process.returncode == code, err
        assert "Traceback" not in err
        asked = len(endpoint.questions)
    assert asked < 8, "the round was not cut short"


def test_sighup_takes_up_a_new_file_and_goes_on_with_the_old_one_where_it_is_bad(
    tiny: TinyPack, write_config: Any
) -> None:
    with ScriptedEndpoint(tiny.innocent(seed=1)) as endpoint:
        config = write_config({"first": endpoint.url})
        process, url = start(config)
        try:

            def metrics_show(words: str) -> None:
                deadline = time.monotonic() + 60
                while words not in httpx.get(f"{url}/metrics", timeout=10).text:
                    assert time.monotonic() < deadline, f"{words} never came"
                    time.sleep(0.1)

            metrics_show('monitor="first"')
            good = config.read_text()
            config.write_text(good.replace("purpose", "porpoise"))
            process.send_signal(signal.SIGHUP)
            metrics_show("sif_probe_config_last_reload_successful 0.0")
            assert httpx.post(f"{url}/-/reload", timeout=30).status_code == 400
            config.write_text(good.replace("name: first", "name: second"))
            process.send_signal(signal.SIGHUP)
            metrics_show('monitor="second"')
            metrics_show("sif_probe_config_last_reload_successful 1.0")
            assert 'monitor="first"' not in httpx.get(f"{url}/metrics", timeout=10).text
            metrics_show('sif_probe_trials_total{monitor="second",outcome="miss",pack="tiny"} 8.0')
            process.terminate()
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "porpoise: unknown key" in err
    assert "Traceback" not in err
