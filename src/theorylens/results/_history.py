"""The record of a training run: named series over steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class History:
    """Series measured while a network was trained.

    Attributes
    ----------
    steps
        Optimiser steps at which the series were recorded, strictly increasing.
    series
        Name to values, one per step: ``"train_loss"``, ``"validation_loss"``, ``"lr"`` are understood everywhere.
    """

    steps: NDArray[np.int64]
    series: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.steps.ndim != 1 or (np.diff(self.steps) <= 0).any():
            raise ValueError("the steps of a history must be one strictly increasing list")
        for name, values in self.series.items():
            if len(values) != len(self.steps):
                raise ValueError(
                    f"history series {name!r} has {len(values)} values for {len(self.steps)} steps; give one per step"
                )

    @classmethod
    def of(cls, series: Mapping[str, Sequence[float]], steps: Sequence[int] | None = None) -> History:
        """From plain lists; without ``steps``, a series named ``"step"`` or the positions serve."""
        columns = {name: np.asarray(values, dtype=np.float64) for name, values in series.items() if name != "step"}
        if steps is None:
            steps = (
                [int(s) for s in series["step"]] if "step" in series else range(len(next(iter(columns.values()), [])))
            )
        return cls(steps=np.asarray(list(steps), dtype=np.int64), series=columns)
