"""Two samples by other means than kernels: energy distance, a classifier that tells them apart, each feature by itself.

Method   V-statistic of the energy distance with permutations; out-of-sample scores of logistic regression; two-sample
         Kolmogorov-Smirnov tests with Holm's adjustment
Source   Székely, Rizzo (2004, 2013); Lopez-Paz, Oquab (2017), ICLR; Rabanser, Günnemann, Lipton (2019), NeurIPS; Holm
         (1979), Scand. J. Stat. 6:65; DeLong, DeLong, Clarke-Pearson (1988), Biometrics 44:837
Assumes  rows that are exchangeable when there is no difference
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from theorylens.results import Estimate, Message, Statistical

from ._two_sample import TIES, check_samples

Floats = NDArray[np.float64]


def energy_distance(x: Tensor, y: Tensor) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| over all pairs, each row with itself included: never negative.

    >>> energy_distance(torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [4.0]]))
    3.5
    """
    check_samples(x, y)
    distances = _distances(torch.cat([x, y]))
    n = len(x)
    across, left, right = distances[:n, n:].mean(), distances[:n, :n].mean(), distances[n:, n:].mean()
    return float(2 * across - left - right)


@dataclass(frozen=True, kw_only=True)
class EnergyTest:
    """A statistic and how often permuted rows give at least as much.

    Attributes
    ----------
    statistic, p
        ``p`` is (1 + at least as much) / (1 + permutations): valid at any number of them, never 0.
    """

    statistic: float
    p: float


def energy_test(x: Tensor, y: Tensor, permutations: int, generator: torch.Generator) -> EnergyTest:
    """Permutation test of equal distributions by the energy distance; consistent against any difference.

    Parameters
    ----------
    x, y
        Shapes (n, d) and (m, d), n, m >= 2.
    permutations
        At least 1.
    generator
        Source of the permutations, on the CPU.
    """
    check_samples(x, y)
    _permutations(permutations)
    n, total = len(x), len(x) + len(y)
    distances = _distances(torch.cat([x, y]))
    groups = torch.zeros(total, permutations + 1, dtype=torch.float64)
    groups[:n, 0] = 1
    for k in range(1, permutations + 1):
        groups[torch.randperm(total, generator=generator)[:n], k] = 1
    groups, m = groups.to(distances.device), total - n
    within = (groups * (distances @ groups)).sum(0)
    across = distances.sum(1) @ groups - within
    other = distances.sum() - 2 * across - within
    values = (2 * across / (n * m) - within / n**2 - other / m**2).cpu()
    return _ranked(values)


def _distances(pooled: Tensor) -> Tensor:
    rows = pooled.double()
    rows = rows - rows.mean(0)
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")


def _ranked(values: Tensor) -> EnergyTest:
    observed, null = float(values[0]), values[1:]
    tie = TIES * max(1.0, abs(observed))
    return EnergyTest(statistic=observed, p=(1 + int((null >= observed - tie).sum())) / (len(null) + 1))


@dataclass(frozen=True, kw_only=True)
class ClassifierTest:
    """How well a classifier tells two samples apart on rows it was not trained on.

    Attributes
    ----------
    separation
        Probability that a row of the second sample scores higher than one of the first (area under the ROC curve),
        with DeLong's interval: 0.5 is no difference, 1 complete.
    p
        Valid permutation p-value of it, one-sided.
    distance
        Proxy A-distance 2 (1 - 2 err) of the balanced error on those rows: 0 to 2.
    """

    separation: Estimate
    p: float
    distance: float


