"""How to compute: the risk and its derivatives, spectra, traces, neighbours, exact intervals. Knows no subjects.

Design: operators are anything with ``size`` and ``matvec``; every iterative routine returns its convergence evidence,
every sum over examples is divided once by its own denominator, and work is counted where it is done (`tally`). Names
are loaded when they are first used (PEP 562): the exact intervals need no torch, so neither does who asks for one.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .binomial import clopper_pearson, clopper_pearson_interval
    from .bulk import BulkFit, fit_marchenko_pastur
    from .concentration import bennett, bernstein, chernoff_kl, dkw, empirical_bernstein, hoeffding
    from .counting import Tally, count, tally
    from .deflation import deflated_trace
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

_HOMES = {
    "binomial": ("clopper_pearson", "clopper_pearson_interval"),
    "bulk": ("BulkFit", "fit_marchenko_pastur"),
    "concentration": ("bennett", "bernstein", "chernoff_kl", "dkw", "empirical_bernstein", "hoeffding"),
    "counting": ("Tally", "count", "tally"),
    "deflation": ("deflated_trace",),
    "differences": (
        "azuma",
        "azuma_deviation",
        "bounded_differences",
        "efron_stein",
        "mcdiarmid",
        "mcdiarmid_deviation",
    ),
    "example_squares": ("ExampleSquares",),
    "graph": ("graph_bytes",),
    "lanczos": ("Ritz", "eigenvalues"),
    "memory": ("Batch", "fitting", "part", "rows", "to_device"),
    "neighbours": ("Neighbours", "UniqueRows", "nearest", "nearest_in", "unique_rows"),
    "objective": ("LossSum", "Objective"),
    "operator": ("Counted", "DenseOperator", "Operator", "as_linear_operator"),
    "piecewise": ("bent",),
    "products": ("Hessian", "KeptProducts", "flatten"),
    "quadrature": ("Quadrature", "lanczos_quadrature"),
    "random_matrix": (
        "goe_all_positive",
        "goe_exponent",
        "marchenko_pastur_cdf",
        "marchenko_pastur_density",
        "marchenko_pastur_edges",
        "semicircle_share",
    ),
    "relative_entropy": ("kl", "kl_inverse"),
    "second": ("NoSecondDerivativeError", "missing_operator", "second_derivatives"),
    "trace": ("frobenius", "hutchinson", "hutchinson_diagonal", "hutchpp"),
}
_MODULE = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Batch", "BulkFit", "Counted", "DenseOperator", "ExampleSquares", "Hessian", "KeptProducts", "LossSum",
    "Neighbours", "NoSecondDerivativeError", "Objective", "Operator", "Quadrature", "Ritz", "Tally", "UniqueRows",
    "as_linear_operator", "azuma", "azuma_deviation", "bennett", "bent", "bernstein", "bounded_differences",
    "chernoff_kl", "clopper_pearson", "clopper_pearson_interval", "count", "deflated_trace", "dkw", "efron_stein",
    "eigenvalues", "empirical_bernstein", "fit_marchenko_pastur", "fitting", "flatten", "frobenius", "goe_all_positive",
    "goe_exponent", "graph_bytes", "hoeffding", "hutchinson", "hutchinson_diagonal", "hutchpp", "kl", "kl_inverse",
    "lanczos_quadrature", "marchenko_pastur_cdf", "marchenko_pastur_density", "marchenko_pastur_edges", "mcdiarmid",
    "mcdiarmid_deviation", "missing_operator", "nearest", "nearest_in", "part", "rows", "second_derivatives",
    "semicircle_share", "tally", "to_device", "unique_rows",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULE[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
