"""Look at a trained network through learning theory: how well will it generalise, why, and what to change.

Design: names are loaded when they are first used (PEP 562), so that ``--help``, ``render``, ``gate`` and ``compare``
never import torch.

>>> import theorylens as tl
>>> round(tl.generalization.clopper_pearson(0, 200, 0.05), 4)
0.0149
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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

_PACKAGES = (
    "advice", "auditing", "bias", "core", "demos", "dynamics", "frontier", "generalization", "kernels", "landscape",
    "numerics", "reference", "report", "representation", "results", "training",
)  # fmt: skip
_NAMES = {
    "Options": "auditing", "audit": "auditing", "Recipe": "core", "Split": "core", "Subject": "core", "Task": "core",
    "probe": "core", "Report": "report",
}  # fmt: skip

__all__ = [
    "Options", "Recipe", "Report", "Split", "Subject", "Task", "__version__", "advice", "audit", "auditing", "bias",
    "core", "demos", "dynamics", "frontier", "generalization", "kernels", "landscape", "numerics", "probe", "reference",
    "report", "representation", "results", "training",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"theorylens.{name}")
    if name in _NAMES:
        value = getattr(importlib.import_module(f"theorylens.{_NAMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'theorylens' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PACKAGES, *_NAMES})
