"""Risk control: promises summed exactly over all outcomes, p-values that are not too small, choices that are safe."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom, multinomial

from theorylens.generalization import (
    binomial_p_value,
    conformal_risk,
    conformal_threshold,
    learn_then_test,
    risk_p_value,
)

CURVES = np.array([[1.0, 0.6, 0.2, 0.0], [0.5, 0.5, 0.1, 0.0], [0.2, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.3]])
CHANCES = [0.2, 0.3, 0.4, 0.1]


@pytest.mark.parametrize("alpha", [0.2, 0.3, 0.35, 0.5])
@pytest.mark.parametrize("n", [1, 3, 5])
def test_the_mean_loss_at_the_chosen_setting_is_at_most_alpha(n, alpha):
    """Every draw of n held-out rows and a new one out of four loss curves; without a choice the loss is 0."""
    expected = 0.0
    for rows in itertools.product(range(4), repeat=n):
        j = conformal_risk(CURVES[list(rows)], alpha)
        if j is not None:
            expected += math.prod(CHANCES[r] for r in rows) * float(CHANCES @ CURVES[:, j])
    assert expected <= alpha + 1e-12


def test_the_extra_row_is_needed():
    """The new row has each of eleven ranks alike; choosing by the mean of ten rows alone breaks the promise."""
    thresholds, alpha = np.arange(11.5, -1, -1), 0.1
    promised = careless = 0.0
    for new in range(11):
        losses = (np.delete(np.arange(11), new)[:, None] < thresholds).astype(float)
        missed = new < thresholds
        promised += missed[conformal_risk(losses, alpha)] / 11
        careless += missed[(losses.mean(0) <= alpha).argmax()] / 11
    assert promised <= alpha < careless


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.5])
def test_with_losses_of_zero_and_one_it_is_split_conformal_prediction(alpha):
    scores = np.random.default_rng(0).random(39)
    thresholds = np.sort(np.r_[scores, 2.0])[::-1]  # from naming little to naming much
    losses = (scores[:, None] < thresholds).astype(float)
    assert thresholds[conformal_risk(losses, alpha)] == conformal_threshold(scores, alpha)


def test_another_range():
    losses = 3 * CURVES[[0, 1, 2, 2, 2, 1]]
    assert conformal_risk(losses, 1.2, largest=3.0) == conformal_risk(losses / 3, 0.4)


@pytest.mark.parametrize("n", [5, 30, 100])
@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5])
def test_p_values_are_not_too_small(n, alpha):
    """At the limit P(p <= u) <= u for every u that p can take; above the limit p is smaller still less often."""
    k = np.arange(n + 1)
    chance = binom.pmf(k, n, alpha)
    for p in (risk_p_value(k / n, n, alpha), binomial_p_value(k, n, alpha)):
        for u in p:
            assert chance[p <= u].sum() <= u + 1e-12
        assert (np.diff(p) >= 0).all()
        assert ((p >= 0) & (p <= 1)).all()


def test_p_values_of_losses_between_zero_and_one_are_not_too_small():
    """Losses of 0, 1/2 and 1, every outcome of 12 draws."""
    n, shares = 12, np.array([0.5, 0.4, 0.1])
    alpha = 0.4 / 2 + 0.1
    outcomes = [(a, b, n - a - b) for a in range(n + 1) for b in range(n + 1 - a)]
    chance = np.array([multinomial.pmf(o, n, shares) for o in outcomes])
    p = risk_p_value(np.array([(0.5 * b + c) / n for _, b, c in outcomes]), n, alpha)
    for u in np.unique(p):
        assert chance[p <= u].sum() <= u + 1e-12


def test_p_values_written_out():
    m, n, alpha = 0.1, 50, 0.2
    hoeffding = math.exp(-n * (m * math.log(m / alpha) + (1 - m) * math.log((1 - m) / (1 - alpha))))
    bentkus = math.e * binom.cdf(5, n, alpha)
    assert risk_p_value(m, n, alpha) == pytest.approx(min(hoeffding, bentkus), rel=1e-9)
    assert risk_p_value(0.3, n, alpha) == 1.0
    assert binomial_p_value(5, n, alpha) == pytest.approx(binom.cdf(5, n, alpha), rel=1e-9)


@pytest.mark.parametrize("procedure", ["bonferroni", "holm", "fixed-sequence"])
@pytest.mark.parametrize("rates", [(0.05, 0.3, 0.31), (0.3, 0.3, 0.3), (0.3, 0.05, 0.4)])
def test_no_setting_above_the_limit_is_let_through_more_often_than_delta(procedure, rates):
    """Three settings on separate rows; the chance that any above 0.25 passes, summed over all outcomes."""
    n, alpha, delta, failed = 12, 0.25, 0.2, 0.0
    for errors in itertools.product(range(n + 1), repeat=3):
        kept = learn_then_test(binomial_p_value(np.array(errors), n, alpha), delta, procedure=procedure)
        if any(rates[j] > alpha for j in kept):
            failed += math.prod(binom.pmf(k, n, r) for k, r in zip(errors, rates, strict=True))
    assert failed <= delta + 1e-12


def test_procedures_by_hand():
    p = [0.001, 0.03, 0.02, 0.5]
    assert learn_then_test(p, 0.1).tolist() == [0, 2]
    assert learn_then_test(p, 0.1, procedure="holm").tolist() == [0, 1, 2]
    assert learn_then_test(p, 0.1, procedure="fixed-sequence").tolist() == [0, 1, 2]
    assert learn_then_test([0.2, *p], 0.1, procedure="fixed-sequence").tolist() == []
    assert learn_then_test([0.2, *p, 0.001], 0.1, procedure="fixed-sequence", starts=3).tolist() == [2, 3]
    assert learn_then_test([0.9], 0.1).tolist() == []


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: conformal_risk([1.0, 0.0], 0.1), "a table"),
        (lambda: conformal_risk([[0.0, 1.0]], 0.1), "must not rise"),
        (lambda: conformal_risk([[2.0, 1.0]], 0.1), "between 0 and 1"),
        (lambda: conformal_risk([[np.nan, 0.0]], 0.1), "between 0 and 1"),
        (lambda: conformal_risk([[1.0, 0.0]], 1.0), "alpha must lie strictly"),
        (lambda: risk_p_value(1.1, 10, 0.1), "between 0 and 1, got 1.1"),
        (lambda: risk_p_value(0.1, 0, 0.1), "n must be a whole number"),
        (lambda: risk_p_value(0.1, 10, 0.0), "alpha must lie"),
        (lambda: binomial_p_value(11, 10, 0.1), "must not exceed n"),
        (lambda: binomial_p_value(-1, 10, 0.1), "errors must be a whole number"),
        (lambda: binomial_p_value(1, 10, 1.0), "alpha must lie"),
        (lambda: learn_then_test([], 0.1), "at least one number"),
        (lambda: learn_then_test([0.1, np.nan], 0.1), "in \\[0, 1\\]"),
        (lambda: learn_then_test([0.1], 0.0), "delta must lie"),
        (lambda: learn_then_test([0.1], 0.1, procedure="hochberg"), "'bonferroni', 'holm' or"),
        (lambda: learn_then_test([0.1], 0.1, procedure="fixed-sequence", starts=2), "at most the number"),
    ],
)
def test_what_it_refuses(call, said):
    with pytest.raises(ValueError, match=said):
        call()
