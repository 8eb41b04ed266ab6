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


def stricter(left: Action, right: Action) -> Action:
    """The stricter of two actions; ``right`` where they are the same."""
    return left if _STRICTNESS.index(left) > _STRICTNESS.index(right) else right


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
    """The action, the check or combination that asked for it (empty when nobody did), and what led there.

    reason: the deciding finding's one line; empty when nothing was asked for or several checks together
        did.
    """

    action: Action
    by: str
    actions: Mapping[str, Action]
    findings: tuple[Finding, ...]
    bypassed: tuple[str, ...] = ()  # checks that failed and let the exchange pass
    reason: str = ""

    @property
    def failed(self) -> bool:
        """Whether the machinery of any check failed."""
        return any(finding.status is Status.FAILED for finding in self.findings)


@dataclass(frozen=True, kw_only=True)
class Combination:
    """``action`` where at least ``at_least`` of the checks ``of`` reached the status named beside them."""

    name: str
    of: Mapping[str, Status]
    at_least: int
    action: Action

    def holds(self, findings: Iterable[Finding]) -> bool:
        """Whether enough of the checks spoke; SUSPECT is reached by a hit as well."""
        reached = {
            finding.check
            for finding in findings
            if finding.check in self.of and finding.status in (Status.HIT, self.of[finding.check])
        }
        return len(reached) >= self.at_least


@dataclass(frozen=True, kw_only=True)
class Policy:
    """One :class:`Rule` a check, and rules for several together; a check without a rule is flagged and
    fails open."""

    rules: Mapping[str, Rule] = field(default_factory=dict)
    combinations: tuple[Combination, ...] = ()

    def rule(self, check: str) -> Rule:
        return self.rules.get(check, Rule())

    def decide(
        self, findings: Iterable[Finding], *, earlier: Iterable[Finding] = (), replaced_by: str = ""
    ) -> Decision:
        """The strictest action over all findings and combinations; of equals the first is named.

        earlier: findings of the request phase. Their own actions are done; they count in combinations.
        replaced_by: the check that asked in the request phase for the answer's replacement.
        """
        kept, before = tuple(findings), tuple(earlier)
        asked = [(replaced_by, Action.REPLACE)] if replaced_by else []
        asked += [
            (finding.check, self.rule(finding.check).answer(status))
            for finding in kept
            for status in (finding.status, *sorted(finding.beside))
        ]
        asked += [
            (row.name, row.action)
            for row in self.combinations
            if row.holds((*before, *kept)) and not row.holds(before)
        ]
        actions: dict[str, Action] = {}
        action, by = Action.ALLOW, ""
        for name, wish in asked:
            actions[name] = stricter(wish, actions.get(name, Action.ALLOW))
            if stricter(wish, action) is not action:
                action, by = wish, name
        bypassed = tuple(
            f.check
            for f in kept
            if f.status is Status.FAILED and actions[f.check] not in (Action.REPLACE, Action.BLOCK)
        )
        reason = next((f.reason for f in (*kept, *before) if f.check == by), "")
        return Decision(
            action=action, by=by, actions=actions, findings=kept, bypassed=bypassed, reason=reason
        )
