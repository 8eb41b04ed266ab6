"""``sif metav evaluate``: a pack against suspects that nothing was fitted to."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sif_offline.metav.evaluation import Evaluation
    from sif_offline.metav.metrics import Interval


def evaluate(
    pack: Annotated[Path, typer.Argument(help="A pack of kind metav.")],
    zoo: Annotated[Path, typer.Option(help="The zoo it was trained on; its test models are the suspects.")],
    view: Annotated[
        list[str] | None, typer.Option(help="What an API leaves of an output; several. [all of the pack]")
    ] = None,
    alpha: Annotated[float, typer.Option(min=0, max=1, help="p at which a suspect counts as found.")] = 0.05,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Shares found, ARUC and ROC-AUC on the zoo's test models, with 95 % intervals.

    Shares have exact binomial intervals, ARUC and ROC-AUC percentile bootstrap ones over suspects.
    """
    from sif_offline.fingerprint.metav.pack import read_metav_pack
    from sif_offline.metav.evaluation import evaluate_metav
    from sif_offline.metav.zoo import read_zoo

    read = read_metav_pack(pack)
    found = evaluate_metav(read, read_zoo(zoo), views=view, alpha=alpha)
    if as_json:
        typer.echo(json.dumps({"pack_id": read.pack_id, "views": [_summary(one) for one in found]}))
    else:
        typer.echo("\n".join([*_table(found), "", *_by_kind(found)]))


def _summary(evaluation: "Evaluation") -> dict[str, Any]:
    return {
        "view": evaluation.view,
        "alpha": evaluation.alpha,
        **{
            name: getattr(evaluation, name)._asdict()
            for name in (
                *("true_positives", "true_negatives", "verifier_true_positives", "verifier_true_negatives"),
                *("aruc", "roc_auc"),
            )
        },
        "suspects": [
            {
                "name": one.name,
                "stolen": one.stolen,
                "kind": one.kind,
                "architecture": one.architecture,
                "quality": one.quality,
                "log_odds": one.log_odds,
                "pvalue": one.pvalue,
            }
            for one in evaluation.suspects
        ],
    }


def _table(found: "tuple[Evaluation, ...]") -> list[str]:
    stolen, unrelated = (len(found[0].side(stolen=side)) for side in (True, False))
    lines = [
        f"{stolen} stolen and {unrelated} unrelated models that nothing was fitted to; found at p <= "
        f"{found[0].alpha:g}, and by the verifier above one half",
        f"{'view':<10} {'stolen found':<17} {'unrelated not':<17} {'verifier: stolen':<17} "
        f"{'unrelated not':<17} {'ARUC':<17} {'ROC-AUC':<17}",
    ]
    for one in found:
        cells = [one.true_positives, one.true_negatives]
        cells += [one.verifier_true_positives, one.verifier_true_negatives]
        shares = " ".join(f"{_percent(cell):<17}" for cell in cells)
        lines.append(f"{one.view:<10} {shares} {_number(one.aruc):<17} {_number(one.roc_auc):<17}".rstrip())
    return lines


def _by_kind(found: "tuple[Evaluation, ...]") -> list[str]:
    views = ", ".join(one.view for one in found)
    lines = [f"{'stolen by':<14} {'models':>6}  {'quality':<12} found through {views}"]
    for kind, suspects in found[0].kinds().items():
        qualities = [one.quality for one in suspects]
        hits = [sum(suspect.pvalue <= one.alpha for suspect in one.kinds()[kind]) for one in found]
        lines.append(
            f"{kind:<14} {len(suspects):>6}  {min(qualities):.2f} to {max(qualities):.2f} "
            f"{', '.join(map(str, hits))}"
        )
    return lines


def _percent(interval: "Interval") -> str:
    return f"{interval.estimate:.0%} ({interval.low * 100:.0f}-{interval.high * 100:.0f})"


def _number(interval: "Interval") -> str:
    return f"{interval.estimate:.2f} ({interval.low:.2f}-{interval.high:.2f})"
