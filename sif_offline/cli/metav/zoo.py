"""``sif metav zoo``: build the models that a fingerprint is trained and judged on."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sif_offline.cli.progress import counting
from sif_offline.cli.where import AddressOption, DeviceOption, ExecutorOption, ThreadsOption, WorkersOption

if TYPE_CHECKING:
    from sif_offline.metav.zoo import Zoo


def zoo(
    out: Annotated[Path, typer.Option(help="Folder of the zoo; models that are in it are not made again.")],
    task: Annotated[str, typer.Option(help="What the models do; docs/metav.md lists the tasks.")] = "digits",
    train: Annotated[
        int, typer.Option(min=1, help="Stolen models, and as many unrelated ones, to train on.")
    ] = 24,
    validation: Annotated[int, typer.Option(min=1, help="Likewise, to choose the best state on.")] = 8,
    calibration: Annotated[
        int, typer.Option(min=1, help="Unrelated models that suspects are ranked among; p >= 1/(N + 1).")
    ] = 39,
    test: Annotated[int, typer.Option(min=0, help="Suspects of each kind, for `sif metav evaluate`.")] = 36,
    own: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of unrelated models to train on made to have the owner's architecture."
        ),
    ] = 0,
    checkpoints: Annotated[
        int, typer.Option(min=0, help="States kept of the training of each model that is trained on.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same zoo.")] = 0,
    executor: ExecutorOption = "local",
    workers: WorkersOption = None,
    address: AddressOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Train an owner, steal it in many ways, and train models that have nothing to do with it.

    A run that was stopped, even by kill -9, goes on where it was when repeated: a model is trained once. A
    changed option makes other models beside those that are there.
    """
    import torch

    from sif_offline.executors import make_executor
    from sif_offline.metav.tasks import make_task
    from sif_offline.metav.zoo import ZooProgress, ZooSize, build_zoo, plan_zoo

    where = make_executor(executor, device=device, workers=workers, threads=threads, address=address)
    chosen = make_task(task)
    if threads is not None:
        torch.set_num_threads(threads)
    size = ZooSize(
        train=train,
        validation=validation,
        calibration=calibration,
        test=test,
        own=own,
        checkpoints=checkpoints,
    )
    members = plan_zoo(chosen, size=size, seed=seed)
    with counting("models") as count:

        def report(progress: ZooProgress) -> None:
            count(progress.finished, progress.total)
            if progress.lost:
                typer.echo(progress.lost, err=True)

        built = build_zoo(
            chosen,
            members,
            folder=out,
            seed=seed,
            executor=where,
            on_progress=report,
        )
    typer.echo(json.dumps(_summary(built)) if as_json else _table(built))


def _summary(zoo: "Zoo") -> dict[str, Any]:
    return {
        "zoo": str(zoo.folder),
        "task": zoo.task.name,
        "seconds": sum(row.seconds for row in zoo.members),
        "members": [
            {
                "name": row.name,
                "role": row.role,
                "split": row.split,
                "kind": row.recipe.kind,
                "architecture": row.recipe.architecture,
                "quality": row.quality,
                "seconds": row.seconds,
                "file": row.file,
            }
            for row in zoo.members
        ],
    }


def _table(zoo: "Zoo") -> str:
    owner = zoo.owner
    lines = [
        f"{len(zoo.members)} models in {zoo.folder}, {sum(row.seconds for row in zoo.members):.0f} s of "
        f"processor time; owner {owner.recipe.architecture}, quality {owner.quality:.3f}"
    ]
    groups: dict[tuple[str, str, str], list[float]] = {}
    for row in zoo.members[1:]:
        groups.setdefault((row.split, row.role, row.recipe.kind), []).append(row.quality)
    lines += [
        f"  {split:<12}{role:<9} {kind:<14} {len(found):>3}  quality {min(found):.3f} to {max(found):.3f}"
        for (split, role, kind), found in groups.items()
    ]
    return "\n".join(lines)
