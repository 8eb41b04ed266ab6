"""Findings to actions, over every status and rule."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_plugin.screening.base import Finding, Status, worst
from gateway_plugin.screening.policy import Action, OnFailure, Policy, Rule

STRICTNESS = [Action.ALLOW, Action.LOG, Action.FLAG, Action.REPLACE, Action.BLOCK]
FINDINGS = st.lists(st.builds(Finding, check=st.sampled_from("abc"), status=st.sampled_from(Status)))
RULES = st.dictionaries(
    st.sampled_from("abc"),
    st.builds(
        Rule,
        action=st.sampled_from(Action),
        on_suspect=st.sampled_from(Action),
        on_unscorable=st.sampled_from(Action),
        on_failure=st.sampled_from(OnFailure),
    ),
)


@pytest.mark.parametrize(
    ("status", "action"),
    [
        (Status.CLEAR, Action.ALLOW),
        (Status.SKIPPED, Action.ALLOW),
        (Status.SUSPECT, Action.FLAG),
        (Status.HIT, Action.REPLACE),
        (Status.UNSCORABLE, Action.LOG),
        (Status.FAILED, Action.BLOCK),
    ],
)
def test_each_status_has_its_action(status: Status, action: Action) -> None:
    rule = Rule(action=Action.REPLACE, on_unscorable=Action.LOG, on_failure=OnFailure.CLOSED)
    assert Policy(rules={"a": rule}).decide([Finding(check="a", status=status)]).action is action


@given(findings=FINDINGS, rules=RULES)
def test_the_strictest_wish_wins_and_is_somebodys(findings: list[Finding], rules: dict[str, Rule]) -> None:
    policy = Policy(rules=rules)
    decision = policy.decide(findings)
    wishes = [policy.rule(f.check).answer(f.status) for f in findings]
    assert decision.action is max(wishes, key=STRICTNESS.index, default=Action.ALLOW)
    if decision.action is Action.ALLOW:
        assert decision.by == ""
    else:
        assert decision.actions[decision.by] is decision.action


def test_a_failed_open_check_is_named_as_bypassed() -> None:
    decision = Policy().decide([Finding(check="a", status=Status.FAILED)])
    assert (decision.action, decision.bypassed) == (Action.ALLOW, ("a",))


def test_a_suspect_text_does_not_hide_the_status_of_another() -> None:
    def action(*statuses: Status, **rule: Any) -> Action:
        found = worst([Finding(check="a", status=s) for s in statuses], check="a")
        return Policy(rules={"a": Rule(**rule)}).decide([found]).action

    assert action(Status.SUSPECT, Status.UNSCORABLE, on_unscorable=Action.BLOCK) is Action.BLOCK
    assert action(Status.SUSPECT, Status.FAILED, on_failure=OnFailure.CLOSED) is Action.BLOCK
    assert action(Status.UNSCORABLE, Status.FAILED, on_unscorable=Action.BLOCK) is Action.BLOCK
    assert action(Status.SUSPECT, Status.CLEAR, on_unscorable=Action.BLOCK) is Action.FLAG


def test_a_check_that_failed_and_blocked_is_not_named_as_bypassed() -> None:
    found = worst([Finding(check="a", status=s) for s in (Status.FAILED, Status.UNSCORABLE)], check="a")
    blocked = Policy(rules={"a": Rule(on_unscorable=Action.BLOCK)}).decide([found])
    assert (blocked.action, blocked.bypassed) == (Action.BLOCK, ())


def test_of_several_findings_the_gravest_is_kept() -> None:
    findings = [Finding(check="a", status=s) for s in (Status.CLEAR, Status.HIT, Status.UNSCORABLE)]
    assert worst(findings, check="a").status is Status.HIT
    assert worst([], check="a").status is Status.SKIPPED
