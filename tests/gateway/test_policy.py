"""Findings to actions, over every status and rule."""

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


def test_of_several_findings_the_gravest_is_kept() -> None:
    findings = [Finding(check="a", status=s) for s in (Status.CLEAR, Status.HIT, Status.UNSCORABLE)]
    assert worst(findings, check="a").status is Status.HIT
    assert worst([], check="a").status is Status.SKIPPED
