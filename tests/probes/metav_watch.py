"""Configurations of watches over a MetaV pack."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from probes.testing.tiny_metav import QUERIES, build_tiny_metav

KSERVE: dict[str, Any] = {"kind": "kserve", "input": "x"}


def metav_config(
    folder: Path,
    targets: Mapping[str, str],
    *,
    protocol: Mapping[str, Any] = KSERVE,
    view: str = "full",
    **keys: object,
) -> Path:
    """``folder/probes.yaml`` with targets as name -> URL, other keys by keyword; makes the folder's pack
    where none is named.
    """
    pack = folder / "pack"
    if "pack" not in keys and not pack.exists():
        build_tiny_metav(pack)
    rows = [
        {
            "name": name,
            "kind": "metav",
            "url": url,
            "model": "m",
            "protocol": dict(protocol),
            "view": view,
            "timeout": 5,
            "authorised_by": "the test",
            "purpose": "a test",
        }
        for name, url in targets.items()
    ]
    body = {"pack": str(pack), "listen": {"port": 0}, "triggers_per_round": QUERIES, "targets": rows}
    path = folder / "probes.yaml"
    path.write_text(yaml.safe_dump(body | keys), "utf-8")
    return path
