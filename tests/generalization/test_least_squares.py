"""Exact and limiting risks of least squares, benign overfitting: golden values, limits, Monte Carlo, refusals."""

import math

import numpy as np
import pytest
from scipy import integrate

from theorylens.generalization import (
    benign_overfitting,
    covariance_eigenvalues,
    effective_ranks,
    least_squares_risk,
    optimal_penalty,
    ridge_risk,
    ridgeless_risk,
)
from theorylens.numerics.random_matrix import marchenko_pastur_edges


def test_golden_values(golden):
    assert ridgeless_risk([0.2, 0.5, 0.9, 1.1, 2, 5], noise=0.25) == pytest.approx(golden("G1.4-4"), rel=1e-9)
    assert least_squares_risk(50, [10, 40, 60, 100, 500], noise=0.25) == pytest.approx(golden("G1.4-5"), rel=1e-9)
    assert effective_ranks([1.0] * 5 + [0.01] * 1000, 5) == pytest.approx(golden("G1.4-6"), rel=1e-9)
    assert ridgeless_risk(3.0, noise=0.1) == pytest.approx(0.71666666666667, rel=1e-12)
    assert ridge_risk(1.5, 0.2, noise=0.1) == pytest.approx(0.45564026560203, rel=1e-12)


def test_the_exact_risk_tends_to_the_limit():
    for ratio in (0.3, 0.8, 1.25, 4.0):
        n = 10**7
        exact = least_squares_risk(n, round(ratio * n), noise=0.3, signal=2.0)
        assert exact == pytest.approx(ridgeless_risk(ratio, noise=0.3, signal=2.0), rel=1e-5)


def test_the_mean_is_infinite_within_one_of_the_threshold_and_only_with_noise():
    assert np.isinf(least_squares_risk(50, [49, 50, 51], noise=0.1)).all()
    assert np.isfinite(least_squares_risk(50, [48, 52], noise=0.1)).all()
    assert least_squares_risk(50, [10, 49, 50, 51, 100], noise=0.0) == pytest.approx([0, 0, 0, 1 / 51, 0.5])
    assert ridgeless_risk(1.0, noise=0.1) == math.inf
    assert ridgeless_risk(1.0, noise=0.0) == 0.0


def test_inputs_that_are_left_out_act_as_noise():
    whole = least_squares_risk(50, 20, noise=0.7)
    assert least_squares_risk(50, 20, noise=0.2, omitted=0.5) == pytest.approx(0.5 + whole)
    assert least_squares_risk(50, 200, noise=0.2, omitted=0.5) == pytest.approx(
        0.5 + least_squares_risk(50, 200, noise=0.7)
    )


def naive_ridge(g, l, noise, signal):  # noqa: E741
    """The same by quadrature over the Marchenko-Pastur law, with its atom at zero."""
    low, high = marchenko_pastur_edges(g)

    def mean(f):
        density = lambda x: f(x) * math.sqrt(max(0.0, (high - x) * (x - low))) / (2 * math.pi * g * x)  # noqa: E731
        return integrate.quad(density, low, high, limit=400)[0] + max(0.0, 1 - 1 / g) * f(0.0)

    return signal * mean(lambda x: (l / (x + l)) ** 2) + noise * g * mean(lambda x: x / (x + l) ** 2)


@pytest.mark.parametrize("g", [0.3, 0.9, 1.4, 5.0])
@pytest.mark.parametrize("l", [0.01, 0.5, 10.0])
def test_ridge_agrees_with_the_integral_over_the_spectrum(g, l):  # noqa: E741
    assert ridge_risk(g, l, noise=0.3, signal=2.0) == pytest.approx(naive_ridge(g, l, 0.3, 2.0), rel=1e-5)


def test_ridge_without_penalty_is_ridgeless_and_the_best_penalty_is_best():
    for g in (0.4, 2.5):
        assert ridge_risk(g, 1e-9, noise=0.3) == pytest.approx(ridgeless_risk(g, noise=0.3), rel=1e-6)
        best = optimal_penalty(g, noise=0.3, signal=2.0)
        risk = ridge_risk(g, best, noise=0.3, signal=2.0)
        assert (risk <= ridge_risk(g, best * np.array([0.8, 0.95, 1.05, 1.3]), noise=0.3, signal=2.0)).all()
    ratios = np.linspace(0.1, 5, 50)
    tuned = [ridge_risk(float(g), optimal_penalty(float(g), noise=0.3), noise=0.3) for g in ratios]
    assert (np.diff(tuned) > 0).all()  # no peak is left


