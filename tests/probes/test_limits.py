"""What keeps a question from being sent: pauses, burned triggers, lifetimes, rates and budgets of a day."""

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from probes.store import Store, orders
from probes.store.lease import new_holder
from probes.store.limits import DAY_S, EVERY, Held, SendLimits
from probes.store.tables import AskRow, RoundRow
from probes.targets import Answer, AskFailure
from probes.targets.pictures import ImageLimits, OversizeError
from probes.testing.tiny_pack import TinyPack
from tests.probes.conftest import Scripted
from tests.probes.rows import ask_row, failure

NOON = 20_000 * DAY_S + DAY_S / 2
Intend = Callable[..., int | Held]


@pytest.fixture
def intend(store: Store) -> Intend:
    """Ask for a send of a trigger of the suspect at a time, under limits."""
    holders: dict[str, tuple[str, int]] = {}

    def send(trigger: str, at: float, *, target: str = "suspect", **limits: Any) -> int | Held:
        if target not in holders:
            holder = new_holder()
            assert store.take_lease(target, holder=holder, now=at, ttl_s=60)
            holders[target] = holder, store.begin_round(target, pack_id="tiny", planned=1, now=at)
        holder, round_id = holders[target]
        ask = ask_row(round_id, at=at, trigger=trigger)
        ask.target = target
        return store.intend(ask, holder=holder, ttl_s=60, cooldown_s=10, limits=SendLimits(**limits))

    return send


def answered(store: Store, ask_id: int | Held, *, cost_usd: float | None) -> None:
    assert isinstance(ask_id, int)
    store.settle_answer(ask_id, Answer("a", "stop", "m", 0.1, cost_usd=cost_usd), kind="answer", now=NOON)


def test_a_pause_holds_one_target_or_all_until_it_is_ended(store: Store, intend: Intend) -> None:
    orders.hold(store, "suspect", by="jane", reason="complaint", now=1)
    assert intend("t00", 100) == Held("paused")
    assert isinstance(intend("t00", 100, target="other"), int)
    assert [(row.target, row.held_by, row.reason) for row in orders.holds(store)] == [
        ("suspect", "jane", "complaint")
    ]
    assert orders.release(store, "suspect")
    assert not orders.release(store, "suspect")
    orders.hold(store, EVERY, by="jane", reason="", now=1)
    assert intend("t01", 100, target="other") == Held("paused")
    orders.release(store, EVERY)
    assert isinstance(intend("t00", 100), int)


def test_a_burned_trigger_is_not_sent_and_its_clean_photo_may_be(store: Store, intend: Intend) -> None:
    orders.burn(store, "t00", pack_id="tiny", target="suspect", reason="learned", now=1)
    orders.burn(store, "t01", pack_id="tiny", reason="published", now=1)
    assert intend("t00", 100) == Held("burned")
    assert intend("t01", 100) == Held("burned")
    assert isinstance(intend("t00", 100, target="other"), int)
    assert intend("t01", 100, target="other") == Held("burned")
    assert orders.burned_for(store, "other", pack_id="tiny") == {"t01"}


def test_a_lifetime_counts_what_may_have_been_seen(store: Store, intend: Intend) -> None:
    for at in (100, 200):
        ask_id = intend("t00", at, lifetime=2)
        assert isinstance(ask_id, int)
        store.settle_failure(ask_id, failure(in_doubt=True), final=True, now=at + 1)
    assert intend("t00", 300, lifetime=2) == Held("lifetime")
    unsent = intend("t01", 300, lifetime=1)
    assert isinstance(unsent, int)
    store.settle_failure(unsent, failure(in_doubt=False), final=True, now=301)
    assert isinstance(intend("t01", 400, lifetime=1), int), "what certainly failed was never seen"


