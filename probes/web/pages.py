"""The two pages: all targets, and one of them. Each is read in a fixed number of queries."""

import math
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment
from markupsafe import Markup

from probes.metrics import ERROR_KINDS, OUTCOMES, package_version
from probes.scheduling import Scheduler
from probes.standing import stand_out
from probes.store.tables import RoundRow
from probes.store.totals import MonitorTotals, monitor_totals
from probes.watch import Watch
from probes.web import reading, views
from probes.web.colouring import MAX_CHARACTERS, Coloured, coloured

TARGETS_A_PAGE = 50
ROUNDS_A_PAGE = 25
ROUNDS_IN_A_SPARK = 40
ROUNDS_IN_A_CHART = 2000
LATEST_ROUNDS = 10
QUESTIONS_SHOWN = 12

_RANK = {"confirmed": 0, "suspicious": 1, "none": 2}


@dataclass(frozen=True)
class Pages:
    """Where a reader is in a long list; numbers start at 1."""

    number: int
    count: int

    @classmethod
    def of(cls, items: int, *, size: int, number: int) -> "Pages":
        """The page asked for, or the nearest there is."""
        count = max(1, math.ceil(items / size))
        return cls(min(max(1, number), count), count)


@dataclass(frozen=True)
class _Line:
    """One target in the table of all."""

    name: str
    model: str
    purpose: str
    verdict: str
    stands_out: bool
    paused: bool
    totals: MonitorTotals | None
    last: RoundRow | None
    next_run: float | None
    z_spark: Markup | None
    e_spark: Markup | None


@dataclass(frozen=True)
class _Question:
    """A settled question with its answer in colours, or None where there was none."""

    asked: reading.Asked
    answer: Coloured | None