def test_where_overfitting_is_benign_and_where_not():
    found = benign_overfitting([1.0] * 5 + [0.01] * 1000, 100)
    assert (found.index, found.tail_rank, found.tail_spread) == (5, pytest.approx(1000), pytest.approx(1000))
    assert found.variance == pytest.approx(5 / 100 + 100 / 1000)
    assert benign_overfitting(np.ones(50), 100).index is None  # fewer directions than examples
    assert benign_overfitting(np.exp(-np.arange(500.0)), 100).variance == math.inf  # the tail falls off too fast
    flat = benign_overfitting(np.ones(10_000), 100)
    assert flat.index == 0  # isotropic: noise costs n/p, as least squares says
    assert flat.variance == pytest.approx(least_squares_risk(100, 10_000, noise=1.0, signal=0.0), rel=0.02)
    slow = [benign_overfitting(1 / (np.arange(1, 10**6) * np.log(np.arange(2, 10**6 + 1)) ** 2), n) for n in (5, 50)]
    assert all(s.index is not None for s in slow)


def interpolated_noise(levels, n, ridge, draws):
    """Error on new targets of noise alone, in units of its variance, over drawn Gaussian designs."""
    rng, found = np.random.default_rng(5), []
    for _ in range(draws):
        x = rng.normal(size=(n, len(levels))) * np.sqrt(levels)
        smoother = x.T @ np.linalg.inv(x @ x.T + ridge * np.eye(n))  # what noise becomes, averaged over noise exactly
        found.append(1 + float((levels[:, None] * smoother**2).sum()))
    return float(np.mean(found)), float(np.std(found) / np.sqrt(draws))


@pytest.mark.parametrize("ridge", [0.0, 20.0])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_noise_factor_is_what_interpolated_noise_costs(power, ridge):
    levels = np.arange(1, 1501.0) ** -power
    measured, spread = interpolated_noise(levels, 60, ridge * levels[60], 30)
    said = benign_overfitting(levels, 60, ridge=ridge * levels[60]).noise_factor
    assert said == pytest.approx(measured, abs=4 * spread + 0.05 * (measured - 1))


def test_noise_factors_of_isotropic_inputs_are_the_limits_of_hastie():
    for p in (40, 150, 700):
        assert benign_overfitting(np.ones(p), 100).noise_factor - 1 == pytest.approx(
            ridgeless_risk(p / 100, noise=1.0, signal=0.0), rel=1e-9
        )
        assert benign_overfitting(np.ones(p), 100, ridge=30.0).noise_factor - 1 == pytest.approx(
            ridge_risk(p / 100, 0.3, noise=1.0, signal=0.0), rel=1e-9
        )
    assert benign_overfitting(np.ones(100), 100).noise_factor == math.inf


def test_three_kinds_of_overfitting():
    i = np.arange(1, 200_001.0)
    tempered = [benign_overfitting(i**-2.0, n) for n in (50, 400)]
    assert [f.kind for f in tempered] == ["tempered", "tempered"]
    assert [f.noise_factor for f in tempered] == pytest.approx([2.0, 2.0], rel=0.02)  # the power of the law
    worse = [benign_overfitting(np.exp(-i[:600] / 4), n).noise_factor for n in (50, 100, 200)]
    assert worse[0] < 0.6 * worse[1] < 0.36 * worse[2]
    assert benign_overfitting(np.exp(-i[:600] / 4), 100).kind == "catastrophic"
    assert benign_overfitting(np.r_[np.full(3, 100.0), np.full(100_000, 0.01)], 100).kind == "benign"
    slowly = [benign_overfitting(1 / (i * np.log(i + 1) ** 2), n).noise_factor for n in (10, 100, 1000)]
    assert slowly[0] > slowly[1] > slowly[2] > 1


def test_a_ridge_moves_the_tail_forward_and_bias_is_the_formula_of_tsigler_and_bartlett():
    levels, theta = np.array([0.01] * 1000 + [1.0] * 5), np.r_[np.full(1000, 0.1), np.arange(1.0, 6)]
    plain = benign_overfitting(levels, 100, coefficients=theta)
    assert (plain.index, plain.variance) == (5, pytest.approx(0.15))
    head = sum(t**2 / 1.0 for t in (1.0, 2.0, 3.0, 4.0, 5.0))
    assert plain.bias == pytest.approx(1000 * 0.01 * 0.1**2 + head * (10.0 / 100) ** 2)
    ridged = benign_overfitting(levels, 100, ridge=30.0, coefficients=theta)
    assert ridged.variance == pytest.approx(5 / 100 + 100 * 1000 * 0.01**2 / (30 + 10) ** 2)
    assert ridged.bias == pytest.approx(0.1 + head * (40.0 / 100) ** 2)
    strong = benign_overfitting(levels, 100, ridge=1e6, coefficients=theta)  # nothing is fitted
    assert strong.index == 0
    assert strong.bias == pytest.approx(float((levels * theta**2).sum()))
    assert strong.noise_factor == pytest.approx(1.0, abs=1e-6)
    assert benign_overfitting(np.ones(50), 100, coefficients=np.ones(50)).bias is None


