"""The pages: what they say, what they never do, and who may change anything."""

import re
from collections.abc import Iterator
from pathlib import Path
from time import process_time

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import event, update

from probes.metrics import ERROR_KINDS
from probes.store.retention import drop_answers
from probes.store.tables import AnswerRow, RoundRow
from probes.testing.tiny_pack import TinyPack
from probes.watch import Watch
from probes.web import routes
from probes.web.charts import Line, chart, ticks
from probes.web.target_page import FAILURE_WORDS
from sif_offline.fingerprint.evidence.commitment import reserved_triggers
from tests.probes.web_demo import ManualScheduler, RuleTarget, open_watch, run_rounds

TOKEN = SecretStr("a token of the test, long enough")
NOW = 1_800_000_000.0
BIDI = "\u202e\u2066\u200b"


NAMES = {"pirate": "a test", "innocent": "another <i>test</i>"}


@pytest.fixture
def watch(tiny: TinyPack, tmp_path: Path) -> Iterator[Watch]:
    with open_watch(tiny, tmp_path, NAMES) as opened:
        yield opened


def client_of(watch: Watch, *, token: SecretStr | None = None) -> TestClient:
    app = FastAPI()
    app.include_router(routes(watch, ManualScheduler(NOW), token=token))
    return TestClient(app, follow_redirects=False)


