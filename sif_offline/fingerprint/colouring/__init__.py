"""An answer with every token in its colour: as HTML, as a picture, in a terminal.

A type counts once, where it first occurs. So a frame (bold in a terminal) says "counted here", an underline
says "green", and a repeat is paler; nothing rests on colour alone. The colours show part of the trigger's
green list: a coloured answer tells its reader which types are green, and is shared like a used trigger's key.
"""

from sif_offline.fingerprint.colouring.html import COLOUR_CSS, colour_html, legend_html
from sif_offline.fingerprint.colouring.marks import Counts, Mark, Segment, count, join_answers, marks
from sif_offline.fingerprint.colouring.picture import colour_png
from sif_offline.fingerprint.colouring.terminal import colour_text, legend_text

__all__ = [
    "COLOUR_CSS",
    "Counts",
    "Mark",
    "Segment",
    "colour_html",
    "colour_png",
    "colour_text",
    "count",
    "join_answers",
    "legend_html",
    "legend_text",
    "marks",
]
