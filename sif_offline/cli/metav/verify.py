"""``sif metav verify``: is this model the owner's?"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sif_offline.fingerprint.errors import SifError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sif_offline.fingerprint.metav.pack import MetaVPack


class OptionsError(SifError):
    """Options that do not go together, or a file that holds no answers."""


def verify(
    pack: Annotated[Path, typer.Argument(help="A pack of kind metav.")],
    model: Annotated[
        Path | None, typer.Option(help="The suspect: a model's safetensors file as a zoo has them.")
    ] = None,
    zoo: Annotated[Path | None, typer.Option(help="A zoo; with --member.")] = None,
    member: Annotated[str | None, typer.Option(help="The suspect: a member of --zoo.")] = None,
    answers: Annotated[
        Path | None,
        typer.Option(help="What the suspect answered: a .npy file, a row a query, in the pack's order."),
    ] = None,
    view: Annotated[
        str, typer.Option(help="What its API leaves of an output: full, rounded-DECIMALS, top-K, label.")
    ] = "full",
    alpha: Annotated[
        float | None, typer.Option(min=0, max=1, help="p at which the verdict is confirmed. [never]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Rank a suspect among unrelated models; the verdict is none, suspicious or confirmed.

    The p-value is conformal and never below 1/(n + 1) for the pack's n held-out models, however often a
    suspect is asked; an ALPHA below that is never reached.
    """
    from sif_offline.fingerprint.metav.pack import read_metav_pack
    from sif_offline.fingerprint.metav.scoring import MetaVScorer, metav_verdict

    given = [name for name, value in (("model", model), ("zoo", zoo), ("answers", answers)) if value]
    if len(given) != 1 or (zoo is None) != (member is None):
        raise OptionsError("the suspect is one of --model FILE, --zoo DIR --member NAME or --answers FILE")
    read = read_metav_pack(pack)
    scorer = MetaVScorer(read, view=view)
    outputs = _read_answers(answers) if answers else _asked(read, model, zoo, member)
    score = scorer.score(outputs)
    told: dict[str, Any] = {
        "pack_id": read.pack_id,
        "suspect": str(model or answers or member),
        "view": view,
        "log_odds": score.log_odds,
        "pvalue": score.pvalue,
        "negatives": score.negatives,
        "floor": score.floor,
        "alpha": alpha,
        "verdict": metav_verdict(score, alpha=alpha),
    }
    typer.echo(json.dumps(told) if as_json else _words(told))


def _read_answers(path: Path) -> "NDArray[np.float64]":
    import numpy as np

    try:
        with path.open("rb") as stream:
            return np.asarray(np.load(stream, allow_pickle=False), dtype=np.float64)
    except (OSError, ValueError, EOFError, TypeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no array of numbers in numpy's format"
        raise OptionsError(f"{path}: {why}") from None


def _asked(
    pack: "MetaVPack", model: Path | None, zoo: Path | None, member: str | None
) -> "NDArray[np.float32]":
    from sif_offline.metav.packing import answers_of, queries_of
    from sif_offline.metav.zoo import load_model, read_zoo

    if model is not None:
        suspect = load_model(model)
    else:
        built = read_zoo(str(zoo))
        suspect = built.model(built.named(str(member)))
    if (suspect.task.input, suspect.task.output) != (pack.input, pack.output):
        raise OptionsError(
            f"{model or member}: a model of task {suspect.task.name} takes other inputs or gives other "
            f"outputs than pack {pack.pack_id} is about"
        )
    found: NDArray[np.float32] = answers_of([suspect], queries_of(pack))[0]
    return found


def _words(told: dict[str, Any]) -> str:
    lines = [
        f"{told['suspect']}: {told['verdict']}",
        f"  log-odds {told['log_odds']:.2f}, p {told['pvalue']:.3g} among {told['negatives']} unrelated "
        f"models through view {told['view']} (never below {told['floor']:.3g})",
    ]
    if told["alpha"] is not None and told["alpha"] < told["floor"]:
        lines.append(f"  so few models can never confirm at alpha {told['alpha']:.3g}")
    return "\n".join(lines)
