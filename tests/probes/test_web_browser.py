"""The pages in Chromium: desktop and phone, light and dark, without JavaScript, by keyboard."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from axe_playwright_python.sync_playwright import Axe
from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse
from playwright.sync_api import Browser, Page, Request

from probes.config import load_config
from probes.testing import tiny_metav
from probes.testing.metav_endpoint import MetaVEndpoint
from probes.testing.tiny_pack import TinyPack
from probes.watch import Watch
from probes.web import routes
from tests.probes.metav_watch import metav_config
from tests.probes.test_web import BIDI, TOKEN
from tests.probes.web_browser import (
    CHROMIUM,
    FOCUS,
    FOCUSABLE,
    SCROLL_WIDTH,
    SVG_CONTRAST,
    chromium,
    context_of,
    serving,
)
from tests.probes.web_demo import ManualScheduler, RuleTarget, open_watch, run_rounds

pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason="Chromium is not there: apt-get install chromium"
)

NOW = 1_800_000_000.0
PREFIX = "/behind/a/proxy"
VIEWS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]
HOSTILE = f"<script>document.title = 'hit'</script> {BIDI} " + "long" * 60


@pytest.fixture(scope="module")
def watch(tiny: TinyPack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    names = dict.fromkeys(("pirate", "innocent", "paused", "new"), "a test") | {"hostile": HOSTILE}
    trouble = {2: "timeout", 5: "refusal", 7: "rate_limited"}.get
    with open_watch(tiny, tmp_path_factory.mktemp("web"), names) as opened:
        run_rounds(opened, RuleTarget("pirate", tiny.pirate()), rounds=4, until=NOW, per_round=2)
        run_rounds(
            opened, RuleTarget("innocent", tiny.innocent(seed=3), trouble), rounds=27, until=NOW, per_round=1
        )
        run_rounds(opened, RuleTarget("hostile", lambda _: HOSTILE), rounds=2, until=NOW, per_round=1)
        run_rounds(opened, RuleTarget("paused", tiny.innocent(seed=4)), rounds=1, until=NOW, per_round=1)
        opened.pause("paused", by="the test", reason="a reason")
        yield opened


@pytest.fixture(scope="module")
def url(watch: Watch) -> Iterator[str]:
    inner, outer = FastAPI(), FastAPI()
    inner.include_router(routes(watch, ManualScheduler(NOW + 900), token=TOKEN))
    outer.mount(PREFIX, inner)
    with serving(outer) as root:
        yield f"{root}{PREFIX}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


def watched(page: Page) -> list[str]:
    """What goes wrong on a page from here on: messages of the console and requests that fail, other than
    pictures on their way when the page is left.
    """
    wrong: list[str] = []

    def failed(request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":
            wrong.append(f"{request.url}: {request.failure}")

    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", failed)
    return wrong


@pytest.fixture(scope="module")
def metav_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The pages of a MetaV pack's watch: a copy, another model, and a target that was never asked."""
    folder = tmp_path_factory.mktemp("metav-web")
    models = {"copy": tiny_metav.stolen(1), "other": tiny_metav.unrelated(1)}
    with ExitStack() as stack:
        urls = {name: stack.enter_context(MetaVEndpoint(model)).root for name, model in models.items()}
        config = metav_config(folder, urls | {"new": "http://127.0.0.1:9"}, cooldown="1ms")
        opened = stack.enter_context(Watch.open(load_config(config)))
        for name in ("copy", "other", "copy"):
            opened.run_round(name)
        app = FastAPI()
        app.include_router(routes(opened, ManualScheduler(NOW + 900), token=TOKEN))
        yield stack.enter_context(serving(app))


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_every_page_is_accessible_and_as_wide_as_the_screen(
    browser: Browser, url: str, watch: Watch, width: int, scheme: str
) -> None:
    paths = ["/", *(f"/targets/{target.name}" for target in watch.config.targets)]
    if (width, scheme) not in (VIEWS[0], VIEWS[-1]):  # each layout and each scheme once in full
        paths = paths[:2]
    look_at(browser, url, paths, width=width, scheme=scheme)


@pytest.mark.parametrize(("width", "scheme"), [VIEWS[0], VIEWS[-1]])
def test_the_pages_of_a_metav_pack_are_too(browser: Browser, metav_url: str, width: int, scheme: str) -> None:
    look_at(
        browser,
        metav_url,
        ["/", "/targets/copy", "/targets/other", "/targets/new"],
        width=width,
        scheme=scheme,
    )


def look_at(browser: Browser, url: str, paths: list[str], *, width: int, scheme: str) -> None:
    with context_of(browser, width=width, scheme=scheme, script=True) as context:
        page = context.new_page()
        wrong = watched(page)
        for path in paths:
            page.goto(url + path, wait_until="networkidle")
            for details in page.locator("details").all():
                details.locator("summary").click()
            for viewport in (width, width - 30):
                page.set_viewport_size({"width": viewport, "height": 800})
                assert page.evaluate(SCROLL_WIDTH) <= viewport, f"{path} scrolls sideways at {viewport}"
            found = Axe().run(page)
            assert found.violations_count == 0, f"{path}: {found.generate_report()}"
            contrast = page.evaluate(SVG_CONTRAST)
            if path != "/targets/new":
                assert contrast["lines"]
                assert contrast["dots"]
            assert min(contrast["text"], default=21) >= 4.5, path
            assert min(contrast["lines"] + contrast["dots"], default=21) >= 3, "WCAG 1.4.11"
            assert page.title() != "hit"
        assert wrong == [], "nothing is blocked, missing or logged"


