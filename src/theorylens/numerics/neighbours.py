"""The exact neighbour search: everything that needs distances between examples takes them from here.

Method   candidates from blocked matrix products, distances by differences in float64, and for each row a proof that no
         other point can be nearer; rows without the proof are searched again, more carefully
Source   error of a dot product: Higham (2002), Accuracy and Stability of Numerical Algorithms, section 3.1

Expanding |x - y|² into products is fast and loses close pairs to cancellation (a line in 20 dimensions reads as
two-dimensional in float32). So the products only propose: each carries a bound on its own rounding.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

MARGIN = 8  # candidates beyond k: with none, every near-tie at the k-th place would need the careful search
BLOCK = 1 << 23  # entries of the largest temporary


class Neighbours(NamedTuple):
    """Distances (n, k) in float64, ascending, and whose they are."""

    distances: Float[Tensor, "n k"]
    indices: Int[Tensor, "n k"]


class UniqueRows(NamedTuple):
    """Where each distinct row occurs first, ascending, and how often it occurs."""

    first: Int[Tensor, " m"]
    counts: Int[Tensor, " m"]


def nearest(points: Float[Tensor, "n d"], k: int, *, block: int | None = None) -> Neighbours:
    """The ``k`` nearest other points of each point, by Euclidean distance.

    Parameters
    ----------
    points
        Shape (n, d), any floating dtype, any device with float64; the answer is on that device.
    k
        1 <= k <= n - 1. A point is not its own neighbour; an exact copy of it is one, at distance exactly 0.
    block
        Rows searched at once; by default as many as keep temporaries near 64 MiB. It changes nothing but memory.

    Returns
    -------
    Distances in float64 computed from differences, never from products, with the rounding of a float64 sum; equal
    distances in the order of the index. Differences below 1e-140 times the largest coordinate are lost.

    >>> nearest(torch.tensor([[0.0], [3.0], [1.0]]), k=2).indices.tolist()
    [[2, 1], [2, 0], [0, 1]]
    """
    _check(points)
    others = len(points) - 1
    if not 1 <= k <= others:
        raise ValueError(f"k must be between 1 and the number of other points, {others}, got {k}")
    if block is not None and block < 1:
        raise ValueError(f"block must be at least 1, got {block}")
    with torch.no_grad(), torch.autocast(points.device.type, enabled=False):
        exponent = _exponent(points)
        if -30 < exponent < 400:
            return Neighbours(*_search(points.double(), k, block))
        # Squares of such coordinates would leave the range of float64; a power of two changes no digit.
        distances, indices = _search(_scaled(points.double(), -exponent), k, block)
        return Neighbours(_scaled(distances, exponent), indices)


def nearest_in(
    points: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], *, block: int = 512
) -> Float[Tensor, " n"]:
    """Distance of each point to its nearest in another set; float64.

    Candidates by products of centred float64 rows, the distance itself by differences, so that near copies keep their
    digits. Where five or more reference points lie within about 1e-8 of the spread of a point, any of them may answer.
    """
    centre = reference.double().mean(0)
    x, z = points.double() - centre, reference.double() - centre
    norms, found = (z**2).sum(1), []
    for start in range(0, len(x), block):
        piece = x[start : start + block]
        proposals = (norms - 2 * piece @ z.T).topk(min(4, len(z)), dim=1, largest=False).indices
        found.append((piece[:, None] - z[proposals]).norm(dim=2).min(1).values)
    return torch.cat(found)


def unique_rows(points: Float[Tensor, "n d"]) -> UniqueRows:
    """Which rows are distinct, bit for bit except that -0.0 is 0.0.

    >>> unique_rows(torch.tensor([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0]]))
    UniqueRows(first=tensor([0, 1]), counts=tensor([2, 1]))
    """
    _check(points, fewest=1)
    _, group, counts = torch.unique(points.detach() + 0.0, dim=0, return_inverse=True, return_counts=True)
    first = torch.full_like(counts, len(points))
    first.scatter_reduce_(0, group, torch.arange(len(points), device=points.device), "amin")
    first, order = first.sort()
    return UniqueRows(first, counts[order])


def _search(exact: Tensor, k: int, block: int | None) -> tuple[Tensor, Tensor]:
    n, d = exact.shape
    distances = torch.full((n, k), math.inf, dtype=torch.float64, device=exact.device)
    indices = torch.zeros((n, k), dtype=torch.int64, device=exact.device)
    wanted = min(k + MARGIN, n - 1)
    step = block or max(1, min(n, BLOCK // n, BLOCK // (wanted * d)))
    pending = torch.arange(n, device=exact.device)
    for dtype in _precisions():
        proposals, open_ = _Proposals(exact, dtype), []
        for rows in torch.split(pending, step):
            floor, candidates = proposals.of(rows, wanted)
            reranked, found = _rerank(exact, rows, candidates, k)
            proven = _proven(reranked[:, -1], floor[:, -1], d) | (wanted == n - 1)
            better = reranked[:, -1] < distances[rows, -1]  # an unproven answer is still a limit for the next search
            keep = rows[proven | better]
            distances[keep], indices[keep] = reranked[proven | better], found[proven | better]
            open_.append(rows[~proven])
        pending = torch.cat(open_)
        if not len(pending):
            return distances, indices
    for rows in torch.split(pending, step):  # `proposals` is the float64 one here
        distances[rows], indices[rows] = _careful(exact, proposals, rows, distances[rows, -1], k)
    return distances, indices


class _Proposals:
    """Lower limits for the squared distances between points, by matrix products in ``dtype``.

    With y the centred points rounded to ``dtype`` and u its unit roundoff, |y_i|² + |y_j|² - 2 y_i.y_j differs from
    the true squared distance by at most (d + 16) u (|y_i| + |y_j|)², whatever the order of summation: (d/2 + 3) u for
    the products and sums, 8 u for rounding the points. That is at most 2 (d + 16) u (|y_i|² + |y_j|²), so products
    made with squared norms smaller by that part are lower limits, and stay tight for points far from all others.
    """

    def __init__(self, exact: Tensor, dtype: torch.dtype) -> None:
        centred = exact - exact.mean(0)
        self._exponent = _exponent(centred)
        self._points = _scaled(centred, -self._exponent).to(dtype)
        unit = torch.finfo(dtype).eps / 2
        shrink = 2 * (exact.shape[1] + 16) * unit
        # Products below the normal range are lost; the limit goes down by what that can amount to.
        lost = (exact.shape[1] + 8) * torch.finfo(dtype).tiny
        self._norms = (self._points.double().square().sum(1) * (1 - shrink) - lost).to(dtype)

    def limits(self, rows: Tensor) -> Tensor:
        """Shape (rows, n), in the scaled units of the products; infinite for a point with itself."""
        limits = torch.addmm(self._norms, self._points[rows], self._points.T, alpha=-2)
        limits += self._norms[rows, None]
        limits[torch.arange(len(rows), device=rows.device), rows] = math.inf
        return limits

    def of(self, rows: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
        """The ``wanted`` points with the smallest limits: limits in true units (ascending), and their indices."""
        limits, candidates = self.limits(rows).topk(wanted, largest=False)
        return self.true(limits), candidates

    def true(self, limits: Tensor) -> Tensor:
        return _scaled(limits.double(), 2 * self._exponent)


def _rerank(exact: Tensor, rows: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    candidates = candidates.sort(1).values  # so that a stable sort by distance leaves ties in the order of the index
    difference = exact[candidates]
    difference -= exact[rows, None]
    distances, order = difference.square_().sum(-1).sqrt_().sort(dim=1, stable=True)
    return distances[:, :k].contiguous(), candidates.gather(1, order[:, :k])


def _proven(kth: Tensor, floor: Tensor, d: int) -> Tensor:
    """Whether every point not proposed (its limit is at least ``floor``) is farther than the k-th distance found."""
    return kth.square() * (1 + _slack(d)) < floor


def _slack(d: int) -> float:
    """Relative rounding of a squared distance by differences in float64, twice over."""
    return 4 * (d + 8) * torch.finfo(torch.float64).eps


def _careful(exact: Tensor, proposals: _Proposals, rows: Tensor, kth: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """All points whose limit does not rule them out, by differences: near-ties, many copies, tight clusters."""
    d = exact.shape[1]
    possible = proposals.true(proposals.limits(rows)) <= (kth.square() * (1 + _slack(d)))[:, None]
    distances, indices = [], []
    for row, mask in zip(rows, possible, strict=True):
        candidates = mask.nonzero().squeeze(1)
        parts = torch.split(candidates, max(1, BLOCK // d))
        distance = torch.cat([(exact[part] - exact[row]).square_().sum(-1).sqrt_() for part in parts])
        sorted_, order = distance.sort(stable=True)
        distances.append(sorted_[:k])
        indices.append(candidates[order[:k]])
    return torch.stack(distances), torch.stack(indices)


def _precisions() -> tuple[torch.dtype, ...]:
    """Single precision first, unless the user lets its matrix products be less precise (TF32, bfloat16)."""
    backends = [getattr(getattr(torch.backends, name), "matmul", None) for name in ("cuda", "mkldnn")]
    settings = {getattr(backend, "fp32_precision", "none") for backend in backends}
    if settings <= {"none", "ieee"} and torch.get_float32_matmul_precision() == "highest":
        return torch.float32, torch.float64
    return (torch.float64,)


def _exponent(points: Tensor) -> int:
    """Power of two just above the largest coordinate; 0 when all are 0."""
    return math.frexp(float(points.abs().max()))[1]


def _scaled(values: Tensor, exponent: int) -> Tensor:
    """``values`` times 2**exponent, in two steps because that power alone may overflow."""
    return values * 2.0 ** (exponent // 2) * 2.0 ** (exponent - exponent // 2)


def _check(points: Tensor, fewest: int = 2) -> None:
    if points.ndim != 2:
        raise ValueError(f"points must be a matrix (examples, coordinates), got shape {tuple(points.shape)}")
    if not points.is_floating_point():
        raise ValueError(f"points must be floating point, got {points.dtype}; convert them first")
    if len(points) < fewest or not points.shape[1]:
        raise ValueError(f"at least {fewest} points with at least 1 coordinate are needed, got {tuple(points.shape)}")
    bad = ~torch.isfinite(points).all(1)
    if count := int(bad.sum()):
        raise ValueError(
            f"{count} of {len(points)} points are not finite, the first is row {int(bad.nonzero()[0])}; "
            "drop them or find out where NaN or overflow comes from"
        )
