"""The gateway's one engine, whoever serves the traffic: two phases in, one verdict out of each."""

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from gateway_plugin.calls import CallState, CallStates
from gateway_plugin.config import Configuration, GatewaySettings
from gateway_plugin.exchange import Exchange, query_texts, why_not_replaceable
from gateway_plugin.loading import load_screener, load_screeners
from gateway_plugin.metrics import GatewayMetrics
from gateway_plugin.references import Models
from gateway_plugin.resolving import allowed_callers
from gateway_plugin.rooms import Room
from gateway_plugin.screener import Screener
from gateway_plugin.screening.base import Phase, Query, Status
from gateway_plugin.screening.policy import Action, OnFailure
from gateway_plugin.verdict import ALLOW_LIST, Reporter, Verdict
from sif_offline.fingerprint.allow_header import HEADER, AllowHeaderError

logger = logging.getLogger("sifwatch.gateway")


class Gateway:
    """Screens exchanges by a configuration. One a process or guardrail; safe for one event loop."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        name: str,
        models: Models,
        metrics: GatewayMetrics,
        screeners: Callable[[GatewaySettings], Screener] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Loads the models that the enabled checks need (seconds). ``rng`` draws the sampled exchanges."""
        self.name, self._configuration, self._metrics = name, configuration, metrics
        self._reporter = Reporter(name=name, settings=configuration.settings, metrics=metrics)
        general = configuration.settings
        self._states = CallStates(
            max_calls=general.max_calls,
            ttl_s=general.state_ttl_s,
            on_lost=lambda kind: metrics.states_lost.labels(kind).inc(),
        )
        rng = rng or random.Random()
        self._allowed = allowed_callers(general)
        load = screeners or (lambda settings: load_screener(settings, metrics=metrics))
        every = configuration.every
        self._rooms = {
            id(settings): Room(settings, screener=screener, models=models, metrics=metrics, rng=rng)
            for settings, screener in zip(every, load_screeners(every, load), strict=True)
        }

    def close(self) -> None:
        """Write what waits to be written. A closed gateway still screens."""
        self._reporter.close()

    @property
    def holds_answers_back(self) -> bool:
        """Whether any answer may be blocked or replaced: then streams are held until they are judged."""
        return any(settings.may_hold_answers_back for settings in self._configuration.every)

    async def on_request(self, exchange: Exchange) -> Verdict:
        """Before the main model is asked."""
        started = time.monotonic()
        room, audit_id = self._room(exchange), uuid.uuid4().hex
        if name := await self._exempt(exchange):
            if exchange.call:
                self._states.open(exchange.call, audit_id=audit_id).exempt = True
            return self._reporter.exempted(exchange, audit_id=audit_id, name=name)
        texts, unread = query_texts(exchange, transcript=room.settings.transcript)
        findings = await room.screener.score_query(Query(texts=texts), unread=unread)
        decision = room.policy.decide(findings)
        if decision.action is not Action.BLOCK and room.screener.asks_in(Phase.REQUEST):
            findings += await room.ask(exchange, Phase.REQUEST)
            decision = room.policy.decide(findings)
        effective = decision.action
        if effective is Action.REPLACE and (why := room.why_no_replacement(exchange)):
            effective = self._instead_of_replacing(room, decision.by, kind="not_replaceable", why=why)
        dry = room.settings.dry_run
        replacing = effective is Action.REPLACE and not dry
        if exchange.call and (effective is not Action.BLOCK or dry):
            state = self._states.open(
                exchange.call, audit_id=audit_id, wants_replacement=decision.by if replacing else ""
            )
            state.findings = tuple(findings)
            if room.screener.asks_in(Phase.RESPONSE):
                self._states.keep(exchange.call, exchange.messages)
            if replacing or room.compares(exchange):
                state.reference = room.references.start(exchange, must=replacing)
        return self._reporter.verdict(
            exchange,
            room.settings,
            phase=Phase.REQUEST,
            decision=decision,
            effective=effective,
            audit_id=audit_id,
            seconds=time.monotonic() - started,
            pending=decision.by if replacing else "",
        )

    async def on_response(self, exchange: Exchange) -> Verdict:
        """Once the answer is there, whole. ``exchange.answers`` holds it."""
        started = time.monotonic()
        room = self._room(exchange)
        # No state: LiteLLM skips the request phase of a chat of pictures alone.
        state = self._states.take(exchange.call) or CallState(born=started, audit_id=uuid.uuid4().hex)
        if state.exempt:
            return Verdict(audit_id=state.audit_id)
        if state.lost and not exchange.messages and not exchange.fault:
            exchange = replace(exchange, fault="lost_state")  # the answer can be held against nothing
        task = state.reference
        if task is None and (state.wants_replacement or room.compares(exchange)):
            task = room.references.start(exchange, must=bool(state.wants_replacement))
        reference = await task if task is not None else None
        findings = room.unread(exchange) or await room.compare(exchange, reference)
        decide = partial(room.policy.decide, earlier=state.findings, replaced_by=state.wants_replacement)
        decision = decide(findings)
        judged = exchange.answers and not exchange.fault and decision.action is not Action.BLOCK
        if judged and room.screener.asks_in(Phase.RESPONSE):
            whole = exchange if exchange.messages else replace(exchange, messages=state.messages)
            findings += await room.ask(whole, Phase.RESPONSE, reference=reference)
            decision = decide(findings)
        if not findings and not state.wants_replacement:
            return Verdict(audit_id=state.audit_id)
        effective = decision.action
        if effective is Action.REPLACE:
            why, kind = why_not_replaceable(exchange), "not_replaceable"
            if not why and (reference is None or reference.text is None):
                why = "there is no reference answer"
                if reference is None or reference.left_out is not Status.UNSCORABLE:
                    kind = "reference_error" if reference is None else reference.failure
            if why:
                effective = self._instead_of_replacing(room, decision.by, kind=kind, why=why)
        return self._reporter.verdict(
            exchange,
            room.settings,
            phase=Phase.RESPONSE,
            decision=decision,
            effective=effective,
            audit_id=state.audit_id,
            seconds=time.monotonic() - started,
            reference=reference,
        )

    def forget(self, call: str) -> None:
        """The client is gone or its model failed: there will be no response phase."""
        self._states.forget(call)

    async def _exempt(self, exchange: Exchange) -> str:
        """The allow-listed caller who signed the request; empty for nobody. A bad header changes nothing."""
        header = exchange.headers.get(HEADER.lower())
        if header is None or not self._configuration.settings.allow_list:  # or strangers make us hash bodies
            return ""
        try:  # in a thread: hashing the pictures of a large body takes up to 0.1 s
            return await asyncio.to_thread(self._allowed.verify, header, exchange.request)
        except AllowHeaderError as error:
            self._metrics.failures.labels(check=ALLOW_LIST, kind=error.reason).inc()
            return ""

    def _room(self, exchange: Exchange) -> Room:
        caller = exchange.caller
        return self._rooms[
            id(self._configuration.pick(teams=caller.teams, keys=caller.keys, model=exchange.model))
        ]

    def _instead_of_replacing(self, room: Room, check: str, *, kind: str, why: str) -> Action:
        """Where no replacement can be had: pass it flagged, or block it where the check fails closed."""
        self._metrics.failures.labels(check=check, kind=kind).inc()
        closed = room.policy.rule(check).on_failure is OnFailure.CLOSED
        action = Action.BLOCK if closed else Action.FLAG
        logger.warning("%s: %s asked for a replacement, but %s: %s", self.name, check, why, action.value)
        return action
