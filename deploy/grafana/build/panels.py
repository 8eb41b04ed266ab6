"""What our dashboards share: their panels over time, the choices at the top, the JSON."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")

Query = tuple[str, str]  # PromQL, legend
PanelT = TypeVar("PanelT", stat.Panel, timeseries.Panel)


@dataclass(frozen=True, kw_only=True)
class Panels:
    """Makes panels. ``picked``: label matchers of what the variables have chosen; PICKED in a query."""

    picked: str

    def framed(
        self, panel: PanelT, title: str, description: str, unit: str, *queries: Query, width: int = 12
    ) -> PanelT:
        """What every panel has: title, description, unit, data source, size, queries."""
        panel.title(title).description(description).unit(unit).datasource(SOURCE).span(width).height(8)
        for expr, legend in queries:
            target = prometheus.Dataquery().expr(expr.replace("PICKED", self.picked))
            panel.with_target(target.legend_format(legend))
        return panel

    def lines(
        self, title: str, description: str, unit: str, *queries: Query, width: int = 12
    ) -> timeseries.Panel:
        """A panel over time."""
        panel = self.framed(timeseries.Panel(), title, description, unit, *queries, width=width)
        legend = common_builders.VizLegendOptions().show_legend(True)
        return panel.legend(
            legend.display_mode(common.LegendDisplayMode.LIST).placement(common.LegendPlacement.BOTTOM)
        )


def variable(name: str, label: str, values: str) -> dashboard.QueryVariable:
    """A choice at the top, filled from Prometheus; all by default."""
    made = dashboard.QueryVariable(name).label(label).query(values).datasource(SOURCE)
    made.multi(True).include_all(True).refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    return made.current(models.VariableOption(text="All", value="$__all"))


def rendered(
    *,
    name: str,
    description: str,
    since: str,
    variables: Iterable[dashboard.QueryVariable],
    panels: Iterable[stat.Panel | timeseries.Panel],
) -> str:
    """The JSON as it is committed. ``since``: the time shown at first, ``now-24h``."""
    board = (
        dashboard.Dashboard(f"sifwatch: {name}")
        .uid(f"sifwatch-{name}")
        .description(description)
        .tags(["sifwatch", "generated"])
        .refresh("1m")
        .time(since, "now")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for each in variables:
        board.with_variable(each)
    for panel in panels:
        board.with_panel(panel)
    return str(JSONEncoder(sort_keys=True, indent=2).encode(board.build())) + "\n"
