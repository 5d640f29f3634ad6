"""What width does: in the tangent-kernel parametrisation the kernel moves less, outputs become Gaussian."""

import math

import pytest
import torch
from torch import nn

from theorylens.kernels import max_stable_lr, ntk, predicted_training, regime_diagram, wide_kernels, wide_network


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
        make, (x, torch.sin(2 * x[:, :1])), widths=(32, 128, 512), lrs=(1.0,), steps=60, seeds=(0, 1, 2), jobs=1,
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
    lr = 0.5 * max_stable_lr(K, reduction="mse")
    found = predicted_training(net, x, y, lr=lr, steps=80)
    rate = 1 - lr * 2 / 8 * float(torch.linalg.eigvalsh(K)[0])
    assert 0 < rate < 1
    for t in (1, 20, 80):
        bound = float(found.predicted.loss[0]) * rate ** (2 * t)
        assert float(found.predicted.loss[t]) <= bound * (1 + 1e-9)
        assert float(found.measured.loss[t]) == pytest.approx(float(found.predicted.loss[t]), rel=0.15)
    assert math.isfinite(float(found.gap[-1]))