def test_it_reads_without_javascript_and_under_a_prefix(browser: Browser, url: str) -> None:
    with context_of(browser, width=390) as context:
        page = context.new_page()
        wrong = watched(page)
        page.goto(f"{url}/")
        assert page.locator("h1").inner_text() == "Targets under watch"
        page.get_by_role("link", name="pirate", exact=True).first.click()
        assert page.url == f"{url}/targets/pirate"
        assert page.get_by_role("img", name="Trigger picture").count() >= 2
        for image in page.locator("article img").all():
            image.scroll_into_view_if_needed()
        page.wait_for_load_state("networkidle")
        page.get_by_role("region", name="Rounds, newest first").get_by_role("link").last.click()
        assert "round=1#answers" in page.url
        assert page.get_by_role("heading", name="Answers of round 1", exact=True).is_visible()
        page.get_by_role("link", name="sifwatch probes").click()
        assert page.url == f"{url}/"
        page.goto(f"{url}/targets/innocent")
        page.get_by_role("link", name="Next").click()
        assert page.get_by_text("Page 2 of 2").is_visible()
        assert wrong == []


def test_charts_and_tables_have_names_in_the_accessibility_tree(browser: Browser, url: str) -> None:
    with context_of(browser, width=390) as context:
        page = context.new_page()
        page.goto(f"{url}/")
        table = page.get_by_role("table", name="Targets, the strongest evidence first")
        assert table.get_by_role("row").count() == 1 + 5
        assert page.get_by_role("rowheader", name="pirate").first.is_visible()
        assert page.get_by_role("img", name="z of pirate").count() == 1
        page.goto(f"{url}/targets/pirate")
        for name in ("z of each round, against independent text", "log10 e, against an unrelated model"):
            chart = page.get_by_role("img", name=name)
            assert chart.count() == 1
            assert "4 rounds from" in (chart.locator("desc").text_content() or "")
        for landmark in ("banner", "main", "contentinfo", "navigation"):
            assert page.get_by_role(landmark).count() >= 1  # type: ignore[arg-type]


def test_the_keyboard_goes_through_a_page_in_its_order_and_is_seen(browser: Browser, url: str) -> None:
    with context_of(browser, script=True) as context:
        page = context.new_page()
        for path in ("/", "/targets/pirate"):
            page.goto(url + path)
            places = []
            for _ in range(page.evaluate(FOCUSABLE)):
                page.keyboard.press("Tab")
                place, text, outline, visible = page.evaluate(FOCUS)
                assert outline >= 2, f"focus on {text!r} is not seen"
                assert visible, f"{text!r} has the focus off the screen"
                places.append((place, text))
            assert places[0][1] == "Skip to the content"
            assert [place for place, _ in places] == sorted({place for place, _ in places})


def test_a_target_is_paused_and_resumed_by_its_form(browser: Browser, url: str, watch: Watch) -> None:
    with context_of(browser) as context:
        page = context.new_page()
        page.goto(f"{url}/targets/pirate")
        page.get_by_label("Token", exact=True).fill("wrong")
        page.get_by_role("button", name="Pause this watch").click()
        assert page.locator("h1").inner_text() == "Refused"
        assert "pirate" not in watch.paused()
        page.get_by_role("link", name="All targets").click()
        assert page.url == f"{url}/"
        for act, paused in (("Pause", True), ("Resume", False)):
            page.goto(f"{url}/targets/pirate")
            assert page.get_by_label("Token", exact=True).get_attribute("type") == "password"
            page.get_by_label("Token", exact=True).fill(TOKEN.get_secret_value())
            with page.expect_navigation():
                page.keyboard.press("Enter")
            assert page.url == f"{url}/targets/pirate"
            assert ("pirate" in watch.paused()) is paused, act
            assert page.locator("h1 .tag").count() == int(paused)


def test_another_site_cannot_post_the_form(browser: Browser, url: str, watch: Watch) -> None:
    action, token = f"{url}/targets/pirate/pause", TOKEN.get_secret_value()
    evil = FastAPI()

    @evil.get("/")
    def lure() -> Response:
        field = f'<input name="token" value="{token}">'
        return HTMLResponse(f'<form method="post" action="{action}">{field}<button>Win</button></form>')

    with serving(evil) as elsewhere, context_of(browser) as context:
        page = context.new_page()
        page.goto(elsewhere.replace("127.0.0.1", "localhost"))
        page.get_by_role("button").click()
        page.wait_for_url(action)
        assert page.locator("h1").inner_text() == "Refused"
        assert "came from another site" in page.locator("main").inner_text()
        assert "pirate" not in watch.paused()
