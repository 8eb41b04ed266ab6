"""The page that ``sif score --html`` writes: one file, no script, nothing fetched, fit to be printed."""

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sif_offline.cli.score.rows import Scores
from sif_offline.cli.score.words import numbers_of, together
from sif_offline.fingerprint.colouring import COLOUR_CSS, colour_html, legend_html


def score_page(scores: Scores) -> str:
    """The numbers and every answer in its colours; the same page for the same scores."""
    environment = Environment(
        # the template lies beside this module, so that it is package data
        loader=PackageLoader("sif_offline.cli.score", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(
        pack=scores.pack,
        rows=[(row, numbers_of(row), Markup(colour_html(row.tokens))) for row in scores.rows],
        together=together(scores),
        css=Markup(COLOUR_CSS),
        legend=Markup(legend_html()),
    )
