"""A tiny pack, and what is in it."""

from pathlib import Path

import pytest

from probes.testing.tiny_metav import build_tiny_metav
from sif_offline.fingerprint.metav.pack import MetaVPack


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be written to."""
    path = tmp_path_factory.mktemp("metav") / "pack"
    build_tiny_metav(path)
    return path


@pytest.fixture(scope="session")
def text_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be written to."""
    path = tmp_path_factory.mktemp("metav") / "texts"
    build_tiny_metav(path, texts=True)
    return path


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> MetaVPack:
    from sif_offline.fingerprint.metav.pack import read_metav_pack

    return read_metav_pack(tiny_path)
