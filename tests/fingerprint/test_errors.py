"""The error tree: one line, exit code 2, and nothing else is swallowed."""

import pytest

from sif_offline.fingerprint.calibration import CalibrationError
from sif_offline.fingerprint.errors import SifError, one_line_errors
from sif_offline.fingerprint.evidence.errors import EvidenceError
from sif_offline.fingerprint.greenlist import GreenListError
from sif_offline.fingerprint.images import ImageError
from sif_offline.fingerprint.keys import KeyFileError, WrongKeyError
from sif_offline.fingerprint.metav.scoring import MetaVError
from sif_offline.fingerprint.pack import PackError


@pytest.mark.parametrize(
    "kind",
    [
        SifError,
        ImageError,
        KeyFileError,
        WrongKeyError,
        GreenListError,
        CalibrationError,
        PackError,
        EvidenceError,
        MetaVError,
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    kind: type[SifError], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped, one_line_errors():
        raise kind("a.png: first\n  second\tthird")
    assert stopped.value.code == 2
    assert capsys.readouterr() == ("", "error: a.png: first second third\n")


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), one_line_errors():
        _ = 1 / 0


def test_success_passes_through(capsys: pytest.CaptureFixture[str]) -> None:
    with one_line_errors():
        pass
    assert capsys.readouterr() == ("", "")
