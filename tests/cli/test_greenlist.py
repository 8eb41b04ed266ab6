"""``sif greenlist``: what others check us by."""

import hashlib

import numpy as np
import pytest
import typer

from sif_offline.cli.greenlist import greenlist
from sif_offline.fingerprint.errors import one_line_errors

app = typer.Typer()
app.command()(greenlist)


def sif_greenlist(*arguments: object) -> int:
    """Run the command as ``sif`` does; its exit code."""
    try:
        with one_line_errors():
            typer.main.get_command(app).main([str(a) for a in arguments], standalone_mode=True)
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def test_the_digest_is_the_last_word(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "--scheme",
        "unigram-zhao",
        "--key",
        "0",
        "--vocab-size",
        "50257",
        "--gamma",
        "0.5",
        "--sha256",
    )
    assert sif_greenlist(*arguments) == 0
    assert capsys.readouterr().out.split()[-1].startswith("4fb7d86d")


@pytest.mark.parametrize("key", ["0", "-5", "hex:" + "ab" * 32])
def test_the_ids_are_the_mask_of_the_digest(capsys: pytest.CaptureFixture[str], key: str) -> None:
    assert sif_greenlist("--key", key, "--vocab-size", 4096, "--ids") == 0
    ids = np.array(capsys.readouterr().out.split(), dtype=int)
    mask = np.zeros(4096, dtype=np.uint8)
    mask[ids] = 1
    assert len(ids) == 2048
    assert np.all(np.diff(ids) > 0)
    assert sif_greenlist("--key", key, "--vocab-size", 4096, "--sha256") == 0
    assert capsys.readouterr().out.split()[-1] == hashlib.sha256(mask.tobytes()).hexdigest()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--key", "zero"), "--key: an integer or hex:<digits> is expected"),
        (("--key", "hex:xyz"), "--key: an integer or hex:<digits> is expected"),
        (("--key", str(2**63)), "an integer key is a signed 64-bit number"),
        (("--key", "0", "--scheme", "mine"), "unknown green-list scheme 'mine'; known: unigram-philox-v1"),
        (("--key", "0", "--gamma", "1"), "gamma 1.0 is outside 0 .. 1"),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert sif_greenlist("--vocab-size", 100, *arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"error: {message}")
    assert shown.err.count("\n") == 1
