"""Minimum norm, maximum margin, early stopping, stationary covariance: closed forms, optimality, real runs."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.bias import (
    early_stopping_path,
    estimation_risk,
    excess_norm,
    gradient_descent,
    gradient_flow,
    gradient_flow_filter,
    margin_progress,
    max_margin,
    minimum_norm_solution,
    ridge_filter,
    stationary_covariance,
)
from theorylens.report._plots import figure


def test_gradient_descent_from_zero_ends_at_the_smallest_solution(golden):
    a = torch.tensor([[1.0, 1, 0], [0, 1, 1]]).double()
    b = torch.tensor([1.0, 2]).double()
    end = gradient_descent(lambda w: a.T @ (a @ w - b), np.zeros(3), 0.3, 500).end
    assert end == pytest.approx(golden("G5.2-5"), rel=1e-9, abs=1e-9)
    assert minimum_norm_solution(a, b) == pytest.approx(golden("G5.2-5"), rel=1e-9, abs=1e-12)
    assert excess_norm(end, a) == pytest.approx(0, abs=1e-9)
    assert excess_norm([1.0, -1.0, 1.0], a) == pytest.approx(1, rel=1e-9)
    assert excess_norm(np.zeros(3), a) == 0


def test_the_largest_margin_of_the_contract_and_where_logistic_descent_goes(golden):
    x = np.array([[1.0, 0], [0, 2.0]])
    x2, y2 = np.concatenate([x, -x]), np.array([1, 1, -1, -1])  # the same problem with two classes
    weights, margin = golden("G5.2-6")
    found = max_margin(x2, y2)
    assert found.weights == pytest.approx(weights, rel=1e-9)
    assert found.margin == pytest.approx(margin, rel=1e-9)
    assert found.support.tolist() == [0, 1, 2, 3]
    t = torch.from_numpy(x2 * y2[:, None])

    def slope(w):
        return -(torch.sigmoid(-(t @ w))[:, None] * t).mean(0)

    angles = [
        margin_progress(gradient_descent(slope, np.array([0.0, 1.0]), 1.0, steps).end, x2, y2).angle
        for steps in (10, 100, 1000, 10_000)
    ]
    assert sorted(angles, reverse=True) == angles
    assert angles[-1] < 0.07


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_margin_meets_its_optimality_conditions(classes):
    """Feasible, and a non-negative combination of the rows of margin 1: that is all optimality is."""
    from scipy.optimize import nnls

    from theorylens.bias._interpolation import _constraints

    g = np.random.default_rng(classes)
    centres = 4 * g.normal(size=(classes, 6))
    y = np.arange(40) % classes
    x = centres[y] + 0.5 * g.normal(size=(40, 6))
    found = max_margin(x, y)
    rows, _ = _constraints(x, y)
    slack = rows @ found.weights.reshape(-1) - 1
    assert slack.min() > -1e-8
    active = rows[slack < 1e-7]
    assert nnls(active.T, found.weights.reshape(-1))[1] < 1e-7
    assert found.margin == pytest.approx(1 / np.linalg.norm(found.weights), rel=1e-12)


def test_a_softmax_layer_trained_on_separable_data_goes_towards_the_margin():
    g = torch.Generator().manual_seed(0)
    y = torch.arange(30) % 3
    x = 3 * torch.eye(3)[y] @ torch.randn(3, 4, generator=g) + 0.3 * torch.randn(30, 4, generator=g)
    layer = nn.Linear(4, 3, bias=False)
    nn.init.zeros_(layer.weight)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.5)
    shares = []
    for step in range(2000):
        optimiser.zero_grad()
        nn.functional.cross_entropy(layer(x), y).backward()
        optimiser.step()
        if step in (20, 200, 1999):
            shares.append(margin_progress(layer.weight.detach().double(), x.double(), y).share)
    assert shares[0] < shares[1] < shares[2] <= 1
    assert shares[2] > 0.85


def test_shifting_all_classes_changes_no_margin():
    x, y = np.eye(3), np.arange(3)
    w = np.random.default_rng(0).normal(size=(3, 3)) + 3 * np.eye(3)
    one, other = margin_progress(w, x, y), margin_progress(w + 7.0, x, y)
    assert (one.margin, one.angle) == pytest.approx((other.margin, other.angle), rel=1e-9)
    best = max_margin(x, y)
    assert margin_progress(5 * best.weights, x, y, best).share == pytest.approx(1, rel=1e-9)


def test_filters_of_early_stopping_and_ridge(golden):
    found = [float(gradient_flow_filter(1.0, 2.0)), float(ridge_filter(1.0, 1 / 2.0))]
    assert found == pytest.approx(golden("G5.2-7"), rel=1e-9)


def test_early_stopping_is_the_flow_itself_and_ridge_the_normal_equations():
    g = np.random.default_rng(0)
    x, y = g.normal(size=(20, 4)), g.normal(size=20)
    found = early_stopping_path(x, y, [0.5, 3.0])
    gram, moment = torch.from_numpy(x.T @ x / 20), torch.from_numpy(x.T @ y / 20)
    for t, w, r in zip(found.times, found.flow, found.ridge, strict=True):
        assert gradient_flow(lambda v: gram @ v - moment, np.zeros(4), float(t)).end == pytest.approx(w, rel=1e-6)
        assert np.linalg.solve(x.T @ x / 20 + np.eye(4) / t, x.T @ y / 20) == pytest.approx(r, rel=1e-9)
    assert figure(found.curve()) is not None
    late = early_stopping_path(x, y, [1e6])
    assert late.flow[0] == pytest.approx(minimum_norm_solution(x, y), rel=1e-9)


def test_the_risk_of_early_stopping_is_at_most_1_69_times_that_of_ridge_whatever_the_truth():
    g = np.random.default_rng(0)
    ratios = []
    for _ in range(500):
        s, truth = 10 ** g.uniform(-3, 2, size=5), g.normal(size=5) * 10 ** g.uniform(-2, 1)
        t, variance = 10 ** g.uniform(-2, 2), 10 ** g.uniform(-2, 1)
        flow = estimation_risk(gradient_flow_filter(s, t), s, truth, variance, 30)
        ridge = estimation_risk(ridge_filter(s, 1 / t), s, truth, variance, 30)
        ratios.append(flow / ridge)
    assert max(ratios) <= 1.68591
    alone = np.array([1.7932822])
    flow = estimation_risk(gradient_flow_filter(alone, 1.0), alone, np.zeros(1), 1.0, 1)
    assert flow / estimation_risk(ridge_filter(alone, 1.0), alone, np.zeros(1), 1.0, 1) == pytest.approx(1.685908, 1e-6)


def test_the_risk_is_the_mean_over_noise():
    g = np.random.default_rng(0)
    x = np.linalg.qr(g.normal(size=(30, 3)))[0] * np.sqrt(30 * np.array([3.0, 1.0, 0.2]))  # eigenvalues 3, 1, 0.2
    truth = np.array([1.0, -1.0, 2.0])
    errors = []
    for _ in range(3000):
        w = early_stopping_path(x, x @ truth + 0.5 * g.normal(size=30), [1.5]).flow[0]
        errors.append(((w - truth) ** 2).sum())
    s = np.array([3.0, 1.0, 0.2])
    expected = estimation_risk(gradient_flow_filter(s, 1.5), s, truth, 0.25, 30)
    assert abs(np.mean(errors) - expected) < 4 * np.std(errors) / math.sqrt(3000)


def test_stationary_variance_in_one_dimension(golden):
    one = np.eye(1)
    found = [float(stationary_covariance(one, one, 0.1, of=of)[0, 0]) for of in ("diffusion", "steps")]
    assert found == pytest.approx(golden("G5.2-3"), rel=1e-9)


def test_stationary_covariance_of_the_diffusion(golden):
    found = stationary_covariance(np.diag([1.0, 2.0]), np.array([[1, 0.5], [0.5, 1]]), 0.1, of="diffusion")
    assert found == pytest.approx(np.array(golden("G5.2-4")), rel=1e-9)


def test_sgd_on_least_squares_spreads_as_the_steps_say():
    """Minibatches drawn from noise of known covariance; the diffusion is off by far at this step size."""
    a, c, lr = np.array([[2.0, 0.3], [0.3, 0.5]]), np.array([[1.0, -0.4], [-0.4, 0.8]]), 0.6
    g = np.random.default_rng(0)
    noise = g.multivariate_normal(np.zeros(2), c, size=(200, 2000))
    w = np.zeros((2000, 2))
    for step in noise:
        w = w - lr * (w @ a + step)
    exact = stationary_covariance(a, c, lr)
    assert np.abs(np.cov(w.T) - exact).max() < 0.06 * exact.max()
    assert np.abs(stationary_covariance(a, c, lr, of="diffusion") - exact).max() > 0.2 * exact.max()


def test_refusals():
    eye = np.eye(2)
    for call, match in (
        (lambda: max_margin([[1.0], [1.0]], [0, 1]), "cannot be separated"),
        (lambda: max_margin([[1.0], [2.0]], [1, 1]), "got 1 class"),
        (lambda: max_margin([[math.nan], [2.0]], [0, 1]), "not finite"),
        (lambda: max_margin([1.0, 2.0], [0, 1]), "x must have shape"),
        (lambda: max_margin(np.ones((3, 1)), [-1, 0, 1]), "numbered from 0"),
        (lambda: max_margin(np.ones((20_001, 1)), np.arange(20_001) % 2), "more than 20,000"),
        (lambda: margin_progress([1.0], np.eye(2), [0, 1]), "w must have shape"),
        (lambda: margin_progress([0.0, 0.0], np.eye(2), [0, 1]), "no direction"),
        (lambda: minimum_norm_solution([1.0], [1.0]), "x must have shape"),
        (lambda: excess_norm([1.0], eye), "w must have shape"),
        (lambda: gradient_flow_filter(-1.0, 1.0), "at least 0"),
        (lambda: ridge_filter(1.0, 0.0), "penalty must be a positive"),
        (lambda: gradient_flow_filter(1.0, 0.0), "time must be a positive"),
        (lambda: early_stopping_path([1.0], [1.0], [1.0]), "x must have shape"),
        (lambda: early_stopping_path(np.zeros((2, 2)), [1.0, 2.0], [1.0]), "x is zero"),
        (lambda: estimation_risk([1.0], [1.0, 2.0], [1.0], 1.0, 1), "one shape"),
        (lambda: stationary_covariance(eye, eye, 0.0), "lr must be a positive"),
        (lambda: stationary_covariance(eye, np.eye(3), 0.1), "one shape"),
        (lambda: stationary_covariance(np.diag([1.0, 0.0]), eye, 0.1), "positive definite"),
        (lambda: stationary_covariance(eye, np.diag([1.0, -1.0]), 0.1), "must be a covariance"),
        (lambda: stationary_covariance(eye, eye, 2.0), "lr must be below 2"),
        (lambda: stationary_covariance(np.array([[1.0, 2], [0, 1]]), eye, 0.1), "symmetric"),
        (lambda: stationary_covariance(np.ones((1, 2)), eye, 0.1), "square"),
        (lambda: stationary_covariance(eye, eye, 0.1, of="sde"), "'diffusion' or 'steps'"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
