"""Summaries of spectra and the density of a network's Hessian, against closed forms and the dense Hessian."""

import math

import numpy as np
import pytest
import torch

from theorylens import core
from theorylens.core import RefusedError
from theorylens.landscape import curvature_summary, spectral_density
from theorylens.landscape._density import outliers
from theorylens.results import Statistical, Unknown


def test_golden_trace_largest_and_entropy_of_the_tutorial():
    """Identifier S3.3-3."""
    for spectrum, wanted in {"S3.3-3": ([2.0, 200.0], (202, 200, 0.0555))}.values():
        found = curvature_summary(spectrum)
        assert (found.trace, found.largest) == wanted[:2]
        assert found.entropy == pytest.approx(wanted[2], abs=5e-5)
    equal = curvature_summary([2.0, 2.0])
    assert (equal.trace, equal.largest) == (4, 2)
    assert equal.entropy == pytest.approx(math.log(2), rel=1e-12)
    assert equal.effective_rank == pytest.approx(2, rel=1e-12)


@pytest.mark.parametrize("spectrum", [[2.0, -1.0], [-1.0, -2.0], [1.0, -1.0], [0.0, 0.0], [0.0, -1e-300], [1e300, -1]])
def test_no_number_is_nan_or_infinite_for_a_saddle(spectrum):
    found = curvature_summary(spectrum)
    assert all(math.isfinite(v) for v in vars(found).values())


def test_downward_directions_do_not_count_as_flat():
    found = curvature_summary([2.0, -1.0, 1e-6, 0.0])
    assert found.flat_share == 0.5
    assert found.negative_share == 0.25
    assert found.frobenius == pytest.approx(5**0.5)
    assert found.smallest == -1


def test_thresholds_are_relative_and_shares_do_not_depend_on_the_scale():
    rng = np.random.default_rng(0)
    spectrum = rng.standard_normal(50) * np.exp(4 * rng.standard_normal(50))
    one, other = curvature_summary(spectrum), curvature_summary(1e-8 * spectrum)
    for name in ("entropy", "effective_rank", "flat_share", "negative_share"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-9)
    assert other.log_volume == pytest.approx(one.log_volume + 25 * math.log(1e-8), rel=1e-9)
    assert 1 <= one.effective_rank <= 50
    assert curvature_summary([8.0, 2.0, -2.0, 1.0], flat=0.25).flat_share == 0.75  # what equals the share is flat
    nothing = curvature_summary([0.0, 0.0])
    assert (nothing.entropy, nothing.effective_rank, nothing.flat_share) == (0.0, 0.0, 1.0)


def test_log_volume_is_that_of_the_ellipsoid():
    found = curvature_summary([4.0, 9.0], damping=1e-12)
    assert found.log_volume == pytest.approx(math.log(6), rel=1e-9)
    assert curvature_summary([4.0, -9.0], damping=0.5).log_volume == pytest.approx((math.log(4.5) + math.log(0.5)) / 2)


def test_refusals():
    with pytest.raises(ValueError, match="there are no eigenvalues"):
        curvature_summary([])
    with pytest.raises(ValueError, match="1 of 2 eigenvalues are not finite"):
        curvature_summary([1.0, math.nan])
    with pytest.raises(ValueError, match="flat must be a share from 0 to below 1, got 1"):
        curvature_summary([1.0], flat=1)
    with pytest.raises(ValueError, match="damping must be a positive number, got 0"):
        curvature_summary([1.0], damping=0)


def test_outliers_are_what_the_largest_gap_sets_apart():
    assert outliers(np.array([9.0, 8.0, 2.0, 1.9])) == 2
    assert outliers(np.array([9.0, 8.0, 7.0, 6.0])) == 0
    assert outliers(np.array([9.0, 1.0, 0.9, -5.0])) == 1
    assert outliers(np.array([9.0, -1.0])) == 0
    assert outliers(np.array([-1.0, -2.0])) == 0


@pytest.fixture(scope="module")
def small(digits):
    data = digits.split("train").take(range(200))
    goal = core.objective(digits.net, data, "cross_entropy")
    hessian = goal.hessian()
    dense = torch.stack([hessian @ e for e in torch.eye(goal.size)]).double()
    return data, np.linalg.eigvalsh(((dense + dense.T) / 2).numpy())


