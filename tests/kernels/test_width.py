"""What width does: in the tangent-kernel parametrisation the kernel moves less, outputs become Gaussian."""

import math

import pytest
import torch
from torch import nn

from theorylens.kernels import (
    coordinate_check,
    max_stable_kernel_lr,
    ntk,
    predicted_training,
    regime_diagram,
    wide_kernels,
    wide_network,
)
from theorylens.report._plots import figure
from theorylens.training import Optimisation


def rows(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def make(width, seed):
    """Weights of variance one, multiplied by 1 / sqrt(fan-in) in the forward pass."""
    g = torch.Generator().manual_seed(seed)
    first, last = nn.Linear(4, width, bias=False), nn.Linear(width, 1, bias=False)
    with torch.no_grad():
        for layer in (first, last):
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=g))
    return nn.Sequential(first, Times(0.5), nn.Tanh(), last, Times(width**-0.5)).eval()


@pytest.fixture(scope="module")
def diagram(tmp_path_factory):
    x = rows(16, 4)
    return regime_diagram(
        make, (x, torch.sin(2 * x[:, :1])), widths=(32, 128, 512), lrs=(1.0,), steps=40, seeds=(0, 1), jobs=1,
        directory=tmp_path_factory.mktemp("widths"),
    )  # fmt: skip


def test_the_kernel_and_the_linearisation_gap_fall_with_the_width(diagram):
    """At a fixed number of steps: like 1 / sqrt(n) by theorem, between that and 1 / n when measured."""
    assert {r["regime"] for r in diagram.runs} <= {"lazy", "between", "rich"}
    assert -1.2 < diagram.slope("width", "kernel_change") < -0.4
    assert -1.2 < diagram.slope("width", "linear_gap") < -0.4


def test_in_this_parametrisation_the_kernel_is_the_recursion_of_jacot():
    x = rows(6, 4).double()
    theory = wide_kernels(wide_network(1, "tanh", weight_variance=1.0, input_scale=0.25), x).ntk
    errors = [float((ntk(make(n, 0).double(), x, output="trace") - theory).norm() / theory.norm()) for n in (64, 16384)]
    assert errors[1] < 0.03 < errors[0]


def test_outputs_become_gaussian_with_the_variance_of_the_nngp():
    """Excess kurtosis of f over networks falls like 1 / n; the variance is that of the kernel at every width."""
    x, g = torch.tensor([[0.6, -1.0, 0.5, 2.0]]), torch.Generator().manual_seed(0)
    variance = float(wide_kernels(wide_network(1, "tanh", weight_variance=1.0, input_scale=0.25), x).nngp)
    excess = []
    for n in (2, 16):
        pre = 0.5 * x.norm() * torch.randn(400_000, n, generator=g)
        f = (torch.tanh(pre) * torch.randn(400_000, n, generator=g)).sum(1) / n**0.5
        assert float(f.var()) == pytest.approx(variance, rel=0.02)
        excess.append(float((f**4).mean() / f.var() ** 2 - 3))
    assert excess[1] == pytest.approx(excess[0] / 8, abs=0.05)
    assert excess[0] > 0.5


def test_a_positive_smallest_eigenvalue_makes_the_loss_fall_at_its_rate():
    """(1 - eta c lambda_min)^2t of the first loss bounds the predicted loss; the wide network keeps close to it."""
    x, y = rows(8, 4), rows(8, 1, 1)
    net = make(2048, 0)
    K = ntk(net, x, output="trace").double()
    lr = 0.5 * max_stable_kernel_lr(K, reduction="mse")
    found = predicted_training(net, x, y, lr=lr, steps=80)
    rate = 1 - lr * 2 / 8 * float(torch.linalg.eigvalsh(K)[0])
    assert 0 < rate < 1
    for t in (1, 20, 80):
        bound = float(found.predicted.loss[0]) * rate ** (2 * t)
        assert float(found.predicted.loss[t]) <= bound * (1 + 1e-9)
        assert float(found.measured.loss[t]) == pytest.approx(float(found.predicted.loss[t]), rel=0.15)
    assert math.isfinite(float(found.gap[-1]))


class Torchlike(nn.Sequential):
    def __init__(self, width, seed, scale=1.0):
        torch.manual_seed(seed)
        super().__init__(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))
        with torch.no_grad():
            self[4].weight.mul_(scale)


def standard(width, seed):
    return Torchlike(width, seed).eval()


def maximal(width, seed):
    """Output weights of size 1 / width; with the learning rates of `groups` this is muP for gradient descent."""
    return Torchlike(width, seed, scale=width**-0.5).eval()


def groups(parameters, lr):
    """SGD in muP: input layer lr * width, hidden lr, output lr / width; parameters in order of the layers."""
    own = list(parameters)
    width = len(own[0])
    factors = (width, width, 1, width, 1 / width, 1)  # weight and bias of each layer
    return torch.optim.SGD([{"params": [p], "lr": lr * f} for p, f in zip(own, factors, strict=True)], lr=lr)


@pytest.mark.parametrize(
    ("make", "optimizer", "lr", "output"),
    [(standard, "sgd", 1e-3, (0.7, 1.3)), (maximal, groups, 0.05, (-0.3, 0.3))],
)
def test_the_coordinate_check_tells_the_parametrisations_apart(tmp_path, make, optimizer, lr, output):
    """Standard: the change of the output at one learning rate grows like the width. muP: every layer's stays."""
    x = rows(24, 4)
    found = coordinate_check(
        make, (x, torch.sin(2 * x[:, :1])), "mse", Optimisation(optimizer=optimizer, lr=lr, batch_size=24, epochs=3),
        widths=(32, 128, 512), seeds=(0, 1), jobs=1, directory=tmp_path,
    )  # fmt: skip
    assert found.layers == ("0", "1", "2", "3", "4")
    assert output[0] < found.slope("4") < output[1]
    if make is maximal:
        assert all(abs(found.slope(layer)) < 0.3 for layer in found.layers)
    assert abs(found.slope("1", "size")) < 0.1  # activations of the start do not depend on the width
    assert figure(found.curve("2")) is not None
    assert len(found.table().rows) == 5


def test_a_coordinate_check_keeps_what_diverged_and_refuses_a_single_width(tmp_path):
    data = (rows(8, 4), rows(8, 1, 1))
    wild = Optimisation(lr=1e12, batch_size=8, epochs=30)
    found = coordinate_check(standard, data, "mse", wild, widths=(8, 16), jobs=1, directory=tmp_path)
    assert all(math.isnan(v) for run in found.runs for v in run["change"])
    assert math.isnan(found.slope("2"))
    with pytest.raises(ValueError, match="needs two widths"):
        coordinate_check(standard, data, "mse", wild, widths=(8,), directory=tmp_path)
