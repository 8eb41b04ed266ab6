"""Settings of a training that belong together, by name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sif_offline.metav.settings import MetaVSettings, MetaVSettingsError, metav_settings

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {},
        "paper": {"form": "joint", "views": ("full",), "activation": "none", "sampled": 3},
        "matched-filter": {
            "form": "cosine",
            "start": "unsure",
            "reach": 0.1,
            "query_rate": 0.01,
            "steps": 150,
            "views": ("full", "rounded-1"),
            "scored_views": ("label",),
        },
        "embeddings": {"transform": "cosines"},
    }
)
"""What differs from the defaults.

``paper`` is MetaV as published (Pan et al., KDD 2022) with the defaults' learning rates, choice of the best
state and number of steps. ``matched-filter`` asks natural inputs about which the owner is unsure, for
classifiers that are unsure of many; chosen on the zoo of Fashion-MNIST of seed 1. Its score rises with the
temperature of a softmax, so packs have scores for the view ``label`` alone, which does not see it.
``embeddings`` reads the cosines between answers; chosen on the zoos of digits-embedding of seeds 0 and 1.
"""


def preset_settings(preset: str, values: Mapping[str, Any]) -> MetaVSettings:
    """A preset with changes. Raises ``MetaVSettingsError``: no such preset or setting."""
    if preset not in PRESETS:
        raise MetaVSettingsError(f"preset {preset!r}: there are {', '.join(PRESETS)}")
    return metav_settings({**PRESETS[preset], **values})
