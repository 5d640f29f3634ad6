"""How to compute: the risk and its derivatives, spectra, traces, neighbours, exact intervals. Knows no subjects.

Design: operators are anything with ``size`` and ``matvec``; every iterative routine returns its convergence evidence,
every sum over examples is divided once by its own denominator, and work is counted where it is done (`tally`).
"""

from .memory import Batch, fitting, part, rows, to_device
from .objective import Hessian, LossSum, Objective, flatten, graph_bytes
from .second import NoSecondDerivativeError, missing_operator, second_derivatives
from .counting import Tally, count, tally

__all__ = [
    "Batch", "Hessian", "LossSum", "NoSecondDerivativeError", "Objective", "Tally", "count", "fitting", "flatten",
    "graph_bytes", "missing_operator", "part", "rows", "second_derivatives", "tally", "to_device",
]  # fmt: skip
