"""Mutual information in nats: exact for tables and Gaussians, by nearest neighbours from samples.

Method   KSG 1 and 2: digamma of neighbour counts inside the box of the k-th joint neighbour, max-norm; Ross for classes
Source   Kraskov, Stögbauer, Grassberger (2004), Phys. Rev. E 69:066138, eqs 8 and 9; Ross (2014), PLoS ONE 9:e87357
Assumes  independent rows; densities near constant within the box; no ties
Breaks   above about 6 coordinates together: the value reads low. Between an input and a layer that is a deterministic,
         continuous function of it the truth is infinite: any finite number then measures the sample size
"""

from __future__ import annotations

import math

import torch
from scipy.special import digamma
from torch import Tensor

from theorylens.results import Estimate, Message

from ._half_samples import half_samples
from ._matrices import labels_of, real_rows

NEIGHBOURS = 5
BLOCK = 1 << 22  # distances held at once
MANY = 6  # coordinates of both together above which nearest neighbours read low (0.14 for 1.02 nats at 25 + 25)
CEILING = 0.9  # share of the largest value that n rows can show, from which only a lower limit is seen


def gaussian_mutual_information(covariance: Tensor, first: int = 1) -> float:
    """Of the first ``first`` coordinates and the others under a Gaussian with ``covariance`` (d, d).

    Half the log of det S_x det S_y / det S; -ln(1 - rho²) / 2 for two coordinates. Infinite when the covariance is
    singular although both blocks are not: then one is partly a function of the other.

    >>> round(gaussian_mutual_information(torch.tensor([[1.0, 0.9], [0.9, 1.0]])), 4)
    0.8304
    """
    s = covariance.detach().double()
    if s.ndim != 2 or len(s) != s.shape[1] or not bool(torch.isfinite(s).all()) or not torch.allclose(s, s.T):
        raise ValueError(f"a covariance must be symmetric and finite, got shape {tuple(s.shape)}")
    if not 1 <= first < len(s):
        raise ValueError(f"the first block must leave something of {len(s)} coordinates, got {first}")
    scale = s.diagonal().clamp(min=1e-300).rsqrt()
    s = scale[:, None] * covariance.detach().double() * scale  # correlations: the units do not matter
    blocks = [torch.linalg.eigvalsh(block) for block in (s, s[:first, :first], s[first:, first:])]
    floor = len(s) * torch.finfo(torch.float64).eps
    if any(float(values[0]) <= floor for values in blocks[1:]) or float(blocks[0][0]) < -1e-8:
        raise ValueError("the covariance of one block is singular or negative; drop coordinates that are redundant")
    if float(blocks[0][0]) <= floor:
        return math.inf
    joint, x, y = (float(values.log().sum()) for values in blocks)
    return (x + y - joint) / 2


def discrete_mutual_information(table: Tensor) -> float:
    """Of the row and the column under the joint probabilities ``table``, shape (rows, columns).

    >>> round(discrete_mutual_information(torch.tensor([[0.4, 0.1], [0.1, 0.4]])), 6)
    0.192745
    """
    p = checked_table(table)
    independent = p.sum(1, keepdim=True) * p.sum(0, keepdim=True)
    seen = p > 0
    return max(0.0, float((p[seen] * (p[seen] / independent[seen]).log()).sum()))


def ksg(x: Tensor, z: Tensor, k: int = NEIGHBOURS, *, variant: int = 1) -> Estimate:
    """Mutual information of two real vectors from paired samples, in nats.

    Parameters
    ----------
    x, z
        Shapes (n,) or (n, d) each. Bring coordinates to one scale first: the neighbours depend on it, the truth not.
    k
        1 <= k < n. Larger k has less spread and more bias.
    variant
        1: the same box for both, equation 8; 2: a box fitted to each, equation 9.

    Returns
    -------
    The estimate, which may be negative when there is little to find, with a 95 % interval of sampling only.
    Trouble when there are ties, more than 6 coordinates, or a value near the largest that n rows can show.

    Raises
    ------
    ValueError
        Rows that do not match, k outside its range, values that are not finite, an unknown variant.
    """
    a, b = _column(x, "x"), _column(z, "z")
    if len(a) != len(b):
        raise ValueError(f"x has {len(a)} rows and z has {len(b)}; give paired samples")
    if variant not in (1, 2):
        raise ValueError(f"variant must be 1 or 2, got {variant}")
    if not 1 <= k < len(a):
        raise ValueError(f"k must be at least 1 and below the {len(a)} rows, got {k}")
    value, ties = _ksg(a, b, k, variant)
    several = a.shape[1] + b.shape[1]
    interval = half_samples(
        value, lambda kept: _ksg(a[kept], b[kept], k, variant)[0] if len(kept) > k else math.nan, len(a),
        biased=several > 2,
    )  # fmt: skip
    ceiling = float(digamma(len(a)) - digamma(k))
    return Estimate(value=value, uncertainty=interval, trouble=_trouble(value, ties, several, ceiling), unit="nats")


