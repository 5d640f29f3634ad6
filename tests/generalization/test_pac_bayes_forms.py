"""The PAC-Bayes family: golden values, how the forms are ordered, and how often each fails, summed exactly."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats

from theorylens.generalization import (
    best_trade_off,
    chernoff_kl,
    gaussian_kl,
    kl,
    kl_inverse,
    multivariate_gaussian_kl,
    pac_bayes_catoni,
    pac_bayes_disintegrated,
    pac_bayes_empirical_bernstein,
    pac_bayes_kl,
    pac_bayes_lambda,
    pac_bayes_mcallester,
    pac_bayes_quadratic,
    variance_bound,
    xi,
)

AS_PRINTED = {"form": "maurer"}


@pytest.mark.parametrize(("key", "divergence"), [("1", 1), ("10", 10), ("100", 100), ("1000", 1000)])
def test_golden_values_of_both_forms(golden, key, divergence):
    known = {"1": "G1.4-1.1", "10": "G1.4-1.10", "100": "G1.4-1.100", "1000": "G1.4-1.1000"}
    at = (0.05, divergence, 1000, 0.05)
    assert [pac_bayes_mcallester(*at, **AS_PRINTED), pac_bayes_kl(*at, **AS_PRINTED)] == pytest.approx(
        golden(known[key]), rel=1e-9
    )


def test_legitimate_values_of_the_tutorial():
    """S1.4-4."""
    found = pac_bayes_mcallester(0.05, [1, 10, 100, 1000], 1000, 0.05, **AS_PRINTED)
    assert found == pytest.approx([0.1138, 0.1426, 0.2815, 0.7596], abs=5e-5)


def test_golden_values_of_the_other_forms(golden):
    at = (0.05, 10, 1000, 0.05)
    catoni, quadratic, best, where = golden("G1.4-2")
    assert pac_bayes_catoni(*at, beta=1.0) == pytest.approx(catoni, rel=1e-9)
    assert pac_bayes_quadratic(*at, **AS_PRINTED) == pytest.approx(quadratic, rel=1e-9)
    assert pac_bayes_lambda(*at, **AS_PRINTED) == pytest.approx(best, rel=1e-9)
    assert best_trade_off(*at, **AS_PRINTED) == pytest.approx(where, abs=5e-7)


def test_a_second_set_of_values():
    at = (0.1, 20, 5000, 0.05)
    assert pac_bayes_mcallester(*at, **AS_PRINTED) == pytest.approx(0.15286537245667, rel=1e-12)
    assert pac_bayes_quadratic(*at, **AS_PRINTED) == pytest.approx(0.13948848485118, rel=1e-12)
    assert pac_bayes_lambda(*at, trade_off=0.283094944312, **AS_PRINTED) == pytest.approx(0.13948848485118, rel=1e-11)
    assert best_trade_off(*at, **AS_PRINTED) == pytest.approx(0.283094944312, rel=1e-11)
    assert pac_bayes_catoni(*at, beta=2.0) == pytest.approx(0.21398590722803, rel=1e-9)
    sampled = chernoff_kl(0.05, 2000, 0.01 / 2)  # the Monte Carlo step as it was tabulated, with ln(2/delta')
    assert pac_bayes_kl(sampled, 20, 5000, 0.025, **AS_PRINTED) == pytest.approx(0.09762776273362, rel=1e-9)


RISKS = np.linspace(0, 1, 21)[:, None, None]
NATS = np.array([0.0, 0.1, 3.0, 50.0, 1e4, math.inf])[:, None]
SIZES = np.array([1, 8, 300, 10**5])


def test_the_best_trade_off_gives_the_quadratic_form_everywhere():
    best, quadratic = pac_bayes_lambda(RISKS, NATS, SIZES, 0.05), pac_bayes_quadratic(RISKS, NATS, SIZES, 0.05)
    assert best == pytest.approx(quadratic, rel=1e-12)
    for l in (0.1, 0.5, 1.0, 1.9):  # noqa: E741 - as in the paper
        assert (pac_bayes_lambda(RISKS, NATS, SIZES, 0.05, trade_off=l) >= best - 1e-12).all()


def test_infinitely_many_nats_leave_the_trade_off_at_one():
    assert best_trade_off(0.1, math.inf, 1000, 0.05) == 1.0
    assert best_trade_off(0.1, 1e12, 1000, 0.05) == pytest.approx(1.0)
    assert pac_bayes_lambda(0.1, math.inf, 1000, 0.05) == 1.0


def test_the_kl_form_is_never_the_wider_one():
    tightest = pac_bayes_kl(RISKS, NATS, SIZES, 0.05)
    for other in (pac_bayes_mcallester, pac_bayes_quadratic, pac_bayes_lambda):
        assert (tightest <= other(RISKS, NATS, SIZES, 0.05) + 1e-12).all()


def test_exact_constant_is_tighter_than_the_printed_one():
    for form in (pac_bayes_mcallester, pac_bayes_quadratic, pac_bayes_kl):
        assert form(0.1, 5.0, 100, 0.05) < form(0.1, 5.0, 100, 0.05, **AS_PRINTED)


def test_the_minimum_of_catoni_without_a_fee_is_an_inverse_with_less_than_was_proved():
    n, delta, risk, nats = 500, 0.05, 0.08, 4.0
    grid = np.linspace(0.01, 6, 3000)
    free = min(pac_bayes_catoni(risk, nats, n, delta, beta=float(b)) for b in grid)
    assert free == pytest.approx(kl_inverse(risk, (nats + math.log(1 / delta)) / n), rel=1e-6)
    assert free < pac_bayes_kl(risk, nats, n, delta)
    paid = pac_bayes_catoni(risk, nats, n, delta, beta=grid)
    one = [pac_bayes_catoni(risk, nats + math.log(len(grid)), n, delta, beta=float(b)) for b in grid]
    assert paid == pytest.approx(min(one), rel=1e-12)
    assert paid > free


# ---- how often they fail -----------------------------------------------------------------------------------------

N = 16
K = np.arange(N + 1)
POSTERIORS = np.linspace(0, 1, 33)  # weight of the first of two networks; the prior weighs them alike
DIVERGENCE = np.array([kl(float(q), 0.5) for q in POSTERIORS])
K1, K2, Q = np.meshgrid(K, K, POSTERIORS, indexing="ij")
GIBBS = (Q * K1 + (1 - Q) * K2) / N
TRUE_RISKS = list(itertools.product((0.02, 0.1, 0.3, 0.5, 0.8, 0.97), repeat=2))


def failure(bounds):
    """Largest probability, over pairs of true risks, that some posterior's bound lies below its risk."""
    worst = 0.0
    for p1, p2 in TRUE_RISKS:
        fails = (bounds < Q * p1 + (1 - Q) * p2).any(2)
        weight = np.outer(stats.binom.pmf(K, N, p1), stats.binom.pmf(K, N, p2))
        worst = max(worst, float(weight[fails].sum()))
    return worst


