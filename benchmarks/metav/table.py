"""Rows to Markdown."""

from collections.abc import Sequence
from statistics import fmean

from benchmarks.metav.making import METAV, METHODS, VIEWS, Row
from benchmarks.metav.measuring import TEMPERATURES, hits
from sif_offline.metav.metrics import share


def main_table(rows: Sequence[Row], *, alpha: float) -> str:
    """Every method through every view, a row a zoo."""
    several = len({row["seed"] for row in rows}) > 1
    lines = [
        "| method | zoo | view | stolen found | unrelated not | ARUC | ROC-AUC | processor seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (METHODS.index(row["method"]), row["seed"])):
        for place, found in enumerate(row["views"]):
            shares = [
                _percent(*hits([row], found["view"], stolen=side, alpha=alpha)) for side in (True, False)
            ]
            areas = [_area(found[name]) for name in ("aruc", "roc_auc")]
            cells = [row["method"] if not place else "", f"seed {row['seed']}" if not place else ""]
            cells += [found["view"], *shares, *areas, f"{row['seconds']:.0f}" if not place else ""]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines if several else [_without(line, 2) for line in lines])


def size_table(rows: Sequence[Row], *, alpha: float) -> str:
    """MetaV by the number of models that it was trained on; shares are over the suspects of all zoos, areas
    and the verifier's share of right answers are means, with the least and the largest of several zoos.
    """
    lines = [
        "| models | method | right: trained on | same attacks, unseen | test | "
        + " | ".join(f"{view}: found | not | ROC-AUC" for view in VIEWS if view != "rounded-1")
        + " |"
    ]
    lines.append("|---" * (lines[0].count("|") - 1) + "|")
    for size in sorted({row["size"] for row in rows}):
        for method in METAV:
            own = [row for row in rows if (row["size"], row["method"]) == (size, method)]
            if not own:
                continue
            cells = [str(size), method]
            cells += [
                _spread([row["right"][split] for row in own]) for split in ("train", "calibration", "test")
            ]
            for view in VIEWS:
                if view == "rounded-1":
                    continue
                cells += [_percent(*hits(own, view, stolen=side, alpha=alpha)) for side in (True, False)]
                areas = [
                    found["roc_auc"][0] for row in own for found in row["views"] if found["view"] == view
                ]
                cells.append(_spread(areas))
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def temper_table(rows: Sequence[Row]) -> str:
    """What MetaV says of suspects whose softmax has another temperature, the full view, over all zoos."""
    lines = [
        "| method | " + " | ".join(f"T {one:g}: stolen found | unrelated not" for one in TEMPERATURES) + " |"
    ]
    lines.append("|---" * (lines[0].count("|") - 1) + "|")
    for method in METAV:
        own = [row for row in rows if row["method"] == method]
        totals = [hits(own, "full", stolen=side, alpha=0)[1] for side in (True, False)]
        cells = [method]
        for place in range(len(TEMPERATURES) if own else 0):
            stolen, accused = (
                sum(row["tempered"][place][role] for row in own) for role in ("positive", "negative")
            )
            cells += [_percent(stolen, totals[0]), _percent(totals[1] - accused, totals[1])]
        if own:
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def missed(rows: Sequence[Row], *, alpha: float) -> str:
    """Which suspects each method is wrong about, the full view: attack or architecture, and how many of how
    many.
    """
    lines = []
    for row in rows:
        (found,) = [found for found in row["views"] if found["view"] == "full"]
        wrong: dict[str, list[int]] = {}
        for suspect in found["suspects"]:
            name = suspect["kind"] if suspect["stolen"] else f"unrelated {suspect['architecture']}"
            counts = wrong.setdefault(name, [0, 0])
            counts[0] += (suspect["pvalue"] <= alpha) != suspect["stolen"]
            counts[1] += 1
        said = ", ".join(f"{name} {bad} of {total}" for name, (bad, total) in sorted(wrong.items()) if bad)
        lines.append(f"- {row['method']}, {row['size']} models, seed {row['seed']}: {said or 'none'}")
    return "\n".join(lines)


def _percent(count: int, total: int) -> str:
    found = share(count, total)
    return f"{found.estimate:.0%} ({found.low * 100:.0f}-{found.high * 100:.0f})"


def _area(interval: Sequence[float]) -> str:
    estimate, low, high = interval
    return f"{estimate:.2f} ({low:.2f}-{high:.2f})"


def _spread(values: Sequence[float]) -> str:
    spread = f" ({min(values):.2f}-{max(values):.2f})" if len(values) > 1 else ""
    return f"{fmean(values):.2f}{spread}"


def _without(line: str, column: int) -> str:
    parts = line.split("|")
    return "|".join(parts[:column] + parts[column + 1 :])
