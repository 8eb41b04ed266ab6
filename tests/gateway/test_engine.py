"""The engine under settings that need no model: overrides, dry run, combinations, sharing, allow-list."""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway_plugin.config import GatewayConfigError, GatewaySettings, read_configuration
from gateway_plugin.engine import Gateway
from gateway_plugin.exchange import Caller, Exchange, query_texts
from gateway_plugin.loading import load_screeners
from gateway_plugin.metrics import GatewayMetrics
from gateway_plugin.references import Models
from gateway_plugin.screener import Screener
from gateway_plugin.screening.base import Finding, Phase, Query, Status
from gateway_plugin.screening.judge import JudgeCheck
from gateway_plugin.screening.policy import Action
from gateway_plugin.verdict import Verdict
from gateway_plugin.wire.queries import read_query
from sif_offline.fingerprint.allow_header import HEADER, sign

SECRET = "0123456789abcdef" * 4
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
JUDGES = {"judge_query": Phase.REQUEST, "judge": Phase.RESPONSE}
FOUND = {"STRANGE": Status.HIT, "odd": Status.SUSPECT}


class WordScreener(Screener):
    """Finds what the words say: STRANGE and odd queries, answers that say elsewhere. Judges are real."""

    def __init__(self, settings: GatewaySettings, *, metrics: GatewayMetrics) -> None:
        judges = [JudgeCheck(model="judge", phase=JUDGES[name]) for name in JUDGES if name in settings.each()]
        super().__init__(metrics=metrics, asking=judges)

    async def score_query(self, query: Query, *, unread: int = 0) -> list[Finding]:
        said = " ".join(query.texts)
        status = next((status for word, status in FOUND.items() if word in said), Status.CLEAR)
        measures = {"adjusted_window_perplexity": 5.0}
        return [Finding(check="perplexity", status=status, measures=measures, reason="a number")]

    async def compare(self, answers: Sequence[str], reference: str) -> list[Finding]:
        status = Status.HIT if "elsewhere" in answers[0] else Status.CLEAR
        return [Finding(check="divergence", status=status, measures={"cosine": 0.1})]