@pytest.mark.parametrize("delta", [0.5, 0.1, 0.01])
@pytest.mark.parametrize(
    "form",
    [
        pac_bayes_kl, pac_bayes_mcallester, pac_bayes_quadratic, pac_bayes_lambda,
        lambda *at: pac_bayes_lambda(*at, trade_off=0.4),
        lambda *at: pac_bayes_catoni(*at, beta=1.0),
        lambda *at: pac_bayes_catoni(*at, beta=[0.1, 0.5, 1.0, 3.0]),
    ],
    ids=["kl", "mcallester", "quadratic", "lambda", "lambda=.4", "catoni", "catoni-grid"],
)  # fmt: skip
def test_for_all_posteriors_at_once_each_fails_as_rarely_as_it_says(form, delta):
    assert failure(form(GIBBS, DIVERGENCE, N, delta)) <= delta


@pytest.mark.parametrize("delta", [0.5, 0.1])
def test_the_bernstein_form_fails_as_rarely_as_it_says(delta):
    variance = K * (N - K) / (N * (N - 1))
    bounds = np.empty(Q.shape)
    for i, j, l in np.ndindex(Q.shape):  # noqa: E741
        q = POSTERIORS[l]
        spread = q * variance[i] + (1 - q) * variance[j]
        bounds[i, j, l] = pac_bayes_empirical_bernstein(GIBBS[i, j, l], spread, DIVERGENCE[l], N, delta).bound
    assert failure(bounds) <= delta


