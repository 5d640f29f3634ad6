"""Maximum likelihood and scaling dimensions: published values, loops, manifolds, laws, coverage, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import make_swiss_roll
from torch import Tensor

from theorylens.representation import (
    correlation_dimension,
    correlation_integral,
    dimension_by_scale,
    knn_graph_dimension,
    local_dimensions,
    mle_dimension,
    pettis_dimension,
    scaling_curve,
    two_nn,
)
from theorylens.representation._intrinsic_dimension import from_logs

ALL = [mle_dimension, correlation_dimension, knn_graph_dimension, pettis_dimension]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def torus(n: int, d: int, seed: int = 0) -> Tensor:
    angle = 2 * math.pi * torch.rand(n, d, generator=rng(seed), dtype=torch.float64)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def test_one_point_has_the_published_local_dimension(golden) -> None:
    distances = torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64)
    found = [float(local_dimensions(distances, unbiased=unbiased)) for unbiased in (False, True)]
    assert found == pytest.approx(golden("G2.1-1"), rel=1e-9)


def test_two_ratios_have_the_published_two_nn(golden) -> None:
    logs = torch.tensor([2.0, 4.0], dtype=torch.float64).log()
    assert from_logs(logs, torch.tensor([[1], [0]]), "mle").value == pytest.approx(golden("G2.1-2"), rel=1e-9)


def test_corners_of_a_square_have_the_counted_correlation_integral(golden) -> None:
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert correlation_integral(corners, [1.1, 1.5]).tolist() == pytest.approx(golden("G2.1-3"), rel=1e-9)
    assert correlation_integral(corners, [1.0, 1.1]).tolist() == [0.0, pytest.approx(2 / 3)]  # closer, not as close


def test_the_regression_on_a_swiss_roll_is_that_of_the_tutorial() -> None:
    """S2.1-1: 1.82, what the tutorial calls a correlation dimension."""
    roll = torch.from_numpy(make_swiss_roll(1000, noise=0.1, random_state=42)[0])
    assert round(knn_graph_dimension(roll, 10).value, 2) == 1.82


def test_likelihoods_agree_with_loops_over_points() -> None:
    points = torch.randn(60, 3, generator=rng(), dtype=torch.float64)
    local = []
    for i, a in enumerate(points.tolist()):
        near = sorted(math.dist(a, b) for j, b in enumerate(points.tolist()) if j != i)[:6]
        local.append(5 / sum(math.log(near[-1] / r) for r in near[:-1]))
    assert mle_dimension(points, 6, average="mean").value == pytest.approx(np.mean(local), rel=1e-10)
    assert mle_dimension(points, 6).value == pytest.approx(1 / np.mean(1 / np.array(local)), rel=1e-10)


def test_with_two_neighbours_the_likelihood_is_two_nn() -> None:
    points = torch.randn(200, 4, generator=rng())
    assert mle_dimension(points, 2).value == pytest.approx(two_nn(points, "mle").value, rel=1e-12)


def test_pairs_are_counted_as_loops_count_them() -> None:
    points = torch.randn(50, 2, generator=rng(), dtype=torch.float64)
    rows = points.tolist()
    for r in (0.3, 1.0, 2.5):
        pairs = sum(math.dist(a, b) < r for i, a in enumerate(rows) for b in rows[:i])
        assert float(correlation_integral(points, [r])) == pytest.approx(pairs / (50 * 49 / 2), rel=1e-12)


def test_a_window_fits_the_line_that_numpy_fits() -> None:
    points = torus(300, 2)
    estimate = correlation_dimension(points, (0.1, 0.4))
    radii = np.geomspace(0.1, 0.4, 16)
    shares = correlation_integral(points, list(radii)).numpy()
    assert estimate.value == pytest.approx(np.polyfit(np.log(radii), np.log(shares), 1)[0], rel=1e-9)


def test_the_corrected_regression_finds_the_dimension_from_exact_means() -> None:
    from scipy.special import gammaln

    from theorylens.representation._scaling_dimension import _corrected

    j = np.arange(1, 11)
    for d in (1.0, 2.5, 7.0):
        assert _corrected(0.3 + gammaln(j + 1 / d) - gammaln(j)) == pytest.approx(d, rel=1e-9)


@pytest.mark.parametrize("estimator", [mle_dimension, correlation_dimension, pettis_dimension])
@pytest.mark.parametrize("d", [1, 2])
def test_a_flat_torus_has_its_dimension(estimator, d: int) -> None:
    assert estimator(torus(1500, d, seed=d)).value == pytest.approx(d, abs=0.06 * d)


def test_all_estimators_read_low_in_ten_dimensions_as_measured() -> None:
    cube = torch.rand(2000, 10, generator=rng())
    assert mle_dimension(cube, 10, average="mean").value == pytest.approx(9.2, abs=0.3)
    assert mle_dimension(cube, 10).value == pytest.approx(8.2, abs=0.3)
    assert knn_graph_dimension(cube, 10).value == pytest.approx(7.0, abs=0.3)


@pytest.mark.parametrize("estimator", ALL)
def test_rotation_scale_offset_and_order_do_not_matter(estimator) -> None:
    points = torch.randn(200, 3, generator=rng(), dtype=torch.float64)
    before = estimator(points)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=rng(1), dtype=torch.float64))[0]
    order = torch.randperm(200, generator=rng(2))
    for same in (points @ rotation, 1e-6 * points, 1e6 * points, points + 3, points[order]):
        after = estimator(same)
        assert after.value == pytest.approx(before.value, rel=1e-7)
        assert after.upper == pytest.approx(before.upper, rel=1e-6)


@pytest.mark.parametrize("estimator", [mle_dimension, knn_graph_dimension, pettis_dimension])
@pytest.mark.parametrize(
    ("points", "k", "message"),
    [
        (torch.randn(10), 5, r"matrix \(n, d\), got shape \(10,\)"),
        (torch.randn(9, 2), 9, "k must be at least 1 and below the number of points, 9, got 9"),
        (torch.randn(9, 2), 1, "k must be at least 2"),
        (torch.tensor([[1.0], [2.0], [math.nan], [5.0]]), 2, "1 of 4 rows of points are not finite"),
        (torch.tensor([[1.0], [1.0], [3.0], [4.0]]), 2, "2 of 4 points have an exact copy; remove copies first"),
        (torch.ones(6, 2), 2, "all 6 points are equal"),
        (torch.eye(6), 3, "equally far"),
    ],
)
def test_what_has_no_dimension_is_refused(estimator, points: Tensor, k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimator(points, k)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mle_dimension(torch.randn(9, 2), 3, average="median"), "'harmonic' or 'mean', got 'median'"),
        (lambda: correlation_dimension(torch.ones(9, 2)), "most of the 9 points are equal"),
        (lambda: correlation_dimension(torch.randn(9, 2), (1.0, 0.5)), "0 < low < high"),
        (lambda: correlation_dimension(torch.randn(9, 2), (1e-9, 1e-8)), "no pair is closer than 1e-09"),
        (lambda: correlation_integral(torch.randn(9, 2), [2.0, 1.0]), "positive and ascending"),
        (
            lambda: local_dimensions(torch.tensor([[1.0, 2.0]]), unbiased=True),
            "at least 3 neighbours are needed, got 2",
        ),
        (lambda: local_dimensions(torch.tensor([[0.0, 2.0]])), "positive and ascending"),
        (lambda: scaling_curve(torch.ones(9, 2)), "all 9 points are equal"),
    ],
)
def test_settings_that_make_no_sense_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_noise_shows_at_small_scale_only() -> None:
    sheet = torch.zeros(2000, 10, dtype=torch.float64)
    sheet[:, :2] = torch.rand(2000, 2, generator=rng(), dtype=torch.float64)
    noisy = sheet + 0.004 * torch.randn(2000, 10, generator=rng(1), dtype=torch.float64)
    line = dimension_by_scale(noisy, (2, 8, 64)).lines[0]
    assert line.x.tolist() == [2, 8, 64]
    assert line.y[0] > 2.8
    assert line.y[2] < 2.2


def test_the_scaling_curve_rises_to_one() -> None:
    line = scaling_curve(torus(300, 2)).lines[0]
    assert (np.diff(line.y) >= 0).all()
    assert line.y[-1] > 0.99


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "d", "lowest"),
    [
        (lambda x: mle_dimension(x, 5), 1, 0.89),
        (lambda x: mle_dimension(x, 5), 2, 0.92),
        (lambda x: mle_dimension(x, 5), 3, 0.91),
        (correlation_dimension, 1, 0.91),
        (correlation_dimension, 2, 0.92),
        (correlation_dimension, 3, 0.93),
        (pettis_dimension, 2, 0.85),
    ],
)
def test_intervals_cover_the_mean_of_the_estimator(estimator, d: int, lowest: float) -> None:
    """Bias is said not to be in them, so the truth asked for is the mean over samples."""
    found = [estimator(torus(400, d, seed)) for seed in range(600)]
    mean = np.mean([e.value for e in found])
    covered = np.mean([e.lower <= mean <= e.upper for e in found])
    assert lowest < covered < 0.99
