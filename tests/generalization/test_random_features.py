"""Random features in the limit: known limits, direct fits on a sphere, and the peak on real digits."""

import math

import numpy as np
import pytest
import torch

from theorylens.generalization import (
    random_features_descent,
    random_features_risk,
    ridge_risk,
    sphere_features_descent,
)
from theorylens.generalization._random_features import activation_parts
from theorylens.numerics.gaussian import ACTIVATIONS

RELU = 0.25, 0.25 - 1 / (2 * math.pi)  # squared linear part, variance of the rest


def test_many_features_are_kernel_regression_which_is_ridge_regression_on_the_inputs():
    for examples, penalty in ((0.5, 0.1), (2.0, 0.1), (2.0, 0.0), (6.0, 1.0)):
        # (X X' / d) m1² + (rest + examples * penalty) I, in the units of X'X / n + l
        level = (RELU[1] + examples * penalty) / RELU[0] / examples
        expected = ridge_risk(1 / examples, level, noise=0.3, signal=2.0)
        found = random_features_risk(1e7, examples, penalty, noise=0.3, signal=2.0)
        assert found == pytest.approx(expected, rel=1e-5)


def test_limits_of_the_penalty_and_of_few_features():
    assert random_features_risk(2.0, 3.0, 1e7, noise=0.2, signal=1.5, nonlinear=0.4) == pytest.approx(1.9, rel=1e-5)
    assert random_features_risk(1e-6, 3.0, 0.0, noise=0.2, signal=1.5) == pytest.approx(1.5, rel=1e-4)
    plain = random_features_risk(3.0, 2.0, 0.0, noise=0.1)
    assert random_features_risk(3.0, 2.0, 1e-9, noise=0.1) == pytest.approx(plain, rel=1e-6)
    assert random_features_risk(2.0, 2.0, 0.0, noise=0.1) == math.inf
    near = random_features_risk([1.9, 1.99, 1.999], 2.0, 0.0, noise=0.0)
    assert (np.diff(near) > 0).all()  # without noise too: what features do not share is noise


def test_fewer_features_than_examples_pass_on_noise_as_least_squares_does():
    """Least squares of n rows on N features of any kind adds noise N / (n - N), without a penalty."""
    for features, examples in ((1.0, 3.0), (0.5, 2.0), (2.0, 2.2), (5.0, 40.0)):
        found = random_features_risk(features, examples, 0.0, noise=0.7, signal=0.0, activation="tanh")
        assert found == pytest.approx(0.7 * features / (examples - features), rel=1e-9)


def test_the_coupled_equations_of_the_paper_hold():
    """The product found by one equation is that of both, by fixed-point iteration of the two."""
    n1, n2, penalty = 3.0, 2.0, 0.2
    z, u = RELU[0] / RELU[1], math.sqrt(n1 * n2 * penalty / RELU[1])
    a = b = 0.1
    for _ in range(20000):
        a, b = (
            0.5 * a + 0.5 * n1 / (u + b + z * b / (1 + z * a * b)),
            0.5 * b + 0.5 * n2 / (u + a + z * a / (1 + z * a * b)),
        )
    t = a * b
    grown = t + z * t / (1 + z * t)
    assert (n1 - grown) * (n2 - grown) == pytest.approx(u * u * t, rel=1e-9)


@pytest.mark.parametrize("name", ["tanh", "erf", "gelu"])
def test_parts_of_other_activations_by_gauss_hermite_quadrature(name):
    g, w = np.polynomial.hermite_e.hermegauss(120)
    w = w / w.sum()
    s = ACTIVATIONS[name](torch.from_numpy(g)).numpy()
    linear, rest = activation_parts(name)
    assert linear == pytest.approx(w @ (s * g), rel=1e-9)
    assert rest == pytest.approx(w @ s**2 - (w @ s) ** 2 - (w @ (s * g)) ** 2, rel=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [0.0, 0.05])
def test_fits_on_a_sphere_follow_the_limit(penalty):
    curve = sphere_features_descent(80, [20, 80, 240, 640], 160, noise=0.25, penalty=penalty, runs=16)
    mean, (lower, upper) = curve.test.mean(1), curve.interval(curve.test)
    half = (upper - lower) / 2
    assert (np.abs(mean - curve.theory) <= 1.5 * half + 0.06 * curve.theory).all()
    examples = sphere_features_descent(80, 160, [40, 80, 320], noise=0.25, penalty=penalty, runs=16)
    mean, (lower, upper) = examples.test.mean(1), examples.interval(examples.test)
    assert (np.abs(mean - examples.theory) <= 1.5 * (upper - lower) / 2 + 0.06 * examples.theory).all()
    assert examples.threshold == 160


def test_a_small_experiment_peaks_where_the_limit_is_infinite():
    curve = sphere_features_descent(20, [10, 40, 200], 40, noise=0.1, runs=4)
    assert np.isinf(curve.theory[1])
    assert (curve.test[1] > 3 * curve.test[2]).all()
    assert (curve.train[2] < 1e-20).all()
    assert [line.role for line in curve.curve().lines] == ["network", "init", "theory"]


def test_on_digits_more_examples_hurt_where_they_reach_the_number_of_features(digits):
    x, y = digits
    curve = random_features_descent(
        (x[:400], y[:400]), (x[400:900], y[400:900]), 120, examples=[30, 120, 400], rate=0.2, runs=3
    )
    risk = curve.test.mean(1)
    assert curve.threshold == 120
    assert risk[1] > 3 * max(risk[0], risk[2])
    assert (curve.train[0] < 1e-20).all()
    assert (curve.train[2] > 1e-3).all()
    with pytest.raises(ValueError, match="500 examples are asked for, there are 400"):
        random_features_descent((x[:400], y[:400]), (x[400:], y[400:]), 20, examples=[30, 500])
    with pytest.raises(ValueError, match="let one size vary"):
        random_features_descent((x[:400], y[:400]), (x[400:], y[400:]), 20)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: random_features_risk(0.0, 1.0, 0.1, noise=0.1), "ratio of features to inputs must be positive"),
        (lambda: random_features_risk(1.0, math.nan, 0.1, noise=0.1), "ratio of examples to inputs must be positive"),
        (lambda: random_features_risk(1.0, 2.0, -0.1, noise=0.1), "penalty must be at least 0"),
        (lambda: random_features_risk(1.0, 2.0, 0.1, noise=-0.1), "noise is a variance"),
        (lambda: random_features_risk(1.0, 2.0, 0.1, noise=0.1, activation="identity"), "activation is linear"),
        (lambda: random_features_risk(1.0, 2.0, 0.1, noise=0.1, activation=torch.abs), "no linear part"),
        (lambda: random_features_risk(1.0, 2.0, 0.1, noise=0.1, activation="no"), "unknown activation 'no'"),
        (lambda: random_features_risk(1.0, 2.0, 0.1, noise=0.1, activation=torch.sum), "one finite number for each"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_a_penalty_below_rounding_is_no_penalty():
    for features, examples in (
        (0.28175690555304006, 0.0030463055221204263),
        (1412.1978114094698, 0.0023156183376988877),
    ):
        limit = random_features_risk(features, examples, 0.0, noise=0.3)
        assert random_features_risk(features, examples, 1.6e-12, noise=0.3) == pytest.approx(limit, rel=1e-6)
