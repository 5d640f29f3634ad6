"""Section 1.3 of the tutorial: what its code got wrong about uniform convergence does not happen here."""

import math

import numpy as np
import pytest

from theorylens.generalization import (
    bounded_mean,
    chernoff_kl,
    covering_bound,
    dudley,
    empirical_cover,
    fat_shattered,
    fat_shattering,
    linear_covering,
    mcdiarmid,
    mcdiarmid_deviation,
    uniform_convergence,
)


def test_no_probability_exceeds_one():
    """There: P <= 1.637 for 1,000 inputs of 1/1000 and a deviation of 0.01."""
    assert mcdiarmid(np.full(1000, 1e-3), 0.01) == 1.0


def test_a_negative_deviation_is_refused_and_no_difference_does_not_divide_by_zero():
    with pytest.raises(ValueError, match=r"at least 0, got -0\.1"):
        mcdiarmid([1e-3], -0.1)
    assert mcdiarmid([0.0, 0.0], 0.1) == 0.0


def test_the_absolute_difference_costs_more_than_one_side():
    """There: one side's formula under the name of the absolute difference. One fair coin thrown once shows it invalid:
    the mean is 1/2 off for certain, above half the time."""
    delta = 0.65
    one, two = (uniform_convergence(0.0, 1, delta, sides=s) for s in (1, 2))
    assert one < 0.5 <= two  # as a bound on the absolute difference the first fails with probability 1 > delta
    assert uniform_convergence(0.1, 1000, 0.05, sides=2) > uniform_convergence(0.1, 1000, 0.05)


def test_the_empirical_complexity_pays_for_its_own_deviation():
    assert uniform_convergence(0.1, 1000, 0.05, empirical=True) > uniform_convergence(0.1, 1000, 0.05, sides=2)


def test_delta_of_two_is_refused_and_not_nan():
    with pytest.raises(ValueError, match=r"strictly between 0 and 1, got 2\.0"):
        uniform_convergence(0.1, 1000, 2.0)


def test_a_covering_number_of_zero_is_refused_and_not_nan():
    with pytest.raises(ValueError, match="at least 1"):
        covering_bound(0.1, -math.inf, 1000)


def test_the_covering_number_is_computed_from_predictions_and_all_scales_are_used():
    values = np.clip(np.random.default_rng(0).normal(size=(40, 50)), -1, 1)
    cover = empirical_cover(values)
    assert cover.count(0.0) == 40
    assert cover.count(1.0) < 40
    n, logs = 10**5, lambda e: linear_covering(1.0, 1.0, e, 5)
    assert dudley(logs, n, 1.0).bound < 0.4


def test_fat_shattering_depends_on_the_norm_and_the_length_of_the_points_and_not_on_their_dimension():
    """There: int(n_features / margin^2), the same for X and 100 X, growing with the dimension."""
    assert fat_shattering(1.0, 1.0, 0.5, dimension=10) == fat_shattering(1.0, 1.0, 0.5, dimension=10_000) == 4
    assert fat_shattering(100.0, 1.0, 0.5) == 10_000 * fat_shattering(1.0, 1.0, 0.5)
    points = np.eye(5)
    assert not fat_shattered(points, 1.0, 0.5).shattered
    assert fat_shattered(100 * points, 1.0, 0.5).shattered


def test_the_toolbox_takes_a_real_sample():
    """The errors of a real classifier on real images; the bound that adapts to their small mean is the narrower one."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:600], order[600:]
    model = LogisticRegression(max_iter=300).fit(x[train] / 16, y[train])
    errors = (model.predict(x[test] / 16) != y[test]).astype(float)
    by_kl, by_hoeffding = (bounded_mean(errors, method=m) for m in ("kl", "hoeffding"))
    assert by_kl.upper < by_hoeffding.upper
    assert by_kl.upper == pytest.approx(chernoff_kl(errors.mean(), len(errors), 0.025), rel=1e-9)
    assert mcdiarmid_deviation(np.full(len(errors), 1 / len(errors)), 0.05) == pytest.approx(
        by_hoeffding.upper - by_hoeffding.value, rel=1e-9
    )
