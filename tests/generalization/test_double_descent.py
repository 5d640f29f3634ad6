"""Double descent measured: least squares beside its theory, random features and networks on real digits."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.generalization import (
    RiskCurve,
    double_descent,
    least_squares_descent,
    minimum_norm,
    random_features_descent,
)
from theorylens.results import Message
from theorylens.training import Optimisation


def within(curve, rel=0.0):
    """Whether the theory lies in the interval of the measured mean, at each size where it is finite."""
    lower, upper = curve.interval(curve.test)
    finite = np.isfinite(curve.theory)
    inside = (lower * (1 - rel) <= curve.theory) & (curve.theory <= upper * (1 + rel))
    return inside[finite]


def test_measured_least_squares_follows_the_exact_theory():
    curve = least_squares_descent(30, [5, 15, 22, 30, 40, 60, 200], noise=0.25, runs=60)
    assert within(curve, 0.05).all()
    assert np.isinf(curve.theory[3])
    assert curve.threshold == 30
    assert (curve.train[4:] < 1e-20).all()  # interpolation: no training error is left beyond n
    assert (curve.train[:3] > 0).all()
    assert curve.train[:3].mean(1) == pytest.approx(0.25 * (1 - curve.sizes[:3] / 30), rel=0.15)


def test_more_examples_can_hurt():
    """Sample-wise: 20 parameters, risk peaks where n passes 20."""
    curve = least_squares_descent([8, 20, 80], 20, noise=0.25, runs=40)
    risk = curve.test.mean(1)
    assert risk[1] > 5 * risk[0] > 5 * risk[2]
    assert curve.threshold == 20
    assert within(curve, 0.05).all()


def test_with_more_to_explain_the_second_descent_goes_below_the_first():
    curve = least_squares_descent(40, [4, 12, 30, 60, 200, 400], noise=0.01, total=400, runs=40)
    assert within(curve, 0.05).all()
    assert curve.test.mean(1)[-1] < curve.test.mean(1)[:2].min()


def test_a_ridge_takes_the_peak_away():
    plain = least_squares_descent(60, [30, 58, 120], noise=0.25, runs=30)
    ridge = least_squares_descent(60, [30, 58, 120], noise=0.25, ridge=0.25, runs=30)
    assert plain.test.mean(1)[1] > 4 * ridge.test.mean(1)[1]
    assert ridge.theory == pytest.approx(ridge.test.mean(1), rel=0.15)  # a limit, at n = 60


def test_solutions_agree_with_normal_equations_and_have_the_smallest_norm():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 10)), rng.normal(size=6)
    found = minimum_norm(x, y)
    assert x @ found == pytest.approx(y)
    other = found + (np.eye(10) - np.linalg.pinv(x) @ x) @ rng.normal(size=10)
    assert np.linalg.norm(found) < np.linalg.norm(other)
    for shape in ((6, 10), (10, 6)):
        x, y = rng.normal(size=shape), rng.normal(size=shape[0])
        exact = np.linalg.solve(x.T @ x + shape[0] * 0.3 * np.eye(shape[1]), x.T @ y)
        assert minimum_norm(x, y, 0.3) == pytest.approx(exact)


def test_the_same_seed_gives_the_same_curve_and_another_another():
    one, two, three = (least_squares_descent(10, [5, 20], noise=0.1, runs=3, seed=s) for s in (0, 0, 1))
    assert (one.test == two.test).all()
    assert (one.test != three.test).all()


@pytest.mark.slow
def test_intervals_away_from_the_threshold_cover_as_often_as_they_say():
    covered = [within(least_squares_descent(20, [5, 60], noise=0.25, runs=20, seed=s)) for s in range(1000)]
    assert (np.mean(covered, axis=0) >= 0.92).all()
    assert (np.mean(covered, axis=0) <= 0.97).all()


def test_random_features_of_digits_peak_at_the_number_of_examples(digits):
    x, y = digits
    train, test = (x[:100], y[:100]), (x[100:500], y[100:500])
    curve = random_features_descent(train, test, [20, 100, 1500], rate=0.2, runs=4)
    risk = curve.test.mean(1)
    assert curve.threshold == 100
    assert risk[1] > 3 * max(risk[0], risk[2])
    assert (curve.train[2] < 1e-20).all()
    ridge = random_features_descent(train, test, [20, 100, 1500], rate=0.2, runs=4, ridge=0.1)
    assert ridge.test.mean(1)[1] < risk[1] / 3


def make(width, seed):
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


@pytest.fixture(scope="module")
def swept(digits, tmp_path_factory):
    x, y = digits
    return double_descent(
        make, (x[:80], y[:80]), (x[80:280], y[80:280]), widths=[2, 8, 64], rate=0.2, seeds=(0, 1), jobs=1,
        optimisation=Optimisation(optimizer="adam", lr=1e-2, batch_size=80, epochs=100),
        directory=tmp_path_factory.mktemp("swept"),
    )  # fmt: skip


def test_networks_of_growing_width_are_trained_and_their_errors_recorded(swept):
    assert swept.parameters.tolist() == [160, 610, 4810]
    assert swept.train_error.shape == swept.test_error.shape == (3, 2, len(swept.epochs))
    assert (swept.epochs[0], swept.epochs[-1]) == (0.0, 100.0)
    curve = swept.by_width()
    assert (curve.train[2] == 0).all()  # the wide network fits changed labels too
    assert (curve.train[0] > 0.2).all()
    assert curve.interpolation in (610.0, 4810.0)
    assert (curve.test[2] < 0.6).all()
    assert ((curve.test >= 0) & (curve.test <= 1)).all()


def test_errors_in_the_course_of_training_and_what_was_not_trained(swept):
    curve = swept.by_epoch(64)
    assert curve.sizes[0] >= 1
    assert (curve.train[-1] == 0).all()
    with pytest.raises(ValueError, match=r"width 5 was not trained; there are \[2, 8, 64\]"):
        swept.by_epoch(5)


def test_pictures_have_test_training_and_theory(swept):
    picture = least_squares_descent(10, [5, 10, 30], noise=0.1, runs=3).curve()
    assert [line.role for line in picture.lines] == ["network", "init", "theory"]
    assert all(np.isfinite(line.y).all() for line in picture.lines[:2])
    assert np.isinf(picture.lines[2].y).tolist() == [False, True, False]  # drawn as a gap, not as a line across it
    assert (picture.lines[1].y > 0).all()
    assert [line.role for line in swept.by_width().curve(y_log=False).lines] == ["network", "init"]


def curve(train, test, threshold=None):
    word = Message("x", "x")
    return RiskCurve(
        sizes=np.arange(1.0, len(test) + 1), train=np.array(train), test=np.array(test), threshold=threshold,
        label=word, x_name=word, y_name=word,
    )  # fmt: skip


def test_second_descent_is_paired_and_starts_where_it_was_said_beforehand():
    found = curve([[0.0, 0.0]] * 3, [[1.0, 11.0], [5.0, 15.2], [2.0, 12.0]], threshold=2.1).second_descent()
    assert found.value == pytest.approx(3.1)
    assert found.upper - found.lower < 3  # the difference of ten between the runs is not in it
    with pytest.raises(ValueError, match="no threshold is known beforehand"):
        curve([[0.0, 0.0]], [[1.0, 1.0]]).second_descent()


@pytest.mark.parametrize(
    ("errors", "size"), [([0.5, 0.0, 0.1, 0.0, 0.005], 4.0), ([0.0, 0.0], 1.0), ([0.0, 0.3], None), ([0.3, 0.2], None)]
)
def test_interpolation_starts_where_training_error_stays_away(errors, size):
    assert curve([[e, e] for e in errors], [[1.0, 1.0]] * len(errors)).interpolation == size


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: least_squares_descent(10, 5, noise=0.1), "let one size vary"),
        (lambda: least_squares_descent([10, 20], [5, 6], noise=0.1), "let one size vary"),
        (lambda: least_squares_descent(10, [6, 5], noise=0.1), "increase from at least 1"),
        (lambda: least_squares_descent(10, [5, 60], noise=0.1, total=20), "cannot fit 60 of 20 inputs"),
        (lambda: least_squares_descent(10, [5, 6], noise=0.1, runs=1), "at least 2 to give an interval"),
        (lambda: least_squares_descent(10, [5, 6], noise=0.1, ridge=-1.0), "penalty must be at least 0"),
        (lambda: least_squares_descent(10, [5, 6], noise=-0.1), "noise is a variance"),
        (lambda: random_features_descent((np.eye(3), [0, 0, 0]), (np.eye(3), [0, 0, 0]), [2, 3]), "one class only"),
        (lambda: random_features_descent((np.eye(3), [0, 1]), (np.eye(3), [0, 0, 0]), [2, 3]), "one class per input"),
        (lambda: random_features_descent((np.eye(2), [0, 1]), (np.eye(2), [0, 1]), [2, 3], rate=1.5), "0 to 1"),
        (lambda: swept_with(widths=[4, 2]), "widths must be whole numbers that increase"),
        (lambda: swept_with(seeds=[1, 1]), "at least 2 different ones"),
        (lambda: swept_with(rate=math.nan), "rate must lie between 0 and 1"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def swept_with(widths=(1, 2), seeds=(0, 1), rate=0.1):
    data = torch.zeros(4, 64), torch.zeros(4, dtype=torch.int64)
    return double_descent(make, data, data, widths=widths, seeds=seeds, rate=rate, optimisation=Optimisation())
