"""How many directions do the features use, counted softly?

Method   exponential of the entropy of singular values (effective rank) or of eigenvalue shares; participation ratio
Source   Roy, Vetterli (2007), EUSIPCO; RankMe: Garrido, Balestriero, Najman, LeCun (2023), ICML
Assumes  nothing; which spectrum is meant (centred or not, singular values or their squares) changes the number
Breaks   as a measure of dimension: it counts the span, so a curve that winds through space reads high; as a score of
         features: small values show collapse, beyond that it did not order models
"""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ._matrices import real_rows

RANKME_EPSILON = 1e-7  # added to each share, as published


def participation_ratio(eigenvalues: Tensor) -> float:
    """(sum λ)² / sum λ² of the eigenvalues of a covariance: n for n equal ones.

    >>> round(participation_ratio(torch.tensor([4.0, 2.0, 1.0, 1.0])), 6)
    2.909091
    """
    values = _weights(eigenvalues, "eigenvalues")
    return float(values.sum() ** 2 / (values**2).sum())


def entropy_dimension(eigenvalues: Tensor) -> float:
    """Exponential of the entropy of the shares λ / sum λ of the eigenvalues of a covariance.

    >>> round(entropy_dimension(torch.tensor([4.0, 2.0, 1.0, 1.0])), 6)
    3.363586
    """
    return _exponential_entropy(_weights(eigenvalues, "eigenvalues"))


def effective_rank(singular_values: Tensor) -> float:
    """Exponential of the entropy of the shares σ / sum σ of the singular values (Roy, Vetterli 2007).

    >>> round(effective_rank(torch.tensor([2.0, 1.0, 1.0])), 6)
    2.828427
    """
    return _exponential_entropy(_weights(singular_values, "singular values"))


def rankme(features: Tensor) -> float:
    """RankMe of features (n, d): effective rank of the uncentred features, each share raised by 1e-7 as published."""
    values = torch.linalg.svdvals(real_rows(features, "features", fewest=1))
    if float(values.sum()) == 0:
        raise ValueError("all features are zero, so they have no rank")
    shares = values / values.sum() + RANKME_EPSILON
    return float((-(shares * shares.log()).sum()).exp())


def covariance_eigenvalues(features: ArrayLike | Tensor) -> Tensor:
    """Eigenvalues of the covariance of features (n, d), descending, float64, at most min(n - 1, d) of them.

    What is below the rounding of the largest is zero.
    """
    features = torch.as_tensor(features)
    x = real_rows(features, "features")
    values = torch.linalg.svdvals(x - x.mean(0)) ** 2 / (len(x) - 1)
    floor = float(x.abs().max()) ** 2 * max(x.shape) * torch.finfo(features.dtype if features.is_floating_point() else
                                                                   torch.float64).eps ** 2  # fmt: skip
    values = values[: min(len(x) - 1, x.shape[1])]
    return torch.where(values > floor, values, 0.0)


def _weights(values: Tensor, name: str) -> Tensor:
    w = values.detach().double()
    if w.ndim != 1 or not len(w) or not bool(torch.isfinite(w).all()) or bool((w < 0).any()):
        raise ValueError(f"{name} must be finite numbers >= 0 of shape (d,), got shape {tuple(w.shape)}")
    if float(w.sum()) == 0:
        raise ValueError(f"all {name} are zero: nothing varies")
    return w / w.max()


def _exponential_entropy(weights: Tensor) -> float:
    return float(torch.special.entr(weights / weights.sum()).sum().exp())
