"""The watch inside another application: what the host keeps, what it gets, when it is told of mistakes."""

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, Counter, generate_latest
from sqlalchemy import create_engine, inspect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import probes
from probes.config import ConfigError, load_config
from probes.scheduling import SchedulerError
from probes.store import StoreError, open_store
from probes.testing.endpoint import ScriptedEndpoint
from probes.testing.tiny_pack import TinyPack


@pytest.fixture
def endpoint(tiny: TinyPack) -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(tiny.pirate()) as serving:
        yield serving


@pytest.fixture
def config(endpoint: ScriptedEndpoint, write_config: Any) -> Path:
    path: Path = write_config({"pirate": endpoint.url}, store="sqlite:///mounted.sqlite")
    return path


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_fastapi_host_keeps_its_lifespan_and_gets_the_watch(config: Path) -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        events.append("host starts")
        yield {"greeting": "hello"}
        events.append("host stops")

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    def home(request: Request) -> str:
        return str(request.state.greeting)

    probes.mount(app, config)
    assert events == []
    with TestClient(app) as client:
        assert events == ["host starts"]
        assert client.get("/").json() == "hello"
        assert client.get("/sif/health").text == "ok\n"
        wait_for(
            lambda: 'sif_probe_verdict{monitor="pirate",pack="tiny"} 2.0' in client.get("/sif/metrics").text
        )
        assert "confirmed" in client.get("/sif/").text
        assert client.get("/sif/probe", params={"target": "http://127.0.0.1:1/"}).status_code == 404
        assert client.post("/sif/-/reload").status_code == 404, "the host decides on its configuration"
        assert client.get("/metrics").status_code == 404, "nothing of ours outside the path"
    assert events == ["host starts", "host stops"]


@pytest.mark.filterwarnings("ignore:.*on_event is deprecated")
def test_start_up_handlers_still_run_and_the_watch_stops_before_the_host(
    config: Path, endpoint: ScriptedEndpoint
) -> None:
    endpoint.delay_s = 0.3
    asked_at_shutdown: list[int] = []
    app = FastAPI(on_startup=[lambda: asked_at_shutdown.append(len(endpoint.questions))])
    app.router.on_shutdown.append(lambda: asked_at_shutdown.append(len(endpoint.questions)))
    probes.mount(app, config, path="/watch")
    with TestClient(app) as client:
        assert asked_at_shutdown == [0]
        wait_for(lambda: len(endpoint.questions) > 1)
        assert client.get("/watch/health").status_code == 200
    asked = len(endpoint.questions)
    assert asked_at_shutdown == [0, asked], "no question after the host began to shut down"
    assert asked < 8, "the round was cut short"
    with open_store(load_config(config).store) as store, store.reading() as session:
        open_asks = "SELECT count(*) FROM asks WHERE state = 'intent'"
        assert session.connection().exec_driver_sql(open_asks).scalar() == 0


def test_a_starlette_host_exports_on_its_own_registry(config: Path) -> None:
    registry = CollectorRegistry()
    Counter("host_requests", "The host's own.", registry=registry).inc()

    def metrics(_: Request) -> PlainTextResponse:
        return PlainTextResponse(generate_latest(registry))

    app = Starlette(routes=[Route("/metrics", metrics)])
    # a mapping, as a host with a configuration of its own has it
    body = yaml.safe_load(config.read_text()) | {"store": f"sqlite:///{config.parent / 'mapped.sqlite'}"}
    probes.mount(app, body, registry=registry)
    assert b"sif_probe" not in generate_latest(registry)
    for _ in range(2):  # a host may be started again
        with TestClient(app) as client:
            wait_for(lambda: 'sif_probe_watermark_zscore{monitor="pirate"' in client.get("/metrics").text)
            assert "host_requests_total 1.0" in client.get("/metrics").text
        assert b"sif_probe" not in generate_latest(registry), "a stopped watch says nothing"


