"""A tiny lab model of the real classes behind a real uvicorn server."""

from collections.abc import Iterator

import openai
import pytest

from sif_offline.lab import tiny_lab_model
from sif_offline.lab.modeling import LabVLM
from sif_offline.lab.processing import LabProcessor
from sif_offline.lab.server import Engine, build_app, serve_in_thread


@pytest.fixture(scope="session")
def tiny() -> tuple[LabVLM, LabProcessor]:
    return tiny_lab_model(0)


@pytest.fixture(scope="module")
def server_url(tiny: tuple[LabVLM, LabProcessor]) -> Iterator[str]:
    with serve_in_thread(build_app(Engine(*tiny), model_name="tiny", max_body=2**20)) as url:
        yield url


@pytest.fixture(scope="module")
def client(server_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server_url}/v1", api_key="unused", max_retries=0, timeout=60) as client:
        yield client