def test_the_density_of_a_network_agrees_with_its_dense_hessian(digits, small):
    data, values = small
    found = spectral_density(digits.net, data, "cross_entropy", draws=8)
    truth = curvature_summary(values)
    wanted = {
        "trace": truth.trace,
        "frobenius_squared": truth.frobenius**2,
        "effective_rank": truth.effective_rank,
        "flat_share": truth.flat_share,
    }
    for name, value in wanted.items():
        estimate = getattr(found, name)
        half = (estimate.upper - estimate.lower) / 2
        assert isinstance(estimate.uncertainty, Statistical)
        assert abs(estimate.value - value) <= 2 * half + 0.05 * abs(value), name
    volume = found.log_volume(truth.damping)
    assert abs(volume.value - truth.log_volume) <= volume.upper - volume.lower
    # Cumulative: the share of eigenvalues below each of a few levels.
    for level in (-truth.largest / 20, truth.largest / 20, truth.largest / 3):
        share = found.quadrature.mean(lambda x, level=level: (x <= level).astype(float))
        assert share.value == pytest.approx((values <= level).mean(), abs=0.12)
    assert found.products == sum(len(x) for x in found.quadrature.nodes) + sum(e.products for e in found.ends)


def test_the_band_of_the_density_is_around_its_mean_and_it_integrates_to_one(digits, small):
    data, values = small
    found = spectral_density(digits.net, data, "cross_entropy")
    grid = np.linspace(values.min() - 1, values.max() + 1, 3000)
    mean, low, high = found.density(grid, 0.05)
    assert mean.sum() * (grid[1] - grid[0]) == pytest.approx(1, rel=1e-3)
    assert (low <= mean).all()
    assert (mean <= high).all()
    assert (low >= 0).all()


def test_outliers_of_the_density_are_resolved_one_by_one(quadratic):
    rng = np.random.default_rng(0)
    q = np.linalg.qr(rng.standard_normal((160, 160)))[0]
    spectrum = np.concatenate([rng.uniform(0, 1, 157), [5.0, 6.0, 7.0]])
    found = spectral_density(*quadratic(q @ np.diag(spectrum) @ q.T), k=5)
    assert found.outliers == 3
    assert found.quadrature.known == pytest.approx([7, 6, 5], rel=1e-3)
    assert found.trace.lower <= spectrum.sum() <= found.trace.upper
    assert found.trace.upper - found.trace.lower < 0.3 * spectrum.sum()


def test_one_draw_has_no_interval_and_a_lost_network_no_spectrum(quadratic):
    found = spectral_density(*quadratic(np.diag(np.arange(1.0, 41.0))), k=1, draws=1)
    assert isinstance(found.effective_rank.uncertainty, Unknown)
    small = spectral_density(*quadratic([[1.0, 0.0], [0.0, 3.0]]), k=1, draws=1)  # decomposed
    assert small.trace.value == pytest.approx(4, rel=1e-12)
    assert small.effective_rank.value == pytest.approx(curvature_summary([1.0, 3.0]).effective_rank, rel=1e-12)
    with pytest.raises(ValueError, match="damping must be a positive number"):
        found.log_volume(0.0)
    with pytest.raises(RefusedError, match="the loss is nan"):
        spectral_density(*quadratic([[1.0]], constant=math.nan))


def test_limits_of_the_effective_rank_are_ranks(quadratic):
    """Spectra of which draws know little: limits around a mean of ranks would reach below zero."""
    rng = np.random.default_rng(3)
    q = np.linalg.qr(rng.standard_normal((160, 160)))[0]
    spectrum = np.concatenate([rng.uniform(-1e-3, 1e-3, 157), [4.0, 2.0, 1.0]])
    found = spectral_density(*quadratic(q @ np.diag(spectrum) @ q.T), k=1, draws=2, trace=None).effective_rank
    truth = curvature_summary(spectrum).effective_rank
    assert 1 <= found.lower <= truth <= found.upper <= 160
