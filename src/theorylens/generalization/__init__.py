"""How far can results on known data be trusted on new data?

Certificates say so with a stated probability: `holdout_bound` from untouched examples (the headline), `occam_bound`
from the training examples alone, `pac_bayes_kl` from a posterior. `samples` decides what is counted, nobody else does.

Names are loaded when they are first used (PEP 562): bounds that are functions of numbers need no torch, and
``theorylens sample-size`` must start without it. A new name goes into three lists: imports, `_HOMES`, ``__all__``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from theorylens.core import Probe
    from theorylens.numerics.binomial import clopper_pearson, clopper_pearson_interval
    from theorylens.numerics.concentration import bennett, bernstein, chernoff_kl, dkw, empirical_bernstein, hoeffding
    from theorylens.numerics.differences import (
        azuma,
        azuma_deviation,
        bounded_differences,
        efron_stein,
        mcdiarmid,
        mcdiarmid_deviation,
    )
    from theorylens.numerics.relative_entropy import kl, kl_inverse

    from ._answers import Answers, answers
    from ._finite_class import affordable_bits, occam_bound, probe_weight_bits, weight_bits
    from ._gap import probe_gap
    from ._holdout import HoldoutBound, Sample, holdout_bound, one_bound, samples
    from ._holdout_theorems import probe_chernoff_kl
    from ._pac_bayes import pac_bayes_kl, xi
    from ._test_error import probe_test_error

    PROBES: tuple[Probe, ...]

_HOMES = {
    "theorylens.numerics.binomial": ("clopper_pearson", "clopper_pearson_interval"),
    "theorylens.numerics.concentration": (
        "bennett",
        "bernstein",
        "chernoff_kl",
        "dkw",
        "empirical_bernstein",
        "hoeffding",
    ),
    "theorylens.numerics.differences": (
        "azuma",
        "azuma_deviation",
        "bounded_differences",
        "efron_stein",
        "mcdiarmid",
        "mcdiarmid_deviation",
    ),
    "theorylens.numerics.relative_entropy": ("kl", "kl_inverse"),
    "._answers": ("Answers", "answers"),
    "._finite_class": ("affordable_bits", "occam_bound", "probe_weight_bits", "weight_bits"),
    "._gap": ("probe_gap",),
    "._holdout": ("HoldoutBound", "Sample", "holdout_bound", "one_bound", "samples"),
    "._holdout_theorems": ("probe_chernoff_kl",),
    "._pac_bayes": ("pac_bayes_kl", "xi"),
    "._test_error": ("probe_test_error",),
}
_MODULE = {name: module for module, names in _HOMES.items() for name in names}
_PROBES = ("probe_test_error", "probe_chernoff_kl", "probe_weight_bits", "probe_gap")

__all__ = [
    "PROBES", "Answers", "HoldoutBound", "Sample", "affordable_bits", "answers", "azuma", "azuma_deviation", "bennett",
    "bernstein", "bounded_differences", "chernoff_kl", "clopper_pearson", "clopper_pearson_interval", "dkw",
    "efron_stein", "empirical_bernstein", "hoeffding", "holdout_bound", "kl", "kl_inverse", "mcdiarmid",
    "mcdiarmid_deviation", "occam_bound", "one_bound", "pac_bayes_kl", "probe_chernoff_kl", "probe_gap",
    "probe_test_error", "probe_weight_bits", "samples", "weight_bits", "xi",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "PROBES":
        value: Any = tuple(__getattr__(each) for each in _PROBES)
    elif name in _MODULE:
        value = getattr(importlib.import_module(_MODULE[name], __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
