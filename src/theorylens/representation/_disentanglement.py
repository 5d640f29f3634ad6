"""Disentanglement: does each latent know one factor, and is each factor known by one latent?

Method   DCI: entropies of the importance of latents for factors, from random forests scored on rows they did not see;
         MIG: gap between the two latents that share most information with a factor
Source   Eastwood, Williams (2018), ICLR; Chen, Li, Grosse, Duvenaud (2018), NeurIPS
Assumes  ground-truth factors; none of this is identifiable without them (Locatello et al. 2019, ICML)
Breaks   scores of noise are not zero: compare with the same scores on permuted rows, which are always given
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from torch import Tensor

from theorylens.results import Estimate

from ._half_samples import half_samples
from ._matrices import real_rows
from ._mutual_information import discrete_mutual_information

TREES = 30
BINS = 20
SPLITS = 6  # halvings for the error bars; each trains two forests a factor


@dataclass(frozen=True, kw_only=True, eq=False)
class Disentangled:
    """DCI with its baseline.

    Attributes
    ----------
    disentanglement
        1 when every latent matters for a single factor; latents count by their total importance.
    completeness
        1 when every factor is spread over a single latent; mean over factors.
    informativeness
        Mean over factors of the held-out accuracy (whole-number factors) or R² (real ones).
    importance
        Shape (latents, factors), columns summing to 1 where a factor can be predicted.
    baseline
        The same three on rows permuted against each other: what noise gets.
    """

    disentanglement: Estimate
    completeness: Estimate
    informativeness: Estimate
    importance: Tensor
    baseline: tuple[float, float, float]


def disentanglement_score(importance: Tensor) -> float:
    """1 minus the entropy, in base factors, of how each latent's importance (latents, factors) is shared out.

    >>> disentanglement_score(torch.tensor([[0.5, 0.5], [0.0, 1.0]]))
    0.5
    """
    r = _importances(importance)
    latents = r.sum(1)
    used = latents > 0
    return float((latents[used] / latents.sum()) @ (1 - _entropies(r[used])))


def completeness_score(importance: Tensor, *, weighted: bool = False) -> float:
    """1 minus the entropy, in base latents, of how each factor is shared out; mean over factors or by importance.

    >>> [round(completeness_score(torch.tensor([[0.5, 0.5], [0.0, 1.0]]), weighted=w), 6) for w in (False, True)]
    [0.540852, 0.311278]
    """
    r = _importances(importance)
    factors = r.sum(0)
    used = factors > 0
    found = 1 - _entropies(r[:, used].T)
    return float((factors[used] / factors.sum()) @ found if weighted else found.mean())


def dci(codes: Tensor, factors: Tensor, *, rng: torch.Generator) -> Disentangled:
    """Disentanglement, completeness and informativeness of ``codes`` (n, latents) for ``factors`` (n, factors).

    Whole-number factors are classified, real ones regressed. Forests are fitted to one half of the rows and scored on
    the other; intervals come from halves of the rows, on which forests are worse, so they are on the wide side.

    Raises
    ------
    ValueError
        Other numbers of rows, fewer than two latents or factors, a factor that is constant, values not finite.
    """
    x = real_rows(codes, "codes", fewest=20)
    if factors.ndim != 2 or len(factors) != len(x):
        raise ValueError(f"{len(x)} codes need factors of shape ({len(x)}, factors), got {tuple(factors.shape)}")
    y = real_rows(factors.double(), "factors", fewest=20)
    if min(x.shape[1], y.shape[1]) < 2:
        raise ValueError(f"needed are two latents and two factors at least, got {x.shape[1]} and {y.shape[1]}")
    for j in range(y.shape[1]):
        if len(y[:, j].unique()) < 2:  # type: ignore[no-untyped-call]
            raise ValueError(f"factor {j} is constant on all {len(y)} rows; leave it out")
    seed = int(torch.randint(1 << 31, (1,), generator=rng))
    order = torch.randperm(len(x), generator=rng)  # rows sorted by factor would put one half of it in each fit
    a, b, whole = x[order].numpy(), y[order].numpy(), not factors.is_floating_point()
    importance, informed = _fit(a, b, whole, seed)
    known: dict[tuple[int, ...], tuple[float, float, float]] = {}

    def scores(kept: Tensor) -> tuple[float, float, float]:
        key = tuple(kept.tolist())
        if key not in known:
            known[key] = _three(*_fit(a[kept.numpy()], b[kept.numpy()], whole, seed))
        return known[key]

    three = _three(importance, informed)

    def estimate(i: int) -> Estimate:
        interval = half_samples(
            three[i], lambda kept: scores(kept)[i], len(a), within=(-math.inf, 1.0), biased=True, splits=SPLITS
        )
        return Estimate(value=three[i], uncertainty=interval)

    permuted = b[torch.randperm(len(b), generator=rng).numpy()]
    return Disentangled(
        disentanglement=estimate(0), completeness=estimate(1), informativeness=estimate(2), importance=importance,
        baseline=_three(*_fit(a, permuted, whole, seed)),
    )  # fmt: skip


def mutual_information_gap(information: Tensor, entropies: Tensor) -> float:
    """Mean over factors of (largest - second largest information) / entropy; information (factors, latents).

    >>> round(mutual_information_gap(torch.tensor([[1.0, 0.2], [0.1, 0.5]]), torch.tensor([1.0, 1.0])), 6)
    0.6
    """
    shared, entropy = real_rows(information, "information", 1), entropies.double()
    if entropy.shape != (len(shared),) or not bool((entropy > 0).all()) or shared.shape[1] < 2:
        raise ValueError(
            f"needed are positive entropies of shape (factors,) and information (factors, latents >= 2), "
            f"got {tuple(entropy.shape)} and {tuple(shared.shape)}"
        )
    best = shared.topk(2, dim=1).values
    return float(((best[:, 0] - best[:, 1]) / entropy).mean())


def mig(codes: Tensor, factors: Tensor, *, bins: int = BINS) -> float:
    """`mutual_information_gap` of codes (n, latents), cut into ``bins`` of equal width, and whole-number factors."""
    x = real_rows(codes, "codes")
    if factors.ndim != 2 or len(factors) != len(x) or factors.is_floating_point():
        raise ValueError(f"factors must be whole numbers of shape ({len(x)}, factors), got {tuple(factors.shape)}")
    tables = [[_table(x[:, i], factors[:, j], bins) for i in range(x.shape[1])] for j in range(factors.shape[1])]
    shared = torch.tensor([[discrete_mutual_information(t) for t in row] for row in tables], dtype=torch.float64)
    entropies = torch.stack([torch.special.entr(row[0].sum(0)).sum() for row in tables])
    if bool((entropies <= 1e-12).any()):
        raise ValueError(f"factor {int(entropies.argmin())} is constant on all {len(x)} rows; leave it out")
    return mutual_information_gap(shared, entropies)


def _table(code: Tensor, factor: Tensor, bins: int) -> Tensor:
    low, high = float(code.min()), float(code.max())
    at = ((code - low) / max(high - low, 1e-300) * bins).long().clamp(max=bins - 1)
    numbers = factor.unique(return_inverse=True)[1]  # type: ignore[no-untyped-call]
    table = torch.zeros(bins, int(numbers.max()) + 1, dtype=torch.float64)
    return table.index_put_((at, numbers), torch.ones(len(code), dtype=torch.float64), accumulate=True) / len(code)


def _fit(x: NDArray[np.float64], y: NDArray[np.float64], whole: bool, seed: int) -> tuple[Tensor, float]:
    half, made = len(x) // 2, RandomForestClassifier if whole else RandomForestRegressor
    columns, scores = [], []
    for j in range(y.shape[1]):
        # Every split may look at all latents: with a random choice of them weak ones are used for want of better.
        forest = made(n_estimators=TREES, max_features=None, random_state=seed).fit(x[:half], y[:half, j])
        columns.append(torch.from_numpy(forest.feature_importances_))
        scores.append(forest.score(x[half:], y[half:, j]))
    return torch.stack(columns, dim=1), float(np.mean(scores))


def _three(importance: Tensor, informed: float) -> tuple[float, float, float]:
    if float(importance.sum()) == 0:
        return math.nan, math.nan, informed
    return disentanglement_score(importance), completeness_score(importance), informed


def _importances(importance: Tensor) -> Tensor:
    r = real_rows(importance, "importance", 2)
    if r.shape[1] < 2 or bool((r < 0).any()) or float(r.sum()) == 0:
        raise ValueError(
            "importance needs two latents and two factors at least, no negative and some positive entries, "
            f"got shape {tuple(r.shape)}"
        )
    return r


def _entropies(rows: Tensor) -> Tensor:
    """Entropy of each row as shares, in base of its length."""
    shares = rows / rows.sum(1, keepdim=True)
    entropies: Tensor = torch.special.entr(shares).sum(1)
    return entropies / math.log(rows.shape[1])
