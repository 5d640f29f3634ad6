"""Three theorems about learners that can be run: no free lunch, the mistakes of the perceptron, progressive validation.

Source   Shalev-Shwartz, Ben-David (2014), theorem 5.1; Novikoff (1962); Blum, Kalai, Langford (1999), COLT
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from theorylens.numerics.concentration import hoeffding
from theorylens.numerics.relative_entropy import kl_inverse
from theorylens.results import Estimate, Message, Statistical

from ._asked import probability, whole
from ._pac_experiment import Learner

Floats = NDArray[np.float64]


def no_free_lunch(
    make: Callable[[], Learner], points: ArrayLike, m: int, *, runs: int, generator: torch.Generator,
    delta: float = 0.05,
) -> Estimate:  # fmt: skip
    """Mean error of a learner over random labellings of ``points``, of which it sees ``m`` drawn with replacement.

    Each run draws a label per point, a sample of m, and takes the error over all points; the labelling itself makes
    none. What was not seen is guessed, so no learner gets below (1 - 1/n)^m / 2, at least 1/4 for m <= n/2 of n points;
    hence for some labelling the error is 1/8 or more with probability 1/7 or more.

    Returns
    -------
    The mean with Hoeffding's two-sided interval over the runs. A sample with one label only is answered by that label.
    """
    table, m, runs = np.asarray(points, dtype=np.float64), whole("m", m), whole("runs", runs)
    if table.ndim != 2 or len(table) < 2 * m:
        raise ValueError(f"no free lunch is about m <= n/2: give at least {2 * m} points in a matrix, got {len(table)}")
    errors = []
    for _ in range(runs):
        labels = torch.randint(2, (len(table),), generator=generator).numpy()
        rows = torch.randint(len(table), (m,), generator=generator).numpy()
        if len(np.unique(labels[rows])) == 1:
            answers = np.full(len(table), labels[rows[0]])
        else:
            learner = make()
            learner.fit(table[rows], labels[rows])
            answers = np.asarray(learner.predict(table))
        errors.append(float((answers != labels).mean()))
    value, radius = math.fsum(errors) / runs, hoeffding(runs, probability("delta", delta) / 2)
    method = Message("method.hoeffding_runs", "Hoeffding's interval over {runs} runs", runs=runs)
    interval = Statistical(
        lower=max(0.0, value - radius), upper=min(1.0, value + radius), level=1 - delta, method=method
    )
    return Estimate(value=value, uncertainty=interval)


@dataclass(frozen=True, kw_only=True, eq=False)
class PerceptronRun:
    """Updates made until no example is wrong (or the passes are over), the weights, and Novikoff's bound (R / g)^2.

    ``bound`` holds for the number of mistakes however often the examples are shown; infinite when the final weights do
    not separate them. g is the margin of the final weights, normed: any separating direction gives a valid bound.
    """

    mistakes: int
    weights: Floats
    separated: bool
    bound: float


def perceptron(points: ArrayLike, labels: ArrayLike, *, passes: int = 1000) -> PerceptronRun:
    """Rosenblatt's perceptron through the origin: w += y x at every mistake. Append a column of ones for a bias.

    Parameters
    ----------
    points, labels
        Shape (n, d), and -1 or 1, shape (n,).

    >>> run = perceptron([[1.0, 2.0], [2.0, 0.5], [-1.0, -1.0]], [1, 1, -1])
    >>> run.separated, run.mistakes <= run.bound
    (True, True)
    """
    x, y = np.asarray(points, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if x.ndim != 2 or y.shape != x.shape[:1] or not np.isfinite(x).all() or not np.isin(y, (-1, 1)).all():
        raise ValueError(f"give finite points (n, d) and n labels of -1 and 1, got shapes {x.shape} and {y.shape}")
    w, mistakes = np.zeros(x.shape[1]), 0
    for _ in range(whole("passes", passes)):
        before = mistakes
        for xi, yi in zip(x, y, strict=True):
            if yi * (w @ xi) <= 0:
                w = w + yi * xi
                mistakes += 1
        if mistakes == before:
            break
    least = float((y * (x @ w)).min())
    separated = least > 0
    reach = float(np.linalg.norm(x, axis=1).max())
    bound = (reach * float(np.linalg.norm(w)) / least) ** 2 if separated else math.inf
    return PerceptronRun(mistakes=mistakes, weights=w, separated=separated, bound=bound)


def progressive_validation(errors: ArrayLike, delta: float) -> float:
    """Upper bound on the mean risk of the classifiers of a run in which each example tested before it was learnt from.

    The bounded risk is that of a classifier drawn evenly from the run, not of the last one. ``errors``: 0 or 1 for each
    example, in order, shape (n,). With p the mean risk, which depends on the run, and k errors,
    E exp(-s k - n ln(1 - p + p e^-s)) <= 1 for each s (concavity of the logarithm), hence for each k the probability of
    k errors with kl(k/n || p) >= c and k/n < p is at most exp(-n c); the n + 1 values of k share ``delta``.

    >>> round(progressive_validation([0] * 95 + [1] * 5, 0.05), 4)
    0.1804
    """
    e = np.asarray(errors, dtype=np.float64)
    if e.ndim != 1 or len(e) == 0 or not np.isin(e, (0, 1)).all():
        raise ValueError(f"errors must be a list of 0 and 1, one per example in order, got shape {e.shape}")
    n = len(e)
    budget = math.log((n + 1) / probability("delta", delta)) / n
    return kl_inverse(float(e.sum()) / n, math.nextafter(budget * (1 + 1e-15), math.inf))