def test_a_posterior_that_is_not_charged_for_fails_too_often():
    """The negative control: the better of two networks at the price of one fixed beforehand."""
    assert failure(pac_bayes_kl(GIBBS, 0.0 * DIVERGENCE, N, 0.5)) <= 0.5  # slack of xi hides it for two networks ...
    n, p, many = 100, 0.5, 1000
    k = np.arange(n + 1)
    bound = pac_bayes_kl(k / n, 0.0, n, 0.05)
    best = stats.binom.sf(k - 1, n, p) ** many - stats.binom.sf(k, n, p) ** many  # of the least of 1,000 counts
    assert best[bound < p].sum() > 0.3  # ... and hides nothing for a thousand
    assert best[pac_bayes_kl(k / n, math.log(many), n, 0.05) < p].sum() <= 0.05


@pytest.mark.parametrize("delta", [0.5, 0.1, 0.01])
def test_one_draw_is_bounded_as_often_as_it_says_over_data_and_draw(delta):
    """The posterior puts exp(-3 x errors) weight on each of two networks: every case of data and draw is summed."""
    ahead = 3.0 * (K[:, None] - K[None, :])
    for p1, p2 in TRUE_RISKS:
        weight = np.outer(stats.binom.pmf(K, N, p1), stats.binom.pmf(K, N, p2))
        missed = 0.0
        for behind, k, p in ((ahead, K[:, None], p1), (-ahead, K[None, :], p2)):
            log_q = -np.logaddexp(0.0, behind)
            bound = pac_bayes_disintegrated(np.broadcast_to(k / N, log_q.shape), log_q - np.log(0.5), N, delta)
            missed += float((weight * np.exp(log_q) * (bound < p)).sum())
        assert missed <= delta


def test_one_draw_equals_the_average_where_posterior_is_prior():
    assert pac_bayes_disintegrated(0.1, 0.0, 200, 0.05) == pytest.approx(pac_bayes_kl(0.1, 0.0, 200, 0.05), rel=1e-12)
    assert pac_bayes_disintegrated(0.1, -100.0, 200, 0.05) >= 0.1  # a lucky draw never goes below what was observed


# ---- Bernstein's ingredients ---------------------------------------------------------------------------------------


def test_both_branches_of_the_bernstein_form():
    root = pac_bayes_empirical_bernstein(0.2, 0.001, 10.0, 5000, 0.05)
    few = pac_bayes_empirical_bernstein(0.1, 0.0, 300.0, 1000, 0.05)
    assert (root.branch, few.branch, few.variance) == ("variance", "few nats", 0.25)
    grid = math.ceil(math.log(math.sqrt((math.e - 2) * 1000 / (4 * math.log(40)))) / math.log(1.15)) + 1
    assert few.bound == pytest.approx(0.1 + 2 * (300 + math.log(grid / 0.025)) / 1000, rel=1e-12)
    grid = math.ceil(math.log(math.sqrt((math.e - 2) * 5000 / (4 * math.log(40)))) / math.log(1.15)) + 1
    root_term = 2.15 * math.sqrt((math.e - 2) * root.variance * (10 + math.log(grid / 0.025)) / 5000)
    assert root.bound == pytest.approx(0.2 + root_term, rel=1e-12)
    assert root.variance == variance_bound(0.001, 10.0, 5000, 0.025)  # half of delta for each of the two events
    nats = 10 + math.log(math.ceil(math.log(0.5 * math.sqrt(4999 / math.log(40) + 1) + 0.5) / math.log(1.15)) / 0.025)
    by_hand = 0.001 + 2.15 * math.sqrt(0.001 * nats / 2 / 4999) + 2.3 * nats / 4999
    assert root.variance == pytest.approx(by_hand, rel=1e-12)
    assert root.bound < pac_bayes_kl(0.2, 10.0, 5000, 0.05)  # what it is for
    nothing = pac_bayes_empirical_bernstein(0.2, 0.001, math.inf, 5000, 0.05)
    assert (nothing.bound, nothing.variance) == (1.0, 0.25)