def test_ranks_are_ordered_and_free_of_scale():
    levels = np.random.default_rng(0).exponential(size=40)
    for k in (0, 3, 20):
        r, spread = effective_ranks(levels, k)
        assert 1 <= r <= spread <= r**2
        assert effective_ranks(7 * levels, k) == pytest.approx((r, spread))


def test_eigenvalues_of_features_are_those_of_their_covariance():
    x = np.random.default_rng(0).normal(size=(200, 5)) * np.array([3, 2, 1, 0.5, 0.1])
    assert covariance_eigenvalues(x).numpy() == pytest.approx(np.linalg.eigvalsh(np.cov(x.T))[::-1], rel=1e-10)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: least_squares_risk(0, 1, noise=0.1), "n must be whole numbers, at least 1"),
        (lambda: least_squares_risk(5, 1.5, noise=0.1), "parameters must be whole numbers"),
        (lambda: least_squares_risk(5, 1, noise=-0.1), "noise is a variance"),
        (lambda: least_squares_risk(5, 1, noise=0.1, signal=-1.0), "signal is a variance"),
        (lambda: least_squares_risk(5, 1, noise=0.1, omitted=-1.0), "omitted is a variance"),
        (lambda: ridgeless_risk(0.0, noise=0.1), "ratio must be positive"),
        (lambda: ridge_risk(1.0, 0.0, noise=0.1), "penalty must be positive"),
        (lambda: optimal_penalty(1.0, noise=0.1, signal=0.0), "best penalty is infinite"),
        (lambda: effective_ranks([1.0, 0.0], 1), "must leave a positive eigenvalue"),
        (lambda: effective_ranks([1.0, -1.0], 0), "at least 0"),
        (lambda: benign_overfitting([0.0], 5), "all eigenvalues are zero"),
        (lambda: benign_overfitting([1.0], 0), "n must be"),
        (lambda: benign_overfitting([1.0], 5, ratio=0.0), "ratio must be positive"),
        (lambda: benign_overfitting([1.0], 5, ridge=-1.0), "ridge must be finite"),
        (lambda: benign_overfitting([1.0, 2.0], 5, coefficients=[1.0]), "one finite coefficient per eigenvalue"),
        (lambda: covariance_eigenvalues(np.zeros(3)), "must be a matrix"),
        (lambda: covariance_eigenvalues(np.zeros((1, 3))), "at least 2 rows"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_ridge_with_hardly_any_penalty_is_ridgeless_to_the_last_digits():
    for ratio in (0.3, 0.9, 1.1, 2.0, 50.0):  # the difference of two large numbers used to leave six digits of these
        for penalty in (1e-10, 1e-14, 1e-300):
            exact = ridgeless_risk(ratio, noise=0.3)
            assert ridge_risk(ratio, penalty, noise=0.3) == pytest.approx(exact, rel=max(1e-12, 1e3 * penalty))
    assert ridge_risk(1.0, 1e12, noise=0.3) == pytest.approx(1.0, rel=1e-11)  # nothing is fitted


def test_ridge_risk_is_that_of_the_spectrum_by_quadrature():
    from scipy import integrate

    for ratio, penalty in ((0.5, 0.2), (1.0, 0.01), (3.0, 1.0)):
        low, high = marchenko_pastur_edges(ratio, 1.0)

        def density(x, low=low, high=high, ratio=ratio):
            return np.sqrt(max(0.0, (high - x) * (x - low))) / (2 * np.pi * ratio * x)

        def mean(f, low=low, high=high, ratio=ratio, density=density):
            atom = max(0.0, 1 - 1 / ratio) * f(0.0)
            return atom + integrate.quad(lambda x: f(x) * density(x), low, high, epsabs=1e-12, limit=500)[0]

        bias = mean(lambda x, penalty=penalty: (penalty / (x + penalty)) ** 2)
        variance = ratio * mean(lambda x, penalty=penalty: x / (x + penalty) ** 2)
        expected = 2.0 * bias + 0.3 * variance
        assert ridge_risk(ratio, penalty, noise=0.3, signal=2.0) == pytest.approx(expected, rel=1e-6)
