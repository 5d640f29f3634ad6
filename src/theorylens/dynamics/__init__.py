"""Dynamics: how did training go, and where would it have gone?

Design: the record of a run is read with intervals that know its noise is correlated; what the record does not hold
(curvature along the way) is measured at the checkpoints, on the same rows at each.
"""

from ._loss_slope import Slope, last_part, loss_slope
from ._measured_rate import ObservedRate, measured_problem, observed_rate
from ._progress import Turning, probe_loss_slope, turning
from ._rates import ALGORITHMS, Bound, Problem, convergence_bound, gradient_bound_from_decrease, sgd_step
from ._sharpening import Course, probe_sharpening, sharpening

PROBES = (probe_loss_slope, probe_sharpening)

__all__ = [
    "ALGORITHMS", "PROBES", "Bound", "Course", "ObservedRate", "Problem", "Slope", "Turning", "convergence_bound",
    "gradient_bound_from_decrease", "last_part", "loss_slope", "measured_problem", "observed_rate", "probe_loss_slope",
    "probe_sharpening", "sgd_step", "sharpening", "turning",
]  # fmt: skip
