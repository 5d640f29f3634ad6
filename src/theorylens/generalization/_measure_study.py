"""Measures and generalisation gaps of networks that are there already, and their rank correlation.

`rank_study` trains the networks of a grid itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from theorylens.core import Subject
from theorylens.results import Estimate, Intervals, Message, Wall

from ._measure_names import SHORT
from ._measures import generalization_measures
from ._rank_statistics import rank_correlation

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasureStudy:
    """Measures and generalisation gaps of many networks.

    Attributes
    ----------
    values
        By name of the measure, shape (networks,).
    gaps
        Test error minus training error, shape (networks,).
    correlations
        Kendall's tau of each measure with the gap, with its interval over networks; measures that are constant or not
        defined for some network are left out.
    """

    values: dict[str, Floats]
    gaps: Floats
    correlations: dict[str, Estimate]

    def forest(self) -> Intervals:
        """The picture: one measure a line, largest correlation first."""
        return forest(self.correlations, len(self.gaps))


def forest(correlations: Mapping[str, Estimate], networks: int) -> Intervals:
    """Kendall's tau of each measure with its interval, largest first."""
    order = sorted(correlations, key=lambda name: -correlations[name].value)
    found = [correlations[name] for name in order]
    return Intervals(
        label=Message("measure.forest", "Rank correlation with the generalisation gap over {n} networks", n=networks),
        names=tuple(SHORT[name] for name in order), values=np.array([f.value for f in found]),
        lower=np.array([f.lower for f in found]), upper=np.array([f.upper for f in found]),
        x_name=Message("measure.tau", "Kendall's tau"), walls=(Wall(at=0.0, name=Message("measure.zero", "none")),),
    )  # fmt: skip


def measure_study(
    subjects: Sequence[Subject], *, names: Collection[str] | None = None, radius: float = 0.1, draws: int = 32
) -> MeasureStudy:
    """Which measures go with the gap between test and training error over these networks?

    Parameters
    ----------
    subjects
        Trained classifiers with ``train`` and ``test``, at least 4; with ``init`` for the distance from it.
    names, radius, draws
        As `generalization_measures`.

    Raises
    ------
    ValueError
        Fewer than 4 networks, or networks with no error to compare.
    """
    if len(subjects) < 4:
        raise ValueError(f"a rank correlation with an interval needs at least 4 networks, got {len(subjects)}")
    rows, gaps = [], []
    for subject in subjects:
        errors = [subject.scores(role).errors for role in ("train", "test")]
        if errors[0] is None or errors[1] is None:
            raise ValueError(f"the task of {subject.name or 'a subject'} states no error; give Task(error=...)")
        gaps.append(float(errors[1].mean() - errors[0].mean()))
        start = subject.initial()
        own = dict(start.subject.net.state_dict()) if start is not None and start.own else None
        with subject.studied():
            rows.append(
                generalization_measures(
                    subject.net,
                    subject.split("train"),
                    subject.judged,
                    reference=own,
                    names=names,
                    radius=radius,
                    draws=draws,
                )
            )
    values = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    gap = np.array(gaps)
    usable = {n: v for n, v in values.items() if np.isfinite(v).all() and len(np.unique(v)) > 1}
    return MeasureStudy(
        values=values, gaps=gap, correlations={n: rank_correlation(v, gap) for n, v in usable.items()}
    )  # fmt: skip
