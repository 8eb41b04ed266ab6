"""docs/green-lists.md: its programs run and agree with us, and no scheme is left out."""

import json
import re
from pathlib import Path

import pytest

from sif_offline.fingerprint.greenlist import SCHEMES, context_width, green_mask, mask_digest

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "green-lists.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)


def test_the_table_of_schemes_is_complete() -> None:
    table = DOCUMENT.split("## The schemes")[1].split("###")[0]
    assert re.findall(r"^\| `([\w-]+)`", table, re.MULTILINE) == list(SCHEMES)


def test_the_number_of_golden_vectors_is_theirs() -> None:
    rows = json.loads((ROOT / "tests" / "fingerprint" / "golden" / "greenlist.json").read_text())["masks"]
    assert f"{len(rows)} golden vectors" in DOCUMENT


@pytest.mark.parametrize("program", PROGRAMS, ids=["own", "kgw", "zhao"])
def test_programs_run_and_their_checks_hold(program: str) -> None:
    names: dict = {}
    exec(program, names)
    for scheme, digest in names.get("digests", {}).items():
        context = [5, 17, 0, 3][4 - context_width(scheme) :]
        assert digest == mask_digest(
            green_mask(key=15485863, vocab_size=32000, scheme=scheme, context=context)
        )
