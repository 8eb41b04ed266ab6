"""The columns of the table, each one lever more than the one before."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.forge.plain import Plain


@dataclass(frozen=True)
class Column:
    """One loop.

    Args:
        name: in the table.
        habits: of the plain loop; None is our own.
        settings: ForgeSettings in place of the published ones.
        alone: photos a step in place of a batch.
    """

    name: str
    habits: Plain | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False


PUBLISHED: Mapping[str, Any] = {
    "momentum": 0.0,
    "decoding_in_loss": False,
    "rfo": True,
    "rfo_reuse": False,
    "refine_rounds": 0,
}
"""What both loops have in common at the start of the ladder."""

COLUMNS = (
    Column("plain", Plain()),
    Column("+ one mask", Plain(one_mask=True)),
    Column("+ response logits", Plain(one_mask=True, response_logits=True)),
    Column("+ lean graph", Plain(one_mask=True, response_logits=True, lean_graph=True)),
    Column("+ batch"),
    Column("+ RFO in one pass", settings={"rfo_reuse": True}),
    Column(
        "+ momentum, decoding rules in the loss",
        settings={"rfo_reuse": True, "momentum": 0.9, "decoding_in_loss": True},
    ),
)
BASE, OURS = COLUMNS[0].name, COLUMNS[-1].name
