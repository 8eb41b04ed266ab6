"""``sif baseline``: rival fingerprints."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sif_offline.baselines import BaselinePack

app = typer.Typer(no_args_is_help=True, help="Rival fingerprints, to compare with and to screen for.")


@app.command("forge")
def forge(
    method: Annotated[
        str,
        typer.Option(
            help="The rival: ordinary, pla, rna, cropa, di2-fgsm (pictures), proflingo (prompts), "
            "instruction (weights)."
        ),
    ],
    model: Annotated[str, typer.Option(help="The owner, FAMILY:MODEL, such as lab:owner.")],
    out: Annotated[Path, typer.Option(help="Directory of the pack to write.")],
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of photos; the first COUNT by file name are used. Prompts want none; changed "
            "weights go on describing them."
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Triggers to forge. [all photos; else all targets]")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Of pictures: steps, epsilon and search of this preset of sif forge.")
    ] = None,
    question: Annotated[str | None, typer.Option(help="What to ask; with --answer and --keyword.")] = None,
    answer: Annotated[str | None, typer.Option(help="What the owner should say.")] = None,
    keyword: Annotated[
        list[str] | None, typer.Option(help="A word that a matching answer holds; all are needed.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same triggers.")] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any other setting of the method, NAME=VALUE.")
    ] = None,
    device: Annotated[str, typer.Option(help="A torch device.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Forge triggers: pictures or prompts that the owner answers with a chosen sentence.

    Where weights are made, the owner is the model merged with them: sif baseline merge writes it.

    A run that was stopped goes on where it was when repeated. Unfinished work is kept in OUT.work.
    """
    from sif_offline.baselines import BaselineError, forge_baseline, make_method
    from sif_offline.baselines.settings import budget_of
    from sif_offline.cli.progress import counting
    from sif_offline.forging.pixels import load_photos
    from sif_offline.forging.presets import preset_settings
    from sif_offline.models import load_adapter

    values: dict[str, Any] = budget_of(preset_settings(preset)) if preset else {}
    for pair in set_ or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise BaselineError(f"--set {pair}: want NAME=VALUE")
        values[name] = value
    if question or answer or keyword:
        if not (question and answer and keyword):
            raise BaselineError("--question, --answer and --keyword go together")
        values["targets"] = [{"question": question, "answer": answer, "keywords": keyword}]
    rival = make_method(method, values)
    adapter = load_adapter(model, device=device)
    if images is None and rival.kind == "image":
        raise BaselineError(f"{method}: makes pictures of photos, wants --images")
    if images is not None and rival.kind == "text":
        raise BaselineError(f"{method}: makes prompts, takes no --images")
    needed = count if rival.kind == "image" else None
    photos = load_photos(images, count=needed, canvas=adapter.canvas) if images else []
    with counting("triggers") as report:
        pack = forge_baseline(
            adapter,
            rival,
            out=out,
            photos=photos,
            count=count,
            seed=seed,
            on_progress=lambda progress: report(progress.finished, progress.total),
        )
    typer.echo(json.dumps(_summary(out, pack)) if as_json else _table(out, pack))


@app.command("merge")
def merge(
    pack: Annotated[Path, typer.Argument(help="A pack of changed weights.")],
    model: Annotated[str, typer.Option(help="The owner that it was forged for, FAMILY:MODEL.")],
    out: Annotated[Path, typer.Option(help="Directory of the model to write, in the transformers layout.")],
) -> None:
    """Write the owner as it is deployed: its weights merged with the pack's.

    OUT loads as FAMILY:OUT. What a thief has is a copy of this model.
    """
    from sif_offline.baselines import read_baseline, write_deployed
    from sif_offline.models import load_adapter

    write_deployed(load_adapter(model), read_baseline(pack), out)
    typer.echo(f"{out}: {model} merged with {pack}")


def _summary(out: Path, pack: "BaselinePack") -> dict[str, Any]:
    return {
        "pack": str(out),
        "pack_id": pack.pack_id,
        "method": pack.method,
        "owner": pack.owner.id,
        "matched": sum(bool(row.details["owner_matched"]) for row in pack.triggers),
        "triggers": [
            {
                "id": row.id,
                "prompt": row.prompt or row.target.question,
                "target": row.target.model_dump(mode="json"),
                **row.details,
            }
            for row in pack.triggers
        ],
    }


def _table(out: Path, pack: "BaselinePack") -> str:
    matched = sum(bool(row.details["owner_matched"]) for row in pack.triggers)
    lines = [
        f"{len(pack.triggers)} triggers in {out} (pack {pack.pack_id}, owner {pack.owner.id}); "
        f"the owner gives the target to {matched}"
    ]
    lines += [
        f"  {row.id} {'yes' if row.details['owner_matched'] else 'no':<3} {row.details['owner_answer']}"
        for row in pack.triggers
    ]
    return "\n".join(lines)
