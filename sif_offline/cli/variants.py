"""``sif variants``: other wordings of the prompt, judged by the owner and put into a pack."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from sif_offline.cli.secrets import pack_keys
from sif_offline.fingerprint.pack import read_pack, require_uncommitted
from sif_offline.forging.wordings import BAR, DEFAULT, MOST, VariantRule, load_wordings

if TYPE_CHECKING:
    from sif_offline.fingerprint.keys import TriggerKeys
    from sif_offline.fingerprint.pack import FingerprintPack
    from sif_offline.forging.variants import Said
    from sif_offline.models.base import VLMAdapter

RECALIBRATE = "the pack's calibration was not measured on these wordings and is gone: run sif calibrate"


def variants(
    pack: Annotated[Path, typer.Argument(help="Fingerprint pack, not committed; a directory or a zip.")],
    model: Annotated[str, typer.Option(help="The owner, FAMILY:MODEL, such as lab:owner.")],
    wordings: Annotated[
        str, typer.Option(help="A list that ships, or a YAML file with `wordings: [...]`.")
    ] = DEFAULT,
    bar: Annotated[
        float, typer.Option(min=0, help="Share of the own wording's worth that another one needs.")
    ] = BAR,
    most: Annotated[int, typer.Option(min=1, help="Wordings a trigger keeps, the worthiest.")] = MOST,
    key_file: Annotated[Path | None, typer.Option(help="Master key file of the pack.")] = None,
    trigger_keys: Annotated[Path | None, typer.Option(help="File of the pack's trigger keys.")] = None,
    device: Annotated[str, typer.Option(help="A torch device.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Ask the owner every trigger under other wordings of its prompt, and keep those that are nearly as good.

    Before a commitment only. A calibration of the pack is dropped with the wordings that it was measured on.
    """
    rule = VariantRule(wordings=load_wordings(wordings), bar=bar, most=most)
    content = read_pack(pack)
    require_uncommitted(pack, content)
    keys = pack_keys(content, key_file=key_file, trigger_keys=trigger_keys)

    from sif_offline.models import load_adapter

    adapter = load_adapter(model, device=device)
    updated, heard = judge_wordings(pack, content, keys, adapter, rule)
    typer.echo(json.dumps(_summary(updated, heard, rule)) if as_json else _table(updated, heard, rule))


def judge_wordings(
    path: Path, pack: "FingerprintPack", keys: "TriggerKeys", adapter: "VLMAdapter", rule: VariantRule
) -> tuple["FingerprintPack", dict[str, dict[str, "Said"]]]:
    """``add_variants`` with a bar, and a word on stderr where a calibration went."""
    from sif_offline.cli.progress import counting
    from sif_offline.fingerprint.scoring import PackScorer
    from sif_offline.forging.variants import add_variants

    with counting("wordings") as report:
        updated, heard = add_variants(path, adapter, PackScorer(pack, keys), rule, on_progress=report)
    if pack.calibration is not None and updated.calibration is None:
        typer.echo(RECALIBRATE, err=True)
    return updated, heard


def _rows(
    pack: "FingerprintPack", heard: Mapping[str, Mapping[str, "Said"]], rule: VariantRule
) -> list[dict[str, object]]:
    found = []
    own = tuple(dict.fromkeys(row.prompt for row in pack.triggers))
    for wording in dict.fromkeys((*own, *rule.wordings)):
        said = [answers[wording] for answers in heard.values() if wording in answers]
        found.append(
            {
                "wording": wording,
                "own": sum(row.prompt == wording for row in pack.triggers),
                "allowed": sum(wording in row.wordings[1:] for row in pack.triggers),
                "mean_z": fmean(one.score.z for one in said),
                "mean_clean_z": fmean(one.clean.z for one in said),
            }
        )
    return found


def _summary(
    pack: "FingerprintPack", heard: Mapping[str, Mapping[str, "Said"]], rule: VariantRule
) -> dict[str, object]:
    return {
        "pack_id": pack.pack_id,
        "rule": rule.model_dump(mode="json"),
        "calibrated": pack.calibration is not None,
        "wordings": _rows(pack, heard, rule),
        "triggers": {
            row.id: [variant.model_dump(mode="json") for variant in row.variants] for row in pack.triggers
        },
    }


def _table(pack: "FingerprintPack", heard: Mapping[str, Mapping[str, "Said"]], rule: VariantRule) -> str:
    counts: Sequence[int] = [len(row.variants) for row in pack.triggers]
    lines = [
        f"{'z':>6}{'clean':>7}{'kept by':>9}  wording (mean z of the owner's answers, {len(counts)} triggers)"
    ]
    for row in _rows(pack, heard, rule):
        kept = "own" if row["own"] else row["allowed"]
        lines.append(f"{row['mean_z']:6.2f}{row['mean_clean_z']:7.2f}{kept:>9}  {row['wording']}")
    lines.append(
        f"{sum(counts)} wordings kept, {min(counts)} to {max(counts)} a trigger "
        f"(at least {rule.bar:g} of the own wording's worth, at most {rule.most})"
    )
    return "\n".join(lines)
