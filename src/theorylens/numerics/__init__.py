"""How to compute: the risk and its derivatives, spectra, traces, neighbours, exact intervals. Knows no subjects.

Design: operators are anything with ``size`` and ``matvec``; every iterative routine returns its convergence evidence,
every sum over examples is divided once by its own denominator, and work is counted where it is done (`tally`). Names
are loaded when they are first used (PEP 562): the exact intervals need no torch, so neither does who asks for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from theorylens._first_use import load

if TYPE_CHECKING:
    from .binomial import clopper_pearson, clopper_pearson_interval
    from .bulk import BulkFit, fit_marchenko_pastur
    from .concentration import bennett, bernstein, chernoff_kl, dkw, empirical_bernstein, hoeffding
    from .counting import Tally, count, tally
    from .deflation import deflated_trace, lanczos_trace
    from .differences import azuma, azuma_deviation, bounded_differences, efron_stein, mcdiarmid, mcdiarmid_deviation
    from .example_squares import ExampleSquares
    from .graph import graph_bytes
    from .lanczos import Ritz, eigenvalues
    from .memory import Batch, fitting, part, rows, to_device
    from .neighbours import Neighbours, UniqueRows, nearest, nearest_in, unique_rows
    from .objective import LossSum, Objective
    from .operator import Counted, DenseOperator, Operator, as_linear_operator
    from .piecewise import bent
    from .products import Hessian, KeptProducts, flatten
    from .quadrature import Quadrature, lanczos_quadrature
    from .random_matrix import (
        goe_all_positive,
        goe_exponent,
        marchenko_pastur_cdf,
        marchenko_pastur_density,
        marchenko_pastur_edges,
        semicircle_share,
    )
    from .relative_entropy import kl, kl_inverse
    from .second import NoSecondDerivativeError, missing_operator, second_derivatives
    from .trace import frobenius, hutchinson, hutchinson_diagonal, hutchpp

__all__ = [
    "Batch", "BulkFit", "Counted", "DenseOperator", "ExampleSquares", "Hessian", "KeptProducts", "LossSum",
    "Neighbours", "NoSecondDerivativeError", "Objective", "Operator", "Quadrature", "Ritz", "Tally", "UniqueRows",
    "as_linear_operator", "azuma", "azuma_deviation", "bennett", "bent", "bernstein", "bounded_differences",
    "chernoff_kl", "clopper_pearson", "clopper_pearson_interval", "count", "deflated_trace", "dkw", "efron_stein",
    "eigenvalues", "empirical_bernstein", "fit_marchenko_pastur", "fitting", "flatten", "frobenius", "goe_all_positive",
    "goe_exponent", "graph_bytes", "hoeffding", "hutchinson", "hutchinson_diagonal", "hutchpp", "kl", "kl_inverse",
    "lanczos_quadrature", "lanczos_trace", "marchenko_pastur_cdf", "marchenko_pastur_density", "marchenko_pastur_edges",
    "mcdiarmid", "mcdiarmid_deviation", "missing_operator", "nearest", "nearest_in", "part", "rows",
    "second_derivatives", "semicircle_share", "tally", "to_device", "unique_rows",
]  # fmt: skip

if not TYPE_CHECKING:  # a type checker that saw __getattr__ would let every misspelt name pass

    def __getattr__(name: str) -> Any:
        return load(__name__, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
