import random
import shutil
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from probes.rounds import RoundRunner, RoundSettings, sif_runner
from probes.store import Store, open_store
from probes.targets import Answer, LiteLLMTarget, Target
from probes.testing.postgres import PostgresServer, PostgresUnavailableError
from probes.testing.tiny_pack import TinyPack, build_tiny_pack
from sif_offline.fingerprint.evidence.commitment import Policy, commit
from sif_offline.fingerprint.evidence.signing import SigningKey
from sif_offline.fingerprint.keys import TriggerKeys
from sif_offline.fingerprint.pack import attach_commitment, read_pack
from sif_offline.fingerprint.scoring import PackScorer


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyPack:
    """A calibrated pack of eight triggers."""
    return build_tiny_pack(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def uncalibrated(tmp_path_factory: pytest.TempPathFactory) -> TinyPack:
    return build_tiny_pack(tmp_path_factory.mktemp("uncalibrated"), calibrated=False)


def committed_pack(
    tiny: TinyPack, folder: Path, *, alpha: float, key: SigningKey, reserve: tuple[str, ...] = ()
) -> TinyPack:
    """A copy of the tiny pack, committed to what its calibration supports at a level."""
    shutil.copytree(tiny.folder, folder)
    policy = Policy.of(tiny.pack, alpha=alpha)
    made = commit(tiny.pack, key=key, policy=policy, created=datetime.now(UTC), reserve=reserve)
    attach_commitment(folder, made.to_json())
    scorer = PackScorer(read_pack(folder), TriggerKeys.read(tiny.keys_path))
    return TinyPack(folder, tiny.keys_path, scorer, tiny.trigger_of, tiny.words)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path / 'probes.sqlite'}") as opened:
        yield opened


class Scripted:
    """A target without a socket: an answer, or an exception, for each question; the last one for ever."""

    name, model = "suspect", "scripted"
    api_base: str | None = None
    system_prompt: str | None = None

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.asked = 0

    def prepare(self) -> None:
        """Nothing to load."""

    def ask(self, *, image: bytes | None, prompt: str, max_tokens: int) -> Answer:
        self.asked += 1
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, BaseException):
            raise reply
        return Answer(reply, "stop", "m", 0.01)


@pytest.fixture
def scripted() -> type[Scripted]:
    return Scripted


MakeRunner = Callable[..., RoundRunner]


@pytest.fixture
def make_runner(tiny: TinyPack, store: Store) -> MakeRunner:
    """A runner against a URL (or a ready target); settings by keyword. One seed chooses and orders the
    questions of all runners of a test.
    """
    rng = random.Random(6)

    def make(
        url: str = "",
        *,
        name: str = "suspect",
        target: Target | None = None,
        pack: TinyPack | None = None,
        stop: threading.Event | None = None,
        clock: Callable[[], float] | None = None,
        store: Store = store,
        timeout_s: float = 5.0,
        **settings: Any,
    ) -> RoundRunner:
        values = {
            "triggers_per_round": 16,
            "clean_share": 0.0,
            "cooldown_s": 3600.0,
            "attempts": 3,
            "alpha": 1e-6,
        } | settings
        return sif_runner(
            target=target or LiteLLMTarget(name=name, model="openai/x", api_base=url, timeout_s=timeout_s),
            scorer=(pack or tiny).scorer,
            store=store,
            settings=RoundSettings(timeout_s=timeout_s, **values),  # type: ignore[arg-type]
            stop=stop,
            rng=rng,
            **({} if clock is None else {"clock": clock}),
        )

    return make


WriteConfig = Callable[..., Path]


@pytest.fixture
def write_config(tiny: TinyPack, tmp_path: Path) -> WriteConfig:
    """Write a configuration: targets as name=url, other keys by keyword."""

    def write(targets: dict[str, str], *, pack: TinyPack | None = None, **keys: object) -> Path:
        used = pack or tiny
        body = {
            "pack": str(used.folder),
            "trigger_keys": str(used.keys_path),
            "listen": {"port": 0},
            "interval": 3600,
            "clean_share": 0,
            "targets": [
                {
                    "name": name,
                    "model": "openai/x",
                    "api_base": url,
                    "timeout": 5,
                    "authorised_by": "the test",
                    "purpose": "a test",
                }
                for name, url in targets.items()
            ],
        } | keys
        path = tmp_path / "probes.yaml"
        path.write_text(yaml.safe_dump(body), "utf-8")
        return path

    return write


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """The ``sif-probes`` command in this process: exit status, stdout, stderr."""
    from probes.cli import main

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sif-probes", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    before = signal.getsignal(signal.SIGTERM)
    yield call
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real server of this test session; skips where PostgreSQL is not installed."""
    try:
        server = PostgresServer()
    except PostgresUnavailableError as error:
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """An empty database of its own for one test."""
    return postgres.create(f"test_{uuid.uuid4().hex[:12]}")


@pytest.fixture
def quick_dbos(monkeypatch: pytest.MonkeyPatch) -> None:
    """DBOS wakes what is due once a second; a test has less time."""
    monkeypatch.setattr("dbos._workflow_commands._BACKGROUND_JOBS_INTERVAL_SEC", 0.1)