def test_rates_hold_in_every_window_of_a_minute(intend: Intend) -> None:
    """400 sends as early as they are let through, at random moments: none of the windows is over the rate."""
    rng, now, sent = random.Random(3), NOON, []
    for number in range(400):
        now += rng.expovariate(1)
        verdict = intend(f"t{number}", now, per_minute=6)
        if isinstance(verdict, Held):
            assert (verdict.by, verdict.wait_s is not None) == ("rate", True)
            now += verdict.wait_s or 0
            assert isinstance(intend(f"t{number}", now, per_minute=6), int), "it said when"
        sent.append(now)
    windows = [sum(at <= other < at + 60 for other in sent) for at in sent]
    assert max(windows) == 6


def test_the_rate_over_all_targets_and_rates_below_one_a_minute(intend: Intend) -> None:
    assert isinstance(intend("t00", 1000, all_per_minute=2), int)
    assert isinstance(intend("t00", 1010, target="other", all_per_minute=2), int)
    assert intend("t01", 1020, all_per_minute=2) == Held("rate", 40)
    assert isinstance(intend("t01", 1061, all_per_minute=2), int)
    assert isinstance(intend("t02", 2000, per_minute=0.1), int)
    assert intend("t03", 2100, per_minute=0.1) == Held("rate", 500)


def test_a_days_requests_are_counted_by_utc_days(intend: Intend) -> None:
    assert isinstance(intend("t00", NOON, daily_requests=2), int)
    assert isinstance(intend("t01", NOON + 1, daily_requests=2), int)
    assert intend("t02", NOON + 2, daily_requests=2) == Held("daily_requests")
    assert intend("t02", NOON + DAY_S / 2 - 1, daily_requests=2) == Held("daily_requests")
    assert isinstance(intend("t02", NOON + DAY_S / 2, daily_requests=2), int)


def test_a_days_money_counts_what_was_billed_or_may_be(store: Store, intend: Intend) -> None:
    budget = {"daily_usd": 1.0, "usd_per_request": 0.4}
    answered(store, intend("t00", NOON, **budget), cost_usd=0.1)
    answered(store, intend("t01", NOON + 1, **budget), cost_usd=None)  # 0.4: no price is known
    in_doubt = intend("t02", NOON + 2, **budget)  # 0.5 spent, this one may cost 0.4
    assert isinstance(in_doubt, int)
    assert intend("t03", NOON + 3, **budget) == Held("daily_usd")
    store.settle_failure(in_doubt, failure(in_doubt=False), final=True, now=NOON + 4)
    assert isinstance(intend("t03", NOON + 5, **budget), int), "a question that never arrived costs nothing"


def test_what_a_server_turned_down_was_seen(store: Store, intend: Intend) -> None:
    """Or a suspect could read every trigger by answering 400."""
    turned_down = AskFailure(target="suspect", reason="no", kind="http", in_doubt=False, status=400)
    ask_id = intend("t00", 100, lifetime=1)
    assert isinstance(ask_id, int)
    store.settle_failure(ask_id, turned_down, final=True, now=101)
    assert intend("t00", 105, lifetime=1) == Held("cooldown")
    assert intend("t00", 200, lifetime=1) == Held("lifetime")


def test_a_rate_sees_sends_that_another_process_stamped_a_moment_later(intend: Intend) -> None:
    assert isinstance(intend("t00", 1000.5, all_per_minute=1), int)
    assert intend("t01", 1000.0, target="other", all_per_minute=1) == Held("rate", 60)


def test_an_endpoints_own_prices_neither_fill_nor_empty_a_budget(store: Store, intend: Intend) -> None:
    budget = {"daily_usd": 1.0, "usd_per_request": 0.4}
    answered(store, intend("t00", NOON, **budget), cost_usd=900_000.0)
    assert isinstance(intend("t01", NOON + 1, **budget), int)
    assert intend("t02", NOON + 2, **budget) == Held("daily_usd")


