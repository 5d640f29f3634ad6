"""What is counted as n, each rule by exact values."""

import math

import numpy as np
import pytest

from theorylens.generalization import clopper_pearson, holdout_bound, kl_inverse, one_bound, samples

ONE = [1] * 5 + [0] * 95


def test_single_rows_give_the_binomial_bound():
    found = holdout_bound(ONE)
    assert found.bound == clopper_pearson(5, 100, 0.05)
    assert found.bound == pytest.approx(0.1022533776, abs=1e-10)
    assert (found.empirical, found.n, found.method, found.delta) == (0.05, 100, "binomial", 0.05)


def test_a_doubled_file_gives_exactly_the_bound_of_the_single_one():
    rows = np.tile(np.arange(100), 2)
    twice = holdout_bound(ONE + ONE, copies=rows)
    assert twice.bound == holdout_bound(ONE).bound
    assert (twice.n, twice.empirical) == (100, 0.05)
    assert holdout_bound(ONE + ONE).bound < twice.bound  # what n = rows would have claimed


def test_copies_of_right_rows_do_not_help_and_copies_of_wrong_rows_count_in_full():
    helped = holdout_bound([1] + [0] * 9 + [0] * 90, copies=[*range(10), *([9] * 90)])
    assert (helped.bound, helped.n) == (clopper_pearson(1, 10, 0.05), 10)
    hurt = holdout_bound([1] * 60 + [0] * 40, copies=[*([0] * 60), *range(1, 41)])
    assert (hurt.bound, hurt.n) == (clopper_pearson(60, 100, 0.05), 100)


def test_units_of_several_rows_get_chernoff_kl_on_their_means():
    errors, units = [1, 0, 0, 0, 1, 1] + [0] * 24, [0, 0, 1, 1, 2, 2, *range(3, 27)]
    found = holdout_bound(errors, units=units)
    assert (found.n, found.method) == (27, "kl")
    assert found.empirical == pytest.approx(1.5 / 27, abs=1e-16)
    assert found.bound == pytest.approx(kl_inverse(1.5 / 27, math.log(20) / 27), abs=1e-12)
    assert found.bound >= kl_inverse(1.5 / 27, math.log(20) / 27)


def test_units_of_one_row_are_rows_whatever_they_are_called():
    assert holdout_bound(ONE, units=[f"p{i}" for i in range(100)]).bound == holdout_bound(ONE).bound


def test_copies_inside_a_unit_and_copies_of_units_are_not_counted():
    inside = holdout_bound(np.repeat(ONE, 3), units=np.repeat(np.arange(100), 3), copies=np.repeat(np.arange(100), 3))
    assert (inside.bound, inside.n, inside.method) == (clopper_pearson(5, 100, 0.05), 100, "binomial")
    rows, units = np.arange(60), np.repeat(np.arange(30), 2)
    errors = (np.arange(60) < 7).astype(float)
    single = holdout_bound(errors, units=units, copies=rows)
    double = holdout_bound(np.tile(errors, 2), units=np.r_[units, units + 30], copies=np.tile(rows, 2))
    assert (double.bound, double.n, double.method) == (single.bound, 30, "kl")


def test_units_that_share_only_some_rows_stay_apart():
    ways = samples([0, 1, 0, 1], units=[0, 0, 1, 1], copies=[0, 1, 0, 2])
    assert [w.n for w in ways] == [2]


def test_an_error_that_is_not_zero_or_one_by_construction_gets_chernoff_kl():
    found = holdout_bound(np.array(ONE) * 1.0, binary=False)
    assert found.method == "kl"
    assert found.bound > holdout_bound(ONE).bound


def test_an_error_in_another_range_is_rescaled():
    found = holdout_bound(np.array([2.0, 4.0, 3.0, 2.0]), binary=False, error_range=(2.0, 6.0))
    expected = 2 + 4 * kl_inverse(0.1875, math.log(20) / 4)
    assert found.empirical == 2.75
    assert expected <= found.bound <= expected + 1e-11


def test_comparisons_share_delta():
    assert holdout_bound(ONE, comparisons=10).bound == clopper_pearson(5, 100, 0.005)


def test_copies_answered_differently_count_as_wrong():
    ways = samples([0, 1, 0], copies=[0, 0, 1])
    assert [w.values.tolist() for w in ways] == [[1, 1, 0], [1, 0]]


def test_the_bound_ignores_the_order_of_rows():
    rng = np.random.default_rng(0)
    errors, units, copies = rng.random(200), rng.integers(0, 50, 200), rng.integers(0, 150, 200)
    order = rng.permutation(200)
    a = holdout_bound(errors, units=units, copies=copies, binary=False)
    b = holdout_bound(errors[order], units=units[order], copies=copies[order], binary=False)
    assert a.bound == pytest.approx(b.bound, abs=1e-12)


def test_everything_wrong_and_nothing_wrong():
    assert holdout_bound([1] * 10).bound == 1.0
    assert holdout_bound([0] * 59).bound == pytest.approx(0.049507609888227, abs=1e-12)
    assert holdout_bound([1.0] * 10, binary=False).bound == 1.0


def test_lower_bounds_lie_on_the_other_side():
    (sample,) = samples(ONE)
    assert one_bound(sample, 0.05, side="lower") == clopper_pearson(5, 100, 0.05, "lower")
    (loose,) = samples(ONE, binary=False)
    assert one_bound(loose, 0.05, side="lower") < clopper_pearson(5, 100, 0.05, "lower")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"delta": 0.0}, "strictly between 0 and 1"),
        ({"comparisons": 0}, "at least 1"),
        ({"errors": []}, "at least one example"),
        ({"errors": [0.0, 1.5]}, "declared range"),
        ({"errors": [0.0, math.nan]}, "declared range"),
        ({"errors": [0.0, 1.0], "units": [1]}, "as many units"),
    ],
)
def test_refusals(change, said):
    with pytest.raises(ValueError, match=said):
        holdout_bound(**{"errors": ONE, **change})


def test_the_binomial_tail_is_refused_for_other_values():
    (sample,) = samples([0.5, 0.5], binary=False)
    with pytest.raises(ValueError, match="0 or 1 by construction"):
        one_bound(sample, 0.05, method="binomial")
