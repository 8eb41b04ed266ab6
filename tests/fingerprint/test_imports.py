"""The fingerprint is quick to import and drags nothing heavy in: probe hosts and gateways rest on it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import sif_offline.fingerprint

ROOT = Path(sif_offline.fingerprint.__file__).parent
MODULES = sorted(
    ".".join(("sif_offline", "fingerprint", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    )
    for path in ROOT.rglob("*.py")
)
HEAVY = {"torch", "transformers", "scipy", "scipy.stats", "matplotlib", "litellm", "sklearn", "pandas"}


def fresh(code: str) -> dict:
    """Run ``code`` in an interpreter of its own; it leaves ``result``."""
    script = f"import json, sys, time\nstart = time.process_time()\n{code}\nprint(json.dumps(result))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("module", MODULES)
def test_no_module_loads_anything_heavy(module: str) -> None:
    loaded = fresh(f"import {module}\nresult = sorted(sys.modules)")
    assert not HEAVY & set(loaded)


@pytest.mark.parametrize("name", ["fingerprint", "fingerprint.scoring", "fingerprint.sequential"])
def test_import_takes_less_than_three_tenths_of_a_second(name: str) -> None:
    """Processor time, best of five, so that a busy machine does not decide."""
    code = f"import sif_offline.{name}\nresult = time.process_time() - start"
    assert min(fresh(code) for _ in range(5)) < 0.3


def test_scoring_at_run_time_needs_no_scipy() -> None:
    loaded = fresh(
        "from sif_offline.fingerprint.scoring import ResponseScore, combine\n"
        "from sif_offline.fingerprint.sequential import log_evalue_beta\n"
        "s = ResponseScore.from_counts(greens=30, types=40, vocab_size=4096, green_size=2048)\n"
        "combine([s, s]); combine([s], transfer=.05); log_evalue_beta(successes=80, failures=38, gamma=.5)\n"
        "result = [m for m in sys.modules if m.startswith('scipy')]"
    )
    assert loaded == []


def test_calibration_loads_scipy_special_alone() -> None:
    loaded = fresh(
        "from sif_offline.fingerprint.scoring import ResponseScore\n"
        "from sif_offline.fingerprint.calibration import calibrate\n"
        "s = ResponseScore.from_counts(greens=15, types=40, vocab_size=4096, green_size=2048)\n"
        "calibrate({'a': {'t': s}})\n"
        "result = [m for m in sys.modules if m in ('scipy.stats', 'scipy.special')]"
    )
    assert loaded == ["scipy.special"]
