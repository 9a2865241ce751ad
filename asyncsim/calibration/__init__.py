"""Calibration: describe the traces of real systems in the words of a scenario."""

from asyncsim.calibration.calibrate import Calibration, calibrate
from asyncsim.calibration.fitting import Candidate, Fit, fit
from asyncsim.calibration.fleet import Differences, differences
from asyncsim.calibration.measuring import Measurement, measure
from asyncsim.calibration.reading import Trace, read_trace

__all__ = [
    "Calibration",
    "Candidate",
    "Differences",
    "Fit",
    "Measurement",
    "Trace",
    "calibrate",
    "differences",
    "fit",
    "measure",
    "read_trace",
]
