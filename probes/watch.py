"""The watch as a whole: a configuration made into targets, runners and a store."""

import logging
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from probes.config import ConfigError, ProbesConfig, TargetConfig
from probes.rounds import RoundRunner, RoundSettings, RoundSummary
from probes.scheduling import Scheduler
from probes.standing import policy_of
from probes.store import Store, StoreError, open_store, orders
from probes.store.limits import EVERY
from probes.store.reading import last_rounds
from probes.store.tables import TargetRow
from probes.targets import AskFailure, LiteLLMTarget, Target
from sif_offline.fingerprint.keys import TriggerKeys
from sif_offline.fingerprint.pack import FingerprintPack, read_pack
from sif_offline.fingerprint.scoring import PackScorer

logger = logging.getLogger(__name__)

REACHABLE_PROMPT = "Reply with the word ok."
REACHABLE_MAX_TOKENS = 16  # a single token makes reasoning models fail
REACHABLE_CACHE_S = 30.0


@dataclass(frozen=True)
class Reachability:
    """One reachability check: ``kind`` and ``reason`` of its failure, or None; ``at`` in Unix seconds."""

    target: str
    reachable: bool
    kind: str | None
    reason: str | None
    latency_s: float | None
    at: float


class Watch:
    """Everything that one configuration needs. Close it, or use it as a context manager."""

    def __init__(
        self, config: ProbesConfig, *, pack: FingerprintPack, scorer: PackScorer, store: Store
    ) -> None:
        self.config = config
        self.pack = pack
        self.policy = policy_of(pack, alpha=config.alpha)
        self.scorer = scorer
        self.store = store
        self.stop = threading.Event()
        self.targets: dict[str, Target] = {target.name: make_target(target) for target in config.targets}
        self.runners = {
            target.name: RoundRunner(
                target=self.targets[target.name],
                scorer=scorer,
                store=store,
                settings=round_settings(config, target),
                stop=self.stop,
            )
            for target in config.targets
        }
        self._reached: dict[str, Reachability] = {}
        self._reaching = {target.name: threading.Lock() for target in config.targets}
        for target in config.targets:
            store.record_target(_target_row(config, target, pack_id=pack.pack_id, alpha=self.policy.alpha))

    @classmethod
    def open(cls, config: ProbesConfig) -> Self:
        """Read the pack and the keys, open the store. Raises a SifError that names what is wrong."""
        pack, scorer = open_pack(config.pack, config.trigger_keys)
        for target in config.targets:
            target.read_api_key()  # before anything is written
        store = open_store(config.store)
        try:
            return cls(config, pack=pack, scorer=scorer, store=store)
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        """Stop rounds at the next question and close the store."""
        self.stop.set()
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run_round(self, name: str) -> RoundSummary | None:
        """One round of one target; None where another process has it. Raises StoreError."""
        summary = self.runners[name].run()
        if summary is None:
            logger.info("target %s: another process runs a round of it", name)
        else:
            logger.info(
                "target %s: round %d %s, %d of %d answered, verdict %s",
                name,
                summary.round_id,
                summary.state,
                summary.answered,
                summary.planned,
                summary.verdict,
            )
        return summary

    def pause(self, name: str, *, by: str, reason: str = "") -> None:
        """Send nothing more to a target (``*``: to any) until it is resumed, in every process of the store."""
        orders.hold(self.store, name, by=by, reason=reason, now=time.time())

    def resume(self, name: str) -> bool:
        """End a pause; whether there was one."""
        return orders.release(self.store, name)

    def paused(self) -> set[str]:
        """The configured targets that are paused, by name or with all others."""
        held = {row.target for row in orders.holds(self.store)}
        return set(self.targets) if EVERY in held else held & set(self.targets)

    def schedule(self, scheduler: Scheduler) -> None:
        """Put every target on the scheduler; a restart waits for what is left of the running interval."""
        now = time.time()
        for target in self.config.targets:
            rounds = last_rounds(self.store, target.name, pack_id=self.pack.pack_id, limit=1)
            last = rounds[0].started_at if rounds and rounds[0].state != "running" else 0.0
            left = min(max(0.0, last + self.config.interval - now), self.config.interval)
            scheduler.every(
                name=target.name,
                interval_s=self.config.interval,
                first_in_s=left,
                job=lambda name=target.name: self._job(name),  # type: ignore[misc]
            )

    def _job(self, name: str) -> None:
        """A scheduled round; what fails is logged in one line, and the next interval tries again."""
        try:
            self.run_round(name)
        except StoreError as error:
            logger.error("target %s: round given up: %s", name, error)
        except Exception:
            logger.exception("target %s: round failed", name)

    def reach(self, name: str) -> Reachability:
        """Ask a target a short question without a picture; the result is kept for half a minute.

        The check is no trial: it is not stored and counts nowhere.
        """
        with self._reaching[name]:
            known = self._reached.get(name)
            if known is not None and time.time() - known.at < REACHABLE_CACHE_S:
                return known
            try:
                answer = self.targets[name].ask(
                    image=None, prompt=REACHABLE_PROMPT, max_tokens=REACHABLE_MAX_TOKENS
                )
                reached = Reachability(name, True, None, None, answer.latency_s, time.time())
            except AskFailure as failure:
                reached = Reachability(name, False, failure.kind, str(failure), None, time.time())
            self._reached[name] = reached
            return reached


def open_pack(path: Path, keys_path: Path) -> tuple[FingerprintPack, PackScorer]:
    """A pack with its keys, checked against each other."""
    pack = read_pack(path)
    return pack, PackScorer(pack, TriggerKeys.read(keys_path))


def make_target(target: TargetConfig) -> LiteLLMTarget:
    """The target that a configuration describes. Raises ConfigError where its credential is missing."""
    return LiteLLMTarget(
        name=target.name,
        model=target.model,
        api_base=target.api_base,
        api_key=target.read_api_key(),
        timeout_s=target.timeout,
        headers={name: value.get_secret_value() for name, value in target.headers.items()},
        signer=target.read_signer(),
    )


def round_settings(config: ProbesConfig, target: TargetConfig) -> RoundSettings:
    """How rounds of this target are run."""
    return RoundSettings(
        triggers_per_round=config.triggers_per_round,
        clean_share=config.clean_share,
        cooldown_s=config.cooldown,
        alpha=config.alpha,
        attempts=config.attempts,
        timeout_s=target.timeout,
    )


def resolve_host(target: TargetConfig) -> str | None:
    """The address that the target's host name has, None where litellm knows the URL. Raises ConfigError."""
    if target.api_base is None:
        return None
    parts = urlsplit(target.api_base)
    host = parts.hostname or ""
    try:
        found = socket.getaddrinfo(host, parts.port or (443 if parts.scheme == "https" else 80))
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise ConfigError(f"target {target.name}: {host}: {said}") from None
    return str(found[0][4][0])


def _target_row(config: ProbesConfig, target: TargetConfig, *, pack_id: str, alpha: float) -> TargetRow:
    return TargetRow(
        name=target.name,
        model=target.model,
        api_base=target.api_base,
        authorised_by=target.authorised_by,
        purpose=target.purpose,
        pack_id=pack_id,
        interval_s=config.interval,
        alpha=alpha,
        updated_at=time.time(),
    )
