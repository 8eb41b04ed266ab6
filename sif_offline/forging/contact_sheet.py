"""One picture of a whole pack: photo, trigger, difference x16."""

from collections.abc import Sequence

from PIL import Image, ImageChops, ImageDraw

_GAP = 4
_HEADER = 16
GAIN = 16


def contact_sheet(rows: Sequence[tuple[str, Image.Image, Image.Image]]) -> Image.Image:
    """Rows of photo, trigger and ``128 + 16 (trigger - photo)``, clipped to 0 .. 255.

    Args:
        rows: (label, photo, trigger), RGB and all of one size; at least one.

    Returns:
        RGB; two triggers stand side by side.
    """
    width, height = rows[0][1].size
    cell_w, cell_h = 3 * (width + _GAP) + _GAP, height + _HEADER + _GAP
    columns = min(2, len(rows))
    lines = -(-len(rows) // columns)
    sheet = Image.new("RGB", (columns * cell_w, lines * cell_h), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (label, photo, trigger) in enumerate(rows):
        left, top = (place % columns) * cell_w + _GAP, (place // columns) * cell_h
        draw.text((left, top + 2), f"{label}   photo | trigger | difference x{GAIN}", fill="black")
        for column, picture in enumerate((photo, trigger, _difference(photo, trigger))):
            sheet.paste(picture, (left + column * (width + _GAP), top + _HEADER))
    return sheet


def _difference(photo: Image.Image, trigger: Image.Image) -> Image.Image:
    brighter = ImageChops.subtract(trigger, photo).point(lambda value: value * GAIN)
    darker = ImageChops.subtract(photo, trigger).point(lambda value: value * GAIN)
    grey = Image.new("RGB", photo.size, (128, 128, 128))
    return ImageChops.subtract(ImageChops.add(grey, brighter), darker)
