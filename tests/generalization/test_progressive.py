"""Networks of a run tested as they go: the value of the bound, an adversary against it, and its certificate."""

import math

import numpy as np
import pytest
from scipy import stats

from theorylens.core import RefusedError
from theorylens.generalization import (
    ProgressiveRun,
    best_scale,
    certify_progressive,
    chernoff_kl,
    clopper_pearson,
    progressive_bound,
    progressive_validation,
    scales_around,
)
from theorylens.results import Predictor


def test_the_value():
    k, n, s, delta = 12, 130, 0.2, 0.05
    by_hand = (1 - math.exp(-(s * k + math.log(1 / delta)) / n)) / (1 - math.exp(-s))
    assert progressive_bound(k, n, s, delta) == pytest.approx(by_hand, rel=1e-12)
    assert progressive_bound(k, 2 * n, s, delta) < 0.7 * by_hand  # a doubled n would be seen


def test_the_best_scale_gives_chernoff_s_bound_and_less_than_a_union_over_counts():
    errors = [0] * 950 + [1] * 50
    found = progressive_bound(50, 1000, best_scale(0.05, 1000, 0.05), 0.05)
    assert found == pytest.approx(chernoff_kl(0.05, 1000, 0.05), rel=1e-9)
    assert found < progressive_validation(errors, 0.05)
    for s in (0.05, 0.2, 0.6, 2.0):
        assert progressive_bound(50, 1000, s, 0.05) > found


@pytest.mark.parametrize("delta", [0.5, 0.1])
def test_an_adversary_who_chooses_each_network_by_the_errors_so_far_misses_no_more_than_delta(delta):
    """Two blocks; q_2 depends on k_1. The adversary takes, for every k_1, the q_2 that misses most."""
    m1, m2 = 6, 8
    rates = np.linspace(0, 1, 41)
    scale = best_scale(0.3, m1 + m2, delta)
    bounds = np.array([[progressive_bound(a + b, m1 + m2, scale, delta) for b in range(m2 + 1)] for a in range(m1 + 1)])
    worst = 0.0
    for q1 in rates:
        total = 0.0
        for a in range(m1 + 1):
            miss = [
                stats.binom.pmf(np.flatnonzero(bounds[a] < (m1 * q1 + m2 * q2) / (m1 + m2) - 1e-12), m2, q2).sum()
                for q2 in rates
            ]
            total += stats.binom.pmf(a, m1, q1) * max(miss)
        worst = max(worst, total)
    assert 0 < worst <= delta


def _worst_of_single_steps(bounds, rates):
    """The most that an adversary can miss who chooses each of n rates (whole steps of a grid) by all errors so far."""
    n, steps = len(bounds) - 1, len(rates) - 1
    passed = np.array([[total / steps > n * b + 1e-12 for total in range(n * steps + 1)] for b in bounds], dtype=float)
    value = np.vstack([passed, np.zeros(n * steps + 1)])  # [errors, sum of rates]
    for _ in range(n):
        best = np.zeros_like(value)
        for i, q in enumerate(rates):
            moved = np.zeros_like(value)
            moved[:-1, : value.shape[1] - i] = (1 - q) * value[:-1, i:] + q * value[1:, i:]
            best = np.maximum(best, moved)
        value = best
    return value[0, 0]


MIXTURE = (math.inf, 0.3, 0.8, 1.5)


@pytest.mark.parametrize("delta", [0.5, 0.2, 0.05])
def test_who_chooses_every_single_rate_by_the_errors_so_far_misses_no_more_than_delta(delta):
    n, rates = 10, np.linspace(0, 1, 21)
    mixed = [progressive_bound(k, n, MIXTURE, delta) for k in range(n + 1)]
    single = [progressive_bound(k, n, best_scale(0.2, n, delta), delta) for k in range(n + 1)]
    exact = [clopper_pearson(k, n, delta) for k in range(n + 1)]
    assert 0 < _worst_of_single_steps(mixed, rates) <= delta
    assert 0 < _worst_of_single_steps(single, rates) <= delta
    assert _worst_of_single_steps(exact, rates) > 1.2 * delta  # the binomial tail is no bound here


def test_two_blocks_are_enough_to_miss_the_binomial_tail_at_half_of_delta():
    """The second rate is chosen so that the total just passes the bound that some number of errors would get."""
    m1, m2, delta, q1 = 60, 300, 0.0125, 0.1
    n = m1 + m2
    passed = n * np.array([clopper_pearson(k, n, delta / 2) for k in range(n + 1)])
    missed = 0.0
    for a in range(m1 + 1):
        most = np.arange(a, n)
        second = np.clip((passed[most] - m1 * q1) / m2, 0, None)
        fits = second < 1
        missed += stats.binom.pmf(a, m1, q1) * stats.binom.cdf(most[fits] - a, m2, second[fits]).max()
    assert missed > 1.05 * delta