@pytest.mark.parametrize("n", [40, 70, 90, 120, 200, 900, 30_000])
def test_grids_of_the_bernstein_form_are_those_of_half_of_delta(n):
    """Sizes of grids are whole, so a wrong share of delta shows at some sizes only."""
    least = math.sqrt(4 * math.log(1 / 0.025) / ((math.e - 2) * n))
    grid = max(1, math.ceil(math.log(1 / least, 1.15)) + 1)
    few = pac_bayes_empirical_bernstein(0.0, 0.0, n / 5, n, 0.05)
    assert few.branch == "few nats"
    assert few.bound == pytest.approx(min(1.0, 2 * (n / 5 + math.log(grid / 0.025)) / n), rel=1e-12)


def test_the_closed_form_lies_above_the_best_point_of_the_grid_it_pays_for():
    """Derivation: for a fixed l the bound is (e-2) l V + nats/(l n) (risk), V/(1-l/2) + nats/(l (1-l/2)(n-1))."""
    rng, ratio = np.random.default_rng(0), 1.15
    for _ in range(300):
        n, delta = int(rng.integers(2, 10**5)), float(rng.uniform(0.001, 0.5))
        divergence, v = float(rng.exponential(20)), float(rng.uniform(0, 0.25))
        least = 2 / (math.sqrt((n - 1) / math.log(1 / delta) + 1) + 1)
        size = max(1, math.ceil(math.log(1 / least) / math.log(ratio)))
        grid = least * ratio ** np.arange(size)
        nats = divergence + math.log(size / delta)
        exact = (v + nats / (grid * (n - 1))) / (1 - grid / 2)
        assert min(0.25, exact.min()) <= variance_bound(v, divergence, n, delta) * (1 + 1e-12)


def test_the_exponential_moments_that_it_rests_on():
    x = np.linspace(-30, 1, 4001)
    assert (np.exp(x) <= 1 + x + (math.e - 2) * x**2 + 1e-12).all()
    for n in (2, 5, 12):
        k = np.arange(n + 1)
        sample_variance = k * (n - k) / (n * (n - 1))
        for p in np.linspace(0.01, 0.99, 25):
            v, weight = p * (1 - p), stats.binom.pmf(k, n, p)
            for l in (0.05, 0.3, 0.7, 1.0):  # noqa: E741
                moment = (weight * np.exp((n - 1) * l * (v - sample_variance))).sum()
                assert moment * math.exp(-(l**2) * (n - 1) * v / 2) <= 1 + 1e-12
                moment = (weight * np.exp(n * l * (p - k / n))).sum()
                assert moment * math.exp(-(math.e - 2) * n * l**2 * v) <= 1 + 1e-12


# ---- Gaussians -----------------------------------------------------------------------------------------------------


def test_divergence_of_gaussians(golden):
    assert gaussian_kl(1.0, 0.5, 0.0, 1.0) == pytest.approx(golden("G1.4-3"), rel=1e-12)
    assert multivariate_gaussian_kl([1.0], [[0.25]], [0.0], [[1.0]]) == pytest.approx(golden("G1.4-3"), rel=1e-12)


def test_divergence_agrees_with_torch_and_with_full_covariances():
    rng = torch.Generator().manual_seed(0)
    m, m0 = torch.randn(7, generator=rng).double(), torch.randn(7, generator=rng).double()
    s, s0 = torch.rand(7, generator=rng).double() + 0.1, torch.rand(7, generator=rng).double() + 0.1
    normal = torch.distributions.Normal
    expected = float(torch.distributions.kl_divergence(normal(m, s), normal(m0, s0)).sum())
    assert gaussian_kl(m.clone().requires_grad_(), s, m0, s0) == pytest.approx(expected, rel=1e-12)
    diagonal = multivariate_gaussian_kl(m, torch.diag(s**2), m0, torch.diag(s0**2))
    assert diagonal == pytest.approx(expected, rel=1e-12)
    a, b = torch.randn(7, 7, generator=rng).double(), torch.randn(7, 7, generator=rng).double()
    c, c0 = a @ a.T + torch.eye(7), b @ b.T + torch.eye(7)
    full = torch.distributions.MultivariateNormal
    expected = float(torch.distributions.kl_divergence(full(m.detach(), c), full(m0, c0)))
    assert multivariate_gaussian_kl(m, c, m0, c0) == pytest.approx(expected, rel=1e-10)


