"""From findings to one action: the strictest that any check's rule asks for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gateway_plugin.screening.base import Finding, Status


class Action(StrEnum):
    """What is done with an exchange, mildest first."""

    ALLOW = "allow"
    LOG = "log"  # count and log, the client sees nothing
    FLAG = "flag"  # also marked as flagged in the gateway's own records
    REPLACE = "replace"  # the client gets the reference model's answer
    BLOCK = "block"  # the client gets a 400


class OnFailure(StrEnum):
    """Whether traffic passes while a check's machinery is broken."""

    OPEN = "open"
    CLOSED = "closed"


_STRICTNESS = list(Action)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What one check's findings lead to."""

    action: Action = Action.FLAG
    on_suspect: Action = Action.FLAG
    on_unscorable: Action = Action.FLAG
    on_failure: OnFailure = OnFailure.OPEN

    def answer(self, status: Status) -> Action:
        """The action for a finding of this status."""
        if status is Status.FAILED:
            return Action.BLOCK if self.on_failure is OnFailure.CLOSED else Action.ALLOW
        return {
            Status.HIT: self.action,
            Status.SUSPECT: self.on_suspect,
            Status.UNSCORABLE: self.on_unscorable,
        }.get(status, Action.ALLOW)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The action, the check that asked for it (empty when nobody did), and all that led there."""

    action: Action
    by: str
    actions: Mapping[str, Action]
    findings: tuple[Finding, ...]
    bypassed: tuple[str, ...] = ()  # checks that failed and let the exchange pass

    @property
    def reason(self) -> str:
        """The deciding finding's one line; empty when nothing was asked for."""
        return next((f.reason for f in self.findings if f.check == self.by), "")


@dataclass(frozen=True, kw_only=True)
class Policy:
    """One :class:`Rule` a check; a check without one gets the default rule (flag, fail open)."""

    rules: Mapping[str, Rule] = field(default_factory=dict)

    def rule(self, check: str) -> Rule:
        return self.rules.get(check, Rule())

    def decide(self, findings: Iterable[Finding]) -> Decision:
        """The strictest action over all findings; of equals the first finding's check is named."""
        kept = tuple(findings)
        actions: dict[str, Action] = {}
        action, by = Action.ALLOW, ""
        for finding in kept:
            asked = self.rule(finding.check).answer(finding.status)
            actions[finding.check] = max(
                asked, actions.get(finding.check, Action.ALLOW), key=_STRICTNESS.index
            )
            if _STRICTNESS.index(asked) > _STRICTNESS.index(action):
                action, by = asked, finding.check
        bypassed = tuple(
            f.check
            for f in kept
            if f.status is Status.FAILED and self.rule(f.check).on_failure is OnFailure.OPEN
        )
        return Decision(action=action, by=by, actions=actions, findings=kept, bypassed=bypassed)