def test_a_broken_store_leaves_the_hosts_own_metrics_alone(config: Path) -> None:
    registry = CollectorRegistry()
    Counter("host_requests", "The host's own.", registry=registry).inc()
    app = FastAPI()
    probes.mount(app, config, registry=registry)
    with TestClient(app) as client:
        wait_for(lambda: 'verdict{monitor="pirate",pack="tiny"} 2.0' in client.get("/sif/metrics").text)
        with open_store(load_config(config).store) as store, store.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE tallies RENAME TO gone")
        text = generate_latest(registry).decode()
        assert "host_requests_total 1.0" in text
        assert "sif_probe_store_readable 0.0" in text
        assert 'monitor="pirate"' not in text, "a broken store must not read as zero"
        assert client.get("/sif/metrics").status_code == 503


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"intervall": 5}, "config: intervall: unknown key"),
        ({"pack": "nowhere"}, "nowhere"),
        ({"trigger_keys": "nowhere.json"}, "nowhere.json"),
        ({"store": "no url"}, "config: store: must be a SQLAlchemy URL"),
        ({"targets": []}, "at least one is needed"),
        (
            {"target": {"api_key_env": "SIF_TEST_UNSET_KEY"}},
            "target pirate: environment variable SIF_TEST_UNSET_KEY is not set",
        ),
        (
            {"target": {"model": "proxy/main"}},
            "target pirate: model proxy/main can only be asked inside a LiteLLM",
        ),
    ],
)
def test_a_mistake_in_the_configuration_surfaces_at_mount(
    config: Path, change: dict[str, Any], message: str
) -> None:
    body = yaml.safe_load(config.read_text())
    body["targets"][0] |= change.pop("target", {})
    app = FastAPI()
    with pytest.raises(ConfigError) as caught:
        probes.mount(app, body | change)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not any(getattr(route, "path", "") == "/sif" for route in app.routes), "nothing half mounted"


def test_a_missing_file_and_a_wrong_path_surface_at_mount(tmp_path: Path, config: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: No such file"):
        probes.mount(FastAPI(), tmp_path / "nowhere.yaml")
    for path in ("sif", "/", "/sif/"):
        with pytest.raises(ConfigError, match="must begin with a slash and not end with one"):
            probes.mount(FastAPI(), config, path=path)


def test_a_store_that_cannot_be_opened_stops_the_hosts_start(config: Path, tmp_path: Path) -> None:
    (tmp_path / "mounted.sqlite").write_bytes(b"this is no database, whatever its name says")
    app = FastAPI()
    probes.mount(app, config)
    with pytest.raises(StoreError), TestClient(app):
        pass


@pytest.fixture
def of_the_host(tmp_path: Path) -> Iterator[Callable[[int], int]]:
    """A workflow of a host that runs a DBOS."""
    from dbos import DBOS

    @DBOS.workflow(name="of_the_host")
    def doubled(number: int) -> int:
        return 2 * number

    DBOS(config={"name": "host", "system_database_url": f"sqlite:///{tmp_path / 'host.sqlite'}"})
    DBOS.launch()
    yield doubled
    DBOS.destroy(destroy_registry=True)


def test_a_host_with_a_dbos_of_its_own_keeps_it(
    config: Path, postgres_url: str, of_the_host: Callable[[int], int], caplog: pytest.LogCaptureFixture
) -> None:
    """On PostgreSQL DBOS would be the choice."""
    app = FastAPI()
    probes.mount(app, yaml.safe_load(config.read_text()) | {"store": postgres_url})
    with TestClient(app) as client:
        wait_for(lambda: 'verdict{monitor="pirate",pack="tiny"} 2.0' in client.get("/sif/metrics").text)
        assert of_the_host(2) == 4
    assert of_the_host(3) == 6
    assert "this process uses DBOS for something else" in caplog.text
    engine = create_engine(postgres_url)
    assert "sif_probes_scheduler" not in inspect(engine).get_schema_names()
    engine.dispose()


def test_a_host_with_a_dbos_of_its_own_is_told_where_ours_is_asked_for(
    config: Path, of_the_host: Callable[[int], int]
) -> None:
    app = FastAPI()
    body = yaml.safe_load(config.read_text()) | {"store": f"sqlite:///{config.parent / 'mapped.sqlite'}"}
    probes.mount(app, body | {"scheduler": "dbos"})
    said = r"^another DBOS runs in this process; use APScheduler here \(scheduler: apscheduler\)$"
    with pytest.raises(SchedulerError, match=said), TestClient(app):
        pass
    assert of_the_host(4) == 8


def test_a_host_that_runs_no_lifespan_is_told_so(config: Path) -> None:
    app = FastAPI()
    probes.mount(app, config)
    reply = TestClient(app).get("/sif/metrics")
    assert reply.status_code == 503
    assert "has not run its lifespan" in reply.text


def test_importing_probes_is_cheap() -> None:
    code = (
        "import sys, probes; heavy = {'fastapi', 'starlette', 'litellm', 'sqlalchemy', 'pydantic', 'yaml'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