def test_nearly_equal_gaussians_keep_their_digits():
    step = 1e-9
    assert gaussian_kl(0.0, 1.0 + step, 0.0, 1.0) == pytest.approx(step**2, rel=1e-6)
    with mpmath.workdps(40):
        for ratio in (1 - 4.9e-4, 1 - 1e-4, 1 + 3e-4, 1 + 4.9e-4, 1 + 6e-4, 0.9, 3.0):  # both sides of the series
            square = mpmath.mpf(ratio) ** 2
            exact = float((square - 1 - mpmath.log(square)) / 2)
            assert gaussian_kl(0.0, ratio, 0.0, 1.0) == pytest.approx(exact, rel=1e-11)
    assert gaussian_kl(3.0, 2.0, 3.0, 2.0) == 0.0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: pac_bayes_mcallester(0.1, -1.0, 100, 0.05), "order of posterior and prior"),
        (lambda: pac_bayes_quadratic(1.2, 1.0, 100, 0.05), r"must lie in \[0, 1\]"),
        (lambda: pac_bayes_lambda(0.1, 1.0, 0, 0.05), "whole number, at least 1"),
        (lambda: pac_bayes_lambda(0.1, 1.0, 10, 0.05, trade_off=2.0), "strictly between 0 and 2"),
        (lambda: pac_bayes_mcallester(0.1, 1.0, 7, 0.05, form="maurer"), "proved from n = 8"),
        (lambda: pac_bayes_catoni(0.1, 1.0, 100, 0.05, beta=0.0), "beta must be positive"),
        (lambda: pac_bayes_catoni(0.1, 1.0, 100, 0.05, beta=[]), "beta must be positive"),
        (lambda: pac_bayes_catoni(0.1, -1.0, 100, 0.05, beta=1.0), "order of posterior and prior"),
        (lambda: pac_bayes_catoni(math.nan, 1.0, 100, 0.05, beta=1.0), r"must lie in \[0, 1\]"),
        (lambda: pac_bayes_catoni(0.1, 1.0, 100, 1.0, beta=1.0), "strictly between 0 and 1"),
        (lambda: pac_bayes_disintegrated(0.1, math.nan, 100, 0.05), "got NaN"),
        (lambda: pac_bayes_empirical_bernstein(0.1, 0.3, 1.0, 100, 0.05), r"between 0 and n/\(4\(n-1\)\), got 0.3"),
        (lambda: pac_bayes_empirical_bernstein(0.1, 0.1, 1.0, 1, 0.05), "at least 2 to measure a variance, got 1"),
        (lambda: pac_bayes_empirical_bernstein(1.1, 0.1, 1.0, 10, 0.05), r"must lie in \[0, 1\]"),
        (lambda: pac_bayes_empirical_bernstein(0.1, 0.1, -1.0, 10, 0.05), "order of posterior"),
        (lambda: pac_bayes_empirical_bernstein(0.1, 0.1, 1.0, 10, 0.0), "delta must lie strictly"),
        (lambda: gaussian_kl(0.0, 0.0, 0.0, 1.0), "must be positive and finite"),
        (lambda: gaussian_kl(math.nan, 1.0, 0.0, 1.0), "means must be finite"),
        (lambda: multivariate_gaussian_kl([0.0], [[1.0]], [0.0], [[-1.0]]), "prior covariance is not symmetric"),
        (lambda: multivariate_gaussian_kl([0.0], [[1.0, 0.0]], [0.0], [[1.0]]), "need a mean"),
        (lambda: multivariate_gaussian_kl([0.0], [[1.0]], [0.0, 1.0], [[1.0]]), "one shape"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_arrays_of_sizes_use_the_constant_of_each():
    found = pac_bayes_kl(0.1, 2.0, [10, 20], 0.05)
    assert found == pytest.approx([pac_bayes_kl(0.1, 2.0, n, 0.05) for n in (10, 20)], rel=1e-13)
    assert kl(0.1, float(found[1])) == pytest.approx((2 + math.log(xi(20) / 0.05)) / 20, rel=1e-9)
