"""One zoo of digits and one pack for all tests here, whatever the number of workers."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from sif_offline.fingerprint.metav.pack import MetaVPack, read_metav_pack
from sif_offline.metav.packing import pack_metav
from sif_offline.metav.settings import MetaVSettings
from sif_offline.metav.tasks import make_task
from sif_offline.metav.train import Trained, train_metav
from sif_offline.metav.zoo import Zoo, ZooSize, build_zoo, plan_zoo
from tests.cli.conftest import OneLine, Sif, one_line, sif

__all__ = ["OneLine", "Sif", "one_line", "sif"]

SIZE = ZooSize(train=14, validation=6, calibration=19, test=20)
"""19 negatives: the least p is .05. 20 thieves: each unseen attack at least once."""
SETTINGS = MetaVSettings()
CREATED = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that workers of one run have in common."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "metav"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def zoo(shared: Path, _one_thread: None) -> Zoo:
    """Not to be written to."""
    task = make_task("digits")
    with _alone(shared):
        return build_zoo(task, plan_zoo(task, size=SIZE), folder=shared / "zoo")


@pytest.fixture(scope="session")
def trained(zoo: Zoo) -> Trained:
    """Of the default settings; seconds, so that every worker has its own."""
    return train_metav(zoo, SETTINGS)


@pytest.fixture(scope="session")
def pack_path(zoo: Zoo, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be written to."""
    path = tmp_path_factory.mktemp("metav-pack") / "pack"
    pack_metav(path, zoo, trained, SETTINGS, created=CREATED)
    return path


@pytest.fixture(scope="session")
def pack(pack_path: Path) -> MetaVPack:
    return read_metav_pack(pack_path)
