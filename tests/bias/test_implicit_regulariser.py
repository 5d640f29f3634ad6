"""The modified loss of gradient descent: closed forms, naive twins, and real steps that follow it."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from torch import nn

from theorylens.bias import (
    expected_regulariser,
    gradient_noise,
    implicit_regulariser,
    label_noise_regulariser,
    minibatch_regulariser,
    regulariser_gradient,
    sgd_noise_scale,
)
from theorylens.core import rng_for


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


@pytest.fixture
def data():
    g = torch.Generator().manual_seed(1)
    return torch.randn(6, 3, generator=g).double(), torch.randn(6, 2, generator=g).double()


def slope(net, x, y, graph=False):
    found = torch.autograd.grad(nn.functional.mse_loss(net(x), y), list(net.parameters()), create_graph=graph)
    return torch.cat([f.flatten() for f in found])


def test_two_minibatches_by_hand(golden):
    found = minibatch_regulariser(torch.tensor([[1.0, 0.0], [3.0, 2.0]]), 0.1)
    assert [found.total, found.full_batch, found.noise] == pytest.approx(golden("G5.2-2"), rel=1e-9)


def divided(n, size, seed=0):
    order = torch.randperm(n, generator=rng_for(seed, "bias.implicit_regulariser"))
    return order.split(size)


def test_a_model_s_terms_are_those_of_its_minibatch_gradients(net, data):
    x, y = data
    found = implicit_regulariser(net, data, "mse", lr=0.2, batch_size=2)
    twin = minibatch_regulariser(torch.stack([slope(net, x[i], y[i]) for i in divided(6, 2)]), 0.2)
    assert [found.full_batch, found.noise] == pytest.approx([twin.full_batch, twin.noise], rel=1e-9)
    assert found.loss == pytest.approx(nn.functional.mse_loss(net(x), y).item(), rel=1e-9)
    assert found.batches == 3
    assert found.modified_loss == pytest.approx(found.loss + twin.total, rel=1e-9)


def test_its_gradient_is_that_of_automatic_differentiation(net, data):
    x, y = data
    value = sum(0.2 / 12 * slope(net, x[i], y[i], graph=True).square().sum() for i in divided(6, 2))
    twin = torch.cat([g.flatten() for g in torch.autograd.grad(value, list(net.parameters()))])
    assert torch.allclose(regulariser_gradient(net, data, "mse", lr=0.2, batch_size=2), twin, rtol=1e-8, atol=1e-12)


def test_full_batch_steps_have_no_noise(net, data):
    found = implicit_regulariser(net, data, "mse", lr=0.1)
    assert found.noise == pytest.approx(0, abs=1e-15)
    assert found.full_batch == pytest.approx(0.1 / 4 * float(slope(net, *data).square().sum()), rel=1e-9)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_expectation_is_the_mean_over_all_divisions(net, data, size):
    x, y = data
    mean = slope(net, x, y)
    spreads = [
        float((slope(net, x[list(rows)], y[list(rows)]) - mean).square().sum())
        for rows in itertools.combinations(range(6), size)
    ]
    found = expected_regulariser(gradient_noise(net, data, "mse"), lr=0.3, batch_size=size)
    assert found.noise == pytest.approx(0.3 / 4 * float(np.mean(spreads)), rel=1e-9)


def test_sgd_over_all_orders_follows_the_modified_loss_to_third_order():
    """One epoch over three quadratic losses, averaged over the orders: the error falls with the cube of the rate."""
    g = np.random.default_rng(0)
    a = [m @ m.T / 2 for m in g.normal(size=(3, 2, 2))]
    b = g.normal(size=(3, 2))
    start = np.array([1.0, -2.0])

    def errors(lr):
        ends = []
        for order in itertools.permutations(range(3)):
            w = start.copy()
            for k in order:
                w = w - lr * (a[k] @ w - b[k])
            ends.append(w)
        # The modified loss is quadratic: gradient mean_k (A_k w - b_k) + lr/2 mean_k A_k (A_k w - b_k).
        matrix = np.mean([m + lr / 2 * m @ m for m in a], axis=0)
        vector = np.mean([v + lr / 2 * m @ v for m, v in zip(a, b, strict=True)], axis=0)
        settled = np.linalg.solve(matrix, vector)
        flow = settled + expm(-3 * lr * matrix) @ (start - settled)
        return np.linalg.norm(np.mean(ends, axis=0) - flow)

    ratio = errors(0.02) / errors(0.01)
    assert 6.5 < ratio < 9.5  # 8 for a cube; 4 without the regulariser


@pytest.mark.parametrize(("loss", "factor"), [("half_squared", 1), ("squared", 2)])
def test_label_noise_pulls_along_the_valley_as_the_trace_says(loss, factor):
    """f = u v fitted to 1 with fresh noise: u² - v² decays, by the regulariser's gradient, and by simulation."""
    lr, steps, u, v = 0.01, 20_000 // factor**2, 1.6, 0.625
    gap = u * u - v * v
    noise = np.random.default_rng(1).normal(size=steps)
    for e in noise:
        residual = factor * (u * v - 1 - e)
        u, v = u - lr * residual * v, v - lr * residual * u
    # R = c (u² + v²) with tr H = factor (u² + v²), so d(u² - v²)/dt = -4 c (u² - v²); the loss itself keeps it.
    c = label_noise_regulariser(factor, lr=lr, batch_size=1, label_variance=1.0, loss=loss)
    assert math.log((u * u - v * v) / gap) == pytest.approx(-4 * c * lr * steps, rel=0.06)


def test_noise_scale_of_the_diffusion():
    assert sgd_noise_scale(0.1, 1000, 50) == pytest.approx(2.0)


def test_refusals(net, data):
    for lr in (0.0, -0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="lr must be a positive number"):
            implicit_regulariser(net, data, "mse", lr=lr)
    for call in (
        lambda: minibatch_regulariser(torch.eye(2), 0.0),
        lambda: regulariser_gradient(net, data, "mse", lr=-1.0),
        lambda: label_noise_regulariser(1.0, lr=0.0, batch_size=1, label_variance=1.0, loss="squared"),
        lambda: sgd_noise_scale(0.0, 10, 1),
        lambda: expected_regulariser(gradient_noise(net, data, "mse"), lr=0.0, batch_size=1),
    ):
        with pytest.raises(ValueError, match="lr must be a positive number"):
            call()
    with pytest.raises(ValueError, match="batch_size must be at least 1 and at most the 6 examples"):
        implicit_regulariser(net, data, "mse", lr=0.1, batch_size=7)
    with pytest.raises(ValueError, match="shape \\(minibatches, parameters\\)"):
        minibatch_regulariser(torch.ones(3), 0.1)
    with pytest.raises(ValueError, match="label_variance"):
        label_noise_regulariser(1.0, lr=0.1, batch_size=1, label_variance=-1.0, loss="squared")
    with pytest.raises(ValueError, match="'half_squared' or 'squared'"):
        label_noise_regulariser(1.0, lr=0.1, batch_size=1, label_variance=1.0, loss="cubed")
