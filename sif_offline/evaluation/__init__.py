"""The evaluation lab: methods against suspects at one budget, as tables and figures.

A suite (YAML) says who is compared; :func:`run_suite` forges and asks, with resume; :func:`measure` turns
answers into numbers; :func:`write_report` writes the files.
"""

from sif_offline.evaluation.errors import EvaluationError
from sif_offline.evaluation.suite import Suite, load_suite, suite_names

__all__ = ["EvaluationError", "Suite", "load_suite", "suite_names"]
