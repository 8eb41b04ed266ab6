"""``sif models check``: a model's own processor against ours, on your photos."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from PIL import Image

    from sif_offline.models.base import VLMAdapter
    from sif_offline.models.checks import PixelCheck

UNEQUAL = 1
"""Exit status where something differs; 2 is for what could not be checked."""
_GRADIENT_SIDE = 512


@dataclass(frozen=True)
class _Row:
    """One photo's outcome."""

    name: str
    pixels: "PixelCheck"
    template: bool
    gradient: float
    gradient_ok: bool

    @property
    def ok(self) -> bool:
        return self.pixels.equal and self.template and self.gradient_ok


def check(
    model: Annotated[str, typer.Argument(help="FAMILY:MODEL, as sif models list shows.")],
    images: Annotated[Path, typer.Option(help="Folder of photos, of any sizes.")],
    count: Annotated[
        int | None, typer.Option(min=1, help="The first COUNT by file name; all by default.")
    ] = None,
    prompt: Annotated[
        str, typer.Option(help="The user's words in the chat template.")
    ] = "Describe this picture.",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Compare prepared pixels and prompt ids with the model's own processor, and test the gradient.

    Weights are not needed and, for the families that ship here, not read. Exit status 1 if anything differs.
    """
    from sif_offline.fingerprint.images import read_image
    from sif_offline.forging.pixels import photo_paths
    from sif_offline.models.registry import load_preparation

    paths = photo_paths(images)[:count]
    adapter = load_preparation(model)
    rows = [_check(adapter, path.name, read_image(path), prompt) for path in paths]
    typer.echo(json.dumps(_summary(model, adapter, rows)) if as_json else _table(adapter, rows))
    if not all(row.ok for row in rows):
        raise typer.Exit(UNEQUAL)


def _check(adapter: "VLMAdapter", name: str, image: "Image.Image", prompt: str) -> _Row:
    from sif_offline.models.checks import GRADIENT_TOLERANCE, check_pixels, check_template, gradient_error

    small = image.convert("RGB")
    small.thumbnail((_GRADIENT_SIDE, _GRADIENT_SIDE))  # float64 of many megapixels would take minutes
    gradient = gradient_error(adapter, small)
    return _Row(
        name=name,
        pixels=check_pixels(adapter, image, prompt=prompt),
        template=check_template(adapter, image, prompt=prompt),
        gradient=gradient,
        gradient_ok=gradient <= GRADIENT_TOLERANCE,
    )


def _summary(model: str, adapter: "VLMAdapter", rows: list[_Row]) -> dict[str, Any]:
    finite = [row.pixels.difference for row in rows if row.pixels.difference != float("inf")]
    return {
        "model": model,
        "backend": adapter.backend,
        "canvas": list(adapter.canvas),
        "equal": all(row.ok for row in rows),
        "largest_difference": max(finite) if len(finite) == len(rows) else None,
        "photos": [
            {
                "photo": row.name,
                "height": row.pixels.size[0],
                "width": row.pixels.size[1],
                "difference": row.pixels.difference if row.pixels.difference in finite else None,
                "reason": row.pixels.reason or None,
                "pixels_equal": row.pixels.equal,
                "template_equal": row.template,
                "gradient_error": row.gradient,
                "gradient_ok": row.gradient_ok,
            }
            for row in rows
        ],
    }


def _table(adapter: "VLMAdapter", rows: list[_Row]) -> str:
    width = max(len(row.name) for row in rows)
    height, canvas_width = adapter.canvas
    lines = [f"{adapter.name}: {adapter.backend} pixels, canvas {canvas_width} x {height}"]
    lines.append(f"{'photo':<{width}}  {'size':>11}  {'max |diff|':>10}  template  gradient error")
    for row in rows:
        size = f"{row.pixels.size[1]} x {row.pixels.size[0]}"
        template = "equal" if row.template else "DIFFERS"
        wrong = "" if row.gradient_ok else "  WRONG"
        lines.append(
            f"{row.name:<{width}}  {size:>11}  {row.pixels.difference:>10.3g}  {template:<8}  "
            f"{row.gradient:.1e}{wrong}{'  ' + row.pixels.reason if row.pixels.reason else ''}"
        )
    unequal = sum(not row.ok for row in rows)
    lines.append(f"{unequal} of {len(rows)} photos differ" if unequal else f"equal on all {len(rows)} photos")
    return "\n".join(lines)
