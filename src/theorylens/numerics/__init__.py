"""How to compute: the risk and its derivatives, spectra, traces, neighbours, exact intervals. Knows no subjects.

Design: operators are anything with ``size`` and ``matvec``; every iterative routine returns its convergence evidence,
every sum over examples is divided once by its own denominator, and work is counted where it is done (`tally`).
"""

from .binomial import clopper_pearson, clopper_pearson_interval
from .concentration import hoeffding
from .counting import Tally, count, tally
from .graph import graph_bytes
from .lanczos import Ritz, eigenvalues
from .memory import Batch, fitting, part, rows, to_device
from .neighbours import Neighbours, UniqueRows, nearest, nearest_in, unique_rows
from .objective import Hessian, LossSum, Objective, flatten
from .operator import Counted, DenseOperator, Operator
from .relative_entropy import kl, kl_inverse
from .second import NoSecondDerivativeError, missing_operator, second_derivatives
from .trace import hutchinson

__all__ = [
    "Batch", "Counted", "DenseOperator", "Hessian", "LossSum", "Neighbours", "NoSecondDerivativeError", "Objective",
    "Operator", "Ritz", "Tally", "UniqueRows", "clopper_pearson", "clopper_pearson_interval", "count",
    "eigenvalues", "fitting", "flatten", "graph_bytes", "hoeffding", "hutchinson", "kl", "kl_inverse",
    "missing_operator", "nearest", "nearest_in", "part", "rows", "second_derivatives", "tally", "to_device",
    "unique_rows",
]  # fmt: skip
