"""One number at every layer, as a line over the depth of the network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from theorylens.core import Subject, UnsuitableError
from theorylens.results import Estimate, Line, Message, Role, Unknown

from ._depth import Depth, depth

WIDE = 1 << 15  # units of a layer that is held in float64, and in halves, at some hundred rows


def place_of(seen: Depth) -> int:
    """Where the last hidden layer is among the layers seen; the last one when it is not."""
    return seen.names.index(seen.last_hidden) if seen.last_hidden in seen.names else len(seen.names) - 1


def narrow_layers(subject: Subject, role: str, most: int) -> Depth:
    """`depth` without the layers that are too wide to be held in float64."""
    return depth(subject, role, most, WIDE)


def seen_layers(subject: Subject, role: str, most: int, otherwise: Message) -> Depth:
    """`narrow_layers`, or ``otherwise`` when no layer gives one row of real numbers per example."""
    seen = narrow_layers(subject, role, most)
    if not seen.names:
        raise UnsuitableError(otherwise)
    return seen


def depth_line(found: Sequence[Estimate], seen: Depth, name: Message, role: Role) -> Line:
    """Values with their bands; where there is none the line has a gap."""

    def known(x: float) -> float:
        return x if math.isfinite(x) else math.nan

    return Line(
        x=seen.at,
        y=np.asarray([known(e.value) for e in found]),
        lower=np.asarray([known(e.lower) for e in found]),
        upper=np.asarray([known(e.upper) for e in found]),
        name=name,
        role=role,
    )


def class_numbers(subject: Subject, role: str, limit: int | None, otherwise: Message) -> Tensor:
    """Class of each of ``split(role).subset(limit)``, -100 where there is none; else ``otherwise``."""
    if subject.judged.kind == "classification":
        outputs, targets = subject.predictions(role, limit=limit)
        single = outputs.ndim == 1 or outputs.shape[1] == 1
        if single and targets.numel() == len(targets):
            return (targets.reshape(-1) > 0.5).long()
        if targets.ndim == 1 and not targets.is_floating_point():
            return targets.long()
    raise UnsuitableError(otherwise)


def enough_of_each(labels: Tensor, fewest: int) -> Tensor:
    """Row numbers of the known classes with at least ``fewest`` rows."""
    known = labels >= 0
    if not bool(known.any()):
        return torch.zeros(0, dtype=torch.int64)
    counts = labels[known].bincount()
    return torch.nonzero(known & (counts[labels.clamp(min=0)] >= fewest))[:, 0]


def without_value(trouble: Message) -> Estimate:
    """An estimate that says why there is none."""
    return Estimate(value=math.nan, uncertainty=Unknown(why=trouble), trouble=trouble)
