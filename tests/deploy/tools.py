"""Programs that check what an operator copies. They come with the dev extra, or with Debian's packages."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"


def found(name: str, *, comes_with: str) -> str:
    """A program of this environment or of the system; skips the test where there is none."""
    beside = Path(sys.executable).with_name(name)
    path = str(beside) if beside.exists() else shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed ({comes_with})")
    return path


def with_the_comment(file: Path, key: str, folder: Path) -> Path:
    """A copy of a YAML file in which the commented line of a key is none."""
    made, found = re.subn(rf"^( *)# (?={key} )", r"\1", file.read_text("utf-8"), flags=re.MULTILINE)
    assert found == 1, key
    copy = folder / file.name
    copy.write_text(made, "utf-8")
    return copy


def passes(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """Run a command that must succeed; what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env=environment or None,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
