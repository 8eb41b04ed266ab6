"""Thresholds from benign traffic: the measures of its exchanges, and the settings that they give."""

from gateway_plugin.screening.calibration.conformal import CalibrationError, conformal_threshold, least_n
from gateway_plugin.screening.calibration.measures import MEASURES, Measure, Row
from gateway_plugin.screening.calibration.plotting import figure, plot
from gateway_plugin.screening.calibration.rows import QueryCheck, TextsCheck, rows_of_log, rows_of_texts
from gateway_plugin.screening.calibration.thresholds import Calibration, Threshold, calibrate

__all__ = [
    "MEASURES",
    "Calibration",
    "CalibrationError",
    "Measure",
    "QueryCheck",
    "Row",
    "TextsCheck",
    "Threshold",
    "calibrate",
    "conformal_threshold",
    "figure",
    "least_n",
    "plot",
    "rows_of_log",
    "rows_of_texts",
]
