"""The margin bound from norms: the linear case by hand, the complexity against searches, vacuous where it must be."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.svm import LinearSVC
from torch import nn

from theorylens.generalization import L2Ball, golowich, margin_bound, norm_margin_bound


def test_a_linear_classifier_is_a_ball_and_its_bound_holds():
    x, y = load_digits(n_class=2, return_X_y=True)
    x = torch.as_tensor(x / np.linalg.norm(x, axis=1, keepdims=True))
    y = torch.as_tensor(y)
    net = nn.Linear(64, 1, bias=False).double()
    svm = LinearSVC(fit_intercept=False, max_iter=100_000).fit(x[:300].numpy(), y[:300].numpy())
    net.weight.data = torch.as_tensor(svm.coef_) * 7  # the scale of the outputs means nothing
    found = norm_margin_bound(net, x[:300], y[:300], 0.05)
    w = svm.coef_[0] / np.linalg.norm(svm.coef_)
    with_one = L2Ball(points=torch.cat([x[:300], torch.ones(300, 1, dtype=torch.float64)], 1).numpy())
    normed = (2 * y[:300].numpy() - 1) * (x[:300].numpy() @ w)
    again = margin_bound(normed, found.margin, with_one.bound, 0.05, largest=1.0, empirical=True)
    assert found.complexity == pytest.approx(with_one.bound)
    assert found.bound == pytest.approx(again.bound, rel=1e-6)
    error = float((net(x[300:])[:, 0] > 0).ne(y[300:] > 0).double().mean())
    assert error <= found.bound


def test_the_complexity_is_not_exceeded_by_networks_of_norm_one():
    """For random signs, gradient ascent over two-layer networks of product 1 stays below the bound."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 3, generator=generator).double()
    signs = 1.0 - 2.0 * torch.randint(2, (12, 8), generator=generator).double()
    total = 0.0
    for row in signs:
        first = torch.randn(6, 3, generator=generator).double().requires_grad_()
        second = torch.randn(6, generator=generator).double().requires_grad_()
        step = torch.optim.Adam([first, second], 0.05)
        for _ in range(200):
            step.zero_grad()
            value = row @ (torch.relu(x @ first.T) @ second) / 8 / (first.norm() * second.norm())
            (-value).backward()
            step.step()
        total += float(value.detach())
    assert 0.2 * golowich(2, x) < total / 12 <= golowich(2, x)


def test_biases_are_weights_of_a_constant(digits):
    x, y = digits
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 8), nn.LeakyReLU(), nn.Linear(8, 10))
    found = norm_margin_bound(net, x[:200], y[:200], 0.05)
    squares = [sum(float(p.detach().square().sum()) for p in layer.parameters()) for layer in (net[0], net[2])]
    hidden = [math.sqrt(square + 1) for square in squares]
    rows = torch.cat([net[4].weight, net[4].bias[:, None]], 1).norm(dim=1)
    assert found.product == pytest.approx(hidden[0] * hidden[1] * float(rows.max().detach()), rel=1e-6)
    assert (found.depth, found.vacuous, found.bound) == (3, True, 1.0)
    # The network without biases that is meant: the same outputs, and norms with that product.
    augmented = torch.cat([x[:5], torch.ones(5, 1)], 1)
    for layer in (net[0], net[2]):
        full = torch.zeros(layer.out_features + 1, layer.in_features + 1)
        full[:-1] = torch.cat([layer.weight, layer.bias[:, None]], 1)
        full[-1, -1] = 1
        activation = torch.relu if layer is net[0] else nn.functional.leaky_relu
        augmented = activation(augmented @ full.T)
    out = augmented @ torch.cat([net[4].weight, net[4].bias[:, None]], 1).T
    assert torch.allclose(out, net(x[:5]), atol=1e-5)


def test_scaling_layers_against_each_other_changes_the_norms_and_not_the_answers(digits):
    x, y = digits
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 8, bias=False), nn.ReLU(), nn.Linear(8, 10, bias=False))
    one = norm_margin_bound(net, x[:100], y[:100], 0.05)
    net[2].weight.data *= 3
    other = norm_margin_bound(net, x[:100], y[:100], 0.05)
    assert other.product == pytest.approx(3 * one.product, rel=1e-6)
    assert other.margin == pytest.approx(one.margin, rel=1e-5)
    assert other.bound == one.bound


def test_many_examples_make_it_say_something():
    """Two far clusters, a linear classifier with two scores, 40,000 examples."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(2, (40_000,), generator=generator)
    x = (2.0 * y[:, None] - 1) * torch.tensor([[1.0, 0.0]]) + 0.05 * torch.randn(40_000, 2, generator=generator)
    net = nn.Linear(2, 2, bias=False)
    net.weight.data = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    found = norm_margin_bound(net, x, y, 0.05)
    assert not found.vacuous
    assert found.bound < 0.3


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), "Tanh \\(at 1\\) is not a linear layer"),
        (nn.Sequential(nn.Flatten()), "no linear layer"),
        (nn.Sequential(nn.Linear(4, 3), nn.LeakyReLU(2.0), nn.Linear(3, 2)), "LeakyReLU \\(at 1\\)"),
    ],
)
def test_other_networks_are_refused(model, said):
    with pytest.raises(ValueError, match=said):
        norm_margin_bound(model, torch.randn(5, 4), torch.tensor([0, 1, 0, 1, 1]), 0.05)


def test_numbers_that_are_refused():
    zero = nn.Linear(4, 2)
    for p in zero.parameters():
        nn.init.zeros_(p)
    x, y = torch.randn(5, 4), torch.tensor([0, 1, 0, 1, 1])
    with pytest.raises(ValueError, match="product of the layers' norms is 0"):
        norm_margin_bound(zero, x, y, 0.05)
    with pytest.raises(ValueError, match="delta must lie strictly between 0 and 1"):
        norm_margin_bound(nn.Linear(4, 2), x, y, 0.0)
    with pytest.raises(ValueError, match="Dropout\\) is in training mode"):
        norm_margin_bound(nn.Sequential(nn.Linear(4, 2), nn.Dropout()), x, y, 0.1)
    with pytest.raises(ValueError, match="depth must be at least 1"):
        golowich(0, x)
    with pytest.raises(ValueError, match="points must be a matrix of finite numbers"):
        golowich(2, torch.full((2, 2), math.nan))


def test_deeper_is_larger():
    x = torch.eye(4)
    values = [golowich(d, x) for d in (1, 2, 3, 10)]
    assert all(a < b for a, b in itertools.pairwise(values))
    assert values[0] == pytest.approx(2 / 4)
