"""The measures of benign exchanges, from findings or from an audit log."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway_plugin.json_lines import json_rows
from gateway_plugin.screening.base import Finding, Status
from gateway_plugin.screening.calibration.conformal import CalibrationError
from gateway_plugin.screening.calibration.measures import Row

MEASURED = frozenset({Status.CLEAR, Status.SUSPECT, Status.HIT})


def rows_of_findings(findings: Iterable[Sequence[Finding]]) -> tuple[list[Row], int]:
    """The measures of benign exchanges, and how many of them some check could not measure."""
    kept = list(findings)
    rows: list[Row] = [
        {finding.check: finding.measures for finding in each if finding.status in MEASURED} for each in kept
    ]
    return rows, sum(len(row) < len(each) for row, each in zip(rows, kept, strict=True))


def rows_of_log(lines: Iterable[str], *, name: str) -> tuple[list[Row], int]:
    """The measures in an audit log, one JSON object a line with ``findings: {check: {status, ...}}``.

    The log is taken to be benign: an attack in it raises the thresholds. Raises :class:`CalibrationError`
    naming the line. Also returns how many records some check could not measure.
    """
    rows: list[Row] = []
    missing = 0
    for where, record in json_rows(lines, name=name, error=CalibrationError):
        findings = record.get("findings") if isinstance(record, dict) else None
        if not isinstance(findings, dict):
            raise CalibrationError(f'{where}: no "findings"')
        row = {check: _numbers(found) for check, found in findings.items() if _measured(found)}
        missing += len(row) < len(findings)
        rows.append(row)
    return rows, missing


def _measured(found: Any) -> bool:
    return isinstance(found, dict) and found.get("status") in {status.value for status in MEASURED}


def _numbers(found: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a finding, whether they stand beside its status or under ``measures``."""
    nested = found.get("measures")
    both = {**found, **(nested if isinstance(nested, dict) else {})}
    return {
        key: float(value)
        for key, value in both.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
