"""The page for people: plain HTML from the server, readable without JavaScript."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from jinja2 import Environment, PackageLoader, StrictUndefined

from probes.metrics import package_version
from probes.scheduling import Scheduler
from probes.store.reading import last_rounds
from probes.store.tables import RoundRow
from probes.watch import Watch

ROUNDS_SHOWN = 5


@dataclass(frozen=True)
class _Line:
    """One target as the page shows it."""

    name: str
    model: str
    authorised_by: str
    purpose: str
    verdict: str
    z: float | None
    threshold_z: float | None
    log10_e: float | None
    log10_e_independent: float | None
    next_run: str
    rounds: list[RoundRow]


def environment() -> Environment:
    """Jinja with autoescape on: what an endpoint or a configuration says is never markup."""
    made = Environment(
        # the template lies beside this module, so that it is package data
        loader=PackageLoader("probes.web", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    made.filters["time"] = _time
    made.filters["number"] = _number
    return made


def index_page(watch: Watch, scheduler: Scheduler, *, templates: Environment) -> str:
    """The page of all targets. Raises StoreError."""
    lines = []
    for target in watch.config.targets:
        rounds = last_rounds(watch.store, target.name, pack_id=watch.pack.pack_id, limit=ROUNDS_SHOWN)
        ended = next((row for row in rounds if row.finished_at is not None), None)
        scored = next((row for row in rounds if row.z is not None), None)
        lines.append(
            _Line(
                name=target.name,
                model=target.model,
                authorised_by=target.authorised_by,
                purpose=target.purpose,
                verdict=(ended.verdict if ended else None) or "none",
                z=scored.z if scored else None,
                threshold_z=scored.threshold_z if scored else None,
                log10_e=_log10(ended.log_e if ended else None),
                log10_e_independent=_log10(ended.log_e_independent if ended else None),
                next_run=_time(scheduler.next_run(target.name)),
                rounds=rounds,
            )
        )
    return templates.get_template("index.html").render(
        pack=watch.pack,
        alpha=watch.policy.alpha,
        threshold_log10_e=-math.log10(watch.policy.alpha),
        lines=lines,
        version=package_version(),
        now=_time(datetime.now(UTC).timestamp()),
    )


def _log10(value: float | None) -> float | None:
    return None if value is None else value / math.log(10)


def _time(at: float | None) -> str:
    return "–" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
