"""What Prometheus scrapes: read from the store at every scrape, so that nothing is lost by a restart."""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from probes.metrics.rendering import families_of_all, fill, target_lines, text_of
from probes.metrics.specs import package_version
from probes.store import Store, StoreError
from probes.store.totals import MonitorTotals, monitor_totals

logger = logging.getLogger(__name__)


@dataclass
class ReloadState:
    """How the last reading of the configuration went; whoever reloads keeps it up to date.

    ``ok``: it succeeded. ``at``: when the configuration in use was read, Unix seconds.
    """

    ok: bool = True
    at: float = field(default_factory=time.time)

    def succeeded(self) -> None:
        """A new configuration is in use."""
        self.at = time.time()
        self.ok = True

    def failed(self) -> None:
        """A new configuration was refused; the one before goes on."""
        self.ok = False


class StoreCollector(Collector):
    """Reads the store at each scrape.

    Args:
        store: the watch's store.
        watched: the configured names and the pack's id, asked anew at every scrape; others in the store are
            history.
        paused: the names of the targets that are paused just now.
        reload: how the last reading of the configuration went.
        guest: the registry is another program's: a store that cannot be read leaves the targets out and sets
            ``sif_probe_store_readable`` to 0, instead of failing the host's own metrics with ours.
    """

    def __init__(
        self,
        store: Store,
        *,
        watched: Callable[[], tuple[Sequence[str], str]],
        paused: Callable[[], Collection[str]] = frozenset,
        reload: ReloadState | None = None,
        guest: bool = False,
    ) -> None:
        self._store = store
        self._watched = watched
        self._paused = paused
        self._reload = reload or ReloadState()
        self._guest = guest
        self._texts: dict[str, tuple[tuple[MonitorTotals, bool], dict[str, bytes]]] = {}

    def describe(self) -> list[Metric]:
        """The empty families, so that registering reads nothing."""
        return list(families_of_all().values())

    def collect(self) -> Iterator[Metric]:
        """All metrics. Raises StoreError, which makes the scrape fail instead of reading as zero."""
        families = families_of_all()
        readable = True
        try:
            found = self._read()
        except StoreError as error:
            if not self._guest:
                raise
            logger.error("%s", error)
            readable, found = False, []
        for totals, paused in found:
            fill(families, totals, paused)
        self._fill_own(families, readable=readable)
        yield from families.values()

    def exposition(self) -> bytes:
        """The text that a registry with this collector alone has, for less: what the client library makes of
        a target is kept until its numbers change. Raises StoreError.
        """
        before, texts = self._texts, {}
        for shown in self._read():
            name = shown[0].monitor
            kept = before.get(name)
            texts[name] = kept if kept is not None and kept[0] == shown else (shown, target_lines(*shown))
        self._texts = texts
        families = families_of_all()
        self._fill_own(families, readable=True)
        parts = []
        for name, family in families.items():
            parts.append(text_of(family))
            parts += [lines[name] for _, lines in texts.values()]
        return b"".join(parts)

    def _read(self) -> list[tuple[MonitorTotals, bool]]:
        """The totals of each watched target, and whether it is paused."""
        monitors, pack_id = self._watched()
        found = monitor_totals(self._store, monitors, pack_id=pack_id)
        paused = frozenset(self._paused())
        return [(totals, totals.monitor in paused) for totals in found]

    def _fill_own(self, families: dict[str, Any], *, readable: bool) -> None:
        """What is of no target."""
        families["sif_probe_config_last_reload_successful"].add_metric([], float(self._reload.ok))
        families["sif_probe_config_last_reload_success_timestamp_seconds"].add_metric([], self._reload.at)
        families["sif_probe_store_readable"].add_metric([], float(readable))
        families["sif_probe_build_info"].add_metric([package_version()], 1.0)
