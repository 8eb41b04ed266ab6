"""How numbers, times and money read on the pages, and the templates that use them."""

import math
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from probes.web.colouring import shown
from sif_offline.fingerprint.colouring import COLOUR_CSS, legend_html

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def environment() -> Environment:
    """Jinja with autoescape on: what an endpoint or a configuration says is never markup."""
    made = Environment(
        loader=PackageLoader("probes.web", package_path="templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {made_of.__name__: made_of for made_of in (time, ago, lasting, number, usd, shown)}
    made.globals |= {"style": _style_digest(), "legend": Markup(legend_html())}
    return made


@cache
def stylesheet() -> str:
    """The one stylesheet of the pages."""
    return (files("probes.web") / "templates" / "style.css").read_text("utf-8") + COLOUR_CSS


@cache
def _style_digest() -> str:
    return sha256(stylesheet().encode()).hexdigest()[:16]


def time(at: float | None) -> str | Markup:
    """A ``<time>`` in UTC, to the minute; an en dash for None."""
    if at is None:
        return "–"
    when = datetime.fromtimestamp(at, UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        when.strftime("%Y-%m-%dT%H:%M:%SZ"), when.strftime("%Y-%m-%d %H:%M UTC")
    )


def ago(at: float | None, now: float) -> str:
    """``3 h ago`` or ``in 12 min``; both Unix seconds."""
    if at is None:
        return ""
    away = at - now
    if abs(away) < 1:
        return "now"
    return f"in {lasting(away)}" if away > 0 else f"{lasting(-away)} ago"


def lasting(seconds: float | None) -> str:
    """A duration in its largest unit."""
    if seconds is None:
        return "–"
    size, unit = next((pair for pair in _UNITS if seconds >= pair[0]), _UNITS[-1])
    value = seconds / size
    return f"{value:.0f} {unit}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0") + f" {unit}"


def number(value: float | None, digits: int = 2) -> str:
    """A number with its digits; an en dash for None."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def usd(value: float | None) -> str:
    """US dollars; four digits below a dollar, since one answer costs less than a cent."""
    if value is None:
        return "–"
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.4f}"
