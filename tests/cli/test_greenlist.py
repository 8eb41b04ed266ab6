"""``sif greenlist``: what others check us by."""

import hashlib
import json

import numpy as np
import pytest
import typer

from sif_offline.cli.greenlist import greenlist
from sif_offline.fingerprint.errors import one_line_errors
from sif_offline.fingerprint.greenlist import SCHEMES, green_mask, mask_digest

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


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_works_without_a_context(capsys: pytest.CaptureFixture[str], scheme: str) -> None:
    """The default context is all ones."""
    arguments = ("--scheme", scheme, "--key", 0, "--vocab-size", 1000)
    assert sif_greenlist(*arguments, "--sha256") == 0
    digest = capsys.readouterr().out.split()[-1]
    ones = {"kgw-simple-1": 1, "kgw-minhash": 4, "kgw-anchored-minhash": 4}.get(scheme, 0)
    assert digest == mask_digest(green_mask(key=0, vocab_size=1000, scheme=scheme, context=[1] * ones))
    assert sif_greenlist(*arguments, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    mask = np.zeros(1000, dtype=np.uint8)
    mask[shown.pop("ids")] = 1
    assert hashlib.sha256(mask.tobytes()).hexdigest() == digest
    assert shown == {
        "scheme": scheme,
        "vocab_size": 1000,
        "gamma": 0.5,
        "context": [1] * ones,
        "green_size": 500,
        "sha256": digest,
    }


def test_a_context_is_part_of_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--scheme", "kgw-anchored-minhash", "--key", 15485863, "--vocab-size", 1000, "--gamma", 0.25)
    assert sif_greenlist(*arguments, "--context", "5,17,0,3", "--sha256", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["context"] == [5, 17, 0, 3]
    assert "ids" not in shown
    # of the golden vectors, which torch made
    assert shown["sha256"] == "428a4a1aa41dd740fb11fa06dc5ae10991c69ef456f8ca01ee8ddb9f84ec8c03"
    assert sif_greenlist(*arguments, "--context", "5, 17, 0, 3", "--sha256") == 0
    line = capsys.readouterr().out.split()
    assert (line[2], line[-1]) == ("context=5,17,0,3", shown["sha256"])


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
        (
            ("--key", "0", "--context", "1"),
            "scheme unigram-philox-v1 has one list a key and takes no context",
        ),
        (("--key", "0", "--scheme", "kgw-simple-1", "--context", "a"), "--context 'a': token ids separated"),
        (("--key", "0", "--scheme", "kgw-simple-1", "--context", ""), "--context '': token ids separated"),
        (("--key", "0", "--scheme", "kgw-minhash", "--context", "1,2"), "scheme kgw-minhash needs a context"),
        (("--key", "0", "--scheme", "kgw-simple-1", "--context", "100"), "context token outside"),
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