def test_a_single_scale_leaves_nothing_to_gain_against_small_rates():
    n, q, delta, scale = 12000, 0.005, 0.1, 0.7
    passed = n * np.array([progressive_bound(k, n, scale, delta) for k in range(120)])
    alive, missed = np.eye(120)[0], 0.0
    for step in range(1, n + 1):
        alive = (1 - q) * alive + q * np.r_[0.0, alive[:-1]]
        over = step * q > passed
        missed += alive[over].sum()
        alive[over] = 0.0
    assert 0.9 * delta < missed <= delta


def test_a_mixture_is_never_worse_than_one_of_its_scales_at_its_share_of_delta():
    weights = (0.4, 0.3, 0.2, 0.1)
    for k, n in ((0, 50), (1, 50), (7, 50), (50, 50), (0, 1), (300, 4000)):
        mixed = progressive_bound(k, n, MIXTURE, 0.05, weights=weights)
        single = [progressive_bound(k, n, s, 0.05 * w) for s, w in zip(MIXTURE[1:], weights[1:], strict=True)]
        assert mixed <= min(single) * (1 + 1e-12)
        assert mixed >= min(1.0, chernoff_kl(k / n, n, 0.05)) * (1 - 1e-12)
    assert progressive_bound(0, 50, MIXTURE, 0.05, weights=weights) <= 1 - (0.05 * 0.4) ** (1 / 50) + 1e-12
    assert progressive_bound(5, 80, [0.4], 0.05) == pytest.approx(progressive_bound(5, 80, 0.4, 0.05), rel=1e-10)


def test_a_wrong_guess_of_the_rate_costs_little():
    for n in (360, 20000):
        scales, weights = scales_around(0.05, n, 0.05)
        for share, most in ((0.0, 1.9), (0.01, 1.15), (0.05, 1.04), (0.1, 1.04), (0.3, 1.04)):
            k = round(share * n)
            assert progressive_bound(k, n, scales, 0.05, weights=weights) < most * chernoff_kl(k / n, n, 0.05)


def test_the_certificate_is_the_bound_of_what_was_counted(gaussians):
    way = ProgressiveRun(shares=(0.4, 0.3, 0.3), expected=0.2)
    found = certify_progressive(gaussians.subject(200, 1, test=(300, 2)), way, delta=0.06, comparisons=3)
    assert found.sizes == (60, 60)
    scales, weights = scales_around(0.2, 120, 0.02)
    assert found.certificate.bound == progressive_bound(sum(found.errors), 120, scales, 0.02, weights=weights)
    assert found.certificate.empirical == sum(found.errors) / 120
    assert found.certificate.n == 120
    assert found.certificate.predictor is Predictor.RELATIVE
    assert [len(s.split("train")) for s in found.subjects] == [80, 140]  # the later one has seen more
    assert all(0 < e < 0.3 for e in found.test_errors)
    assert sum(share.delta for share in found.certificate.ledger) == pytest.approx(0.06, abs=1e-15)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.4, 0.3, 0.3)])
def test_no_network_has_seen_what_it_is_tested_on(gaussians, shares):
    with pytest.raises(RefusedError, match="it was to leave out"):
        certify_progressive(gaussians.subject(100, 1, cheat=True), ProgressiveRun(shares=shares))


@pytest.mark.slow
def test_the_certificate_misses_the_true_mean_error_no_more_than_delta(gaussians):
    runs, delta, missed = 1000, 0.3, 0
    way = ProgressiveRun(shares=(0.4, 0.3, 0.3), expected=0.2)
    for seed in range(runs):
        found = certify_progressive(gaussians.subject(60, seed), way, delta=delta)
        truth = sum(m * gaussians.error_of(s.net) for m, s in zip(found.sizes, found.subjects, strict=True))
        missed += found.certificate.bound < truth / sum(found.sizes)
    assert missed > 0
    assert stats.binom.sf(missed - 1, runs, delta) > 1e-4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((11, 10, 0.1, 0.05), "at most n errors"),
        ((1, 0, 0.1, 0.05), "n must be"),
        ((1, 10, 0.0, 0.05), "beta must be positive"),
        ((1, 10, 0.1, 0.0), "delta must lie strictly between"),
        ((1, 10, [], 0.1), "scales must be positive, and one at least"),
        ((1, 10, [0.1, -1.0], 0.1), "scales must be positive"),
        ((1, 10, [0.1, 1.0], 1.0), "delta must lie strictly between"),
    ],
)
def test_bad_input(arguments, said):
    with pytest.raises(ValueError, match=said):
        progressive_bound(*arguments)


def test_weights_that_do_not_fit_are_refused():
    for weights in ([1.0], [0.5, 0.6], [1.0, 0.0]):
        with pytest.raises(ValueError, match="a positive weight for each of 2 scales"):
            progressive_bound(1, 10, [0.1, 0.2], 0.05, weights=weights)


def test_an_expected_rate_outside_its_range_is_refused(gaussians):
    with pytest.raises(ValueError, match="expected error rate"):
        certify_progressive(gaussians.subject(100, 1), ProgressiveRun(expected=1.0))
