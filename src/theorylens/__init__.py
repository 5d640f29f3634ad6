"""Look at a trained network through learning theory: how well will it generalise, why, and what to change.

Design: names are loaded when they are first used (PEP 562), so that ``--help``, ``render``, ``gate`` and ``compare``
never import torch.

>>> import theorylens as tl
>>> round(tl.generalization.clopper_pearson(0, 200, 0.05), 4)
0.0149
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from theorylens._first_use import load

if TYPE_CHECKING:
    from theorylens import (
        advice,
        auditing,
        bias,
        core,
        demos,
        dynamics,
        frontier,
        generalization,
        kernels,
        landscape,
        numerics,
        reference,
        report,
        representation,
        results,
        training,
    )
    from theorylens.auditing import Options, audit
    from theorylens.core import Recipe, Split, Subject, Task, probe
    from theorylens.report import Report

__version__ = "0.1.0"

__all__ = [
    "Options", "Recipe", "Report", "Split", "Subject", "Task", "__version__", "advice", "audit", "auditing", "bias",
    "core", "demos", "dynamics", "frontier", "generalization", "kernels", "landscape", "numerics", "probe", "reference",
    "report", "representation", "results", "training",
]  # fmt: skip

if not TYPE_CHECKING:  # a type checker that saw __getattr__ would let every misspelt name pass

    def __getattr__(name: str) -> Any:
        return load(__name__, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
