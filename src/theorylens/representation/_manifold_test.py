"""Do the points lie on fewer dimensions than a Gaussian cloud of the same covariance would show?

Method   the nearest-neighbour dimension of the points against that of Gaussian samples with the same covariance and n
Source   parametric bootstrap; dimension by Facco et al. (2017); trustworthiness by Venna, Kaski (2001)
Assumes  under the null: a Gaussian; many more points than directions that carry variance
Breaks   a rejection says "not Gaussian with this covariance, and lower-dimensional at the scale of the neighbours":
         heavy tails and clusters are rejected too, so look at the dimension and its scale
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from sklearn.decomposition import PCA
from sklearn.manifold import Isomap
from torch import Tensor

from theorylens.numerics.neighbours import unique_rows
from theorylens.results import Curve, Estimate

from ._embedding import lle
from ._embedding_quality import Kept, neighbours_kept
from ._intrinsic_dimension import two_nn
from ._likelihood_dimension import dimension_by_scale
from ._matrices import real_rows

DRAWS = 99
ROUNDING = 1e-6  # directions with less than this share of the largest spread are rounding of single precision
FEWEST = 50  # below, the covariance and the neighbours are both too uncertain to compare


@dataclass(frozen=True, kw_only=True, eq=False)
class ManifoldTest:
    """A test of "no lower-dimensional structure beyond the covariance".

    Attributes
    ----------
    dimension
        `two_nn` of the points.
    null
        The same number on each Gaussian sample, float64.
    p_value
        (1 + samples that are no higher) / (1 + samples).
    directions
        Numerical rank of the covariance.
    """

    dimension: Estimate
    null: Tensor
    p_value: float
    directions: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Unrolled:
    """One embedding of the points in ``components`` coordinates and what it kept of the neighbours."""

    method: str
    components: int
    kept: Kept


@dataclass(frozen=True, kw_only=True, eq=False)
class ManifoldReport:
    """Dimension by scale, the test, variance of the leading directions, and embeddings of that dimension.

    Attributes
    ----------
    linear_share
        Share of the variance in as many principal directions as the estimated dimension: near 1 when it is a plane.
    """

    by_scale: Curve
    test: ManifoldTest
    linear_share: float
    embeddings: tuple[Unrolled, ...]


def manifold_test(points: Tensor, *, rng: torch.Generator, draws: int = DRAWS) -> ManifoldTest:
    """Test whether ``points`` (n, d) have a lower intrinsic dimension than Gaussian points of their covariance.

    Raises
    ------
    ValueError
        Fewer than 50 points, values that are not finite, copies, fewer points than twice the directions, draws < 19.
    """
    rows = real_rows(points, fewest=FEWEST)
    if draws < 19:
        raise ValueError(f"a p-value of 5 % needs at least 19 draws, got {draws}")
    n = len(rows)
    scales = torch.linalg.svdvals((rows - rows.mean(0)) / math.sqrt(n - 1))
    rank = int((scales > ROUNDING * scales[0]).sum())
    if n < 2 * rank:
        raise ValueError(
            f"{n} points vary along {rank} directions; their covariance needs at least {2 * rank} points,"
            " so give more points or keep the leading principal directions"
        )
    estimate = two_nn(points)
    null = torch.empty(draws, dtype=torch.float64)
    for i in range(draws):
        # Rotation does not change distances, so the sample is drawn in the principal directions.
        sample = torch.randn(n, rank, generator=rng, dtype=torch.float64) * scales[:rank]
        null[i] = two_nn(sample).value
    p_value = (1 + int((null <= estimate.value).sum())) / (1 + draws)
    return ManifoldTest(dimension=estimate, null=null, p_value=p_value, directions=rank)


def manifold_report(
    points: Tensor, *, rng: torch.Generator, neighbours: int = 10, draws: int = DRAWS
) -> ManifoldReport:
    """Everything that can be said for or against "the points lie near a low-dimensional surface".

    Embeddings (principal components, LLE, and Isomap when the neighbour graph is in one piece) have the estimated
    dimension, rounded; n up to some thousands. Copies are left out.
    """
    rows = real_rows(points, fewest=FEWEST)
    rows = rows[unique_rows(rows).first]
    test = manifold_test(rows, rng=rng, draws=draws)
    m = max(1, min(round(test.dimension.value), rows.shape[1] - 1, neighbours - 1))
    x = rows.numpy()
    linear = PCA(n_components=m, svd_solver="full").fit(x)
    local = lle(rows, m, neighbours)
    made = {"principal components": torch.from_numpy(linear.transform(x)), "LLE": local.coordinates}
    if local.pieces == 1:  # between pieces there are no distances along the surface
        made["Isomap"] = torch.from_numpy(Isomap(n_neighbors=neighbours, n_components=m).fit_transform(x))
    return ManifoldReport(
        by_scale=dimension_by_scale(rows),
        test=test,
        linear_share=float(linear.explained_variance_ratio_.sum()),
        embeddings=tuple(
            Unrolled(method=name, components=m, kept=neighbours_kept(rows, y, neighbours)) for name, y in made.items()
        ),
    )
