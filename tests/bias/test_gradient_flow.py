"""Gradient flow, steps and the modified flow: closed forms, orders of accuracy, a real network."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from torch import nn

from theorylens.bias import flow_comparison, gradient_descent, gradient_flow, model_gradient, modified_gradient
from theorylens.report._plots import figure


def identity(x):
    return x


def test_one_dimension_in_closed_form(golden):
    found = flow_comparison(identity, 1.0, 0.1, 10, tolerance=1e-11)
    ends = [float(p.end[0]) for p in (found.descent, found.modified, found.flow)]
    assert ends == pytest.approx(golden("G5.2-1"), rel=1e-9)


def test_a_linear_system_is_the_matrix_exponential():
    matrix = np.array([[3.0, 1.0], [1.0, 0.5]])
    start = np.array([1.0, 2.0])
    found = gradient_flow(lambda x: torch.from_numpy(matrix) @ x, start, 2.0, points=4)
    for t, point in zip(found.times, found.points, strict=True):
        assert np.allclose(point, expm(-t * matrix) @ start, atol=1e-8)
    assert found.error < 1e-6


def test_the_estimate_of_the_error_is_not_too_small():
    """Against the exact solution at the coarse tolerance that the estimate speaks of."""
    found = gradient_flow(lambda x: x**3, 2.0, 5.0, tolerance=1e-5)
    exact = 2.0 / np.sqrt(1 + 8 * found.times)
    assert np.abs(found.points[:, 0] - exact).max() <= found.error
    assert found.error < 1e-3


def tanh_net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1))
        x = torch.randn(20, 2)
    return net, x, torch.sin(x[:, :1]) * x[:, 1:]


def test_steps_of_a_network_follow_the_flow_of_the_modified_loss_to_second_order():
    net, x, y = tanh_net()
    slope = model_gradient(net, (x, y), "mse")
    plain, modified = {}, {}
    for lr, steps in ((0.1, 10), (0.05, 20)):
        found = flow_comparison(slope, slope.start, lr, steps, product=slope.product, tolerance=1e-5)
        plain[lr], modified[lr] = (d[-1] for d in found.distances)
    assert 1.6 < plain[0.1] / plain[0.05] < 2.5
    assert 3.2 < modified[0.1] / modified[0.05] < 5.0
    assert modified[0.05] < plain[0.05] / 4


def test_the_gradient_of_a_model_is_its_own_and_leaves_it_alone():
    net, x, y = tanh_net()
    before = [p.clone() for p in net.parameters()]
    slope = model_gradient(net, (x, y), "mse")
    twin = torch.autograd.grad(nn.functional.mse_loss(net(x), y), list(net.parameters()))
    assert torch.allclose(slope(slope.start).float(), torch.cat([t.flatten() for t in twin]), atol=1e-6)
    slope(slope.start + 1)
    assert all(torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True))


def test_the_modified_gradient_is_that_of_the_modified_loss():
    point = torch.tensor([0.3, -0.7], dtype=torch.float64)

    def loss(w):
        return w[0] ** 2 * w[1] + torch.exp(w[1])

    def modified(w):
        g = torch.func.grad(loss)(w)
        return loss(w) + 0.2 / 4 * g @ g

    found = modified_gradient(torch.func.grad(loss), 0.2)(point)
    assert torch.allclose(found, torch.func.grad(modified)(point), rtol=1e-10)


def test_there_is_a_picture():
    assert figure(flow_comparison(identity, 1.0, 0.1, 5).curve()) is not None


def test_refusals():
    for call, match in (
        (lambda: gradient_flow(identity, 1.0, 0.0), "time must be a positive number"),
        (lambda: gradient_flow(identity, 1.0, 1.0, tolerance=0.0), "tolerance must be"),
        (lambda: gradient_flow(identity, 1.0, 1.0, points=0), "points must be at least 1"),
        (lambda: gradient_flow(identity, math.nan, 1.0), "start must be finite"),
        (lambda: gradient_flow(lambda x: x * math.nan, 1.0, 1.0), "gradient is not finite"),
        (lambda: gradient_flow(lambda x: torch.ones(3), 1.0, 1.0), "shape \\(3,\\) for a point of shape \\(1,\\)"),
        (lambda: gradient_flow(lambda x: 1e9 * x, 1.0, 1.0), "the flow is stiff"),
        (lambda: gradient_descent(identity, 1.0, 0.1, 0), "steps must be at least 1"),
        (lambda: gradient_descent(identity, 1.0, -0.1, 3), "lr must be a positive number"),
        (lambda: modified_gradient(lambda x: x.detach(), 0.1)(torch.ones(1)), "cannot be differentiated"),
        (lambda: modified_gradient(identity, 0.0), "lr must be a positive number"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
