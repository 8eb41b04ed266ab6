"""From settings to checks with their models loaded."""

import asyncio
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from gateway_plugin.config import GatewayConfigError, GatewaySettings
from gateway_plugin.config.checks import CheckSettings, JudgeSettings
from gateway_plugin.metrics import GatewayMetrics
from gateway_plugin.resolving import language_model_key, plugin_point
from gateway_plugin.screener import Screener
from gateway_plugin.screening.base import Ask, Asked, AskingCheck, Check, Finding, Phase
from gateway_plugin.screening.cascade import CascadeCheck
from gateway_plugin.screening.cheap.check import shared_cheap_check
from gateway_plugin.screening.consistency import ImageConsistencyCheck
from gateway_plugin.screening.divergence import DivergenceCheck, shared_embedder
from gateway_plugin.screening.judge import JudgeCheck
from gateway_plugin.screening.language_models.base import LanguageModel
from gateway_plugin.screening.language_models.loading import load_language_model
from gateway_plugin.screening.perplexity import PerplexityCheck
from gateway_plugin.screening.script_mixing import ScriptMixingCheck


def load_screener(settings: GatewaySettings, *, metrics: GatewayMetrics) -> Screener:
    """Load the models that the enabled checks need (seconds; the first time ever also a conversion).

    Raises an error of one line where a model or a plugin cannot be loaded.
    """
    cascade, mixing = request_checks(settings)
    divergence = None
    if "divergence" in settings.each():
        divergence = DivergenceCheck(
            embedder=shared_embedder(), thresholds=settings.checks.divergence.thresholds()
        )
    return Screener(
        metrics=metrics,
        perplexity=cascade,
        script_mixing=mixing,
        divergence=divergence,
        asking=_asking(settings),
        max_queue=settings.max_queue,
        timeout_s=settings.screening_timeout_s,
    )


def load_screeners(
    every: Sequence[GatewaySettings], load: Callable[[GatewaySettings], Screener]
) -> list[Screener]:
    """A screener for each of the settings; the same one (its queue, threads and memory of texts) where the
    checks measure alike, whatever their findings lead to."""
    made: list[tuple[Any, Screener]] = []
    found: list[Screener] = []
    for settings in every:
        measuring = _measuring(settings)
        known = next((screener for other, screener in made if other == measuring), None)
        if known is None:
            known = load(settings)
            made.append((measuring, known))
        found.append(known)
    return found


def _measuring(settings: GatewaySettings) -> Any:
    """All that :func:`load_screener` makes something of."""
    policy = set(CheckSettings.model_fields)
    checks = {name: check.model_dump(exclude=policy) for name, check in settings.each().items()}
    whole = settings.max_queue, settings.screening_timeout_s, settings.reference_shares_content
    return checks, whole


def request_checks(
    settings: GatewaySettings, *, always_neural: bool = False
) -> tuple[CascadeCheck | None, ScriptMixingCheck | None]:
    """The checks of a query's text, as far as they are enabled.

    always_neural: run the language model on every text, for its measures; decisions stay the same.
    """
    checks, enabled = settings.checks, settings.each()
    cascade = mixing = None
    if "perplexity" in enabled:
        chosen = checks.perplexity
        cascade = CascadeCheck(
            cheap=shared_cheap_check(
                clear_margin=chosen.cheap_clear_margin, suspect_margin=chosen.cheap_suspect_margin
            )
            if chosen.cascade
            else None,
            neural=PerplexityCheck(
                model=_language_model(settings),
                thresholds=chosen.thresholds(),
                max_tokens=chosen.max_tokens,
            ),
            always_neural=always_neural,
        )
    if "script_mixing" in enabled:
        mixing = ScriptMixingCheck(
            suspect_changes=checks.script_mixing.suspect_changes, hit_changes=checks.script_mixing.hit_changes
        )
    return cascade, mixing


def _language_model(settings: GatewaySettings) -> LanguageModel:
    chosen = settings.checks.perplexity
    return load_language_model(
        chosen.language_model,
        precision=chosen.precision,
        timeout_s=settings.screening_timeout_s,
        api_key=language_model_key(settings),
    )


def _asking(settings: GatewaySettings) -> list[AskingCheck]:
    checks, enabled = settings.checks, settings.each()
    found: list[AskingCheck] = []
    if "judge_query" in enabled:
        found.append(_judge(checks.judge_query, Phase.REQUEST))
    if "judge" in enabled:
        found.append(_judge(checks.judge, Phase.RESPONSE))
    if "image_consistency" in enabled:
        found.append(
            ImageConsistencyCheck(
                embedder=shared_embedder(),
                thresholds=checks.image_consistency.thresholds(),
                max_tokens=checks.image_consistency.max_tokens,
            )
        )
    for name, plugin in checks.plugins.items():
        if plugin.enabled:
            found.append(_plugin(name, plugin.options, timeout_s=settings.screening_timeout_s))
    return found


def _judge(settings: JudgeSettings, phase: Phase) -> JudgeCheck:
    return JudgeCheck(
        model=str(settings.model),
        phase=phase,
        suspect_confidence=settings.suspect_confidence,
        hit_confidence=settings.hit_confidence,
        max_characters=settings.max_characters,
        shares_images=settings.shares_images,
    )


class Threaded:
    """A plain check as one that may be awaited: it runs in a thread, with a deadline."""

    def __init__(self, check: Check, *, timeout_s: float) -> None:
        self.name, self.phase = check.name, check.phase
        self._check, self._timeout_s = check, timeout_s

    async def examine(self, exchange: Asked, ask: Ask) -> Finding:
        async with asyncio.timeout(self._timeout_s):
            return await asyncio.to_thread(
                self._check.score, exchange.query, exchange.response, exchange.reference
            )


def _plugin(name: str, options: dict[str, Any], *, timeout_s: float) -> AskingCheck:
    check = _made(name, json.dumps(options, sort_keys=True))
    if check.name != name:
        raise GatewayConfigError(f"checks.plugins.{name}: the check calls itself {check.name!r}")
    return check if isinstance(check, AskingCheck) else Threaded(check, timeout_s=timeout_s)


@lru_cache(maxsize=64)
def _made(name: str, options: str) -> Any:
    point = plugin_point(name)
    try:
        check = point.load()(**json.loads(options))
    except Exception as error:
        raise GatewayConfigError(f"checks.plugins.{name}: cannot be made ({error})") from error
    if not isinstance(check, AskingCheck | Check):
        raise GatewayConfigError(f"checks.plugins.{name}: is no check (name, phase, score or examine)")
    return check
