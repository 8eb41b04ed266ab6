"""Settings of the checks, one class a check."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, model_validator

from gateway_plugin.config.base import Strict
from gateway_plugin.screening.base import Phase
from gateway_plugin.screening.cheap.check import shipped_thresholds
from gateway_plugin.screening.consistency import ConsistencyThresholds
from gateway_plugin.screening.divergence import DivergenceThresholds
from gateway_plugin.screening.language_models.base import Precision
from gateway_plugin.screening.perplexity import PerplexityThresholds
from gateway_plugin.screening.script_mixing import HIT_CHANGES, SUSPECT_CHANGES

HitAction = Literal["log", "flag", "block", "replace"]
MildAction = Literal["allow", "log", "flag", "block"]


class CheckSettings(Strict):
    """Settings that every check has. ``action`` unset means the guardrail's own ``action``."""

    enabled: bool = True
    action: HitAction | None = None
    on_suspect: MildAction = "flag"
    on_unscorable: MildAction = "flag"
    on_failure: Literal["open", "closed"] = "open"

    @property
    def phases(self) -> frozenset[Phase]:
        """The phases in which the check may speak."""
        return frozenset({Phase.REQUEST})


class PerplexitySettings(CheckSettings):
    """``max_tokens``: of a longer text the two ends are scored and the finding says so; with the cascade a
        long text comes in stretches, which are shorter.

    cascade: a small statistical model decides what is plain, the language model only the rest;
        cheap_clear_margin and cheap_suspect_margin are bits per character added to its shipped limits.
    language_model, precision, api_key: as ``load_language_model`` of ``screening.language_models`` takes
        them. The shipped thresholds are those of ``smollm2``: calibrate for any other.
    """

    suspect_window: float = PerplexityThresholds.suspect_window
    hit_window: float = PerplexityThresholds.hit_window
    suspect_stretch: float = PerplexityThresholds.suspect_stretch
    hit_stretch: float = PerplexityThresholds.hit_stretch
    max_tokens: Annotated[int, Field(ge=64, le=8192)] = 1024
    cascade: bool = True
    cheap_clear_margin: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    cheap_suspect_margin: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    language_model: str = "smollm2"
    precision: Precision = "auto"
    api_key: SecretStr | None = None

    def thresholds(self) -> PerplexityThresholds:
        return PerplexityThresholds(
            suspect_window=self.suspect_window,
            hit_window=self.hit_window,
            suspect_stretch=self.suspect_stretch,
            hit_stretch=self.hit_stretch,
        )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        self.thresholds()
        shipped_thresholds(clear_margin=self.cheap_clear_margin, suspect_margin=self.cheap_suspect_margin)
        return self


class ScriptMixingSettings(CheckSettings):
    """Script changes within 32 characters."""

    suspect_changes: Annotated[int, Field(ge=1)] = SUSPECT_CHANGES
    hit_changes: Annotated[int, Field(ge=1)] = HIT_CHANGES

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.suspect_changes > self.hit_changes:
            raise ValueError("suspect_changes <= hit_changes does not hold")
        return self


class DivergenceSettings(CheckSettings):
    """See :class:`~gateway_plugin.screening.divergence.DivergenceThresholds`."""

    suspect_cosine: float = DivergenceThresholds.suspect_cosine
    hit_cosine: float = DivergenceThresholds.hit_cosine
    max_jaccard: float = DivergenceThresholds.max_jaccard
    suspect_word_ratio: float = DivergenceThresholds.suspect_word_ratio

    @property
    def phases(self) -> frozenset[Phase]:
        return frozenset({Phase.RESPONSE})

    def thresholds(self) -> DivergenceThresholds:
        return DivergenceThresholds(
            suspect_cosine=self.suspect_cosine,
            hit_cosine=self.hit_cosine,
            max_jaccard=self.max_jaccard,
            suspect_word_ratio=self.suspect_word_ratio,
        )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        self.thresholds()
        return self


class JudgeSettings(CheckSettings):
    """An LLM judge: any alias of the gateway. See :class:`~gateway_plugin.screening.judge.JudgeCheck`."""

    enabled: bool = False
    model: str | None = None
    suspect_confidence: Annotated[float, Field(ge=0, le=1)] = 0.5
    hit_confidence: Annotated[float, Field(ge=0, le=1)] = 0.8
    max_characters: Annotated[int, Field(ge=100, le=100_000)] = 4_000
    shares_images: bool = False

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.enabled and self.model is None:
            raise ValueError("a judge needs model: an alias of the gateway")
        if self.suspect_confidence > self.hit_confidence:
            raise ValueError("suspect_confidence <= hit_confidence does not hold")
        return self


class AnswerJudgeSettings(JudgeSettings):
    """The judge that sees query and answer."""

    @property
    def phases(self) -> frozenset[Phase]:
        return frozenset({Phase.RESPONSE})


class ImageConsistencySettings(CheckSettings):
    """Asks the served model again about re-encoded pictures: further calls for every answer to a picture."""

    enabled: bool = False
    suspect_instability: float = ConsistencyThresholds.suspect_instability
    hit_instability: float = ConsistencyThresholds.hit_instability
    max_tokens: Annotated[int, Field(ge=8, le=4096)] = 128

    @property
    def phases(self) -> frozenset[Phase]:
        return frozenset({Phase.RESPONSE})

    def thresholds(self) -> ConsistencyThresholds:
        return ConsistencyThresholds(
            suspect_instability=self.suspect_instability, hit_instability=self.hit_instability
        )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        self.thresholds()
        return self


class PluginSettings(CheckSettings):
    """A check that another package brings by the entry point ``sifwatch.checks``.

    ``options`` go to its factory as keyword arguments.
    """

    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def phases(self) -> frozenset[Phase]:
        return frozenset(Phase)


class Checks(Strict):
    """The checks. Judge and image consistency ask models, so they are off unless asked for."""

    perplexity: PerplexitySettings = PerplexitySettings()
    script_mixing: ScriptMixingSettings = ScriptMixingSettings()
    divergence: DivergenceSettings = DivergenceSettings()
    judge_query: JudgeSettings = JudgeSettings()
    judge: AnswerJudgeSettings = AnswerJudgeSettings()
    image_consistency: ImageConsistencySettings = ImageConsistencySettings()
    plugins: dict[str, PluginSettings] = Field(default_factory=dict)

    def each(self) -> dict[str, CheckSettings]:
        """Every enabled check by name, plugins among them."""
        named: dict[str, CheckSettings] = {
            name: value for name, value in self if isinstance(value, CheckSettings)
        }
        return {name: check for name, check in {**named, **self.plugins}.items() if check.enabled}

    @model_validator(mode="after")
    def _plugins_shadow_nothing(self) -> Self:
        taken = sorted(self.plugins.keys() & type(self).model_fields.keys())
        if taken:
            raise ValueError(f"plugins: {taken[0]!r} is the name of a check of ours")
        return self
