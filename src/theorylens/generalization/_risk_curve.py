"""Risk against size over repeated runs: what the experiments on double descent return and what is drawn of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from theorylens.results import Curve, Estimate, Line, Message, Statistical

Floats = NDArray[np.float64]
LEVEL = 0.95
FITTED = 0.01  # mean training error up to which a network counts as having fitted its examples


@dataclass(frozen=True, kw_only=True, eq=False)
class RiskCurve:
    """Training and test risk of every run at every size.

    Attributes
    ----------
    sizes
        Shape (k,), increasing.
    train, test
        Shape (k, runs). Runs with the same number share their data and seed.
    theory
        Mean test risk by theory at the sizes, shape (k,), with infinities; None where no theory applies.
    threshold
        Size at which interpolation becomes possible, known beforehand; None where it can only be measured.
    label, x_name, y_name, train_name
        Words for the picture; the last says what the training line is where it is no risk like that of the test.
    """

    sizes: Floats
    train: Floats
    test: Floats
    label: Message
    x_name: Message
    y_name: Message
    theory: Floats | None = None
    threshold: float | None = None
    train_name: Message = Message("generalization.train_risk", "training")  # noqa: RUF009 - frozen

    @property
    def runs(self) -> int:
        return int(self.test.shape[1])

    def interval(self, values: Floats) -> tuple[Floats, Floats]:
        """Student's t limits at 95 % for the mean over runs, shapes (k,)."""
        mean = values.mean(1)
        half = float(stats.t.ppf((1 + LEVEL) / 2, self.runs - 1)) * values.std(1, ddof=1) / math.sqrt(self.runs)
        return mean - half, mean + half

    @property
    def interpolation(self) -> float | None:
        """The smallest size from which on the mean training error stays at or below 1 %; None when there is none."""
        fitted = self.train.mean(1) <= FITTED
        beyond = len(fitted) - int(np.argmin(fitted[::-1])) if not fitted.all() else 0
        return float(self.sizes[beyond]) if beyond < len(fitted) else None

    def second_descent(self, at: float | None = None) -> Estimate:
        """Mean fall of the test risk from the size nearest to ``at`` to the largest, paired over runs.

        ``at`` is the threshold unless given; choose it before looking at the curve, for the highest point of a noisy
        curve always falls. A 95 % interval of Student's t; risks near the threshold have heavy tails, so it is
        approximate there.

        Raises
        ------
        ValueError
            No threshold is known and none was given.
        """
        at = self.threshold if at is None else at
        if at is None:
            raise ValueError("no threshold is known beforehand here; say at which size the fall begins")
        place = int(np.abs(self.sizes - at).argmin())
        fall = self.test[place] - self.test[-1]
        mean = float(fall.mean())
        half = float(stats.t.ppf((1 + LEVEL) / 2, self.runs - 1) * fall.std(ddof=1) / math.sqrt(self.runs))
        method = Message("generalization.paired_runs", "Student's t over {runs} paired runs", runs=self.runs)
        return Estimate(
            value=mean, uncertainty=Statistical(lower=mean - half, upper=mean + half, level=LEVEL, method=method)
        )

    def curve(self, *, y_log: bool = True) -> Curve:
        """The picture: test risk with its interval, training risk, and theory where there is one."""
        lower, upper = self.interval(self.test)
        floor = self.test.min(1) if y_log else lower
        lines = [
            Line(
                x=self.sizes, y=self.test.mean(1), lower=np.maximum(lower, floor), upper=upper,
                name=Message("generalization.test_risk", "test, mean and interval over {runs} runs", runs=self.runs),
            ),
            Line(
                x=self.sizes, y=self.train.mean(1), role="init", name=self.train_name,
            ),
        ]  # fmt: skip
        if self.theory is not None:
            # Infinite at the threshold: a picture breaks the line there instead of drawing across the peak.
            name = Message("generalization.theory_risk", "test by theory")
            lines.append(Line(x=self.sizes, y=self.theory, name=name, role="theory"))
        if y_log:  # a training risk of zero has no logarithm
            lines = [_positive(line) for line in lines]
        return Curve(
            label=self.label, lines=tuple(line for line in lines if len(line.x)), x_name=self.x_name,
            y_name=self.y_name, x_log=True, y_log=y_log,
        )  # fmt: skip


def _positive(line: Line) -> Line:
    kept = line.y > 1e-12
    band = [None if b is None else np.maximum(b[kept], 1e-12) for b in (line.lower, line.upper)]
    return Line(x=line.x[kept], y=line.y[kept], name=line.name, role=line.role, lower=band[0], upper=band[1])
