"""Fits of the Marchenko-Pastur law: noise, planted outliers, what is no such bulk; its distribution function."""

import numpy as np
import pytest
from scipy.integrate import quad

from theorylens.numerics.bulk import fit_marchenko_pastur, fit_rests
from theorylens.numerics.random_matrix import (
    marchenko_pastur_cdf,
    marchenko_pastur_density,
    marchenko_pastur_edges,
)


@pytest.mark.parametrize("ratio", [0.25, 1.0, 4.0])
def test_the_distribution_function_is_the_integral_of_the_density_and_of_the_zeros(ratio):
    low, high = marchenko_pastur_edges(ratio, 2.0)
    for share in (0.1, 0.5, 0.9):
        at = low + share * (high - low)
        truth = quad(lambda x: marchenko_pastur_density(np.array([x]), ratio, 2.0)[0], low, at, limit=500)[0]
        found = marchenko_pastur_cdf(np.array([at]), ratio, 2.0)[0]
        assert found == pytest.approx(max(0, 1 - 1 / ratio) + truth, abs=1e-6)
    ends = marchenko_pastur_cdf(np.array([-1e-9, high + 1]), ratio, 2.0)
    assert ends == pytest.approx([0, 1], abs=1e-6)


def covariance(n, d, spikes=(), seed=0, variance=2.0):
    rng = np.random.default_rng(seed)
    scale = np.full(d, np.sqrt(variance))
    scale[: len(spikes)] *= np.sqrt(spikes)
    x = rng.normal(size=(n, d)) * scale
    return np.linalg.eigvalsh(x.T @ x / n)


@pytest.mark.parametrize(("n", "d"), [(400, 100), (200, 200), (300, 600)])
def test_noise_gives_its_own_law_back_and_no_outliers(n, d):
    fits = [fit_marchenko_pastur(covariance(n, d, seed=s)) for s in range(4)]
    for fit in fits:
        assert fit.ratio == pytest.approx(d / n, rel=0.06)
        assert fit.variance == pytest.approx(2.0, rel=0.03)
        assert fit.edges[1] == pytest.approx(marchenko_pastur_edges(d / n, 2.0)[1], rel=0.04)
        assert fit.distance < 0.03
        assert fit.consistent
    assert [fit.outliers for fit in fits] == [0] * 4


@pytest.mark.parametrize(("n", "d"), [(400, 100), (300, 600)])
def test_outliers_beyond_the_threshold_are_counted_and_those_below_are_not(n, d):
    """A population spike shows outside of the bulk from 1 + sqrt(d / n) on (Baik, Ben Arous, Peche 2005)."""
    edge = 1 + np.sqrt(d / n)
    above, below = np.linspace(3 * edge, 9 * edge, 9), np.full(3, 1 + (edge - 1) / 4)
    for seed in range(3):
        fit = fit_marchenko_pastur(covariance(n, d, (*above, *below), seed=seed))
        assert fit.outliers == 9
        assert fit.consistent
        assert fit.distance < 0.05


def test_equal_outliers_that_carry_the_spectrum_do_not_pass_for_the_bulk():
    values = np.concatenate([covariance(400, 300), np.full(9, 500.0)])
    assert fit_marchenko_pastur(values).outliers == 9


def test_another_bulk_is_far_from_every_such_law():
    arcsine = np.cos(np.pi * (np.arange(300) + 0.5) / 300) + 15
    assert fit_marchenko_pastur(arcsine).distance > 0.08
    two = np.concatenate([np.linspace(1, 1.1, 150), np.linspace(5, 5.1, 150)])
    assert fit_marchenko_pastur(two).distance > 0.2


def test_the_law_scales_with_the_spectrum():
    values = covariance(400, 100, (9.0, 12.0))
    one, ten = fit_marchenko_pastur(values), fit_marchenko_pastur(10 * values)
    assert ten.ratio == pytest.approx(one.ratio)
    assert ten.variance == pytest.approx(10 * one.variance)
    assert (one.outliers, ten.outliers) == (2, 2)
    assert ten.distance == pytest.approx(one.distance, abs=1e-9)


def test_a_quadrature_proves_no_distance_where_the_law_fits():
    """Gauss nodes of the law itself, from its recurrence: the bounds of its distribution function contain it."""
    ratio, steps = 0.5, 12
    jacobi = np.diag([1.0] + [1 + ratio] * (steps - 1)) + np.diag([np.sqrt(ratio)] * (steps - 1), 1)
    nodes, vectors = np.linalg.eigh(jacobi, UPLO="U")
    fit = fit_rests(nodes[::-1][:1], [[(nodes, vectors[0] ** 2)]], size=1000)
    assert fit.ratio == pytest.approx(ratio, rel=1e-9)
    assert fit.distance < 1e-3


@pytest.mark.parametrize(
    ("values", "options", "said"),
    [
        (np.ones(9), {}, "at least 10 finite eigenvalues"),
        (np.full(20, np.nan), {}, "finite eigenvalues"),
        (np.arange(20.0), {"most": 11}, "most must lie between 0 and 10 for 20 eigenvalues, got 11"),
        (np.zeros(20), {}, "no positive spread"),
        (-np.arange(20.0), {}, "no positive spread"),
    ],
)
def test_refusals(values, options, said):
    with pytest.raises(ValueError, match=said):
        fit_marchenko_pastur(values, **options)
