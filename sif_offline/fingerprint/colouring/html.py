"""A coloured answer as an HTML fragment: no script, nothing fetched, nothing of the answer is markup."""

from collections.abc import Sequence
from html import escape

from sif_offline.fingerprint.colouring.marks import Mark, Segment, count, marks
from sif_offline.fingerprint.colouring.palette import DARK, LIGHT, Palette
from sif_offline.fingerprint.pack_scorer import ScoredToken


def _variables(palette: Palette) -> str:
    return " ".join(f"--sif-{name.replace('_', '-')}: {value};" for name, value in palette._asdict().items())


COLOUR_CSS = f"""\
.sif-answer, .sif-legend {{ {_variables(LIGHT)} }}
@media screen and (prefers-color-scheme: dark) {{ .sif-answer, .sif-legend {{ {_variables(DARK)} }} }}
.sif-answer {{
  white-space: break-spaces; overflow-wrap: anywhere; line-height: 1.9; color: var(--sif-ink);
  background: var(--sif-paper); padding: .5em .75em; border: 1px solid var(--sif-muted); border-radius: .3em;
}}
.sif-g, .sif-r, .sif-u {{
  unicode-bidi: isolate; outline-offset: -1px; border-radius: .2em; padding: .1em 0; color: var(--sif-ink);
  box-decoration-break: clone; -webkit-box-decoration-break: clone;
  print-color-adjust: exact; -webkit-print-color-adjust: exact;
}}
.sif-g {{ background: var(--sif-green); outline: 1px solid var(--sif-green-line);
  text-decoration: underline 2px solid; text-underline-offset: .25em; text-decoration-skip-ink: none; }}
.sif-r {{ background: var(--sif-red); outline: 1px solid var(--sif-red-line); }}
.sif-g.sif-again {{ background: var(--sif-green-pale); outline: none;
  text-decoration: underline 1px dotted; }}
.sif-r.sif-again {{ background: var(--sif-red-pale); outline: none; }}
.sif-u {{ font-style: italic; color: var(--sif-muted); }}
.sif-code {{ font: .8em ui-monospace, monospace; text-decoration: inherit;
  white-space: nowrap; }}
[data-sif-sign]::before {{ content: attr(data-sif-sign); opacity: .7; }}
.sif-legend {{ display: flex; flex-wrap: wrap; gap: .25em 1.25em; list-style: none; padding: 0;
  margin: .5em 0; font-size: .875em; }}
.sif-legend li > span {{ padding: .05em .3em; }}
"""
"""Style of :func:`colour_html` and :func:`legend_html`, for light, dark and paper; once a page."""


def colour_html(tokens: Sequence[ScoredToken]) -> str:
    """An answer as one ``<div class="sif-answer">`` with a ``<span>`` a token, to be styled by
    :data:`COLOUR_CSS`.

    The first of a type is strong and framed, a repeat pale, green is underlined, what is not scored is
    italic; each span says so in its title, and the div gives the counts to a screen reader. Tokens stand in
    the order of the text whatever their script, and cannot turn each other round.

    Args:
        tokens: of one answer, or of repeats put together by ``join_answers``.

    Returns:
        Escaped HTML, safe in the body of a page. Copied from a browser, harmless text is the answer's.
    """
    spans = "".join(_span(mark) for mark in marks(tokens))
    return f'<div class="sif-answer" role="group" dir="auto" aria-label="{count(tokens).line}">{spans}</div>'


def legend_html() -> str:
    """What the colours mean, as a list."""
    entries = (
        ("sif-g", "green", "counted, underlined and framed"),
        ("sif-r", "red", "not green, counted, framed"),
        ("sif-g sif-again", "green", "repeat of a type, does not count"),
        ("sif-r sif-again", "red", "repeat, does not count"),
        ("sif-u", "italic", "not scored"),
    )
    items = "".join(f'<li><span class="{css}">{name}</span> {words}</li>' for css, name, words in entries)
    return f'<ul class="sif-legend" aria-label="Legend">{items}</ul>'


def _span(mark: Mark) -> str:
    if not mark.segments:
        return mark.before + mark.after
    names = {True: "sif-g", False: "sif-r", None: "sif-u"}[mark.token.green]
    if mark.token.green is not None and not mark.counted:
        names += " sif-again"
    sign = next((f' data-sif-sign="{s.text}"' for s in mark.segments if s.kind == "sign"), "")
    text = "".join(_segment(segment) for segment in mark.segments if segment.kind != "sign")
    title = f"{mark.words}; token {mark.token.id}"
    return f'{mark.before}<span class="{names}"{sign} title="{title}">{text}</span>{mark.after}'


def _segment(segment: Segment) -> str:
    return f'<span class="sif-code">{segment.text}</span>' if segment.kind == "code" else escape(segment.text)