def classifier_test(
    x: Tensor, y: Tensor, permutations: int, generator: torch.Generator, *, level: float = 0.95
) -> ClassifierTest:
    """Train logistic regression on half of the rows to tell x from y, and test it on the other half.

    The other half was not seen, so its rows may be permuted: the p-value is valid whatever the classifier.

    Parameters
    ----------
    x, y
        Shapes (n, d) and (m, d), n, m >= 10.
    """
    check_samples(x, y)
    _permutations(permutations)
    if min(len(x), len(y)) < 10:
        raise ValueError(f"each sample needs at least 10 rows, half of them for training, got {len(x)} and {len(y)}")
    halves = [torch.randperm(len(s), generator=generator) for s in (x, y)]
    first = [s[h[: len(h) // 2].to(s.device)] for s, h in zip((x, y), halves, strict=True)]
    second = [s[h[len(h) // 2 :].to(s.device)] for s, h in zip((x, y), halves, strict=True)]
    train, test = (torch.cat(part).double().cpu().numpy() for part in (first, second))
    scores = _scores(train, test, len(first[0]))
    n = len(second[0])
    a, b = scores[:n], scores[n:]
    ranks = torch.from_numpy(stats.rankdata(scores))
    sums = torch.stack(
        [ranks[n:].sum()]
        + [ranks[torch.randperm(len(ranks), generator=generator)[n:]].sum() for _ in range(permutations)]
    )
    error = (float((a > 0).mean()) + float((b <= 0).mean())) / 2
    return ClassifierTest(
        separation=_area(a, b, level), p=_ranked(sums).p, distance=proxy_a_distance(min(error, 0.5))
    )  # fmt: skip


def _scores(train: Floats, test: Floats, n: int) -> Floats:
    """Log odds of the second sample for the rows of ``test``; the first ``n`` rows of ``train`` are of the first."""
    from sklearn.linear_model import LogisticRegression

    middle, spread = train.mean(0), train.std(0)
    spread[spread == 0] = 1
    labels = (np.arange(len(train)) >= n).astype(int)
    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=500)
    model.fit((train - middle) / spread, labels)
    return np.asarray(model.decision_function((test - middle) / spread))


def _area(a: Floats, b: Floats, level: float) -> Estimate:
    wins = (b[:, None] > a[None, :]) + 0.5 * (b[:, None] == a[None, :])
    value = float(wins.mean())
    variance = wins.mean(1).var(ddof=1) / len(b) + wins.mean(0).var(ddof=1) / len(a)
    half = float(stats.norm.ppf((1 + level) / 2) * math.sqrt(variance))
    method = Message("distances.delong", "DeLong's interval over {n} rows not trained on", n=len(a) + len(b))
    lower, upper = max(0.0, value - half), min(1.0, value + half)
    if half == 0:  # complete separation has no spread: what so many rows of the smaller sample allow
        room = 1 - ((1 - level) / 2) ** (1 / min(len(a), len(b)))
        lower, upper = max(0.0, value - room), min(1.0, value + room)
    return Estimate(value=value, uncertainty=Statistical(lower=lower, upper=upper, level=level, method=method))


def proxy_a_distance(error: float) -> float:
    """2 (1 - 2 err) from the error of a classifier that tells two domains apart: 0 at chance, 2 when it always can."""
    if not 0 <= error <= 0.5:
        raise ValueError(f"error must lie in 0 to 0.5 (swap the classes of a worse one), got {error}")
    return 2 * (1 - 2 * error)


def domain_bound(source_error: float, divergence: float, joint_error: float) -> float:
    """Ben-David et al.'s bound on the target error: R_S + ½ d_HΔH + λ*, at most 1.

    Parameters
    ----------
    source_error
        R_S, the true error on the source.
    divergence
        d_HΔH between the inputs, 0 to 2. The proxy A-distance of one classifier is a lower estimate of it: with that
        the sum is no bound.
    joint_error
        λ*: smallest sum of both errors in the class. It cannot be seen without labels of the target.

    Source: Ben-David, Blitzer, Crammer, Kulesza, Pereira, Vaughan (2010), Machine Learning 79:151, theorem 2.
    """
    for name, value, top in (("source_error", source_error, 1.0), ("divergence", divergence, 2.0),
                             ("joint_error", joint_error, 2.0)):  # fmt: skip
        if not 0 <= value <= top:
            raise ValueError(f"{name} must lie in 0 to {top:g}, got {value}")
    return min(1.0, source_error + divergence / 2 + joint_error)


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureShift:
    """A test of each feature.

    Attributes
    ----------
    statistics
        Largest difference of the two distribution functions, shape (d,): the effect, 0 to 1.
    p
        Of each feature alone, shape (d,).
    adjusted
        By Holm for all features together: at most 5 % to call any feature changed when none is.
    """

    statistics: Floats
    p: Floats
    adjusted: Floats

    @property
    def smallest(self) -> float:
        """p-value of "no feature changed"."""
        return float(self.adjusted.min())


def feature_shift(x: Tensor, y: Tensor) -> FeatureShift:
    """Two-sample Kolmogorov-Smirnov test of each column of x (n, d) and y (m, d) with Holm's adjustment.

    One feature is one column. Distributions that differ only in how features go together are not seen.
    """
    check_samples(x, y)
    a, b = (s.detach().double().cpu().numpy() for s in (x, y))
    found = [stats.ks_2samp(a[:, k], b[:, k]) for k in range(a.shape[1])]
    p = np.array([float(f.pvalue) for f in found])
    return FeatureShift(statistics=np.array([float(f.statistic) for f in found]), p=p, adjusted=holm(p))


def holm(p: Any) -> Floats:
    """Holm's adjusted p-values: valid whatever the dependence."""
    raw = np.asarray(p, dtype=np.float64)
    if raw.ndim != 1 or not len(raw) or (raw < 0).any() or (raw > 1).any() or np.isnan(raw).any():
        raise ValueError(f"p-values must be a list of numbers from 0 to 1, got {p!r:.80}")
    order = np.argsort(raw, kind="stable")
    scaled = np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1))
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(1.0, scaled)
    return adjusted


def _permutations(permutations: int) -> None:
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, got {permutations}")
