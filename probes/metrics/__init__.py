"""The metrics of the probes: what there is, and a collector that reads it from the store."""

from probes.metrics.collector import ReloadState, StoreCollector
from probes.metrics.specs import ERROR_KINDS, METRICS, OUTCOMES, metrics_table, package_version

__all__ = [
    "ERROR_KINDS",
    "METRICS",
    "OUTCOMES",
    "ReloadState",
    "StoreCollector",
    "metrics_table",
    "package_version",
]
