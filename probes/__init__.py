"""A watch over endpoints: sends the triggers of a fingerprint pack on a schedule and keeps the evidence."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probes.mounting import mount as mount

__all__ = ["mount"]


def __getattr__(name: str) -> Any:
    """``probes.mount`` is loaded when it is asked for: importing ``probes`` brings no web framework."""
    if name == "mount":
        from probes.mounting import mount

        return mount
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
