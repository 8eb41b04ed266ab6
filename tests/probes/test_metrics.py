"""The metrics: documented, bounded, right, and the same after a restart."""

import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update

from probes.metrics import ERROR_KINDS, METRICS, ReloadState, StoreCollector, metrics_table
from probes.store import Store, StoreError, open_store
from probes.store.tables import RoundRow, TargetRow
from probes.testing.endpoint import Fault, Question, ScriptedEndpoint
from probes.testing.tiny_pack import TinyPack

DOCS = Path(__file__).parents[2] / "docs" / "metrics-probes.md"


def scrape(store: Store, *monitors: str, **options: Any) -> str:
    registry = CollectorRegistry()
    registry.register(StoreCollector(store, watched=lambda: (monitors, "tiny"), **options))
    return generate_latest(registry).decode()


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float | None:
    wanted = frozenset({"monitor": "suspect", "pack": "tiny", **labels}.items())
    return samples(text).get((f"sif_probe_{name}", wanted))


def target_row(name: str, *, kind: str = "sif", alpha: float = 1e-6) -> TargetRow:
    return TargetRow(
        name=name,
        kind=kind,
        model="openai/secret-model",
        api_base="http://127.0.0.1:1/secret-url",
        authorised_by="the test",
        purpose="a test",
        pack_id="tiny",
        interval_s=600.0,
        alpha=alpha,
        updated_at=0.0,
    )


@pytest.fixture
def watched(store: Store) -> Store:
    store.record_target(target_row("suspect"))
    return store


def test_the_documentation_holds_the_table_of_the_code() -> None:
    text = DOCS.read_text("utf-8")
    found = re.search(r"<!-- table: .*? -->\n(.*?)\n<!-- end of table -->", text, re.DOTALL)
    assert found is not None
    assert found[1] == metrics_table()
    for kind in ERROR_KINDS:
        assert f"`{kind}`" in text


def test_labels_are_bounded() -> None:
    allowed = {"monitor", "pack", "outcome", "kind", "direction"}
    for spec in METRICS:
        extra = {"version"} if spec.name == "sif_probe_build_info" else set()
        assert set(spec.labels) <= allowed | extra, spec.name


def test_every_exported_metric_is_in_the_table_and_the_other_way_round(
    tiny: TinyPack, watched: Store, make_runner: Any
) -> None:
    with ScriptedEndpoint(tiny.pirate()) as endpoint:
        make_runner(endpoint.url).run()
    watched.record_target(target_row("copy", kind="metav", alpha=0.0))
    number = watched.begin_round("copy", pack_id="tiny", planned=1, now=1.0)
    watched.finish_round(
        number, state="complete", finished_at=2.0, score=3.0, log_pvalue=-3.0, verdict="suspicious"
    )
    text = scrape(watched, "suspect", "copy")
    exported = {}
    for family in text_string_to_metric_families(text):
        assert family.samples, f"{family.name} is never exported"
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        exported[name] = (family.type, labels)
    assert exported == {spec.name: (spec.kind, set(spec.labels)) for spec in METRICS}
    for word in ("secret", "127.0.0.1", *(row.id for row in tiny.pack.triggers)):
        assert word not in text
    documented = set(re.findall(r"`(sif_probe_[a-z0-9_]+)`", DOCS.read_text("utf-8")))
    assert documented == set(exported)


