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
    progressive_bound,
    progressive_validation,
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


def test_the_certificate_is_the_bound_of_what_was_counted(gaussians):
    way = ProgressiveRun(shares=(0.4, 0.3, 0.3), expected=0.2)
    found = certify_progressive(gaussians.subject(200, 1, test=(300, 2)), way, delta=0.06, comparisons=3)
    assert found.sizes == (60, 60)
    scale = best_scale(0.2, 120, 0.02)
    assert found.certificate.bound == progressive_bound(sum(found.errors), 120, scale, 0.02)
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
    ],
)
def test_bad_input(arguments, said):
    with pytest.raises(ValueError, match=said):
        progressive_bound(*arguments)


def test_an_expected_rate_outside_its_range_is_refused(gaussians):
    with pytest.raises(ValueError, match="expected error rate"):
        certify_progressive(gaussians.subject(100, 1), ProgressiveRun(expected=1.0))
