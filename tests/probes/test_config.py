"""The table of bad files and their exact messages, and what a good one becomes."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from probes.config import ConfigError, load_config

GOOD = """\
pack: pack
trigger_keys: keys.json
targets:
  - name: suspect
    model: openai/x
    api_base: http://127.0.0.1:8000/v1
    authorised_by: Jane Doe
    purpose: licence check
"""


ALLOW = "    allow: {name: owner, secret_env: OUR_GATEWAY}\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "probes.yaml"
    path.write_text(text, "utf-8")
    return path


def test_a_good_file_with_defaults_and_paths_of_its_folder(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD + "interval: 90m\ncooldown: 7d\n"))
    assert (config.interval, config.cooldown, config.alpha) == (5400, 7 * 86400, None)
    assert config.pack == tmp_path / "pack"
    assert config.store == f"sqlite:///{tmp_path / 'sif-probes.sqlite'}"
    assert config.targets[0].timeout == 60


BAD = [
    ("interval: [", "is not valid YAML: expected the node content, but found '<stream end>' (line 1)"),
    ("- a\n- b\n", "must be a mapping of keys"),
    (GOOD + "pack: other\n", "is not valid YAML: the key pack stands twice (line 9)"),
    (GOOD + "intervall: 1h\n", "intervall: unknown key"),
    (GOOD + "interval: fast\n", "interval: must be seconds or a duration such as 30s, 15m, 1h or 7d"),
    (GOOD + "interval: 0\n", "interval: Input should be greater than 0"),
    (GOOD + "alpha: 1\n", "alpha: Input should be less than or equal to 0.05"),
    (GOOD + "triggers_per_round: 0\n", "triggers_per_round: Input should be greater than or equal to 1"),
    (GOOD + "store: nonsense\n", "store: must be a SQLAlchemy URL, as sqlite:///probes.sqlite is"),
    (GOOD + "listen: {port: 70000}\n", "listen.port: Input should be less than or equal to 65535"),
    (GOOD.replace("    purpose: licence check\n", ""), "targets.0.purpose: is required"),
    (GOOD.replace("Jane Doe", "' '"), "targets.0.authorised_by: must not be empty"),
    (GOOD.replace("pack: pack\n", ""), "pack: is required"),
    (
        GOOD + "    api_key: sk-123456\n",
        "targets.0.api_key: a key is never written here; give api_key_env or api_key_file",
    ),
    (
        GOOD + "    api_key_env: A\n    api_key_file: b\n",
        "targets.0: give api_key_env or api_key_file, not both",
    ),
    (
        GOOD.replace("http://", "http://me:secret@"),
        "targets.0.api_base: must not hold credentials; use api_key_env or api_key_file",
    ),
    (GOOD.replace("http://", "ftp://"), "targets.0.api_base: must be an http:// or https:// URL"),
    (GOOD + GOOD.partition("targets:\n")[2], "file: two targets are named suspect"),
    (GOOD.replace("name: suspect", "name: 'a b'"), "targets.0.name: String should match pattern"),
    (
        GOOD.replace("openai/x", "anthropic/x") + ALLOW,
        "targets.0: allow: only for an OpenAI-compatible server (model: openai/..., with api_base)",
    ),
    (GOOD + ALLOW.replace("owner", "a;b"), "targets.0.allow.name: String should match pattern"),
    ("pack: p\ntrigger_keys: k\ntargets: []\n", "file: targets: at least one is needed"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_a_bad_file_has_one_message(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "secret" not in str(caught.value)
    assert "sk-123456" not in str(caught.value)
    assert ";" not in str(caught.value).replace(message, ""), "more than one problem reported for one mistake"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "absent.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load_config(binary)


def test_credentials_come_by_name_and_never_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUSPECT_KEY", raising=False)
    headers = "    headers: {X-Account: hunter2secret}\n"
    (by_env,) = load_config(write(tmp_path, GOOD + headers + "    api_key_env: SUSPECT_KEY\n")).targets
    with pytest.raises(ConfigError, match=r"^target suspect: environment variable SUSPECT_KEY is not set"):
        by_env.read_api_key()
    monkeypatch.setenv("SUSPECT_KEY", "sk-abc")
    assert by_env.read_api_key() == SecretStr("sk-abc")
    assert "sk-abc" not in repr(by_env)
    assert "hunter2secret" not in repr(by_env)

    (by_file,) = load_config(write(tmp_path, GOOD + "    api_key_file: key.txt\n")).targets
    with pytest.raises(ConfigError, match=r"^target suspect: .*key\.txt: No such file"):
        by_file.read_api_key()
    (tmp_path / "key.txt").write_text("sk-def\n")
    assert by_file.read_api_key() == SecretStr("sk-def")


def test_the_secret_of_an_allow_list_comes_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (plain,) = load_config(write(tmp_path, GOOD)).targets
    assert plain.read_signer() is None
    (target,) = load_config(write(tmp_path, GOOD + ALLOW)).targets
    for wrong in ("", "too short"):
        monkeypatch.setenv("OUR_GATEWAY", wrong)
        with pytest.raises(ConfigError, match=r"^target suspect: environment variable OUR_GATEWAY: needs"):
            target.read_signer()
    monkeypatch.setenv("OUR_GATEWAY", "0123456789abcdef" * 2)
    signer = target.read_signer()
    assert signer is not None
    assert (signer.name, signer.secret) == ("owner", b"0123456789abcdef" * 2)


def test_the_example_in_deploy_is_valid() -> None:
    example = Path(__file__).parents[2] / "deploy" / "probes.yaml"
    config = load_config(example)
    assert config.cooldown == 7 * 86400
    assert config.targets[0].api_key_env == "EXAMPLE_SUSPECT_KEY"
