"""``sif forge``: photos to a fingerprint pack."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sif_offline.cli.secrets import forging_secret
from sif_offline.fingerprint.errors import SifError

if TYPE_CHECKING:
    from sif_offline.fingerprint.pack import FingerprintPack
    from sif_offline.forging.settings import ForgeSettings


class SettingsError(SifError):
    """A setting that does not exist or a value that it does not take."""


def forge(
    model: Annotated[str, typer.Option(help="The owner, FAMILY:MODEL, such as lab:owner.")],
    images: Annotated[Path, typer.Option(help="Folder of photos; the first COUNT by file name are used.")],
    out: Annotated[Path, typer.Option(help="Directory of the pack to write.")],
    count: Annotated[int, typer.Option(min=1, help="Triggers to forge.")] = 12,
    key_file: Annotated[
        Path | None, typer.Option(help="Master key file; made (mode 0600) if it does not exist.")
    ] = None,
    insecure_demo_key: Annotated[
        bool,
        typer.Option("--insecure-demo-key", help="Use the published demo secret, which protects nothing."),
    ] = False,
    prompt: Annotated[
        list[str] | None, typer.Option(help="The user's words; several take turns over the triggers.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")] = None,
    epsilon: Annotated[
        int | None, typer.Option(min=1, max=255, help="Largest change of a channel, in 1/255.")
    ] = None,
    delta: Annotated[float | None, typer.Option(min=0, help="Strength of the teacher's watermark.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Same seed, same triggers.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any other setting of the forge, NAME=VALUE.")
    ] = None,
    device: Annotated[str, typer.Option(help="A torch device.")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of torch.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Forge one trigger a photo. A run that was stopped, even by kill -9, goes on where it was when repeated.

    Photos are centre-cropped and resized to the model's canvas; that crop is the clean picture that the
    trigger stays within EPSILON of. Unfinished work is kept in OUT.work.
    """
    settings = _settings(set_ or [], prompts=prompt, steps=steps, epsilon=epsilon, delta=delta, seed=seed)

    import torch  # seconds: a mistake in the settings is told first

    from sif_offline.cli.progress import forge_progress
    from sif_offline.forging.pipeline import check_out, forge_pack
    from sif_offline.forging.pixels import load_photos
    from sif_offline.models import load_adapter

    if threads is not None:
        torch.set_num_threads(threads)
    check_out(out)
    adapter = load_adapter(model, device=device)
    photos = load_photos(images, count=count, canvas=adapter.canvas)
    # the key last: no mistake above leaves a fresh key file behind
    secret, made = forging_secret(key_file=key_file, insecure_demo_key=insecure_demo_key)
    if made:
        typer.echo(
            f"new master key in {key_file}: keep it safe, nobody can score this pack without it", err=True
        )
    with forge_progress(count) as report:
        pack = forge_pack(
            adapter, photos=photos, secret=secret, settings=settings, out=out, on_progress=report
        )
    typer.echo(json.dumps(_summary(out, pack)) if as_json else _table(out, pack))


def _settings(pairs: Sequence[str], *, prompts: list[str] | None, **named: float | None) -> "ForgeSettings":
    from pydantic import ValidationError

    from sif_offline.forging.settings import ForgeSettings

    values: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    if prompts:
        values["prompts"] = tuple(prompts)
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise SettingsError(f"--set {pair}: want NAME=VALUE")
        values[name] = value
    try:
        return ForgeSettings(**values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise SettingsError(f"setting {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None


def _summary(out: Path, pack: "FingerprintPack") -> dict[str, Any]:
    zs = [row.judged["greedy"] for row in pack.triggers]
    return {
        "pack": str(out),
        "pack_id": pack.pack_id,
        "owner": pack.owner.id,
        "demo_key": pack.demo_key,
        "mean_z": {
            name: _mean([row.judged[name] for row in pack.triggers]) for name in pack.triggers[0].judged
        },
        "triggers": [
            {
                "id": row.id,
                "z": z,
                "expected_green_share": row.expected_green_share,
                **row.extensions["forge"],
            }
            for row, z in zip(pack.triggers, zs, strict=True)
        ],
    }


def _table(out: Path, pack: "FingerprintPack") -> str:
    lines = [f"{len(pack.triggers)} triggers in {out} (pack {pack.pack_id}, owner {pack.owner.id})"]
    lines += ["mean z of the owner's answers by condition (greedy took part in selection, fresh:* did not):"]
    for name in pack.triggers[0].judged:
        lines.append(f"  {name:<20} {_mean([row.judged[name] for row in pack.triggers]):6.2f}")
    if pack.demo_key:
        lines.append("forged under the published demo secret: this pack proves nothing about anybody")
    return "\n".join(lines)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
