"""The demo's report: one HTML page with its pictures inside, no script, nothing fetched."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from examples.demo.fingerprint import ENDPOINTS, Asked
from examples.demo.gateway import Exchange
from sif_offline.fingerprint.pack import FingerprintPack

ANSWERS_SHOWN = 3


def write_report(
    out: Path,
    *,
    pack: FingerprintPack,
    sheet: bytes,
    rounds: Sequence[Mapping[str, Any]],
    answers: Mapping[str, Sequence[Asked]],
    exchanges: Sequence[Exchange],
    metrics: Sequence[str],
    seconds: Mapping[str, float],
) -> Path:
    """Write ``out/index.html``, ``sheet`` being the contact sheet PNG; returns the page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    by_name = {row["target"]: row for row in rounds}
    page = environment.get_template("report.html.jinja").render(
        pack=pack,
        sheet=_data_url(sheet),
        pairs=[
            (row, _data_url(pack.clean_bytes(row)), _data_url(pack.trigger_bytes(row)))
            for row in pack.triggers[:3]
        ],
        verdicts=[(endpoint, by_name[endpoint.name]) for endpoint in ENDPOINTS],
        answers={name: rows[:ANSWERS_SHOWN] for name, rows in answers.items()},
        exchanges=[
            (exchange, None if exchange.image is None else _data_url(exchange.image))
            for exchange in exchanges
        ],
        metrics=metrics,
        seconds=seconds,
    )
    out.mkdir(parents=True, exist_ok=True)
    path = out / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


def _data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
