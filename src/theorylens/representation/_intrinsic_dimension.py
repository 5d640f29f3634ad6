"""Intrinsic dimension: along how many directions do the features really vary?

Method   two-nearest-neighbour ratio, maximum likelihood
Source   Facco, d'Errico, Rodriguez, Laio (2017), Sci. Rep. 7:12140
Assumes  density near constant out to the second neighbour; no duplicate points
Breaks   when examples << 2**dimension: the value then reads low
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from theorylens.numerics.neighbours import nearest
from theorylens.results import Estimate, Message, Statistical

FEWEST = 4  # two neighbours each and something left to average
TESTED = (300, 4.5)  # rows from which, dimension up to which, the coverage of the interval was tested
ROUNDING = 10  # a nearest neighbour closer than this many steps of the number format is mostly rounding
TOLERATED = 0.05  # share of the points for which that may be so


def two_nn(points: Tensor, estimator: str = "unbiased") -> Estimate:
    """Intrinsic dimension of ``points`` by the ratio of the distances to the two nearest neighbours.

    Where the density is constant out to the second neighbour, log(r2/r1) is exponential with rate equal to the
    dimension. Neighbours share distances, so their ratios are correlated: the variance of their sum adds the products
    over neighbouring pairs, without which an interval of 95 % covers 84 %.

    Parameters
    ----------
    points
        One row per example, shape (n, d), n >= 4, no two rows equal.
    estimator
        ``"unbiased"``: (n - 1) / sum log(r2/r1); ``"mle"``: n / sum log(r2/r1).

    Returns
    -------
    The dimension with a 95 % interval (92 to 97 % on flat tori of dimension 1 to 4 with 300 to 2,000 points). The
    interval knows of sampling only: near borders, at strong curvature and above a dimension of about 10 the value
    itself reads low.

    Raises
    ------
    ValueError
        Not a matrix, fewer than 4 rows, values that are not finite, exact copies (counted), or all ratios equal to 1.

    >>> rng = torch.Generator().manual_seed(0)
    >>> plane = torch.rand(2000, 2, generator=rng) @ torch.randn(2, 10, generator=rng)
    >>> round(two_nn(plane).value)
    2
    """
    _check(points, estimator)
    distance, index = nearest(points.detach().double(), 2)
    if copies := int((distance[:, 0] == 0).sum()):
        same = copies == len(points) and bool((points == points[0]).all())
        raise ValueError(
            f"{copies} of {len(points)} points have an exact copy; "
            + ("all points are equal, a dimension needs points that differ" if same else "remove copies first")
        )
    if bool((distance[:, 0] == distance[:, 1]).all()):
        raise ValueError(
            f"the two nearest neighbours of each of the {len(points)} points are equally far (a grid?); "
            "the ratio then says nothing, use measured points"
        )
    return from_neighbours(points, distance, index, estimator)


def from_neighbours(
    points: Float[Tensor, "n d"], distance: Float[Tensor, "n 2"], index: Int[Tensor, "n 2"], estimator: str
) -> Estimate:
    """`two_nn` when the neighbours of ``points`` are known: distances and numbers, ascending, no distance zero."""
    estimate = from_logs((distance[:, 1] / distance[:, 0]).log(), index, estimator)
    step = float(points.abs().max()) * (torch.finfo(points.dtype).eps if points.is_floating_point() else 0.0)
    share = float((distance[:, 0] < ROUNDING * step).double().mean())
    if share <= TOLERATED:
        return estimate
    text = (
        "{share:.0%} of the nearest neighbours are as close as the rounding of {dtype}; "
        "subtract the mean before rounding, or compute the features in double precision"
    )
    trouble = Message("TL201.rounding", text, share=share, dtype=str(points.dtype).removeprefix("torch."))
    return Estimate(value=estimate.value, uncertainty=estimate.uncertainty, trouble=trouble)


def _check(points: Tensor, estimator: str) -> None:
    if estimator not in ("unbiased", "mle"):
        raise ValueError(f"estimator must be 'unbiased' or 'mle', got {estimator!r}")
    if points.ndim != 2 or points.shape[1] == 0:
        raise ValueError(
            f"points must be a matrix (n, d), got shape {tuple(points.shape)}; flatten each example to a row"
        )
    if len(points) < FEWEST:
        raise ValueError(f"two neighbours and an interval need at least {FEWEST} points, got {len(points)}")
    if bad := int((~torch.isfinite(points).all(1)).sum()):
        raise ValueError(f"{bad} of {len(points)} points have values that are not finite; remove or repair them")


def from_logs(log_ratio: Float[Tensor, " n"], index: Int[Tensor, "n k"], estimator: str) -> Estimate:
    """The estimate from log(r2/r1) of each point and the numbers of its neighbours."""
    n, total = len(log_ratio), float(log_ratio.sum())
    value = (n - 1 if estimator == "unbiased" else n) / total
    half = 1.96 * value**2 * pair_variance(log_ratio, index) ** 0.5 / n
    known = n >= TESTED[0] and value <= TESTED[1]
    method = (
        Message("two_nn.interval", "normal, corrected for shared neighbours")
        if known
        else Message(
            "two_nn.interval_only", "normal, corrected for shared neighbours; sampling only, bias not included"
        )
    )
    interval = Statistical(lower=max(0.0, value - half), upper=value + half, level=0.95, method=method)
    return Estimate(value=value, uncertainty=interval)


def linear_interval(value: float, pull: Float[Tensor, " n"], index: Int[Tensor, "n k"]) -> Statistical:
    """Interval of a dimension that is, to first order, the mean of ``pull`` over points that share neighbours."""
    half = 1.96 * pair_variance(pull, index) ** 0.5 / len(pull)
    text = "normal, corrected for shared neighbours; sampling only, bias not included"
    method = Message("two_nn.interval_only", text)
    return Statistical(lower=max(0.0, value - half), upper=value + half, level=0.95, method=method)


def pair_variance(values: Float[Tensor, " n"], index: Int[Tensor, "n k"]) -> float:
    """Variance of the sum of ``values``: squared deviations plus twice the products over neighbouring pairs.

    ``index[i]`` holds the neighbours of point i, shape (n, k). Never negative.
    """
    excess = values - values.mean()
    n, k = index.shape
    links = torch.stack([torch.arange(n, device=index.device).repeat_interleave(k), index.flatten()], dim=1)
    i, j = links.sort(dim=1).values.unique(dim=0).unbind(1)  # type: ignore[no-untyped-call]
    return max(0.0, float((excess**2).sum() + 2 * (excess[i] * excess[j]).sum()))
