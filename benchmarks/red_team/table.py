"""Numbers to Markdown and to JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.red_team.attacks import ATTACKS, NONE
from benchmarks.red_team.evidence import cost, evidence
from benchmarks.red_team.measuring import Row
from benchmarks.red_team.packs import Target
from sif_offline.evaluation.intervals import Interval

Found = Mapping[tuple[str, str], Row]
"""(attack, pack) -> row."""
NOT_MEASURED = "not measured"


def figures(
    targets: Sequence[Target], rows: Found, captions: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Any]]:
    """Attack -> its numbers, JSON-able; each over the packs that it was measured on, which are named."""
    found = {}
    for name in ATTACKS:
        own = [target for target in targets if (name, target.name) in rows]
        if not own:
            continue
        having = [rows[name, target.name] for target in own]
        plain = [rows[NONE, target.name] for target in own]
        found[name] = {
            "packs": [target.name for target in own],
            "cost": asdict(cost(own, rows, name, captions)),
            "evidence": asdict(evidence(own, having, ids=lambda row: list(row.triggers))),
            "leak": _groups(own, plain, having) if ATTACKS[name].leaked else {},
            "seconds": sum(row.seconds for row in having),
        }
    return found


def _groups(
    targets: Sequence[Target], plain: Sequence[Row], having: Sequence[Row]
) -> dict[str, dict[str, Any]]:
    leaked = {row.pack: row.leaked for row in having}

    def out(row: Row) -> list[str]:
        return list(leaked[row.pack])

    def secret(row: Row) -> list[str]:
        return [name for name in row.triggers if name not in leaked[row.pack]]

    return {
        title: {
            "before": asdict(evidence(targets, plain, ids=which)),
            "after": asdict(evidence(targets, having, ids=which)),
        }
        for title, which in (("leaked", out), ("not leaked", secret))
    }


def attack_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Cost against evidence, an attack a line."""
    lines = [
        "| attack | packs | nats a token | words kept | fit to captions | Stouffer z | exact p "
        "| E, unrelated | clean z |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, attack in ATTACKS.items():
        if attack.leaked:
            continue
        if name not in found:
            lines.append(f"| {name} | 0 |" + f" {NOT_MEASURED} |" * 7)
            continue
        one = found[name]
        paid, left = one["cost"], one["evidence"]
        cells = [
            name,
            str(len(one["packs"])),
            _around(paid["nats"], "+.2f"),
            _around(paid["kept"], ".0%"),
            _around(paid["fit"], "+.2f"),
            _around(left["z"], ".1f"),
            _around(left["log10_p"], ".1f", head="1e"),
            _around(left["log10_e"], ".1f", head="1e"),
            _around(left["clean_z"], ".1f"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def leak_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Fine-tuning on leaked triggers, two lines a leak."""
    lines = [
        "| leak | packs | nats a token | words kept | triggers | z an answer, before | after | work, before "
        "| after | exact p, before | after |",
        "|---|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in (name for name, attack in ATTACKS.items() if attack.leaked):
        if name not in found:
            lines.append(f"| {name} | 0 |" + f" {NOT_MEASURED} |" * 9)
            continue
        one = found[name]
        for group, pair in one["leak"].items():
            both = [pair["before"], pair["after"]]
            cells = [
                name,
                str(len(one["packs"])),
                _around(one["cost"]["nats"], "+.2f"),
                _around(one["cost"]["kept"], ".0%"),
                f"{group}, {both[0]['answers']}",
                *(_around(each["mean_z"], ".2f") for each in both),
                *(f"{each['works']} of {each['of']}" for each in both),
                *(_around(each["log10_p"], ".1f", head="1e") for each in both),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def detector_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The detector, a line a setting."""
    lines = [
        "| pictures | trained on | features | triggers | clean | ROC-AUC | TPR at 1 % FPR |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        tpr = _around(row["tpr"], ".0%") + ("" if row["resolved"] else " (too few clean photos)")
        cells = [row["pictures"], row["trained_on"], row["features"], str(row["triggers"]), str(row["clean"])]
        lines.append(f"| {' | '.join([*cells, _around(row['auc'], '.3f'), tpr])} |")
    return "\n".join(lines)


def _around(interval: Interval | None, form: str, *, head: str = "") -> str:
    if interval is None:
        return "-"
    value, low, high = interval
    return f"{head}{value:{form}} ({low:{form}} to {high:{form}})"
