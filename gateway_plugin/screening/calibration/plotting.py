"""A picture of a calibration: the benign scores and the thresholds set on them."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gateway_plugin.screening.calibration.conformal import CalibrationError
from gateway_plugin.screening.calibration.thresholds import Calibration

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure(calibration: Calibration) -> "Figure":
    """One histogram of benign scores a setting, with its threshold."""
    from matplotlib.figure import Figure

    thresholds = calibration.thresholds
    drawn = Figure(figsize=(7, 2.4 * len(thresholds)), layout="constrained")
    for place, each in enumerate(thresholds, start=1):
        axes = drawn.add_subplot(len(thresholds), 1, place)
        scores = np.array(each.scores)
        if scores.min(initial=math.inf) > 0 and not each.measure.whole and scores.max() > 50:
            axes.set_xscale("log")
            edges = np.geomspace(scores.min(), max(scores.max(), each.value) * 1.1, 40)
        else:
            edges = np.linspace(min(scores.min(), each.value), max(scores.max(), each.value) + 1, 40)
        axes.hist(scores, bins=edges.tolist(), color="#6a8caf")
        axes.set_yscale("symlog", linthresh=1)
        axes.axvline(each.value, color="#b03030", label=f"{each.measure.setting} = {each.value:g}")
        axes.set_xlabel(f"{each.measure.check}: {each.measure.name.replace('_', ' ')}")
        axes.set_ylabel(f"of {each.n}")
        axes.legend(loc="upper right", title=f"rate {each.rate:.2%}")
    return drawn


def plot(calibration: Calibration, path: Path) -> None:
    """Write :func:`figure` as PNG or SVG, by the file's ending. Raises :class:`CalibrationError`."""
    try:
        figure(calibration).savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{path}: the plot cannot be written ({error})") from None
