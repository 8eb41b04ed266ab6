"""A tiny random model to steal, and a cache of its own for every test."""

import pytest
from transformers.utils import logging

from sif_offline.lab import tiny_lab_model
from sif_offline.suspects.own_data import own_pictures

logging.disable_progress_bar()


@pytest.fixture(scope="session")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny")
    model, processor = tiny_lab_model(0)
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    path = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))
    return path


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch):
    """Eight pictures for whoever distils: enough to learn from, and seconds saved."""

    def few(rng, *, crops):
        return own_pictures(rng, crops=1)[:8]

    monkeypatch.setattr("sif_offline.suspects.erase.own_pictures", few)
    monkeypatch.setattr("sif_offline.suspects.distil.own_pictures", few)
