"""Thresholds from benign traffic: the measures of its exchanges, and the settings that they give."""

from gateway_plugin.screening.calibration.conformal import CalibrationError, conformal_threshold, least_n
from gateway_plugin.screening.calibration.measures import MEASURES, Measure, Row
from gateway_plugin.screening.calibration.plotting import figure, plot
from gateway_plugin.screening.calibration.rows import rows_of_findings, rows_of_log
from gateway_plugin.screening.calibration.thresholds import Calibration, Threshold, calibrate

__all__ = [
    "MEASURES",
    "Calibration",
    "CalibrationError",
    "Measure",
    "Row",
    "Threshold",
    "calibrate",
    "conformal_threshold",
    "figure",
    "least_n",
    "plot",
    "rows_of_findings",
    "rows_of_log",
]