class Reference:
    """Counts calls and keeps what it was sent."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    async def complete(self, **call: Any) -> Any:
        self.asked.append(call)
        message = SimpleNamespace(content="from the reference")
        usage = SimpleNamespace(prompt_tokens=7, completion_tokens=3)
        return SimpleNamespace(choices=[SimpleNamespace(message=message)], usage=usage)


class Bench:
    """A gateway with everything it talks to."""

    def __init__(
        self,
        raw: dict[str, Any],
        *,
        address: str | None = "http://127.0.0.1:8000/v1",
        router: bool = True,
    ) -> None:
        self.registry, self.reference = CollectorRegistry(), Reference()
        metrics = GatewayMetrics(self.registry)
        self.gateway = Gateway(
            read_configuration({"reference_model": "ref", **raw}, where="test"),
            name="test",
            models=Models(
                complete=lambda: self.reference.complete if router else None, address=lambda alias: address
            ),
            metrics=metrics,
            screeners=lambda settings: WordScreener(settings, metrics=metrics),
            rng=random.Random(0),
        )

    def call(
        self, text: str, answer: str = "here", *, calls: int = 1, picture: bool = False, **more: Any
    ) -> tuple[Verdict, Verdict | None]:
        """Both phases; the second only where the first let the query pass."""
        content: Any = [{"type": "text", "text": text}, PICTURE] if picture else text
        body = {"model": "main", "messages": [{"role": "user", "content": content}]}
        request = {"messages": tuple(body["messages"]), "model": "main", "request": body, **more}
        answers = request.pop("answers", (answer,))

        async def run() -> tuple[Verdict, Verdict | None]:
            first: Verdict
            second: Verdict | None = None
            for number in range(calls):
                exchange = Exchange(call=f"c{number}", **request)
                first = await self.gateway.on_request(exchange)
                if first.action is not Action.BLOCK:
                    second = await self.gateway.on_response(
                        Exchange(call=f"c{number}", answers=answers, **request)
                    )
            return first, second

        return asyncio.run(run())

    def judged(self) -> int:
        return sum(call["model"] == "judge" for call in self.reference.asked)

    def counted(self, **labels: str) -> float:
        return self.registry.get_sample_value("sif_gateway_decisions_total", labels) or 0.0

    def failures(self, **labels: str) -> float:
        return self.registry.get_sample_value("sif_gateway_check_failures_total", labels) or 0.0


def deciding(verdict: Verdict | None) -> Finding:
    """The finding that decided."""
    assert verdict is not None
    assert verdict.decision is not None
    return verdict.decision.findings[0]


def test_a_block_stops_the_query_and_asks_no_reference() -> None:
    bench = Bench({"checks": {"perplexity": {"action": "block"}}})
    first, second = bench.call("STRANGE")
    assert (first.action, second) == (Action.BLOCK, None)
    assert first.message == "The query was refused by the gateway's screening (perplexity)."
    assert bench.reference.asked == []


def test_a_dry_run_changes_nothing_for_the_client_and_counts_what_would_be() -> None:
    bench = Bench({"action": "replace", "dry_run": True, "checks": {"perplexity": {"action": "block"}}})
    assert not bench.gateway.holds_answers_back
    first, second = bench.call("STRANGE", "elsewhere")
    assert second is not None
    assert (first.action, first.would) == (Action.ALLOW, Action.BLOCK)
    assert (second.action, second.would) == (Action.ALLOW, Action.REPLACE)
    assert bench.counted(phase="request", check="perplexity", result="would_block") == 1
    assert bench.counted(phase="response", check="divergence", result="would_replace") == 1


def test_the_first_override_that_matches_holds_alone() -> None:
    strict = {"match": {"team": "red"}, "settings": {"checks": {"perplexity": {"action": "block"}}}}
    mild = {"match": {"key": "k1", "model": "main"}, "settings": {"action": "log", "dry_run": True}}
    bench = Bench({"overrides": [strict, mild]})

    def action(**who: Any) -> Action:
        return bench.call("STRANGE", caller=Caller(**who))[0].action

    assert action() is Action.FLAG
    assert action(teams=frozenset({"red", "id-1"})) is Action.BLOCK
    assert action(keys=frozenset({"k1"})) is Action.LOG
    assert action(teams=frozenset({"red"}), keys=frozenset({"k1"})) is Action.BLOCK


def test_overrides_that_measure_alike_share_one_screener() -> None:
    """One queue, one worker thread and one memory of texts, however many teams have rules of their own."""

    def override(team: str, **settings: Any) -> dict[str, Any]:
        return {"match": {"team": team}, "settings": settings}

    loaded: list[GatewaySettings] = []

    def load(settings: GatewaySettings) -> Screener:
        loaded.append(settings)
        return WordScreener(settings, metrics=GatewayMetrics(CollectorRegistry()))

    every = read_configuration(
        {
            "reference_model": "ref",
            "overrides": [
                override("a", action="block", dry_run=True),
                override("b", checks={"perplexity": {"action": "log", "on_failure": "closed"}}),
                override("c", checks={"perplexity": {"hit_window": 10**7}}),
                override("d", checks={"script_mixing": {"enabled": False}}),
                override("e", checks={"perplexity": {"hit_window": 10**7, "on_suspect": "block"}}),
            ],
        },
        where="test",
    ).every
    general, a, b, c, d, e = load_screeners(every, load)
    assert general is a is b
    assert c is e
    assert len(loaded) == len({id(screener) for screener in (general, c, d)}) == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            {"match": {}, "settings": {}},
            "test: gateway_plugin.overrides.0.match: name a team, a key or a model",
        ),
        (
            {"match": {"team": "a"}, "settings": {"checks": {"perplexity": {"action": "mask"}}}},
            "test: gateway_plugin.overrides.0.settings.checks.perplexity.action: "
            "Input should be 'log', 'flag', 'block' or 'replace'",
        ),
    ],
)
def test_a_wrong_override_is_named(override: dict[str, Any], message: str) -> None:
    with pytest.raises(GatewayConfigError) as caught:
        read_configuration({"reference_model": "ref", "overrides": [override]}, where="test")
    assert str(caught.value) == message


def test_what_belongs_to_the_whole_guardrail_cannot_be_overridden() -> None:
    override = {"match": {"team": "a"}, "settings": {"max_queue": 3}}
    with pytest.raises(GatewayConfigError, match=r"overrides\.0: max_queue cannot be overridden"):
        read_configuration({"reference_model": "ref", "overrides": [override]}, where="test")


def test_checks_that_are_mild_alone_act_together_across_the_phases() -> None:
    both = {
        "name": "odd-and-elsewhere",
        "of": {"perplexity": "suspect", "divergence": "hit"},
        "action": "replace",
    }
    bench = Bench({"action": "log", "combine": [both]})
    assert bench.gateway.holds_answers_back
    assert bench.call("plain", "elsewhere")[1].action is Action.LOG  # type: ignore[union-attr]
    assert bench.call("odd", "here")[1].action is Action.ALLOW  # type: ignore[union-attr]
    _, second = bench.call("odd", "elsewhere")
    assert second is not None
    assert (second.action, second.decision.by) == (Action.REPLACE, "odd-and-elsewhere")  # type: ignore[union-attr]
    assert bench.counted(phase="response", check="odd-and-elsewhere", result="replaced") == 1


def test_a_replacement_says_so_as_far_as_the_operator_discloses() -> None:
    for disclosure, names in {
        "full": {"x-sif-gateway-audit-id", "x-sif-gateway-replaced", "x-sif-gateway-billed-models"},
        "audit_id": {"x-sif-gateway-audit-id"},
        "none": set(),
    }.items():
        first, second = Bench({"action": "replace", "disclosure": disclosure}).call("plain", "elsewhere")
        assert second is not None
        assert second.reference is not None
        assert second.reference.text == "from the reference"
        assert set(second.headers) == names
        assert second.billing == ({"billed_model": "ref"} if disclosure == "full" else {})
        assert first.audit_id == second.audit_id
        if disclosure == "full":
            assert second.headers["x-sif-gateway-billed-models"] == "main, ref"


def test_nothing_leaves_for_a_reference_outside_unless_it_is_shared() -> None:
    outside = "https://api.example.com/v1"
    assert deciding(Bench({}).call("hello")[1]).status is Status.CLEAR
    closed = Bench({"action": "replace"}, address=outside)
    _, second = closed.call("hello", "elsewhere")
    assert second is not None
    assert second.action is Action.ALLOW
    assert closed.reference.asked == []
    text_only = Bench({"reference_shares_content": True}, address=outside)
    text_only.call("hello")
    text_only.call("hello", picture=True)
    assert [str(call["messages"]).count("image") for call in text_only.reference.asked] == [0]
    pictures = Bench({"reference_shares_content": True, "reference_shares_images": True}, address=outside)
    pictures.call("hello", picture=True)
    assert len(pictures.reference.asked) == 1
    opted_out = {"match": {"team": "private"}, "settings": {"reference_shares_content": False}}
    team = Bench({"reference_shares_content": True, "overrides": [opted_out]}, address=outside)
    team.call("hello", caller=Caller(teams=frozenset({"private"})))
    assert team.reference.asked == []


@pytest.mark.parametrize(
    ("body", "route"),
    [
        ({"input": "hello", "previous_response_id": "resp_1"}, "responses"),
        ({"input": "hello", "conversation": "conv_1"}, "responses"),
        ({"input": "hello", "prompt": {"id": "pmpt_1"}}, "responses"),
        ({"prompt": "hello"}, "completions"),
    ],
)
def test_an_answer_that_cannot_be_compared_is_what_on_unscorable_says(
    body: dict[str, Any], route: str
) -> None:
    query = read_query(route, body)
    wire: dict[str, Any] = {"route": route, "messages": query.messages, "texts": query.texts}
    for action in ("block", "allow"):
        bench = Bench({"checks": {"divergence": {"on_unscorable": action}}})
        _, second = bench.call("hello", "elsewhere", request={"model": "main", **body}, **wire)
        assert second is not None
        assert second.action is Action(action)
        finding = deciding(second)
        assert finding.status is Status.UNSCORABLE
        assert finding.reason == "the query cannot be put to another model"
        assert bench.reference.asked == []
    blocking = {"checks": {"divergence": {"on_unscorable": "block"}}}
    for unwanted, more in (
        (Bench(blocking), {"answers": ()}),  # an answer without a text
        (Bench(blocking | {"reference_sampling_rate": 0.0}), {}),
        (Bench(blocking, address="https://api.example.com/v1"), {}),
    ):
        _, second = unwanted.call("hello", request={"model": "main", **body}, **wire, **more)
        assert second is not None
        assert second.action is Action.ALLOW
        assert deciding(second).status is Status.SKIPPED


@pytest.mark.parametrize("judge", JUDGES)
def test_no_judge_is_paid_for_where_a_cheaper_check_blocks(judge: str) -> None:
    on = {judge: {"enabled": True, "model": "judge", "on_failure": "closed"}}
    bench = Bench({"checks": {"perplexity": {"action": "block"}, "divergence": {"action": "block"}, **on}})
    text, answer = ("STRANGE", "here") if judge == "judge_query" else ("hello", "elsewhere")
    bench.call(text, answer)
    assert bench.judged() == 0
    bench.call("hello", "here")  # the reference's reply is no judgement
    assert bench.judged() == 1
    assert bench.failures(check=judge, kind="judge_garbage") == 1


def test_judges_have_a_budget() -> None:
    judge = {"enabled": True, "model": "judge", "on_failure": "closed"}
    bench = Bench({"asking_calls_per_minute": 2, "checks": {"judge": judge}})
    _, second = bench.call("hello", calls=5)
    assert second is not None
    assert second.action is Action.BLOCK
    assert bench.judged() == 2
    assert bench.registry.get_sample_value("sif_gateway_asked_calls_total") == 2
    assert bench.failures(check="judge", kind="budget") == 3


def test_the_reference_gets_neighbouring_texts_as_one_and_no_more_parts_than_it_bears() -> None:
    """A client library spends 0.1 ms on each part, and the event loop waits for it."""
    text = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}

    def ask(content: Any, **more: Any) -> tuple[Bench, Finding]:
        bench = Bench({"action": "replace", **more})
        messages = tuple(content) if content[0].get("role") else ({"role": "user", "content": content},)
        _, second = bench.call("", messages=messages)
        assert second is not None
        return bench, deciding(second)

    bench, finding = ask([text] * 5_000 + [PICTURE] + [text] * 2 + [PICTURE, text])
    assert finding.status is Status.CLEAR
    texts = [{"type": "text", "text": "\n".join("a" * count)} for count in (5_000, 2)]
    sent = [{"role": "user", "content": [texts[0], PICTURE, texts[1], PICTURE, text]}]
    assert bench.reference.asked[0]["messages"] == sent
    turns = [{"role": "user", "content": "a"}]
    for many in ([text, PICTURE] * 200, [text] * 20_000, turns * 300):
        bench, finding = ask(many)
        assert finding.status is Status.UNSCORABLE
        assert finding.reason == "the query has too many messages and parts to be put to another model"
        assert bench.reference.asked == []
    assert ask(turns * 200)[1].status is Status.CLEAR


def test_nobody_to_ask_the_reference_is_a_failure() -> None:
    for on_failure, action in (("open", Action.ALLOW), ("closed", Action.BLOCK)):
        bench = Bench({"checks": {"divergence": {"on_failure": on_failure}}}, router=False)
        _, second = bench.call("hello", "elsewhere")
        assert second is not None
        assert second.action is action
        assert deciding(second).status is Status.FAILED
        assert bench.failures(check="divergence", kind="reference_error") == 1


@pytest.mark.parametrize(("on_failure", "fallback"), [("open", Action.FLAG), ("closed", Action.BLOCK)])
def test_the_answer_of_a_call_that_was_given_up_follows_its_policy(on_failure: str, fallback: Action) -> None:
    rule = {"on_failure": on_failure}
    bench = Bench({"action": "replace", "max_calls": 2, "checks": {"perplexity": rule, "divergence": rule}})
    query = {"model": "main", "messages": ({"role": "user", "content": "STRANGE"},)}

    async def run() -> list[Verdict]:
        for call in "abcd":  # c and d take the place of a and b
            await bench.gateway.on_request(Exchange(call=call, **query))
        known_again = Exchange(call="a", answers=("here",), **query)  # as LiteLLM and the middleware hand it
        unknown = Exchange(call="b", model="main", answers=("here",))  # as the guardrail service does
        return [await bench.gateway.on_response(exchange) for exchange in (known_again, unknown)]

    known_again, unknown = asyncio.run(run())
    assert known_again.action is Action.REPLACE
    assert unknown.action is fallback
    assert bench.failures(check="divergence", kind="lost_state") == 1
    assert bench.registry.get_sample_value("sif_gateway_states_lost_total", {"kind": "full"}) == 2


def test_sampling_and_budget_bound_what_the_reference_costs() -> None:
    never = Bench({"reference_sampling_rate": 0.0})
    never.call("hello", calls=20)
    assert never.reference.asked == []
    half = Bench({"reference_sampling_rate": 0.5})
    half.call("hello", calls=400)
    # binomial(400, .5): outside of 150..250 with probability 6e-7; the draw is seeded
    assert 150 < len(half.reference.asked) < 250
    budget = Bench({"reference_calls_per_minute": 3})
    budget.call("hello", calls=5)
    assert len(budget.reference.asked) == 3
    assert budget.failures(check="divergence", kind="reference_budget") == 2


def test_a_replacement_is_asked_for_whatever_sampling_and_budget_say() -> None:
    bench = Bench({"action": "replace", "reference_sampling_rate": 0.0})
    _, second = bench.call("STRANGE")
    assert second is not None
    assert second.action is Action.REPLACE
    assert len(bench.reference.asked) == 1


def test_only_a_signed_request_of_an_allow_listed_caller_is_let_through() -> None:
    bench = Bench(
        {
            "checks": {"perplexity": {"action": "block"}},
            "allow_list": [{"name": "owner", "secret": SECRET}],
        }
    )
    body = {"model": "main", "messages": [{"role": "user", "content": "STRANGE"}]}
    header = sign(body, name="owner", secret=SECRET.encode(), now=time.time())
    headers = {HEADER.lower(): header}
    first, second = bench.call("STRANGE", "elsewhere", headers=headers)
    assert second is not None
    assert (first.action, second.action, second.decision) == (Action.ALLOW, Action.ALLOW, None)
    assert bench.reference.asked == []
    assert bench.counted(phase="request", check="allow_list", result="bypassed") == 1
    assert bench.call("STRANGE", headers=headers)[0].action is Action.BLOCK, "the same header twice"
    forged = header[:-1] + ("0" if header[-1] != "0" else "1")
    assert bench.call("STRANGE", headers={HEADER.lower(): forged})[0].action is Action.BLOCK
    assert bench.failures(check="allow_list", kind="replay") == 1
    assert SECRET not in repr(bench.gateway.__dict__)


def test_without_an_allow_list_no_header_makes_us_hash_a_body(monkeypatch: pytest.MonkeyPatch) -> None:
    def verify(*_: Any) -> str:
        raise AssertionError("hashed")

    bench = Bench({})
    monkeypatch.setattr("sif_offline.fingerprint.allow_header.AllowList.verify", verify)
    assert bench.call("odd", headers={HEADER.lower(): "v1;a;1;b;c"})[0].action is Action.FLAG


def test_the_audit_log_says_who_what_and_why_but_no_text_unless_asked(tmp_path: Path) -> None:
    def records(prompts: bool) -> list[dict[str, Any]]:
        target = tmp_path / f"audit-{prompts}.jsonl"
        bench = Bench({"action": "replace", "audit": {"target": str(target), "prompts": prompts}})
        caller = Caller(teams=frozenset({"blue"}), keys=frozenset({"laptop"}), end_user="u1")
        bench.call("odd secret words", "elsewhere we go", caller=caller, picture=True)
        bench.gateway.close()
        assert target.stat().st_mode & 0o777 == 0o600
        return [json.loads(line) for line in target.read_text().splitlines()]

    request, response = records(prompts=False)
    assert (request["phase"], request["action"], request["effective"]) == ("request", "flag", "flag")
    assert request["findings"]["perplexity"]["adjusted_window_perplexity"] == 5.0
    assert (response["team"], response["key"], response["end_user"]) == ("blue", "laptop", "u1")
    assert (response["effective"], response["replaced_by"]) == ("replace", "ref")
    assert response["billed_models"] == ["main", "ref"]
    assert response["reference"]["completion_tokens"] == 3
    assert response["audit_id"] == request["audit_id"]
    assert "secret words" not in str([request, response])
    assert "base64" not in str([request, response])
    kept = records(prompts=True)
    assert kept[1]["prompt"] == "odd secret words"
    assert kept[1]["answer"] == "elsewhere we go"
    assert "base64" not in str(kept)


def test_an_audit_target_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="nowhere"):
        Bench({"audit": {"target": str(tmp_path / "nowhere" / "audit.jsonl")}})


def test_the_text_of_a_document_is_scored_and_a_file_that_nobody_reads_is_a_finding() -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "STRANGE"}
    parts = [{"type": "document", "source": source}, {"type": "text", "text": "What is this?"}]
    read = Exchange(call="", messages=({"role": "user", "content": parts},))
    assert query_texts(read) == (("STRANGE\nWhat is this?",), 0)
    pdf = {"type": "document", "source": {"type": "base64", "data": "JVBERi0="}}
    attached = {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0="}}
    unread = Exchange(call="", messages=({"role": "user", "content": [pdf, attached]},))
    assert query_texts(unread) == ((), 2)
