"""The margin bound from norms: the linear case by hand, the complexity against searches, vacuous where it must be."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.svm import LinearSVC
from torch import nn

from theorylens.generalization import (
    L2Ball,
    golowich,
    margin_bound,
    norm_margin_bound,
    path_complexity,
    squared_path_norm,
)


def test_a_linear_classifier_is_a_ball_and_its_bound_holds():
    x, y = load_digits(n_class=2, return_X_y=True)
    x = torch.as_tensor(x / np.linalg.norm(x, axis=1, keepdims=True))
    y = torch.as_tensor(y)
    net = nn.Linear(64, 1, bias=False).double()
    svm = LinearSVC(fit_intercept=False, max_iter=100_000).fit(x[:300].numpy(), y[:300].numpy())
    net.weight.data = torch.as_tensor(svm.coef_) * 7  # the scale of the outputs means nothing
    found = norm_margin_bound(net, x[:300], y[:300], 0.05)
    w = svm.coef_[0] / np.linalg.norm(svm.coef_)
    ball = L2Ball(points=x[:300].numpy())  # without a bias there is no constant input
    normed = (2 * y[:300].numpy() - 1) * (x[:300].numpy() @ w)
    again = margin_bound(normed, found.margin, ball.bound, 0.05, largest=1.0, empirical=True)
    assert found.complexity == pytest.approx(ball.bound)
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


def test_both_complexities_written_out():
    x = torch.tensor([[1.0, 2.0], [2.0, 0.0], [0.0, 1.0]])
    assert golowich(3, x) == pytest.approx((math.sqrt(6 * math.log(2)) + 1) * math.sqrt(10) / 3)
    assert path_complexity(3, x) == pytest.approx(math.sqrt(2 * math.log(2**3 * 2) * 5) / 3)


def enumerated(x):
    """Mean over all signs of max over columns |sum|, over m: the complexity of the l1 ball."""
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=len(x))), dtype=torch.float64)
    return float((signs @ x.double()).abs().max(1).values.mean()) / len(x)


def test_the_path_complexity_lies_above_what_networks_of_path_norm_one_reach():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(8, 3, generator=generator).double()
    assert enumerated(x) <= path_complexity(1, x) < 2 * enumerated(x)
    # One hidden layer: the supremum over path norm 1 is that of one unit with weights of l1 norm 1, found on a grid.
    fine = torch.linspace(-1, 1, 41, dtype=torch.float64)
    grid = torch.cartesian_prod(fine, fine, fine)
    grid = grid[grid.abs().sum(1) > 0]
    units = torch.relu(x @ (grid / grid.abs().sum(1, keepdim=True)).T)
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=8)), dtype=torch.float64)
    reached = float((signs @ units).abs().max(1).values.mean()) / 8
    assert 0.4 * path_complexity(2, x) < reached <= path_complexity(2, x)


def test_the_path_norm_is_the_sum_over_paths_and_rescaling_units_leaves_the_bound(digits):
    x, y = digits
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    y = y % 3
    found = norm_margin_bound(net, x[:100], y[:100], 0.05, norm="path")
    w, b = ([p.detach().double().abs() for p in net.parameters()][k::2] for k in (0, 1))
    sums = [
        sum(w[2][o, j] * w[1][j, i] * (w[0][i].sum() + b[0][i]) for i in range(6) for j in range(5))
        + sum(w[2][o, j] * b[1][j] for j in range(5))
        + b[2][o]
        for o in range(3)
    ]
    assert found.product == pytest.approx(float(max(sums)), rel=1e-12)
    assert found.complexity == pytest.approx(path_complexity(3, torch.cat([x[:100], torch.ones(100, 1)], 1)))
    net[0].weight.data *= 4
    net[0].bias.data *= 4
    net[2].weight.data /= 4
    again = norm_margin_bound(net, x[:100], y[:100], 0.05, norm="path")
    assert again.product == pytest.approx(found.product, rel=1e-6)
    assert again.margin == pytest.approx(found.margin, rel=1e-4)
    assert norm_margin_bound(net, x[:100], y[:100], 0.05).product != pytest.approx(found.product, rel=0.1)
    # Squared weights give the squared path norm that is measured elsewhere.
    bare = nn.Sequential(nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 1, bias=False))
    roots = nn.Sequential(nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 1, bias=False))
    for a, r in zip(bare.parameters(), roots.parameters(), strict=True):
        r.data = a.data.abs().sqrt()
    inputs, answers = torch.randn(20, 4, generator=torch.Generator().manual_seed(1)), torch.arange(20) % 2
    path = norm_margin_bound(bare, inputs, answers, 0.05, norm="path").product
    assert path == pytest.approx(squared_path_norm(roots, (4,)), rel=1e-5)


def test_a_path_bound_that_says_something_holds_on_new_examples():
    """Two far clusters in 20 coordinates of which one tells: the path norm does not count the others' lengths."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(2, (60_000,), generator=generator)
    x = 1.0 - 2.0 * torch.randint(2, (60_000, 20), generator=generator)
    x[:, 0] = 2.0 * y - 1
    net = nn.Sequential(nn.Linear(20, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    net[0].weight.data = torch.zeros(2, 20)
    net[0].weight.data[:, 0] = torch.tensor([1.0, -1.0])
    net[2].weight.data = torch.tensor([[1.0, -1.0]])
    path = norm_margin_bound(net, x, y, 0.05, norm="path")
    frobenius = norm_margin_bound(net, x, y, 0.05)
    assert path.bound < 0.3 < frobenius.bound
    with pytest.raises(ValueError, match="norm must be 'frobenius' or 'path'"):
        norm_margin_bound(net, x, y, 0.05, norm="spectral")


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
