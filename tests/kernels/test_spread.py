"""TL406: the spread of random kernels against enumeration, its rate in the width, its interval, its probe."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.core import Subject, UnsuitableError
from theorylens.kernels import kernel_spread, ntk, probe_kernel_spread
from theorylens.kernels._spread_probe import judge, redrawn
from theorylens.report._plots import figure
from theorylens.results import Estimate, Message, Statistical, Unknown, Verdict

WHY = Message("test.why", "because")


def number(value, half=0.01):
    return Estimate(
        value=value, uncertainty=Statistical(lower=value - half, upper=value + half, level=0.95, method=WHY)
    )


def kernels(width, draws, g, n=6):
    """Kernels of the output weights of a one-layer ReLU network: mean products of features, variance ~ 1 / width."""
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    features = torch.relu(x @ torch.randn(draws, 3, width, generator=g, dtype=torch.float64))
    return features @ features.mT / width


@pytest.mark.parametrize(
    ("found", "verdict", "first"),
    [
        (number(0.05), Verdict.DESCRIPTIVE, "Hardly"),
        (number(0.2), Verdict.DESCRIPTIVE, "Somewhat"),
        (number(0.5), Verdict.DESCRIPTIVE, "Much"),
        (Estimate(value=0.2, uncertainty=Unknown(why=WHY)), Verdict.INCONCLUSIVE, "not enough draws"),
    ],
)
def test_every_branch_of_the_judge(found, verdict, first):
    said, reason, reading = judge(found)
    assert said is verdict
    assert reading.render().startswith(first)
    assert reason.render()


def test_the_squared_spread_is_the_variance_over_the_squared_mean():
    """Unbiased: numerator and denominator average to their values over all pairs from two equally likely kernels."""
    a, b = torch.eye(2, dtype=torch.float64), 3 * torch.eye(2, dtype=torch.float64)
    found = kernel_spread([a, b, a, b, a, b] * 400)
    assert found.value == pytest.approx(0.5, rel=1e-3)  # deviation 1 around 2
    ten = kernel_spread([10 * a, 10 * b] * 20)
    assert ten.value == pytest.approx(kernel_spread([a, b] * 20).value, rel=1e-12)


def test_the_spread_falls_like_one_over_root_width():
    g = torch.Generator().manual_seed(0)
    small, large = (kernel_spread(list(kernels(n, 400, g))).value for n in (20, 2000))
    assert math.log(small / large) / math.log(100) == pytest.approx(0.5, abs=0.05)


def test_edges():
    same = kernel_spread([torch.eye(2)] * 5)
    assert (same.value, same.lower, same.upper) == (0, 0, 0)
    two = kernel_spread([torch.eye(2), 1.1 * torch.eye(2)])
    assert isinstance(two.uncertainty, Unknown)
    noise = kernel_spread([torch.eye(2), -torch.eye(2)])
    assert math.isnan(noise.value)
    assert noise.trouble is not None
    with pytest.raises(ValueError, match="two kernels of one size"):
        kernel_spread([torch.eye(2)])
    with pytest.raises(ValueError, match="two kernels of one size"):
        kernel_spread([torch.eye(2), torch.eye(3)])


@pytest.mark.slow
@pytest.mark.parametrize("width", [10, 200])
def test_the_interval_covers(width):
    g = torch.Generator().manual_seed(1)
    truth = kernel_spread(list(kernels(width, 3000, g))).value
    covered = []
    for _ in range(2000):
        found = kernel_spread(list(kernels(width, 16, g)))
        covered.append(found.lower <= truth <= found.upper)
    assert np.mean(covered) > 0.9


def test_the_probe_is_the_spread_of_networks_drawn_anew(digits):
    result = probe_kernel_spread(digits, seed=4)
    assert 0.05 < result.estimate.value < 2
    assert result.plan == 16
    assert probe_kernel_spread(digits, seed=5).estimate.value != result.estimate.value
    assert all(figure(p) is not None for p in result.payload)
    table = result.payload[1]
    assert table.rows[1][1] > 3 * table.rows[0][1]  # training moved the kernel further than another draw would


def test_a_wider_network_has_a_steadier_kernel():
    x, found = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), []
    for width in (16, 1024):
        net = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 1))
        found.append(probe_kernel_spread(Subject(model=net, loss="mse", train=(x, x[:, :1]))).estimate.value)
    assert found[1] < 0.3 * found[0]


def test_drawing_anew_leaves_the_network_alone_and_names_what_it_cannot_draw():
    net, g = nn.Sequential(nn.Linear(2, 3), nn.MultiheadAttention(4, 2)), torch.Generator().manual_seed(0)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    one, two = redrawn(net, g), redrawn(net, g)
    assert not torch.equal(one[0].weight, two[0].weight)
    assert not torch.equal(one[1].in_proj_weight, two[1].in_proj_weight)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    net.register_parameter("token", nn.Parameter(torch.zeros(2)))
    with pytest.raises(UnsuitableError, match=r"model \(Sequential\) cannot re-initialise"):
        redrawn(net, g)


def test_the_kernels_are_those_of_the_public_function():
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    net = nn.Linear(4, 1)  # a constant kernel, whatever the weights
    result = probe_kernel_spread(Subject(model=net, loss="mse", train=(x, x[:, :1])))
    assert result.estimate.value == pytest.approx(0, abs=1e-6)
    assert float(ntk(net, x, output="trace").norm()) > 0