def ross(x: Tensor, labels: Tensor, k: int = NEIGHBOURS) -> Estimate:
    """Mutual information of a real vector and a class, in nats (Ross 2014).

    ``x`` has shape (n,) or (n, d), ``labels`` whole numbers of shape (n,); in a class with fewer than k + 1 rows all
    its rows count as neighbours. At most the entropy of the class; an estimate can pass it by its error.

    Raises
    ------
    ValueError
        As `ksg`; also a single class, or a class of one row, in which nothing has a neighbour.
    """
    a = _column(x, "x")
    numbers = labels_of(len(a), labels)
    counts = numbers.bincount()
    if int(counts.min()) < 2:
        raise ValueError(f"{int((counts < 2).sum())} classes have a single row, without a neighbour; leave them out")
    if not 1 <= k < len(a):
        raise ValueError(f"k must be at least 1 and below the {len(a)} rows, got {k}")
    value, ties = _ross(a, numbers, k)

    def without(kept: Tensor) -> float:
        left = numbers[kept]
        return _ross(a[kept], left, k)[0] if int(left.bincount(minlength=len(counts)).min()) > 1 else math.nan

    interval = half_samples(value, without, len(a), biased=a.shape[1] > 2)
    return Estimate(
        value=value, uncertainty=interval, trouble=_trouble(value, ties, a.shape[1] + 1, math.inf), unit="nats"
    )


def checked_table(table: Tensor) -> Tensor:
    """Joint probabilities in float64, refused when they are not that."""
    p = table.detach().double()
    if p.ndim != 2 or not bool(torch.isfinite(p).all()) or bool((p < 0).any()) or abs(float(p.sum()) - 1) > 1e-6:
        total = float(p.sum())
        raise ValueError(
            "a joint distribution is a table (x, y) of numbers >= 0 that sum to 1, "
            f"got shape {tuple(p.shape)} with sum {total:.6g}"
        )
    return p / p.sum()


def _column(x: Tensor, name: str) -> Tensor:
    return real_rows(x[:, None] if x.ndim == 1 else x, name)


def _ksg(a: Tensor, b: Tensor, k: int, variant: int) -> tuple[float, int]:
    """The value, and how many rows share their x or their z with k others or more."""
    total, ties, n = 0.0, 0, len(a)
    for start in range(0, n, _step(n)):
        da, db = (_chebyshev(points, start) for points in (a, b))
        joint, near = _closest(torch.maximum(da, db), k, stable=variant == 2)
        ties += int((((da == 0).sum(1) >= k) | ((db == 0).sum(1) >= k)).sum())
        if variant == 1:
            edge = joint[:, -1:]
            inside = [(d < edge).sum(1) + 1 for d in (da, db)]
        else:
            inside = [(d <= d.gather(1, near).amax(1, keepdim=True)).sum(1) for d in (da, db)]
        total += sum(float(digamma(c.double().numpy()).sum()) for c in inside)
    return float(digamma(k) + digamma(n) - (1 / k if variant == 2 else 0) - total / n), ties


def _ross(a: Tensor, numbers: Tensor, k: int) -> tuple[float, int]:
    counts = numbers.bincount()[numbers]
    own = (counts - 1).clamp(max=k)
    total, ties, n = 0.0, 0, len(a)
    for start in range(0, n, _step(n)):
        distance = _chebyshev(a, start)
        rows = slice(start, start + len(distance))
        within = torch.where(numbers[rows, None] == numbers, distance, torch.inf)
        nearest = within.topk(min(k, n - 1), largest=False).values
        edge = nearest.gather(1, own[rows, None] - 1)
        ties += int(((distance == 0).sum(1) >= k).sum())
        total += float(digamma(((distance < edge).sum(1) + 1).double().numpy()).sum())
    known = digamma(own.double().numpy()).mean() - digamma(counts.double().numpy()).mean()
    return float(digamma(n) + known - total / n), ties


def _closest(distance: Tensor, k: int, *, stable: bool) -> tuple[Tensor, Tensor]:
    """The ``k`` smallest of each row; with ``stable``, equal ones in the order of the index."""
    if not stable:
        return distance.topk(k, largest=False)
    values, index = distance.sort(dim=1, stable=True)
    return values[:, :k], index[:, :k]


def _step(n: int) -> int:
    return max(1, BLOCK // n)


def _chebyshev(points: Tensor, start: int) -> Tensor:
    """Max-norm distances of a block of rows to all; infinite to itself."""
    block = points[start : start + _step(len(points))]
    found = torch.cdist(block, points, p=math.inf)
    found[torch.arange(len(block)), torch.arange(start, start + len(block))] = math.inf
    return found


def _trouble(value: float, ties: int, several: int, ceiling: float) -> Message | None:
    if ties:
        text = (
            "{ties} rows share a value with as many others as neighbours are asked for; ties break the estimate, so"
            " add noise or treat the values as classes"
        )
        return Message("mutual_information.ties", text, ties=ties)
    if value >= CEILING * ceiling:
        text = "the value is near {ceiling:.2f}, the largest that these rows can show: the truth is larger or infinite"
        return Message("mutual_information.ceiling", text, ceiling=ceiling)
    if several > MANY:
        text = "{several} coordinates together: nearest neighbours read low above {many}; project to fewer"
        return Message("mutual_information.many", text, several=several, many=MANY)
    return None