class PageMaker:
    """Makes the pages of a watch; ``writable`` says whether they offer to pause."""

    def __init__(self, watch: Watch, scheduler: Scheduler, *, templates: Environment, writable: bool) -> None:
        self._watch = watch
        self._scheduler = scheduler
        self._templates = templates
        self._writable = writable

    def index(self, *, number: int = 1, part: str = "") -> str:
        """The page of all targets, or of those whose name contains ``part``. Raises StoreError."""
        watch = self._watch
        store, pack_id = watch.store, watch.pack.pack_id
        standings = reading.standings(store, pack_id=pack_id)
        none = reading.Standing("none", None)
        stood = {target.name: standings.get(target.name, none) for target in watch.config.targets}
        paused = watch.paused() & stood.keys()
        verdicts = [standing.verdict for standing in stood.values()]
        names = sorted((name for name in stood if part.lower() in name.lower()), key=lambda n: _order(n, stood))
        pages = Pages.of(len(names), size=TARGETS_A_PAGE, number=number)
        names = names[(pages.number - 1) * TARGETS_A_PAGE :][:TARGETS_A_PAGE]
        out = stand_out({name: standing.log_e for name, standing in stood.items()})
        rounds = reading.newest_rounds(store, names, pack_id=pack_id, limit=ROUNDS_IN_A_SPARK)
        totals = {row.monitor: row for row in monitor_totals(store, names, pack_id=pack_id, buckets=())}
        configured = {target.name: target for target in watch.config.targets}
        lines = []
        for place, name in enumerate(names):
            ended = [row for row in rounds[name] if row.finished_at is not None]
            lines.append(
                _Line(
                    name=name,
                    model=configured[name].model,
                    purpose=configured[name].purpose,
                    verdict=stood[name].verdict,
                    stands_out=name in out,
                    paused=name in paused,
                    totals=totals.get(name),
                    last=rounds[name][-1] if rounds[name] else None,
                    next_run=self._scheduler.next_run(name),
                    z_spark=views.z_spark(f"z{place}", name, ended) if ended else None,
                    e_spark=views.e_spark(f"e{place}", name, ended, threshold=self._threshold)
                    if ended and stood[name].log_e is not None
                    else None,
                )
            )
        latest = reading.latest_rounds(store, pack_id=pack_id, limit=3 * LATEST_ROUNDS)
        return self._render(
            "index.html",
            root="",
            lines=lines,
            pages=pages,
            part=part,
            counts={verdict: verdicts.count(verdict) for verdict in _RANK},
            number_of_targets=len(stood),
            number_paused=len(paused),
            latest=[row for row in latest if row.target in stood][:LATEST_ROUNDS],
        )

    def target(self, name: str, *, number: int = 1, round_id: int | None = None) -> str | None:
        """The page of one target; None where there is no such target, or no such round of it.

        Args:
            name: as configured.
            number: page of its rounds.
            round_id: whose answers to show; None: the newest round with any.

        Raises:
            StoreError: the store cannot be read.
        """
        watch = self._watch
        target = next((target for target in watch.config.targets if target.name == name), None)
        if target is None:
            return None
        store, pack_id = watch.store, watch.pack.pack_id
        totals = next(iter(monitor_totals(store, [name], pack_id=pack_id, buckets=())), None)
        history = reading.newest_rounds(store, [name], pack_id=pack_id, limit=ROUNDS_IN_A_CHART)[name]
        ended = [row for row in history if row.finished_at is not None]
        count = reading.round_count(store, name, pack_id=pack_id)
        pages = Pages.of(count, size=ROUNDS_A_PAGE, number=number)
        offset = (pages.number - 1) * ROUNDS_A_PAGE
        rounds = reading.round_page(store, name, pack_id=pack_id, offset=offset, limit=ROUNDS_A_PAGE)
        answered = next((row for row in reversed(ended) if row.answered), None)
        told = answered if round_id is None else reading.round_of(store, name, round_id, pack_id=pack_id)
        if round_id is not None and told is None:
            return None
        return self._render(
            "target.html",
            root="../",
            target=target,
            host=urlsplit(target.api_base).hostname if target.api_base else None,
            paused=name in watch.paused(),
            writable=self._writable,
            next_run=self._scheduler.next_run(name),
            interval_s=totals.interval_s if totals else None,
            verdict=(ended[-1].verdict if ended else None) or "none",
            ended=ended,
            totals=totals,
            outcomes=OUTCOMES,
            failures=[(kind, times, FAILURE_WORDS[kind]) for kind, times in sorted(_errors(totals).items())],
            figures=views.figures(
                ended, threshold=self._threshold, calibrated=watch.pack.calibration is not None
            )
            if ended
            else [],
            rounds=rounds,
            costs=reading.round_costs(store, [row.id for row in rounds]),
            failed=reading.round_failures(store, [row.id for row in rounds]),
            pages=pages,
            log10=views.log10,
            told=told,
            questions=self._questions(told),
            shown_at_most=QUESTIONS_SHOWN,
            triggers={row.id: row for row in watch.pack.triggers},
        )

    def problem(self, title: str, words: str, *, root: str) -> str:
        """A page that says what went wrong, without reading anything."""
        return self._render("problem.html", root=root, title=title, words=words)

    @property
    def _threshold(self) -> float:
        """log10 of 1/alpha."""
        return -math.log10(self._watch.policy.alpha)

    def _questions(self, told: RoundRow | None) -> list[_Question]:
        if told is None:
            return []
        store, scorer = self._watch.store, self._watch.scorer
        known = {row.id for row in self._watch.pack.triggers}
        questions = []
        for asked in reading.asked_in(store, told.id, limit=QUESTIONS_SHOWN, characters=MAX_CHARACTERS):
            answer = None
            if asked.text is not None and asked.trigger_id in known:
                answer = coloured(
                    scorer,
                    asked.trigger_id,
                    asked.text,
                    length=asked.length or 0,
                    scored=asked.types is not None,
                )
            questions.append(_Question(asked, answer))
        return questions

    def _render(self, template: str, **values: Any) -> str:
        return self._templates.get_template(template).render(
            pack=self._watch.pack,
            alpha=self._watch.policy.alpha,
            threshold=self._threshold,
            version=package_version(),
            now=time.time(),
            **values,
        )


def _order(name: str, stood: dict[str, reading.Standing]) -> tuple[int, float, str]:
    """The strongest evidence first."""
    standing = stood[name]
    return _RANK.get(standing.verdict, len(_RANK)), -(standing.log_e or 0.0), name


def _errors(totals: MonitorTotals | None) -> dict[str, int]:
    return totals.errors if totals else {}


FAILURE_WORDS = dict.fromkeys(ERROR_KINDS, "") | {
    "connection": "never reached: refused, no such host, TLS",
    "interrupted": "reached, then cut; may have been answered",
    "timeout": "no answer in time; may have been answered",
    "rate_limited": "429: asked to slow down",
    "http": "another status that is not a success",
    "auth": "401 or 403: the credential was refused",
    "content_policy": "the provider refused the question",
    "not_json": "a page or other text in place of JSON",
    "not_chat": "JSON, but no chat completion",
    "misconfigured": "nothing was sent: no such provider, or no credential",
    "crash": "the probe died while waiting",
    "stopped": "the probe was stopped while waiting",
}
"""What each kind of failure means."""
