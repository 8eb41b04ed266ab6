"""A bundle as one printable page for people who read neither JSON nor statistics.

The page says nothing that the bundle does not hold: it is a reading of a ``Bundle`` and of the ``Checked``
that ``verify_bundle`` made of it. Where a check failed, it establishes nothing and says so first.
"""

from sif_offline.fingerprint.evidence.report.page import render_report

__all__ = ["render_report"]
