"""Neural collapse and class separation: how far do the features of a class shrink to a point of a simplex?

Method   NC1 within-class against between-class covariance, NC2 equal norms and angles of the class means, NC3 weights
         parallel to the means, NC4 decisions of the nearest mean; Fisher ratio of traces
Source   Papyan, Han, Donoho (2020), PNAS 117:24652
Assumes  rows of the training data; NC3 and NC4 need the last layer
Breaks   training accuracy of 1 does not imply collapse: it took batch normalisation, weight decay and long training in
         small networks; with few rows a class, or more units than rows, NC1 reads low
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from theorylens.results import Estimate

from ._half_samples import half_samples
from ._matrices import labels_of, real_rows

SMALL = 1e-10  # eigenvalues of the between-class covariance below this share of the largest count as zero


@dataclass(frozen=True, kw_only=True, eq=False)
class Collapse:
    """The four marks of neural collapse; each goes to 0.

    Attributes
    ----------
    within
        NC1: tr(Σ_W Σ_B⁺) / C, within-class covariance against that of the class means.
    norms
        NC2: standard deviation over mean of the distances of the class means from their mean.
    angles
        NC2: mean of |cos + 1/(C - 1)| over pairs of centred class means; 0 for a simplex.
    duality
        NC3: squared Frobenius distance of weights and centred means, each of norm 1; None without weights.
    disagreement
        NC4: share of the rows on which the network and the nearest class mean decide differently; None without weights.
    fisher
        tr S_B / tr S_W, between over within scatter: large when classes are apart.
    """

    within: Estimate
    norms: float
    angles: float
    duality: float | None
    disagreement: float | None
    fisher: float


def within_class_variability(features: Tensor, labels: Tensor) -> float:
    """NC1, tr(Σ_W Σ_B⁺) / C, of features (n, d) with whole-number labels (n,); infinite when all class means agree.

    >>> x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 4.0], [6.0, 4.0]])
    >>> round(within_class_variability(x, torch.tensor([0, 0, 1, 1])), 12)
    0.03125
    """
    x = real_rows(features, "features")
    return _nc1(x, labels_of(len(x), labels))


def fisher_ratio(features: Tensor, labels: Tensor) -> float:
    """Scatter of class means over scatter within classes, tr S_B / tr S_W; infinite when classes are points.

    >>> x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 4.0], [6.0, 4.0]])
    >>> fisher_ratio(x, torch.tensor([0, 0, 1, 1]))
    8.0
    """
    x = real_rows(features, "features")
    numbers = labels_of(len(x), labels)
    means, counts = _means(x, numbers)
    between = float((counts[:, None] * (means - x.mean(0)) ** 2).sum())
    within = float(((x - means[numbers]) ** 2).sum())
    if within == 0 and between == 0:
        raise ValueError(f"all {len(x)} rows are equal; give features that vary")
    return between / within if within > 0 else float("inf")


def neural_collapse(
    features: Tensor, labels: Tensor, weights: Tensor | None = None, bias: Tensor | None = None
) -> Collapse:
    """The marks of neural collapse of last-layer ``features`` (n, d), with ``weights`` (classes, d) for NC3 and NC4.

    Labels must be the row numbers of ``weights`` when those are given.

    Raises
    ------
    ValueError
        A single class, other numbers of rows and labels, weights that do not fit, class means that all agree.
    """
    x = real_rows(features, "features")
    numbers = labels_of(len(x), labels)
    means, _ = _means(x, numbers)
    away = means - means.mean(0)  # the mean of class means, as in the paper: every class counts the same
    lengths = away.norm(dim=1)
    if float(lengths.min()) <= 1e-12 * float(x.abs().max()):
        raise ValueError("the mean of a class lies at the mean of all, so it has no direction; give features that vary")
    classes = len(means)
    cosines = (away / lengths[:, None]) @ (away / lengths[:, None]).T
    pairs = cosines[~torch.eye(classes, dtype=torch.bool)]
    value = _nc1(x, numbers)

    def on(kept: Tensor) -> float:
        left = numbers[kept]
        return _nc1(x[kept], left) if int(left.bincount(minlength=classes).min()) > 1 else float("nan")

    duality, disagreement = None, None
    if weights is not None:
        w = real_rows(weights, "weights", fewest=2)
        known = labels.unique()  # type: ignore[no-untyped-call]
        if w.shape[1] != x.shape[1] or int(known.max()) >= len(w) or int(known.min()) < 0:
            raise ValueError(
                f"weights of shape {tuple(w.shape)} do not fit {x.shape[1]} features and labels {known.tolist()[:5]}"
            )
        duality = float(((w[known] / w[known].norm() - away / away.norm()) ** 2).sum())
        scores = x @ w.T + (0 if bias is None else bias.detach().double())
        nearest = known[torch.cdist(x, means).argmin(1)]
        disagreement = float((scores.argmax(1) != nearest).double().mean())
    interval = half_samples(value, on, len(x), within=(0.0, float("inf")), biased=True)
    return Collapse(
        within=Estimate(value=value, uncertainty=interval),
        norms=float(lengths.std(correction=0) / lengths.mean()),
        angles=float((pairs + 1 / (classes - 1)).abs().mean()),
        duality=duality, disagreement=disagreement, fisher=fisher_ratio(features, labels),
    )  # fmt: skip


def _means(x: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    counts = numbers.bincount().double()
    sums = torch.zeros(len(counts), x.shape[1], dtype=torch.float64).index_add_(0, numbers, x)
    return sums / counts[:, None], counts


def _nc1(x: Tensor, numbers: Tensor) -> float:
    means, _ = _means(x, numbers)
    centre = means.mean(0)
    # Σ_B has rank below C, so its inverse lives on the span of the centred means: an SVD of them is enough.
    _, scales, directions = torch.linalg.svd((means - centre) / len(means) ** 0.5, full_matrices=False)
    seen = scales**2 > SMALL * float(scales[0]) ** 2
    if float(scales[0]) <= 1e-12 * float(x.abs().max()):
        return float("inf")
    spread = (x - means[numbers]) @ directions[seen].T
    return float(((spread**2).mean(0) / scales[seen] ** 2).sum()) / len(means)
