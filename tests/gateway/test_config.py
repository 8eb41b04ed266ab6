"""Wrong settings: the exact message, and a proxy that refuses to start."""

import secrets
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.ports import free_port
from gateway_plugin.config import GatewayConfigError, check_modes, proxy_guardrails, read_configuration

from .conftest import SHIPPED, guardrail, proxy_config, start_proxy

BOTH = ["pre_call", "post_call"]
GOOD: dict[str, Any] = {"reference_model": "ref"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (None, "sda: litellm_params has no gateway_plugin: section"),
        ("ref", "sda: gateway_plugin must be a mapping, not str"),
        ({**GOOD, "actoin": "flag"}, "sda: gateway_plugin.actoin: Extra inputs are not permitted"),
        (
            {**GOOD, "action": "mask"},
            "sda: gateway_plugin.action: Input should be 'log', 'flag', 'block' or 'replace'",
        ),
        (
            {**GOOD, "checks": {"perplexty": {}}},
            "sda: gateway_plugin.checks.perplexty: Extra inputs are not permitted",
        ),
        (
            {**GOOD, "checks": {"perplexity": {"hit_window": 10}}},
            "sda: gateway_plugin.checks.perplexity: 1 < suspect_window <= hit_window does not hold",
        ),
        (
            {**GOOD, "checks": {"perplexity": {"cheap_clear_margin": 50}}},
            "sda: gateway_plugin.checks.perplexity: latin: 0 < clear < suspect does not hold, margins added",
        ),
        (
            {**GOOD, "checks": {"perplexity": {"cheap_suspect_margin": float("inf")}}},
            "sda: gateway_plugin.checks.perplexity.cheap_suspect_margin: Input should be a finite number",
        ),
        (
            {**GOOD, "checks": {"script_mixing": {"suspect_changes": 13, "hit_changes": 11}}},
            "sda: gateway_plugin.checks.script_mixing: suspect_changes <= hit_changes does not hold",
        ),
        (
            {},
            "sda: gateway_plugin: the divergence check needs reference_model "
            "(or checks.divergence.enabled: false)",
        ),
        (
            {"action": "replace", "checks": {"divergence": {"enabled": False}}},
            "sda: gateway_plugin: action replace needs reference_model",
        ),
        (
            {"checks": {name: {"enabled": False} for name in ("perplexity", "script_mixing", "divergence")}},
            "sda: gateway_plugin: every check is switched off",
        ),
        (
            {**GOOD, "reference_timeout_s": 0},
            "sda: gateway_plugin.reference_timeout_s: Input should be greater than 0",
        ),
    ],
)
def test_a_wrong_setting_is_named(settings: object, message: str) -> None:
    with pytest.raises(GatewayConfigError) as caught:
        read_configuration(settings, where="sda")
    assert str(caught.value) == message
    assert isinstance(caught.value, RuntimeError), "LiteLLM swallows anything that is a ValueError"


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("pre_cal", "sda: mode 'pre_cal' is unknown; it must be pre_call or post_call"),
        (
            ["pre_call", "logging_only"],
            "sda: mode 'logging_only' is unknown; it must be pre_call or post_call",
        ),
        (None, "sda: mode must be one or both of pre_call, post_call, not None"),
        ("pre_call", "sda: the divergence check needs mode post_call"),
        ("post_call", "sda: the perplexity check needs mode pre_call"),
    ],
)
def test_a_mode_that_litellm_would_ignore_is_refused(mode: object, message: str) -> None:
    with pytest.raises(GatewayConfigError) as caught:
        check_modes(mode, read_configuration(GOOD, where="sda"), where="sda")
    assert str(caught.value) == message


