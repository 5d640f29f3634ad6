"""Section 1.4 of the tutorial: invented scores and drawn curves are measurements here."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from theorylens.generalization import (
    effective_parameters,
    generalization_measures,
    least_squares_descent,
    pac_bayes_kl,
    pac_bayes_mcallester,
    random_features_descent,
    ridgeless_risk,
)
from theorylens.landscape import expected_sharpness
from theorylens.training import Optimisation, fit


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return torch.as_tensor(x[order] / 16, dtype=torch.float32), torch.as_tensor(y[order])


@pytest.fixture(scope="module")
def trained(digits):
    x, y = digits
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
    start = {k: v.clone() for k, v in net.state_dict().items()}
    fit(net, (x[:300], y[:300]), "cross_entropy", Optimisation(lr=0.1, momentum=0.9, batch_size=50, epochs=15))
    return net, start, (x[:100], y[:100])


# ---- effective_complexity ------------------------------------------------------------------------------------------


def test_effective_parameters_depend_on_the_model_and_the_data_and_not_on_a_formula_of_settings(trained, digits):
    """There: min(P, epochs P / batch tanh(10 lr)), for any model and any data."""
    net, start, data = trained
    x, y = digits
    before = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
    before.load_state_dict(start)
    after = effective_parameters(net, data, "cross_entropy", precision=1.0)
    assert after.value < effective_parameters(before, data, "cross_entropy", precision=1.0).value
    copies = x[:1].repeat(100, 1), y[:1].repeat(100)
    assert (
        effective_parameters(net, copies, "cross_entropy", precision=1.0).value < 10 < after.value
    )  # one row, repeated


def test_effective_parameters_of_a_linear_model_are_those_of_ridge_regression():
    x = torch.randn(50, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    hat = x @ torch.linalg.solve(x.T @ x + 2.0 * torch.eye(5, dtype=torch.float64), x.T)
    net = nn.Linear(5, 1, bias=False).double()
    half_squares = lambda o, t: (o - t).square().sum(1) / 2  # noqa: E731
    found = effective_parameters(net, (x, x[:, :1]), half_squares, precision=2.0)
    assert found.value == pytest.approx(float(hat.trace()), rel=1e-10)


# ---- flat_minima_generalization ------------------------------------------------------------------------------------


def test_flatness_is_not_turned_into_a_score_of_trace_and_risk(trained):
    """There: (1 - risk) / (1 + trace + variance of the eigenvalues), -0.95 for two eigenvalues of -1. Here sharpness is
    a rise of the loss, in the loss's own units, with an interval, and its sign is that of the curvature."""
    saddle = expected_sharpness(nn.Linear(2, 1, bias=False), (torch.eye(2), torch.zeros(2, 1)), bent_down, radius=0.1)
    assert saddle.upper < 0
    net, _, data = trained
    found = expected_sharpness(net, data, "cross_entropy", radius=0.1, scale="weight")
    assert 0 < found.lower < found.upper


def bent_down(outputs, targets):
    return -(outputs - targets).square().sum(1)


def test_the_flatness_that_is_compared_does_not_change_with_the_parametrisation(trained):
    net, start, data = trained
    same = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
    same.load_state_dict(net.state_dict())
    with torch.no_grad():
        same[0].weight *= 5
        same[0].bias *= 5
        same[2].weight /= 5
    one, other = (generalization_measures(m, data, "cross_entropy", reference=start, draws=16) for m in (net, same))
    assert other["adaptive_sharpness"] == pytest.approx(one["adaptive_sharpness"], rel=1e-4)
    assert abs(other["sharpness"] / one["sharpness"] - 1) > 0.2  # the plain one does, and so explains nothing


# ---- double_descent_curve ------------------------------------------------------------------------------------------


def test_double_descent_is_fitted_and_agrees_with_exact_theory():
    """There: a curve drawn by piecewise formulas, with one point at the peak."""
    curve = least_squares_descent(40, [10, 20, 30, 36, 44, 60, 100, 300], noise=0.25, runs=60)
    lower, upper = curve.interval(curve.test)
    assert ((lower * 0.95 <= curve.theory) & (curve.theory <= upper * 1.05)).all()
    risk = curve.test.mean(1)
    assert risk[3] > risk[2] > risk[1] > risk[0]
    assert risk[4] > risk[5] > risk[6]
    assert risk[3:5].min() > 3 * max(risk[0], risk[6])  # a broad peak on both sides of 40, not a single point


def test_there_is_no_peak_without_noise():
    """There: a peak of 0.5 at noise 0."""
    curve = least_squares_descent(40, [10, 39, 40, 41, 80], noise=0.0, runs=10)
    assert curve.test[:3] == pytest.approx(np.zeros((3, 10)), abs=1e-12)
    assert curve.test.max() <= 1.0
    assert ridgeless_risk([0.5, 1.0, 2.0], noise=0.0) == pytest.approx([0.0, 0.0, 0.5])


def test_nothing_is_left_of_the_training_error_beyond_interpolation():
    """There: 0.037 at p = n."""
    curve = least_squares_descent(40, [20, 40, 80], noise=0.25, runs=10)
    assert (curve.train[1:] < 1e-18).all()
    assert (curve.train[0] > 0.01).all()


def test_the_test_error_of_one_parameter_is_not_above_the_peak():
    """There: 1.067 at p = 1 against a peak of 0.6."""
    curve = least_squares_descent(40, [1, 40, 100], noise=0.25, runs=20)
    assert curve.test[0].max() < curve.test[1].min()


def test_random_features_of_real_images_descend_twice(digits):
    x, y = digits
    curve = random_features_descent((x[:150], y[:150]), (x[150:900], y[150:900]), [30, 150, 1500], rate=0.2, runs=6)
    risk = curve.test.mean(1)
    assert risk[1] > 5 * max(risk[0], risk[2])


# ---- pac_bayes_bound -----------------------------------------------------------------------------------------------


def test_a_vacuous_bound_is_one_and_a_negative_divergence_is_refused():
    """There: 7.1 for a divergence of 1e5, NaN for a negative one."""
    assert pac_bayes_mcallester(0.05, 1e5, 1000, 0.05) == 1.0
    with pytest.raises(ValueError, match="divergence must be at least 0"):
        pac_bayes_mcallester(0.05, -1.0, 1000, 0.05)


def test_the_inverted_form_is_tighter_wherever_the_other_says_anything():
    for divergence in (0.0, 1.0, 10.0, 100.0):
        assert pac_bayes_kl(0.05, divergence, 1000, 0.05) < pac_bayes_mcallester(0.05, divergence, 1000, 0.05)
    assert pac_bayes_kl(0.05, 10.0, 5, 0.05) <= 1.0  # few examples: the exact constant needs no n >= 8
    assert not math.isnan(float(pac_bayes_kl(1.0, 0.0, 5, 0.05)))
