"""Escape times: golden values, the recursions and equations they solve, a network at a saddle, refusals."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.landscape import (
    escape_time,
    flow_escape_time,
    gd_escape_steps,
    mean_exit_time,
    noise_along,
    noisy_gd_escape_steps,
    small_noise_exit_time,
)
from theorylens.results import Exact, Statistical, Unknown


def test_golden_times_of_flow_and_steps_of_descent(golden):
    found = [flow_escape_time(-0.1, distance=0.01), gd_escape_steps(-0.1, lr=0.01, distance=0.01)]
    assert found == pytest.approx(golden("G3.2-1"), rel=1e-9)


def test_golden_noisy_descent_from_the_saddle_itself(golden):
    assert noisy_gd_escape_steps(-1.0, lr=0.01, noise=0.1) == pytest.approx(golden("G3.2-2"), rel=1e-9)


def test_golden_mean_exit_time(golden):
    assert mean_exit_time(-1.0, noise=0.5) == pytest.approx(golden("G3.2-3"), rel=1e-9)


@pytest.mark.parametrize(("lr", "noise", "distance"), [(0.1, 0.3, 0.0), (0.5, 0.01, 0.2), (0.01, 1.0, 0.05)])
def test_the_closed_form_solves_the_variance_recursion(lr, noise, distance):
    steps = noisy_gd_escape_steps(-2.0, lr=lr, noise=noise, distance=distance, radius=1.5)
    square, n = distance**2, 0
    while square < 1.5**2:
        square, before = (1 + 2 * lr) ** 2 * square + (lr * noise) ** 2, square
        n += 1
    assert n - 1 < steps <= n
    assert before < 1.5**2 <= square


def test_descent_without_noise_is_the_limit_of_little_noise():
    exact = gd_escape_steps(-0.5, lr=0.1, distance=0.01)
    assert noisy_gd_escape_steps(-0.5, lr=0.1, noise=1e-9, distance=0.01) == pytest.approx(exact, rel=1e-9)
    # and steps times lr go to the time of the flow
    assert gd_escape_steps(-0.5, lr=1e-6, distance=0.01) * 1e-6 == pytest.approx(
        flow_escape_time(-0.5, distance=0.01), rel=1e-5
    )


@pytest.mark.parametrize(("rate", "noise", "radius"), [(1.0, 0.5, 1.0), (0.3, 0.2, 2.0), (2.0, 3.0, 0.5)])
def test_the_exit_time_solves_the_backward_equation(rate, noise, radius):
    """s² T'' / 2 + rate x T' = -1 with T(radius) = 0, by finite differences: the slow twin."""
    n = 2001
    x = np.linspace(-radius, radius, n)
    h = x[1] - x[0]
    a = np.diag(np.full(n - 2, -(noise**2) / h**2))
    a += np.diag(noise**2 / (2 * h**2) + rate * x[1:-2] / (2 * h), 1)
    a += np.diag(noise**2 / (2 * h**2) - rate * x[2:-1] / (2 * h), -1)
    t = np.linalg.solve(a, -np.ones(n - 2))
    assert mean_exit_time(-rate, noise=noise, radius=radius) == pytest.approx(t[(n - 2) // 2], rel=1e-4)
    at = x[1:-1][1500]
    assert mean_exit_time(-rate, noise=noise, start=at, radius=radius) == pytest.approx(t[1500], rel=1e-3)


def test_small_noise_is_the_limit():
    gaps = [mean_exit_time(-1.0, noise=s) - small_noise_exit_time(-1.0, noise=s) for s in (0.3, 0.1, 0.03, 1e-3, 1e-6)]
    assert [abs(g) for g in gaps] == sorted((abs(g) for g in gaps), reverse=True)
    assert abs(gaps[-1]) < 1e-9
    assert mean_exit_time(-1.0, noise=0.1) == pytest.approx(3.28182, abs=1e-5)
    assert small_noise_exit_time(-1.0, noise=0.1) == pytest.approx(3.28434, abs=1e-5)


def test_refusals_of_the_calculators():
    for f in (flow_escape_time, lambda c, **k: gd_escape_steps(c, lr=0.1, **k)):
        with pytest.raises(ValueError, match=r"curvature must be a negative eigenvalue, got 0.1"):
            f(0.1, distance=0.1)
        with pytest.raises(ValueError, match="from exactly the saddle the gradient never leaves"):
            f(-0.1, distance=0.0)
        with pytest.raises(ValueError, match=r"distance must lie between 0 and the radius 1.0, got 2"):
            f(-0.1, distance=2)
    with pytest.raises(ValueError, match="lr must be a positive number, got 0"):
        gd_escape_steps(-0.1, lr=0, distance=0.1)
    with pytest.raises(ValueError, match="noise must be a positive number, got -1"):
        noisy_gd_escape_steps(-0.1, lr=0.1, noise=-1)
    with pytest.raises(ValueError, match="distance must lie between 0 and the radius"):
        noisy_gd_escape_steps(-0.1, lr=0.1, noise=1, distance=3)
    with pytest.raises(ValueError, match="noise must be a positive number, got 0"):
        mean_exit_time(-0.1, noise=0)
    with pytest.raises(ValueError, match="start must lie within the radius"):
        mean_exit_time(-0.1, noise=1, start=3)
    with pytest.raises(ValueError, match="radius must be a positive number, got nan"):
        small_noise_exit_time(-0.1, noise=1, radius=math.nan)


SADDLE = [[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -0.5]]


def test_steps_measured_at_a_saddle_are_the_predicted_ones(quadratic):
    run = escape_time(*quadratic(SADDLE), lr=0.1, radius=1.0, distance=0.01)
    assert isinstance(run.steps.uncertainty, Exact)
    assert run.predicted == pytest.approx(gd_escape_steps(-0.5, lr=0.1, distance=0.01), rel=1e-9)
    assert run.steps.value == math.ceil(run.predicted)
    assert run.direction.curvature == pytest.approx(-0.5, rel=1e-6)
    assert len(run.runs) == 1


def test_a_slope_counts_as_a_start_farther_out(quadratic):
    run = escape_time(*quadratic(SADDLE, linear=[0.0, 0.0, 0.05]), lr=0.1, radius=1.0)
    assert run.steps.value == math.ceil(run.predicted)
    assert run.predicted == pytest.approx(math.log(1.1 / 0.1) / math.log(1.05), rel=1e-6)


@pytest.mark.slow
def test_noisy_runs_agree_with_the_mean_exit_time(quadratic):
    run = escape_time(*quadratic(SADDLE), lr=0.05, radius=1.0, noise=0.5, runs=60)
    assert isinstance(run.steps.uncertainty, Statistical)
    # Steps look only now and then, so they see the exit late, by the order of 0.58 sqrt(lr) noise of the radius.
    late = 0.5826 * 0.05 * 0.5
    spread = 0.5 * math.sqrt(0.05)
    moved = mean_exit_time(-0.5, noise=spread, radius=1.0 + late) / 0.05
    assert run.steps.lower - 5 <= moved <= run.steps.upper + 5
    assert run.predicted == pytest.approx(mean_exit_time(-0.5, noise=spread) / 0.05)


def deep_linear(width):
    """W2 W1 against a rank-one target at zero: a strict saddle with eigenvalues ±s for each singular value s."""
    net = nn.Sequential(nn.Linear(4, width, bias=False), nn.Linear(width, 4, bias=False)).double()
    for p in net.parameters():
        nn.init.zeros_(p)
    x = torch.eye(4, dtype=torch.float64)
    y = torch.zeros(4, 4, dtype=torch.float64)
    y[0, 1] = 2.0
    return net.eval(), (x, y), lambda o, t: (o - t).square().sum(1)


def test_escape_of_a_deep_linear_network_from_its_saddle_at_zero():
    run = escape_time(*deep_linear(3), lr=0.05, radius=0.1, distance=1e-4)
    # Loss mean over 4 rows of |W2 W1 - 2 e0 e1'|²: Hessian at zero couples entries with -2·2/4 = -1.
    assert run.direction.curvature == pytest.approx(-1.0, rel=1e-6)
    assert run.steps.value == pytest.approx(run.predicted, abs=1.5)


def test_what_cannot_be_escaped_is_refused_and_cut_off_runs_are_said(quadratic):
    with pytest.raises(ValueError, match="no direction bends downwards"):
        escape_time(*quadratic([[1.0]]), lr=0.1, radius=1.0, distance=0.1)
    with pytest.raises(ValueError, match="distance is 0"):
        escape_time(*quadratic(SADDLE), lr=0.1, radius=1.0)
    with pytest.raises(ValueError, match="runs and max_steps must be at least 1"):
        escape_time(*quadratic(SADDLE), lr=0.1, radius=1.0, distance=0.1, runs=0)
    short = escape_time(*quadratic(SADDLE), lr=0.1, radius=1.0, noise=0.1, runs=3, max_steps=4)
    assert isinstance(short.steps.uncertainty, Unknown)
    assert "3 of 3 runs had not left after 4 steps" in short.steps.trouble.render()


def test_noise_along_a_direction_is_the_second_moment_of_the_examples_slopes():
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 3, generator=rng).double(), torch.randn(20, 1, generator=rng).double()
    net = nn.Linear(3, 1, bias=False).double().eval()
    each = 2 * (net(x).detach() - y) * x
    v = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    truth = float(((each @ v) / v.norm()).square().mean())
    assert noise_along(net, (x, y), "mse", v) == pytest.approx(truth, rel=1e-9)
    # At the fitted solution of noiseless data every example's gradient is zero: SGD would never leave it.
    with torch.no_grad():
        net.weight.copy_(torch.ones(1, 3))
    assert noise_along(net, (x, x.sum(1, keepdim=True)), "mse", v) == pytest.approx(0, abs=1e-20)
    with pytest.raises(ValueError, match="needed is a finite one of shape"):
        noise_along(net, (x, y), "mse", torch.zeros(3))