def test_the_shipped_configuration_is_good() -> None:
    assert list(proxy_guardrails(SHIPPED.read_text(), name="config.yaml")) == ["sda"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "x.yaml, line 1: not valid YAML"),
        ("[]", "x.yaml: not a mapping of settings"),
        (
            "model_list: []",
            "x.yaml: no guardrail with guardrail: gateway_plugin.litellm_guardrail.SDAGuardrail",
        ),
        (
            SHIPPED.read_text().replace("model_name: reference", "model_name: refrence"),
            "x.yaml: guardrail 'sda': gateway_plugin.reference_model: 'reference' is not in model_list",
        ),
        (
            SHIPPED.read_text().replace("post_call]", "post_cal]"),
            "x.yaml: guardrail 'sda': mode 'post_cal' is unknown; it must be pre_call or post_call",
        ),
    ],
)
def test_a_wrong_proxy_configuration_is_named(text: str, message: str) -> None:
    with pytest.raises(GatewayConfigError) as caught:
        proxy_guardrails(text, name="x.yaml")
    assert str(caught.value) == message


@pytest.mark.parametrize("check", ["judge", "judge_query"])
def test_the_alias_of_a_judge_must_be_there_where_it_is_asked(check: str) -> None:
    def checked(enabled: bool) -> list[str]:
        settings = {**GOOD, "checks": {check: {"enabled": enabled, "model": "absent"}}}
        document = proxy_config("http://127.0.0.1:9/v1", [guardrail("sda", settings)])
        return list(proxy_guardrails(yaml.safe_dump(document), name="x.yaml"))

    assert checked(enabled=False) == ["sda"]
    with pytest.raises(GatewayConfigError) as caught:
        checked(enabled=True)
    said = f"gateway_plugin.checks.{check}.model: 'absent' is not in model_list"
    assert str(caught.value) == f"x.yaml: guardrail 'sda': {said}"


def test_answers_are_held_back_only_where_they_can_be_taken_away() -> None:
    def held(**settings: Any) -> bool:
        return read_configuration({**GOOD, **settings}, where="sda").settings.may_hold_answers_back

    assert held(action="replace")
    assert held(action="block")
    assert held(checks={"divergence": {"on_failure": "closed"}})
    assert not held(action="flag")
    assert not held(action="log", checks={"perplexity": {"action": "block"}})


def test_a_misspelt_mode_stops_a_real_proxy(tmp_path: Path) -> None:
    """LiteLLM alone would start and never call the guardrail."""
    wrong = guardrail("sda", GOOD, mode=["pre_cal", "post_call"])
    config = tmp_path / "config.yaml"
    nowhere = "http://127.0.0.1:9/v1"
    config.write_text(yaml.safe_dump(proxy_config(nowhere, [wrong])))
    log = tmp_path / "proxy.log"
    process = start_proxy(config, free_port(), f"sk-{secrets.token_hex(16)}", log, upstream_url=nowhere)
    try:
        code = process.wait(timeout=150)
    except subprocess.TimeoutExpired:
        pytest.fail(f"the proxy started: {log.read_text()[-2000:]}")
    finally:
        process.kill()
        process.wait()
    assert code != 0
    assert "guardrail 'sda': mode 'pre_cal' is unknown; it must be pre_call or post_call" in log.read_text()


def test_presets_say_whether_pictures_are_looked_at_and_what_stands_beside_them_wins() -> None:
    def enabled(**settings: Any) -> set[str]:
        return set(read_configuration({**GOOD, **settings}, where="sda").settings.each())

    assert enabled(preset="paper") == {"perplexity", "script_mixing", "divergence"}
    assert enabled(preset="strict") == {"perplexity", "script_mixing", "divergence", "image_consistency"}
    off = {"image_consistency": {"enabled": False}}
    assert "image_consistency" not in enabled(preset="strict", checks=off)


def test_a_language_model_server_outside_gets_no_prompts_unless_they_are_shared() -> None:
    from gateway_plugin.loading import request_checks

    def load(**settings: Any) -> None:
        perplexity = {"language_model": "vllm:https://user:hunter2@api.example.com/v1#m"}
        raw = {**GOOD, "checks": {"perplexity": perplexity}, **settings}
        request_checks(read_configuration(raw, where="sda").settings)

    with pytest.raises(GatewayConfigError, match="not local") as caught:
        load()
    assert "hunter2" not in str(caught.value)
    load(reference_shares_content=True)
