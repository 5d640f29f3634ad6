"""Landscape: what is the shape of the loss around the solution?

Design: everything rests on exact Hessian-vector products over a fixed set of rows. Each eigenvalue comes with the
residual that bounds its error, and each number of a trained network with the same number before training.
"""

from ._critical import probe_critical_point
from ._curvature import Eigenvalues, Ends, both_ends, eigenvalues, hessian_eigenvalues
from ._outermost import probe_eigenvalues
from ._stability import StepRule, adam_stability_limit, stability_limit, step_rule
from ._stationarity import CriticalPoint, Place, classify, critical_point
from ._trace import hessian_trace, probe_trace, trace

PROBES = (probe_eigenvalues, probe_trace, probe_critical_point)

__all__ = [
    "PROBES", "CriticalPoint", "Eigenvalues", "Ends", "Place", "StepRule", "adam_stability_limit", "both_ends",
    "classify", "critical_point", "eigenvalues", "hessian_eigenvalues", "hessian_trace", "probe_critical_point",
    "probe_eigenvalues", "probe_trace", "stability_limit", "step_rule", "trace",
]  # fmt: skip
