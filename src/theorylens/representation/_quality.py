"""How good are the features for a task, and how are they spread? Several numbers side by side.

Method   linear and nearest-neighbour read-out on held-out rows, alignment and uniformity, spectrum, class separation
Source   Wang, Isola (2020), ICML; Alain, Bengio (2016); Garrido et al. (2023), ICML
Assumes  rows are independent draws that training did not see, if the read-out is to say something about new ones
Breaks   no single number orders representations; a control (random features) belongs beside each
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from theorylens.numerics.binomial import clopper_pearson_interval
from theorylens.results import Estimate, Message, Statistical

from ._collapse import fisher_ratio, within_class_variability
from ._effective_rank import covariance_eigenvalues, entropy_dimension, participation_ratio, rankme
from ._linear_probe import linear_probe
from ._matrices import labels_of, real_rows

NEIGHBOURS = 5
PENALTIES = np.logspace(-3, 6, 19)


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What features are worth, half of the rows fitting and half scoring.

    Attributes
    ----------
    readout
        Accuracy of a linear probe, or R² of ridge regression (its strength chosen on the fitted half).
    neighbours
        Accuracy of the 5 nearest neighbours; None for regression.
    participation, entropy_dimension, rankme
        Soft counts of directions.
    fisher, within
        Class separation and NC1; None for regression. Defined whatever the number and scale of the features.
    """

    readout: Estimate
    neighbours: Estimate | None
    participation: float
    entropy_dimension: float
    rankme: float
    fisher: float | None
    within: float | None


def alignment_loss(first: Tensor, second: Tensor, power: float = 2.0) -> float:
    """Mean distance between embeddings (n, d) of two views of the same inputs on the unit sphere, to ``power``."""
    a, b = _on_sphere(first, "first"), _on_sphere(second, "second")
    if a.shape != b.shape:
        raise ValueError(f"two views need embeddings of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    return float(((a - b).norm(dim=1) ** power).mean())


def uniformity_loss(embeddings: Tensor, t: float = 2.0) -> float:
    """Log of the mean of exp(-t |z_i - z_j|²) over pairs of embeddings on the unit sphere; lower is more even.

    >>> axes = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    >>> round(uniformity_loss(axes), 6)
    -4.396349
    """
    z = _on_sphere(embeddings, "embeddings")
    squared = torch.pdist(z) ** 2
    return float((-t * squared).logsumexp(0)) - math.log(len(squared))


def knn_accuracy(
    features: Tensor, labels: Tensor, scored_features: Tensor, scored_labels: Tensor, k: int = NEIGHBOURS
) -> Estimate:
    """Share of the scored rows whose class is that of most of their ``k`` nearest fitted rows; exact 95 % interval."""
    x, z = real_rows(features, "features"), real_rows(scored_features, "scored features", fewest=1)
    labels_of(len(x), labels)
    labels_of(len(z), scored_labels, fewest=1)
    if not 1 <= k <= len(x):
        raise ValueError(f"k must be between 1 and the {len(x)} fitted rows, got {k}")
    model = KNeighborsClassifier(n_neighbors=k).fit(x.numpy(), labels.numpy())
    errors, n = int((model.predict(z.numpy()) != scored_labels.numpy()).sum()), len(z)
    lower, upper = clopper_pearson_interval(errors, n, 0.05)
    method = Message("linear_probe.interval", "Clopper-Pearson over {n} scored rows", n=n)
    return Estimate(
        value=1 - errors / n, unit="accuracy",
        uncertainty=Statistical(lower=1 - upper, upper=1 - lower, level=0.95, method=method),
    )  # fmt: skip


def representation_quality(
    features: Tensor,
    targets: Tensor,
    task: str = "classification",
    *,
    rng: torch.Generator,
) -> Quality:
    """All of `Quality` for features (n, d) and targets (n,): whole numbers to classify, real ones to regress.

    Raises
    ------
    ValueError
        Another task, other numbers of rows and targets, a single class or constant target, values not finite.
    """
    if task not in ("classification", "regression"):
        raise ValueError(f"task must be 'classification' or 'regression', got {task!r}")
    x = real_rows(features, "features", fewest=20)
    if targets.shape != (len(x),):
        raise ValueError(f"there are {len(x)} rows and targets of shape {tuple(targets.shape)}; give one per row")
    if task == "classification":
        labels_of(len(x), targets)
    order = torch.randperm(len(x), generator=rng)
    fitted, scored = order[: len(x) // 2], order[len(x) // 2 :]
    eigenvalues = covariance_eigenvalues(features)
    counts = {
        "participation": participation_ratio(eigenvalues),
        "entropy_dimension": entropy_dimension(eigenvalues),
        "rankme": rankme(features),
    }
    if task == "regression":
        readout = _regressed(x, targets.double(), fitted, scored)
        return Quality(readout=readout, neighbours=None, fisher=None, within=None, **counts)
    return Quality(
        readout=linear_probe(x[fitted], targets[fitted], x[scored], targets[scored]).accuracy,
        neighbours=knn_accuracy(x[fitted], targets[fitted], x[scored], targets[scored]),
        fisher=fisher_ratio(features, targets),
        within=within_class_variability(features, targets),
        **counts,
    )


def _regressed(x: Tensor, y: Tensor, fitted: Tensor, scored: Tensor) -> Estimate:
    """Held-out R² of ridge regression on standardised features, given the fit, with an interval over scored rows."""
    if not bool(torch.isfinite(y).all()) or float(y[scored].std()) == 0 or float(y[fitted].std()) == 0:
        raise ValueError("the targets must be finite and vary on both halves of the rows")
    mean, spread = x[fitted].mean(0), x[fitted].std(0)
    z = (x - mean) / torch.where(spread > 0, spread, 1.0)
    model = RidgeCV(alphas=PENALTIES).fit(z[fitted].numpy(), y[fitted].numpy())
    left = (y[scored] - torch.from_numpy(model.predict(z[scored].numpy()))) ** 2
    total = (y[scored] - y[scored].mean()) ** 2
    value = 1 - float(left.sum() / total.sum())
    # A ratio of means: to first order the mean of (left - ratio * total) / mean total.
    pull = (left - (1 - value) * total) / total.mean()
    half = 1.96 * float(pull.std()) / len(scored) ** 0.5
    method = Message("quality.r2", "normal, over {n} scored rows given the fit", n=len(scored))
    return Estimate(
        value=value, unit="R²",
        uncertainty=Statistical(lower=value - half, upper=min(1.0, value + half), level=0.95, method=method),
    )  # fmt: skip


def _on_sphere(embeddings: Tensor, name: str) -> Tensor:
    z = real_rows(embeddings, name)
    lengths = z.norm(dim=1, keepdim=True)
    if bool((lengths == 0).any()):
        raise ValueError(f"{int((lengths == 0).sum())} rows of {name} are zero and have no direction; remove them")
    return torch.nn.functional.normalize(z, dim=1)