def test_a_clock_that_was_set_back_sends_nothing_twice_and_does_not_stop_the_watch(intend: Intend) -> None:
    assert isinstance(intend("t00", NOON, per_minute=1), int)
    assert intend("t00", NOON - 3600, per_minute=1) == Held("cooldown")
    assert isinstance(intend("t01", NOON - 3600, per_minute=1), int)


# Rounds


def test_a_pause_ends_a_running_round_at_the_next_question(
    tiny: TinyPack, store: Store, make_runner: Any
) -> None:
    class Pausing(Scripted):
        def ask(self, **question: Any) -> Answer:
            orders.hold(store, "suspect", by="jane", reason="", now=1)
            return super().ask(**question)

    summary = make_runner(target=Pausing("x ba do")).run()
    assert (summary.state, summary.planned, summary.answered, summary.held) == ("partial", 8, 1, "paused")
    with store.reading() as session:
        assert session.scalars(select(RoundRow.held)).all() == ["paused"]


def test_a_round_waits_for_its_rate_and_a_stop_ends_the_waiting(
    tiny: TinyPack, store: Store, make_runner: Any
) -> None:
    stop = threading.Event()

    class Answering(Scripted):
        def ask(self, **question: Any) -> Answer:
            with store.reading() as session:
                if len(session.scalars(select(AskRow.id)).all()) == 3:
                    threading.Timer(0.3, stop.set).start()
            return super().ask(**question)

    limits = SendLimits(per_minute=3)
    summary = make_runner(target=Answering("x ba do"), limits=limits, stop=stop).run()
    assert (summary.planned, summary.answered) == (8, 3)


def test_burned_and_worn_out_triggers_are_not_planned(
    tiny: TinyPack, store: Store, make_runner: Any, scripted: Any
) -> None:
    orders.burn(store, "t03", pack_id="tiny", reason="seen in a training set", now=1)
    target = scripted("x ba do")
    limits = SendLimits(lifetime=1)
    assert make_runner(target=target, cooldown_s=0.001, limits=limits).run().planned == 7
    assert make_runner(target=target, cooldown_s=0.001, limits=limits).run().planned == 0


# Pictures


def test_pictures_over_a_providers_limits_are_left_out_or_made_smaller(tiny: TinyPack) -> None:
    row = tiny.pack.triggers[0]
    image = tiny.pack.trigger_bytes(row)  # 24 x 24 pixels
    assert ImageLimits().fitted(image) is image
    assert ImageLimits(max_side=24, max_bytes=len(image)).fitted(image) is image
    with pytest.raises(OversizeError, match="24 x 24 pixels"):
        ImageLimits(max_side=20).fitted(image)
    smaller = ImageLimits(max_side=20, resize=True)
    assert smaller.fits(smaller.fitted(image))
    assert smaller.fitted(image) == smaller.fitted(image), "the same bytes every time"
    lighter = ImageLimits(max_bytes=1500, resize=True)
    assert len(lighter.fitted(image)) <= 1500
    with pytest.raises(OversizeError, match="16 pixels or more"):
        ImageLimits(max_bytes=100, resize=True).fitted(image)


def test_what_is_sent_smaller_is_recorded_so(
    tiny: TinyPack, store: Store, make_runner: Any, scripted: Any
) -> None:
    target = scripted("x ba do")
    left_out = make_runner(target=target, images=ImageLimits(max_side=20)).run()
    assert (left_out.planned, left_out.oversize) == (0, 8)
    made_smaller = make_runner(target=target, images=ImageLimits(max_side=20, resize=True)).run()
    assert (made_smaller.planned, made_smaller.oversize) == (8, 0)
    with store.reading() as session:
        asks = session.scalars(select(AskRow)).all()
    originals = {row.id: row.sha256 for row in tiny.pack.triggers}
    for ask in asks:
        assert ask.image_sha256 != originals[ask.trigger_id]
        assert f'"resized_from":"{originals[ask.trigger_id]}"' in str(ask.request)
        assert f'"image_sha256":"{ask.image_sha256}"' in str(ask.request)
