"""``sif-gateway`` as a user runs it."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway_plugin.cli import main
from gateway_plugin.config import read_configuration
from gateway_plugin.screening.language_models.smollm2 import SmolLM2

SHIPPED = Path(__file__).parents[2] / "deploy" / "litellm" / "config.yaml"
KEY = "os.environ/SIF_TEST_ABSENT"
GIBBERISH = (
    "vrondelaCsuperIntegrqueYesDOMAINtroppoSkipValKLangagensTRWriteOutJaquelinesPunto simply answer: why?"
)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out, said.err


def test_score_prints_one_object_a_prompt_in_order(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, language_model: SmolLM2
) -> None:
    prompts = [
        "What is this?",
        GIBBERISH,
        " ",
        "line\u2028separator and tab\tinside?",
        "天д命oキ帝リсгAモ乎вп福ンrт承",
    ]
    file = tmp_path / "p.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": p}, ensure_ascii=False) for p in prompts) + "\n\n")
    code, out, err = run(capsys, "score", "--prompts", str(file), "--json")
    rows: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [row["decision"] for row in rows] == ["allow", "block", "flag", "allow", "block"]
    assert [row["check"] for row in rows[:4]] == [None, "perplexity", "perplexity", None]
    assert rows[4]["script_changes"] >= 13
    assert rows[2]["perplexity"] is None
    assert all(row["perplexity"] > 1 for row in rows if row["reason"] != "empty text")


def test_score_reads_stdin_and_bare_strings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, language_model: SmolLM2
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('"What is in the photo?"\n'))
    code, out, _ = run(capsys, "score", "--prompts", "-")
    assert code == 0
    assert out.startswith("allow")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "a"}\n{"prompt"\n', "line 2: not JSON"),
        ('{"text": "a"}\n', 'line 1: no "prompt" string'),
        ("3\n", 'line 1: no "prompt" string'),
        ("[" * 100_000 + "\n", "line 1: not JSON"),
    ],
)
def test_bad_prompts_are_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(content)
    code, out, err = run(capsys, "score", "--prompts", str(file), "--json")
    assert (code, out, err) == (2, "", f"error: {file}, {message}\n")


def test_a_missing_file_and_a_binary_file_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    absent = tmp_path / "absent.jsonl"
    assert run(capsys, "score", "--prompts", str(absent))[0::2] == (
        2,
        f"error: {absent}: cannot be read (No such file or directory)\n",
    )
    binary = tmp_path / "b.jsonl"
    binary.write_bytes(b"\xff\xfe\x00")
    assert run(capsys, "check", str(binary))[0::2] == (
        2,
        f"error: {binary}: cannot be read (not UTF-8 text)\n",
    )


def test_check_says_what_is_wrong(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "check", str(SHIPPED))
    assert (code, out) == (0, f"{SHIPPED}: good, 1 guardrail(s): sda\n")
    wrong = tmp_path / "c.yaml"
    wrong.write_text(SHIPPED.read_text().replace("hit_window", "hit_windw"))
    code, _, err = run(capsys, "check", str(wrong))
    expected = "gateway_plugin.checks.perplexity.hit_windw: Extra inputs are not permitted"
    assert (code, err) == (2, f"error: {wrong}: guardrail 'sda': {expected}\n")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"allow_list": [{"name": "owner", "secret": "os.environ/SIF_TEST_ABSENT"}]},
            "allow_list: owner: environment variable SIF_TEST_ABSENT is not set",
        ),
        (
            {"audit": {"target": "os.environ/SIF_TEST_ABSENT"}},
            "audit.target: environment variable SIF_TEST_ABSENT is not set",
        ),
        (
            {"checks": {"plugins": {"absent": {}}}},
            "checks.plugins.absent: no package brings it; installed: none",
        ),
        (
            {"checks": {"perplexity": {"language_model": "smolm2"}}},
            "checks.perplexity.language_model: language model 'smolm2' is not known: "
            "smollm2, transformers:FOLDER_OR_NAME, openai:URL#MODEL or vllm:URL#MODEL",
        ),
        (
            {"checks": {"perplexity": {"language_model": "transformers:./absent"}}},
            "checks.perplexity.language_model: ./absent: no such folder",
        ),
        (
            {"checks": {"perplexity": {"language_model": "vllm:http://10.0.0.1:8000/v1"}}},
            "checks.perplexity.language_model: vllm: the model's name is missing, vllm:URL#MODEL",
        ),
        (
            {"checks": {"perplexity": {"language_model": "vllm:http://127.0.0.1:9/v1#m", "api_key": KEY}}},
            "checks.perplexity.api_key: environment variable SIF_TEST_ABSENT is not set",
        ),
        (
            {"overrides": [{"match": {"team": "a"}, "settings": {"checks": {"plugins": {"absent": {}}}}}]},
            "checks.plugins.absent: no package brings it; installed: none",
        ),
    ],
)
def test_check_looks_for_what_the_settings_point_at(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    said: str,
) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded")

    for name in ("shared_language_model", "load_transformers_lm"):
        monkeypatch.setattr(f"gateway_plugin.screening.language_models.loading.{name}", load)
    document = yaml.safe_load(SHIPPED.read_text())
    document["guardrails"][0]["litellm_params"]["gateway_plugin"] |= settings
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(document))
    assert run(capsys, "check", str(config)) == (2, "", f"error: {config}: guardrail 'sda': {said}\n")


def test_check_finds_a_plugin_and_options_that_it_does_not_take(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "brought.py").write_text("def make(*, limit=1):\n    raise RuntimeError('made')\n")
    info = tmp_path / "brought-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brought\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[sifwatch.checks]\nbrought = brought:make\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    document = yaml.safe_load(SHIPPED.read_text())
    checks = document["guardrails"][0]["litellm_params"]["gateway_plugin"]["checks"]
    config = tmp_path / "c.yaml"
    for options, code, said in (
        ({"limit": 3}, 0, "good"),
        ({"limits": 3}, 2, "checks.plugins.brought: cannot be made (got an unexpected keyword argument"),
    ):
        checks["plugins"] = {"brought": {"options": options}}
        config.write_text(yaml.safe_dump(document))
        got, out, err = run(capsys, "check", str(config))
        assert got == code
        assert said in out + err


def test_score_uses_the_thresholds_and_actions_of_a_configuration(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, language_model: SmolLM2
) -> None:
    lenient = tmp_path / "c.yaml"
    lenient.write_text(SHIPPED.read_text().replace("action: block", "action: flag"))
    prompts = tmp_path / "p.jsonl"
    prompts.write_text(json.dumps({"prompt": GIBBERISH}) + "\n")
    _, out, _ = run(capsys, "score", "--prompts", str(prompts), "--config", str(lenient), "--json")
    assert json.loads(out)["decision"] == "flag"
    code, _, err = run(
        capsys, "score", "--prompts", str(prompts), "--config", str(lenient), "--guardrail", "x"
    )
    assert (code, err) == (2, f"error: {lenient}: no guardrail 'x'; there are: sda\n")


def test_calibrate_gives_settings_that_a_proxy_takes_and_a_plot(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, language_model: SmolLM2
) -> None:
    benign = tmp_path / "benign.jsonl"
    nouns = ["dog", "cat", "bus", "tree", "sign", "cup", "book", "lamp", "road", "boat"]
    verbs = ["What is the {} for?", "Where is the {} in this photo?", "Describe the {} on the left."]
    benign.write_text("\n".join(json.dumps(verb.format(noun)) for noun in nouns for verb in verbs))
    plot, out = tmp_path / "scores.svg", tmp_path / "checks.yaml"
    arguments = ["calibrate", "--benign", str(benign), "--rate", "0.2"]
    assert run(capsys, *arguments, "--plot", str(plot), "--out", str(out))[0] == 0
    assert plot.read_text().startswith("<?xml")
    checks = yaml.safe_load(out.read_text())["checks"]
    raw = {"checks": {**checks, "divergence": {"enabled": False}}}
    assert read_configuration(raw, where="x").settings.checks.perplexity.suspect_window > 1
    code, said, _ = run(capsys, *arguments, "--json")
    found = json.loads(said)
    assert (code, found["checks"], found["rate"]) == (0, checks, 0.2)
    assert sum(row["rate"] for row in found["thresholds"]) == pytest.approx(0.2)


def test_calibrate_refuses_what_it_cannot_promise(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, language_model: SmolLM2
) -> None:
    log = tmp_path / "audit.jsonl"
    row = {"findings": {"divergence": {"status": "clear", "cosine": 0.8}}}
    log.write_text("\n".join([json.dumps(row)] * 20))
    code, _, err = run(capsys, "calibrate", "--from-log", str(log), "--rate", "0.01")
    assert code == 2
    assert "20 benign exchanges are too few for a rate of 0.01: at least 99" in err
    assert run(capsys, "calibrate", "--from-log", str(log), "--rate", "0.1")[0] == 0
    assert run(capsys, "calibrate")[2] == "error: give one of --benign and --from-log\n"


def test_check_reads_a_service_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = SHIPPED.parents[1] / "gateway-api.yaml"
    for name, where in (
        ("SIF_GATEWAY_API_KEY", f"{service}: service.api_keys"),
        ("REFERENCE_API_KEY", "models.reference.api_key"),
    ):
        monkeypatch.delenv(name, raising=False)
        unset = f"error: {where}: environment variable {name} is not set\n"
        assert run(capsys, "check", str(service)) == (2, "", unset)
        monkeypatch.setenv(name, "k" * 32)
    assert run(capsys, "check", str(service))[:2] == (0, f"{service}: good, a service\n")
    wrong = tmp_path / "s.yaml"
    wrong.write_text(service.read_text().replace("gateway_plugin:", "gateway_plugin:\n  actoin: flag", 1))
    code, _, err = run(capsys, "check", str(wrong))
    assert code == 2
    assert err.startswith(f"error: {wrong}: ")
    assert "actoin" in err