@pytest.mark.parametrize("negatives", [19, 39, 99, 999])
def test_a_p_at_the_threshold_is_at_it_for_an_alert_too(watched: Store, negatives: int) -> None:
    """The round's verdict is suspicious there; what is stored is the logarithm of p."""
    watched.record_target(target_row("copy", kind="metav", alpha=0.0))
    number = watched.begin_round("copy", pack_id="tiny", planned=1, now=1.0)
    at = math.log((negatives + 1) // 20 / (negatives + 1))
    watched.finish_round(
        number, state="complete", finished_at=2.0, score=3.0, log_pvalue=at, verdict="suspicious"
    )
    text = scrape(watched, "copy")
    found, threshold = (
        value(text, f"metav_{name}", monitor="copy") for name in ("pvalue", "threshold_pvalue")
    )
    assert found is not None
    assert found <= (threshold or 0)


def test_what_an_endpoint_says_never_becomes_a_label(
    tiny: TinyPack, watched: Store, make_runner: Any
) -> None:
    """Texts, errors and finish reasons of a hostile endpoint change values, never the series there are."""
    before = set(samples(scrape(watched, "suspect")))
    faults: list[Fault | None] = [
        "html",
        "content_policy",
        "not_chat",
        "empty_choices",
        "refusal",
        "truncated",
    ]

    def hostile(question: Question) -> str:
        return 'evil",monitor="x\n\u0000 http://evil.example/ </script>'

    with ScriptedEndpoint(hostile, faults=faults, model='evil" model', retry_after="0") as endpoint:
        for _ in range(3):
            make_runner(endpoint.url, cooldown_s=0.0, triggers_per_round=4).run()
    text = scrape(watched, "suspect")
    appeared = set(samples(text)) - before
    assert {name for name, _ in appeared} <= {
        "sif_probe_watermark_zscore",
        "sif_probe_threshold_zscore",
        "sif_probe_log10_evalue",
        "sif_probe_last_completion_timestamp_seconds",
        "sif_probe_last_success_timestamp_seconds",
    }
    assert appeared, "rounds were run"
    assert all(labels == frozenset({("monitor", "suspect"), ("pack", "tiny")}) for _, labels in appeared)
    assert "evil" not in text


def test_a_paused_target_says_so(watched: Store) -> None:
    paused: set[str] = set()
    assert value(scrape(watched, "suspect", paused=lambda: paused), "paused") == 0
    paused.add("suspect")
    assert value(scrape(watched, "suspect", paused=lambda: paused), "paused") == 1


def same(collector: StoreCollector, text: str) -> str:
    """What the collector says after whatever it has said before, which must be what it says anew."""
    found = collector.exposition().decode()
    assert found == text
    return found


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_the_quick_text_is_the_registry_s_whatever_changes(
    database: str, tiny: TinyPack, tmp_path: Path, make_runner: Any, request: pytest.FixtureRequest
) -> None:
    """Rounds of another process, pauses, new statistics of an old round, targets that come and go."""
    urls = {"sqlite": f"sqlite:///{tmp_path}/shared.sqlite"}
    url = urls.get(database) or request.getfixturevalue("postgres_url")
    monitors, paused, reload = ["a", "b"], set[str](), ReloadState()
    texts = []
    with open_store(url) as ours, open_store(url) as theirs:
        for name in "abc":
            ours.record_target(target_row(name))
        options: dict[str, Any] = {"paused": lambda: paused, "reload": reload}
        collector = StoreCollector(ours, watched=lambda: (monitors, "tiny"), **options)

        def look() -> None:
            texts.append(same(collector, scrape(theirs, *monitors, **options)))

        look()
        with ScriptedEndpoint(tiny.pirate(), faults=["http_500", "refusal"], retry_after="0") as endpoint:
            for name in "ab":
                make_runner(endpoint.url, name=name, store=theirs, triggers_per_round=4).run()
                look()
        paused.add("b")
        look()
        with theirs.writing() as session:  # as rescoring does
            session.execute(update(RoundRow).where(RoundRow.target == "a").values(z=1.5, log_e=0.25))
        look()
        monitors[:] = ["c", "b"]
        look()
        reload.failed()
        look()
        assert len(set(texts)) == len(texts), "each of these shows"
        look()
        assert texts[-1] == texts[-2]
        with ours.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE tallies")
        with pytest.raises(StoreError):
            collector.exposition()


def test_a_guest_collector_survives_a_store_that_cannot_be_read(watched: Store) -> None:
    with watched.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE tallies")
    with pytest.raises(StoreError):
        scrape(watched, "suspect")
    text = scrape(watched, "suspect", guest=True)
    assert "sif_probe_store_readable 0.0" in text
    assert "suspect" not in text


def test_a_target_that_is_added_later_is_exported(watched: Store) -> None:
    monitors: dict[str, int] = {}
    registry = CollectorRegistry()
    registry.register(StoreCollector(watched, watched=lambda: (list(monitors), "tiny")))
    assert "suspect" not in generate_latest(registry).decode()
    monitors["suspect"] = 1
    assert 'sif_probe_verdict{monitor="suspect"' in generate_latest(registry).decode()


def test_the_numbers_are_those_of_the_rounds(tiny: TinyPack, watched: Store, make_runner: Any) -> None:
    faults: list[Fault | None] = ["refusal", "http_500", "rate_limited"]
    before = scrape(watched, "suspect")
    assert value(before, "watermark_zscore") is None, "no round, no z"
    assert value(before, "last_completion_timestamp_seconds") is None
    assert value(before, "interval_seconds") == 600
    assert value(before, "trials_total", outcome="hit") == 0
    with ScriptedEndpoint(tiny.pirate(), faults=faults, retry_after="0") as endpoint:
        summary = make_runner(endpoint.url, clean_share=1.0).run()
    text = scrape(watched, "suspect")
    trials = {
        outcome: value(text, "trials_total", outcome=outcome)
        for outcome in ("hit", "miss", "refusal", "error")
    }
    assert sum(number or 0 for number in trials.values()) == 8, "each trigger is one trial, controls are none"
    # the shuffle decides whether the refusal and the 500 hit a trigger or a clean photo
    assert trials["hit"] == summary.scored
    assert value(text, "errors_total", kind="http") == 1
    assert value(text, "errors_total", kind="rate_limited") == 1
    assert value(text, "errors_total", kind="timeout") == 0
    assert value(text, "watermark_zscore") == pytest.approx(summary.z)
    assert value(text, "threshold_zscore") == pytest.approx(summary.threshold_z)
    assert value(text, "log10_evalue") == pytest.approx(summary.log10_e)
    assert value(text, "threshold_log10_evalue") == pytest.approx(6)
    assert value(text, "verdict") == 2
    assert value(text, "tokens_total", direction="prompt") == 10 * 15
    assert value(text, "round_duration_seconds_count") == 1
    assert value(text, "round_duration_seconds_sum") == pytest.approx(summary.duration_s)
    assert value(text, "last_completion_timestamp_seconds") is not None
    assert value(text, "last_success_timestamp_seconds") is None, "one question was not answered"


def test_a_restart_changes_nothing_and_other_monitors_are_history(
    tiny: TinyPack, watched: Store, make_runner: Any
) -> None:
    with ScriptedEndpoint(tiny.pirate()) as endpoint:
        make_runner(endpoint.url).run()
    reload = ReloadState(at=1.0)
    first = scrape(watched, "suspect", reload=reload)
    with open_store(watched.engine.url.render_as_string(hide_password=False)) as again:
        assert scrape(again, "suspect", reload=reload) == first
        assert "suspect" not in scrape(again, "somebody-else")


def test_counters_never_fall(tiny: TinyPack, watched: Store, make_runner: Any) -> None:
    """Read after every send of a round with failures: a counter that falls looks like a restart."""
    readings: list[dict[Any, float]] = []
    faults: list[Fault | None] = ["rate_limited", None, "http_500", "rate_limited", "refusal"]
    rule = tiny.pirate()

    def watching(question: Any) -> str:
        found = samples(scrape(watched, "suspect"))
        readings.append({key: number for key, number in found.items() if key[0].endswith("_total")})
        return rule(question)

    with ScriptedEndpoint(watching, faults=faults, retry_after="0") as endpoint:
        make_runner(endpoint.url).run()
    assert len(readings) == 10
    for earlier, later in pairwise(readings):
        assert all(later[key] >= number for key, number in earlier.items())
