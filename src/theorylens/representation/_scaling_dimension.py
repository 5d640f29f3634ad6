"""Dimension as the exponent of a count: pairs closer than r, or the reach of the k-th neighbour.

Method   slope of ln C(r) in ln r over a stated window; slope of ln k in the log of the mean distance to neighbour k
Source   Grassberger, Procaccia (1983), Physica D 9:189; Pettis, Bailey, Jain, Dubes (1979), IEEE PAMI 1:25
Assumes  one scaling law across the window: look at the curve
Breaks   near the size of the data (too low) and below the noise (too high); for few points in many dimensions
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import gammaln
from torch import Tensor

from theorylens.numerics.neighbours import nearest
from theorylens.results import Curve, Estimate, Line, Message, Statistical

from ._intrinsic_dimension import linear_interval
from ._matrices import neighbours_of_distinct, real_rows

RADII = 16  # places of the window at which pairs are counted
NEIGHBOURS = 10
BLOCK = 1 << 22  # distances held at once
WINDOW = (2.0, 20.0)  # mean numbers of neighbours between which the default window lies


def correlation_integral(points: Tensor, radii: Sequence[float]) -> Tensor:
    """Share of the pairs of different rows that are closer than each radius; float64.

    >>> square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> correlation_integral(square, [1.1, 1.5]).tolist()
    [0.6666666666666666, 1.0]
    """
    rows = real_rows(points)
    counts = _counts(rows, _radii(radii)).sum(0)
    return counts / (len(rows) * (len(rows) - 1))


def correlation_dimension(points: Tensor, window: tuple[float, float] | None = None) -> Estimate:
    """Slope of ln C(r) against ln r by least squares over ``window``.

    Parameters
    ----------
    points
        One row per example, shape (n, d); work grows with n² d. Pairs of copies count at every radius.
    window
        Smallest and largest radius; by default those within which a point has 2 and 20 others on average. Check it
        with `scaling_curve`.

    Raises
    ------
    ValueError
        Not a matrix, not finite, all points equal, a window without pairs at its lower end.
    """
    rows = real_rows(points, fewest=5)
    low, high = window if window is not None else _default_window(rows)
    if not 0 < low < high:
        raise ValueError(f"the window needs 0 < low < high, got ({low:.3g}, {high:.3g})")
    radii = torch.logspace(math.log10(low), math.log10(high), RADII, dtype=torch.float64)
    counts = _counts(rows, radii)
    total, n = counts.sum(0), len(rows)
    if total[0] == 0:
        raise ValueError(f"no pair is closer than {low:.3g}, the lower end of the window; raise it")
    value = float(_weights(radii) @ total.log())
    return Estimate(value=value, uncertainty=_interval(value, counts, _weights(radii) / total * n * (n - 1)))


def _interval(value: float, counts: Tensor, weights: Tensor) -> Statistical:
    """Of a sum over pairs: the variance between rows, less what pairs alone would add twice (Hoeffding 1948)."""
    n = len(counts)
    row = counts @ weights / (n - 1)  # mean of the linearised pair terms of each row
    fresh = counts.sum(0).diff(prepend=torch.zeros(1, dtype=torch.float64))  # ordered pairs first closer than radius r
    term = weights.flip(0).cumsum(0).flip(0)  # what one of them contributes
    pairs = float((fresh * term**2).sum()) / (n * (n - 1)) - float(row.mean()) ** 2
    variance = max(4 * float(row.var()) / n - 2 * pairs / n**2, 0.0)
    half = 1.96 * variance**0.5
    method = Message("correlation_dimension.interval", "normal, from sums over pairs; sampling only, bias not included")
    return Statistical(lower=max(0.0, value - half), upper=value + half, level=0.95, method=method)


def knn_graph_dimension(points: Tensor, k: int = NEIGHBOURS) -> Estimate:
    """Slope of ln j against the log of the mean distance to neighbour j, for j from 1 to ``k`` (Pettis et al. 1979).

    The plain regression, without the correction for the curvature of the mean in j, reads low (cubes of dimension 2, 5
    and 10 with 2,000 points: 1.8, 4.0, 7.1); `pettis_dimension` corrects it. The intervals of both are about their own
    mean, bias not included, and cover that in 82 to 89 % of samples of dimension 1 and 2, which is less than they say.

    Raises
    ------
    ValueError
        Not a matrix, not finite, k < 2 or k >= n, copies, all points equal.
    """
    return _regressed(points, k, _plain)


def pettis_dimension(points: Tensor, k: int = NEIGHBOURS) -> Estimate:
    """`knn_graph_dimension` with the exact mean of r_j at constant density, E r_j = c Γ(j + 1/d) / Γ(j).

    The d at which the regression of ln mean r_j on ln(Γ(j + 1/d) / Γ(j)) has slope 1, by iteration.
    """
    return _regressed(points, k, _corrected)


def scaling_curve(points: Tensor) -> Curve:
    """C(r) against r, both on log axes, from the closest pairs to the size of the data; a straight part is a law."""
    rows = real_rows(points, fewest=5)
    distances = torch.pdist(rows[:: max(1, len(rows) // 1000)])
    positive = distances[distances > 0].sort().values
    if not len(positive):
        raise ValueError(f"all {len(rows)} points are equal; give points that differ")
    low, high = float(positive[min(10, len(positive) - 1)]), float(positive[-1])
    radii = np.geomspace(low, high, 2 * RADII)
    share = correlation_integral(points, list(radii)).numpy()
    seen = share > 0
    return Curve(
        label=Message(
            "scaling_curve.label", "Share of pairs closer than r; the slope of a straight part is a dimension"
        ),
        lines=(Line(x=radii[seen], y=share[seen], name=Message("scaling_curve.line", "pairs closer than r")),),
        x_name=Message("scaling_curve.x", "distance r"),
        y_name=Message("scaling_curve.y", "share of pairs"),
        x_log=True,
        y_log=True,
    )


def _radii(radii: Sequence[float]) -> Tensor:
    found = torch.as_tensor(list(radii), dtype=torch.float64)
    if not len(found) or not bool((found > 0).all()) or bool((found.diff() < 0).any()):
        raise ValueError(f"radii must be positive and ascending, got {[float(r) for r in found][:5]}")
    return found


def _counts(rows: Tensor, radii: Tensor) -> Tensor:
    """How many other rows are closer to each row than each radius: (rows, radii), float64."""
    found = []
    size, bins = max(1, BLOCK // len(rows)), len(radii) + 1
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        # The products of the default mode lose close pairs to cancellation.
        distance = torch.cdist(block, rows, compute_mode="donot_use_mm_for_euclid_dist")
        at = torch.searchsorted(radii, distance, right=True)  # the first radius strictly above the distance
        at += torch.arange(len(block))[:, None] * bins
        found.append(torch.bincount(at.flatten(), minlength=len(block) * bins).reshape(len(block), bins))
    counts = torch.cat(found).double()
    counts[:, 0] -= 1  # itself
    return counts[:, :-1].cumsum(1)


def _weights(radii: Tensor) -> Tensor:
    """The slope of a least-squares line in ln r is this combination of its values."""
    away = radii.log() - radii.log().mean()
    return away / (away**2).sum()


def _default_window(rows: Tensor) -> tuple[float, float]:
    """Radii within which a row has few and many others on average, from the distances to its neighbours."""
    few, many = (min(len(rows) - 1, int(m)) for m in WINDOW)
    distances = nearest(rows, many).distances
    low, high = float(distances[:, few - 1].median()), float(distances[:, -1].median())
    if high == 0:
        raise ValueError(f"most of the {len(rows)} points are equal; remove copies first")
    if not 0 < low < high:
        raise ValueError("neighbours are equally far or copies, so there is no window to fit; give one, or drop copies")
    # These are distances of the data, which rounding must not move to and fro across the radius.
    return low * (1 + 1e-9), high * (1 + 1e-9)


def _regressed(points: Tensor, k: int, fit: Callable[[NDArray[np.float64]], float]) -> Estimate:
    if k < 2:
        raise ValueError(f"k must be at least 2, for a slope, got {k}")
    distances, indices = neighbours_of_distinct(points, k)
    mean = distances.mean(0)
    reach = mean.log().numpy()
    if np.ptp(reach) < 1e-12:
        raise ValueError(f"the {k} nearest neighbours are equally far (a grid?), so no slope can be fitted")
    value = fit(reach)
    step = 1e-5
    slopes = [(fit(reach + step * unit) - fit(reach - step * unit)) / (2 * step) for unit in np.eye(k)]
    pull = (distances / mean) @ torch.tensor(slopes, dtype=torch.float64)
    return Estimate(value=value, uncertainty=linear_interval(value, pull, indices))


def _plain(reach: NDArray[np.float64]) -> float:
    return float(np.polyfit(reach, np.log(np.arange(1, len(reach) + 1)), 1)[0])


def _corrected(reach: NDArray[np.float64]) -> float:
    j = np.arange(1, len(reach) + 1)
    d = _plain(reach)
    for _ in range(100):
        # With the right d the slope is 1; a slope s means that 1/d is wrong by that factor.
        slope = float(np.polyfit(gammaln(j + 1 / d) - gammaln(j), reach, 1)[0])
        d /= slope
        if abs(slope - 1) < 1e-12:
            break
    return d