def words_of(html: str) -> str:
    """The text of a page as one line."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_the_pages_say_what_the_store_holds(
    database: str, tiny: TinyPack, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres_url") if database == "postgresql" else ""
    with open_watch(tiny, tmp_path, NAMES, store=url) as watch:
        check_the_pages_say_what_the_store_holds(watch, tiny)


def check_the_pages_say_what_the_store_holds(watch: Watch, tiny: TinyPack) -> None:
    trouble = {2: "timeout", 3: "refusal"}.get
    run_rounds(watch, RuleTarget("pirate", tiny.pirate(), trouble), rounds=3, until=NOW)
    client = client_of(watch)
    index, page = words_of(client.get("/").text), words_of(client.get("/targets/pirate").text)
    with watch.store.reading() as session:
        rows = session.query(RoundRow).filter_by(target="pirate").order_by(RoundRow.id).all()
        cost = sum(row.cost_usd or 0 for row in session.query(AnswerRow))
    assert f"{rows[-1].z:.2f}, tau {rows[-1].threshold_z:.2f}" in index
    assert "1 refusal" in index
    assert "No round yet." in index, "the innocent has none"
    assert f"${cost:.4f}" in index
    assert "A. Owner, legal desk, matter 2026-17" in page
    assert "z of each round, against independent text" in page
    assert "log10 e, against an unrelated model" in page
    assert "log10 e, against independent text" in page
    assert f"Newest z {rows[-1].z:.2f}, tau {rows[-1].threshold_z:.2f}" in page
    assert "timeout 1 no answer in time; may have been answered" in page
    for row in rows:
        assert f"{row.answered} of {row.planned}" in page
    told = words_of(client.get(f"/targets/pirate?round={rows[0].id}").text)
    assert f"Answers of round {rows[0].id}" in told
    assert "Neither hit nor miss" in told
    assert re.search(r"Trigger t0\d: hit", page)


def test_an_answer_is_coloured_as_it_was_scored(watch: Watch, tiny: TinyPack) -> None:
    run_rounds(watch, RuleTarget("pirate", tiny.pirate()), rounds=1, until=NOW, per_round=1)
    html = client_of(watch).get("/targets/pirate").text
    with watch.store.reading() as session:
        answers = session.query(AnswerRow).all()
    assert answers
    shown = html.partition("<article")[2]
    for green, names in (("green, counted here", "green"), ("red, counted here", "plain")):
        assert shown.count(f'title="{green};') > 0, names
    said = re.search(r"<b>(\d+) of (\d+)</b> types green", shown)
    assert said is not None
    first = shown.partition("</article>")[0]
    assert first.count('title="green, counted here;') == int(said[1])
    assert first.count('title="red, counted here;') == int(said[2]) - int(said[1])
    listed = re.search(r"<dt>green, counted</dt><dd>(.*?)</dd>", first)
    assert listed is not None
    assert len(listed[1].split(" · ")) == int(said[1]), "the words say what the colours do"


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script><img src=x onerror=alert(1)>",
        f"harmless {BIDI} gnp.exe",
        "</div></article></main><h1>confirmed</h1>",
        "{{ 7 * 191 }} {% raw %}",
        "a\x00b\x1b[31m\x85c",
        "Z" + "\u0301" * 500,
    ],
)
def test_no_answer_is_markup_or_turns_the_text_round(watch: Watch, tiny: TinyPack, text: str) -> None:
    run_rounds(watch, RuleTarget("innocent", lambda _: text), rounds=1, until=NOW)
    with watch.store.writing() as session:
        session.execute(update(AnswerRow).values(served_model=text[:60], finish_reason=text[:60]))
    client = client_of(watch)
    clean = client_of(watch).get("/").text
    html = client.get("/targets/innocent").text
    for page in (html, clean):
        assert not re.search(r"<(script|img src=x)", page)
        assert not any(char in page for char in BIDI + "\x00\x1b\x85")
        assert "1337" not in page
        assert "\u0301" * 20 not in page
    assert html.count("<h1>") == 1
    assert html.count("</main>") == 1
    assert "&lt;i&gt;test" in html, "nor is what the configuration says"


def test_a_long_answer_is_cut_with_a_notice(watch: Watch, tiny: TinyPack) -> None:
    run_rounds(watch, RuleTarget("innocent", tiny.innocent(seed=1)), rounds=1, until=NOW, per_round=1)
    with watch.store.writing() as session:
        session.execute(update(AnswerRow).values(text="bado " * 200_000))
    html = client_of(watch).get("/targets/innocent").text
    assert re.search(r"Cut here: [\d,]+ of 1,000,000\s+characters are shown", html)
    assert len(html) < 1_000_000


def test_a_dropped_text_says_so(watch: Watch, tiny: TinyPack) -> None:
    run_rounds(watch, RuleTarget("innocent", tiny.innocent(seed=1)), rounds=1, until=NOW)
    assert drop_answers(watch.store, "innocent", pack_id="tiny", before=NOW + 1, now=NOW + 2)
    page = words_of(client_of(watch).get("/targets/innocent").text)
    assert "Its text was dropped by the retention rule" in page


def test_every_reply_keeps_the_browser_on_a_short_lead(watch: Watch) -> None:
    client = client_of(watch, token=TOKEN)
    for path in (
        "/",
        "/targets/pirate",
        "/targets/nobody",
        "/static/style.css",
        "/pack/clean/t00.png",
        "/pack/x/y.png",
    ):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self';")
        assert "unsafe" not in policy
        assert "script-src" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
    for path in ("/", "/targets/pirate"):
        html = client.get(path).text
        assert not re.search(r"\sstyle=|<script|\son\w+=|https?://", html), (
            "no inline style, script or foreign address"
        )
        assert client.get(path).headers["cache-control"] == "no-store"


def test_pictures_come_from_the_pack_by_id_only(watch: Watch, tiny: TinyPack) -> None:
    client, row = client_of(watch), tiny.pack.triggers[0]
    trigger, clean = client.get(f"/pack/triggers/{row.id}.png"), client.get(f"/pack/clean/{row.id}.png")
    assert trigger.content == tiny.pack.trigger_bytes(row)
    assert clean.content == tiny.pack.clean_bytes(row)
    assert trigger.headers["content-type"] == "image/png"
    assert "immutable" in trigger.headers["cache-control"]
    again = client.get(f"/pack/triggers/{row.id}.png", headers={"If-None-Match": trigger.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for path in (
        "triggers/none.png",
        "keys/t00.png",
        "triggers/..%2Fpack.json.png",
        "triggers/../pack.json",
        "pack.json",
    ):
        assert client.get(f"/pack/{path}").status_code == 404, path


def test_a_trigger_in_reserve_is_not_shown(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.web.router.reserved_triggers", lambda _: frozenset({"t01"}))
    client = client_of(watch)
    assert client.get("/pack/triggers/t01.png").status_code == 404
    assert client.get("/pack/clean/t01.png").status_code == 404
    assert client.get("/pack/triggers/t02.png").status_code == 200
    assert reserved_triggers(watch.fingerprint.pack) == frozenset(), "the pack of the test is not committed"


def test_unknown_names_and_other_targets_rounds_are_not_found(watch: Watch, tiny: TinyPack) -> None:
    run_rounds(watch, RuleTarget("pirate", tiny.pirate()), rounds=1, until=NOW)
    client = client_of(watch)
    assert client.get("/targets/pirate?round=1").status_code == 200
    for path in (
        "/targets/innocent?round=1",
        "/targets/pirate?round=999",
        "/targets/nobody",
        "/targets/%3Cb%3E",
    ):
        reply = client.get(path)
        assert reply.status_code == 404, path
        assert "There is no such page." in reply.text


def test_without_a_token_nothing_can_be_changed(watch: Watch) -> None:
    client = client_of(watch)
    for act in ("pause", "resume"):
        for headers in (
            {},
            {"Authorization": f"Bearer {TOKEN.get_secret_value()}"},
            {"Authorization": "Bearer "},
        ):
            assert client.post(f"/targets/pirate/{act}", headers=headers).status_code in (404, 405)
    assert watch.paused() == set()
    assert 'method="post"' not in client.get("/targets/pirate").text
    with pytest.raises(ValueError, match="empty"):
        client_of(watch, token=SecretStr(""))


def test_the_token_pauses_and_resumes(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    client, secret = client_of(watch, token=TOKEN), TOKEN.get_secret_value()
    reply = client.post(
        "/targets/pirate/pause", data={"token": secret}, headers={"Sec-Fetch-Site": "same-origin"}
    )
    assert (reply.status_code, reply.headers["location"]) == (303, "../pirate")
    assert watch.paused() == {"pirate"}
    page = words_of(client.get("/targets/pirate").text)
    assert "Paused by web since" in page
    assert "Resume this watch" in page
    assert '<span class="tag">paused</span>' in client.get("/").text
    assert (
        client.post("/targets/pirate/resume", headers={"Authorization": f"Bearer {secret}"}).status_code
        == 303
    )
    assert watch.paused() == set()
    assert secret not in client.get("/targets/pirate").text + caplog.text


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({}, None),
        ({}, "wrong"),
        ({}, "\udcff".encode("utf-8", "surrogatepass").decode("latin-1")),
        ({}, "x" * 100_000),
        ({"Authorization": "Basic eDp5"}, None),
        ({"Sec-Fetch-Site": "cross-site"}, TOKEN.get_secret_value()),
        ({"Sec-Fetch-Site": "same-site"}, TOKEN.get_secret_value()),
        ({"Origin": "https://evil.example"}, TOKEN.get_secret_value()),
        ({"Origin": "null"}, TOKEN.get_secret_value()),
    ],
)
def test_others_change_nothing(
    watch: Watch, headers: dict[str, str], token: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(watch, token=TOKEN)
    data = {} if token is None else {"token": token}
    reply = client.post("/targets/pirate/pause", data=data, headers=headers)
    assert reply.status_code == 403
    assert watch.paused() == set()
    assert TOKEN.get_secret_value() not in reply.text + caplog.text
    assert client.post("/targets/nobody/pause", data=data, headers=headers).status_code == 404


def test_a_pause_of_everybody_is_not_offered_to_be_ended_for_one(watch: Watch) -> None:
    watch.pause("*", by="kill switch", reason="a reason")
    page = words_of(client_of(watch, token=TOKEN).get("/targets/pirate").text)
    assert "All targets are paused by kill switch since" in page
    assert "Resume this watch" not in page


def test_a_store_that_breaks_is_a_503_that_tells_nothing(watch: Watch) -> None:
    client = client_of(watch)
    with watch.store.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE tallies")
    for path in ("/", "/targets/pirate"):
        reply = client.get(path)
        assert reply.status_code == 503
        assert "sqlite" not in reply.text
        assert "no such table" not in reply.text


def ended_round(target: str, at: float, *, strength: float) -> RoundRow:
    return RoundRow(
        target=target,
        pack_id="tiny",
        state="complete",
        started_at=at,
        finished_at=at + 60,
        planned=8,
        answered=8,
        scored=8,
        z=strength / 5,
        threshold_z=3.7,
        log_e=strength,
        log_e_max=strength,
        log_e_independent=1.0,
        verdict="none",
    )


def test_a_thousand_targets_cost_no_more_queries_than_two(tiny: TinyPack, tmp_path: Path) -> None:
    names = {f"target-{number:04d}": "a test" for number in range(1000)}
    queries: list[str] = []
    with open_watch(tiny, tmp_path, names) as watch:
        with watch.store.writing() as session:
            session.add_all(
                ended_round(name, NOW + number, strength=place / 100)
                for place, name in enumerate(names)
                for number in range(41 if place >= 950 else 1)
            )
        event.listen(watch.store.engine, "before_cursor_execute", lambda *args: queries.append(args[2]))
        client = client_of(watch)
        found: list[str] = []
        for number in (1, 2, 20):
            queries.clear()
            began = process_time()
            html = client.get(f"/?page={number}").text
            assert process_time() - began < 1.0
            assert f"Page {number} of 20" in html
            assert html.count("40 rounds from") == (100 if number == 1 else 0), "two charts a target"
            found += re.findall(r'<th scope="row"><a href="targets/(target-\d+)">[^<]*</a>\s*<span', html)
        assert len([query for query in queries if query.startswith("SELECT")]) < 20, "none a target"
        strongest_first = sorted(names, reverse=True)
        assert found == strongest_first[:100] + strongest_first[-50:], "each of them once"
        assert "Page 20 of 20" in client.get("/?page=999").text, "the last page there is"
        assert len(re.findall(r'<span class="sub two">', client.get("/?q=0007").text)) == 1
        queries.clear()
        client.get("/targets/target-0001")
        assert len([query for query in queries if query.startswith("SELECT")]) < 20


def test_charts_stay_on_their_paper_and_break_at_gaps() -> None:
    values = Line([-5.0, None, 40.0, float("inf"), 2.0])
    tau = Line([3.0, 3.0, None, 4.0, 4.0], "level")
    svg = chart("c", title="<t>", words="w", times=[0, 1, 2, 3, 4], lines=[values, tau])
    assert "&lt;t&gt;" in svg
    assert svg.count('class="line data"') == 3, "three stretches"
    assert svg.count('class="line level"') == 1, "a threshold holds until the next one"
    for points in re.findall(r'points="([^"]*)"', svg):
        for point in points.split():
            x, y = map(float, point.split(","))
            assert 44 <= x <= 410
            assert 14 <= y <= 182
    assert ticks(-2.1, 9.6) == [-2, 0, 2, 4, 6, 8]
    assert all(2 <= len(ticks(0, high)) <= 7 for high in (0.03, 1, 1.06, 7, 33, 999, 12345))


def test_every_kind_of_failure_has_its_words() -> None:
    assert set(FAILURE_WORDS) == set(ERROR_KINDS)
    assert all(FAILURE_WORDS.values())
