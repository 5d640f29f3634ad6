"""Dynamics: how did training go, and where would it have gone?

Design: the record of a run is read with intervals that know its noise is correlated; what the record does not hold
(curvature along the way) is measured at the checkpoints, on the same rows at each.
"""

from ._loss_slope import Slope, last_part, loss_slope
from ._progress import Turning, probe_loss_slope, turning
from ._sharpening import Course, probe_sharpening, sharpening

PROBES = (probe_loss_slope, probe_sharpening)

__all__ = [
    "PROBES", "Course", "Slope", "Turning", "last_part", "loss_slope", "probe_loss_slope", "probe_sharpening",
    "sharpening", "turning",
]  # fmt: skip
