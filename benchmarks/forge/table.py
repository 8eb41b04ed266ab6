"""Rows to figures: ratios on the photos that two columns share, z paired with its interval."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.forge.columns import BASE, COLUMNS, OURS

FRESH = ("fresh:noise", "fresh:jpeg-75", "fresh:temperature-1")
LEVEL = 0.95


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures by column, and the headline: ours against the plain loop."""
    by_column: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        by_column.setdefault(row["column"], {})[row["photo"]] = row
    base = by_column[BASE]
    columns = {
        column.name: _against(base, by_column[column.name]) for column in COLUMNS if column.name in by_column
    }
    return {"columns": columns, "speedup": columns[OURS]["speedup"] if OURS in columns else None}


def _against(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    photos = sorted(base.keys() & own.keys())
    cpu = [float(own[photo]["cpu_seconds"]) for photo in photos]
    base_cpu = [float(base[photo]["cpu_seconds"]) for photo in photos]
    wall = [float(own[photo]["wall_seconds"]) for photo in photos]
    base_wall = [float(base[photo]["wall_seconds"]) for photo in photos]
    return {
        "photos": len(photos),
        "cpu_seconds": float(np.mean(cpu)),
        "wall_seconds": float(np.mean(wall)),
        "speedup": sum(base_cpu) / sum(cpu),
        "wall_speedup": sum(base_wall) / sum(wall),
        "z_greedy": float(np.mean([own[photo]["z"]["greedy"] for photo in photos])),
        "z_fresh": float(np.mean([_fresh(own[photo]) for photo in photos])),
        "greedy_minus_plain": _paired(
            [own[photo]["z"]["greedy"] - base[photo]["z"]["greedy"] for photo in photos]
        ),
        "fresh_minus_plain": _paired([_fresh(own[photo]) - _fresh(base[photo]) for photo in photos]),
    }


def _fresh(row: Mapping[str, Any]) -> float:
    return float(np.mean([row["z"][name] for name in FRESH]))


def _paired(differences: Sequence[float]) -> list[float | None]:
    """Mean and Student interval over photos; no interval of fewer than two."""
    mean = float(np.mean(differences))
    if len(differences) < 2:
        return [mean, None, None]
    half = float(
        stats.t.ppf((1 + LEVEL) / 2, len(differences) - 1)
        * np.std(differences, ddof=1)
        / math.sqrt(len(differences))
    )
    return [mean, mean - half, mean + half]


def table(setup: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """For people and for docs/benchmarks-forge.md."""
    lines = [", ".join(f"{name} {value}" for name, value in setup.items()), ""]
    lines.append(
        "| loop | photos | s a trigger (CPU) | times faster (CPU) | times faster (wall) | z greedy | z fresh "
        "| greedy - plain, 95 % | fresh - plain, 95 % |"
    )
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for name, row in found["columns"].items():
        lines.append(
            f"| {name} | {row['photos']} | {row['cpu_seconds']:.1f} | {row['speedup']:.2f} "
            f"| {row['wall_speedup']:.2f} | {row['z_greedy']:.2f} | {row['z_fresh']:.2f} "
            f"| {_interval(row['greedy_minus_plain'])} | {_interval(row['fresh_minus_plain'])} |"
        )
    return "\n".join(lines) + "\n"


def _interval(values: Sequence[float | None]) -> str:
    mean, low, high = values
    if low is None or high is None:
        return f"{mean:+.2f}"
    return f"{mean:+.2f} ({low:+.2f} .. {high:+.2f})"
