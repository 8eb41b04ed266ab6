"""Presets: every value has a source and is a setting's; overrides read as a user types them."""

import pytest

from sif_offline.forging.presets import load_preset, preset_names, preset_settings
from sif_offline.forging.settings import ForgeSettings, SettingsError


def test_the_presets_are_those_that_are_promised() -> None:
    assert preset_names() == ("fast", "official", "paper", "robust")


@pytest.mark.parametrize("name", preset_names())
def test_every_value_is_a_setting_and_has_a_source(name: str) -> None:
    preset = load_preset(name)
    assert preset.summary
    assert set(preset.values) <= set(ForgeSettings.model_fields)
    assert preset.sources.keys() == preset.values.keys()
    assert all(preset.sources.values())
    settings = preset_settings(name)
    for setting, value in preset.values.items():
        held = getattr(settings, setting)
        assert (list(held) if isinstance(held, tuple) else held) == value


def test_the_paper_is_the_paper() -> None:
    paper = preset_settings("paper")
    assert (paper.steps, paper.epsilon, paper.alpha, paper.top_k, paper.rho) == (1000, 16, 1.0, 50, 0.5)
    assert (paper.weight_wm, paper.weight_ce) == (0.5, 0.5)
    official = preset_settings("official")
    assert (official.steps, official.top_k, official.rho, official.rfo_every) == (500, 10, 0.05, 8)
    assert (official.weight_wm, official.weight_ce, official.teacher_tokens) == (1.0, 0.5, 96)


def test_overrides_come_last_and_are_read_as_typed() -> None:
    got = preset_settings(
        "paper", {"steps": "7", "rfo": "false", "refine_scales": "1, 2.5", "prompts": ["A?"]}
    )
    assert (got.steps, got.rfo, got.refine_scales, got.prompts) == (7, False, (1.0, 2.5), ("A?",))
    assert got.search == "sign"
    assert preset_settings(None, {"prompts": "A, or B?"}).prompts == ("A, or B?",)
    assert preset_settings() == ForgeSettings()
    assert preset_settings(None, {"refine_scales": "[3]"}).refine_scales == (3.0,)


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        ("papers", {}, "preset papers: there is none; choose from fast, official, paper, robust"),
        ("paper", {"stepps": 3}, "setting stepps: Extra inputs are not permitted"),
        ("paper", {"steps": "many"}, "setting steps: Input should be a valid integer"),
        (None, {"refine_scales": "a,b"}, "setting refine_scales.0: Input should be a valid number"),
    ],
)
def test_mistakes_are_one_line(name: str | None, overrides: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        preset_settings(name, overrides)
    assert str(caught.value).startswith(said)
