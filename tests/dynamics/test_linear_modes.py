"""Exact dynamics against closed forms, an integrated equation, and gradient descent with drawn noise."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from theorylens.dynamics import half_learning_time, mode_course, mode_residual, residual_modes, two_layer_mode


def test_two_layer_mode(golden):
    value, half = golden("G6.1-1")
    assert two_layer_mode(2.0, 0.01, 1.0) == pytest.approx(value, rel=1e-9)
    assert half_learning_time(2.0, 0.01) == pytest.approx(half, rel=1e-9)
    assert two_layer_mode(2.0, 0.01, half) == pytest.approx(1.0, rel=1e-9)


def test_linear_mode(golden):
    assert [mode_residual(v, 1.0) for v in (4.0, 1.0, 0.1)] == pytest.approx(golden("G6.1-2"), rel=1e-9)


def test_the_two_layer_mode_solves_its_equation_and_its_network():
    """da/dt = 2 a (s - a), and the product of two scalar weights under gradient flow."""
    flow = solve_ivp(lambda t, a: 2 * a * (3.0 - a), (0, 2), [0.02], rtol=1e-10, atol=1e-12)
    assert two_layer_mode(3.0, 0.02, 2.0) == pytest.approx(flow.y[0, -1], rel=1e-8)
    a = b = torch.tensor(math.sqrt(0.02), dtype=torch.float64)
    for _ in range(20_000):
        error = 3.0 - a * b
        a, b = a + 1e-4 * b * error, b + 1e-4 * a * error
    assert two_layer_mode(3.0, 0.02, 2.0) == pytest.approx(float(a * b), rel=1e-3)
    assert two_layer_mode(3.0, 0.02, 500.0) == pytest.approx(3.0)  # no overflow


def problem(n=40, p=6, seed=0):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, p, generator=rng, dtype=torch.float64) * torch.tensor([2, 1.5, 1, 0.7, 0.4, 0.2])
    return x, torch.tensor([1.0, -1.0, 0.5, 0.5, 2.0, -2.0], dtype=torch.float64)


def test_bias_and_variance_are_those_of_gradient_descent_by_linear_algebra():
    """The weights are linear in the targets: their mean and covariance follow from the run on each unit vector."""
    x, truth = problem()
    n, lr, noise = len(x), 0.3, 0.7
    steps = np.array([0.0, 1.0, 5.0, 40.0])
    course = mode_course(x, truth, noise, steps, lr=lr)
    transform = torch.zeros(x.shape[1], n, dtype=torch.float64)  # w_t = transform @ y
    wanted = []
    for t in range(41):
        if t in steps:
            bias = ((x @ (transform @ x @ truth - truth)) ** 2).mean()
            wanted.append(float(bias + noise**2 * ((x @ transform) ** 2).sum() / n))
        transform = transform + lr * x.T @ (torch.eye(n, dtype=torch.float64) - x @ transform) / n
    assert course.risk == pytest.approx(wanted, rel=1e-10)


def test_gradient_flow_is_the_limit_of_small_steps():
    x, truth = problem()
    times = np.array([0.1, 1.0, 5.0])
    flow = mode_course(x, truth, 0.5, times)
    small = mode_course(x, truth, 0.5, times / 1e-5, lr=1e-5)
    assert small.risk == pytest.approx(flow.risk, rel=1e-4)


def test_signal_comes_first_and_noise_later_exactly_here():
    x, truth = problem()
    course = mode_course(x, truth, 1.0, np.linspace(0, 300, 400))
    bias, variance = course.bias.sum(1), course.variance.sum(1)
    assert (np.diff(bias) <= 0).all()
    assert (np.diff(variance) >= 0).all()
    assert 0 < course.best < 300  # stopping early is best in between
    assert variance[-1] == pytest.approx(6 / 40, rel=1e-2)  # at last: σ² p / n
    lines = course.curve().lines
    assert lines[2].y == pytest.approx(bias + variance)


def test_modes_of_a_real_run_decay_at_their_rates():
    x, truth = problem()
    y = x @ truth
    n, lr = len(x), 0.05
    values, vectors = torch.linalg.eigh(x @ x.T / n)
    top = slice(n - 4, n)
    w, residuals = torch.zeros(6, dtype=torch.float64), []
    for _ in range(30):
        residuals.append(y - x @ w)
        w = w + lr * x.T @ residuals[-1] / n
    shares = residual_modes(torch.stack(residuals), vectors[:, top])
    assert shares[29].numpy() == pytest.approx(((1 - lr * values[top]) ** 29).numpy(), rel=1e-6)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: mode_residual(-1.0, 1.0), "zero or more, got -1.0 and 1.0"),
        (lambda: two_layer_mode(0.0, 1.0, 1.0), "must be positive, got 0.0 and 1.0"),
        (lambda: two_layer_mode(1.0, 1.0, -1.0), "time must be zero or more"),
        (lambda: half_learning_time(1.0, 0.6), "beyond half of 1.0 already"),
        (lambda: mode_course(problem()[0], torch.zeros(3), 1.0, np.ones(1)), "one weight for each of 6 inputs"),
        (lambda: mode_course(*problem(), -1.0, np.ones(1)), "noise must be zero or more"),
        (lambda: mode_course(*problem(), 1.0, np.ones(1), lr=9.0), "beyond it diverges"),
        (lambda: residual_modes(torch.zeros(2, 3), torch.zeros(4, 1)), r"must share n, got \(2, 3\) and \(4, 1\)"),
        (lambda: residual_modes(torch.eye(2), torch.eye(2)), "mode 1 has no share in the first residual"),
    ],
)
def test_refusals(call, said, unchecked_shapes):
    with pytest.raises(ValueError, match=said):
        call()
