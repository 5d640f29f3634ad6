"""The local learning coefficient where it is known: regular models by linear algebra, a singular one by quadrature."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate
from torch import nn

from theorylens.core import RefusedError
from theorylens.generalization import local_learning_coefficient
from theorylens.kernels import effective_dimension


def half_squares(outputs, targets):
    return (outputs - targets).square().sum(1) / 2


def regression(seed=0):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(60, 4, generator=rng, dtype=torch.float64)
    y = torch.randn(60, 1, generator=rng, dtype=torch.float64)
    net = nn.Linear(4, 1, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(torch.linalg.lstsq(x, y).solution.T)
    return net, (x, y)


def test_of_a_regular_model_it_is_half_its_effective_parameters():
    net, data = regression()
    levels = torch.linalg.eigvalsh(data[0].T @ data[0]) / math.log(60)
    exact = effective_dimension(levels, 1.0) / 2
    found = local_learning_coefficient(net, data, half_squares, localisation=1.0, steps=120, burn_in=60)
    assert found.estimate.lower < exact < found.estimate.upper
    assert found.estimate.value == pytest.approx(exact, rel=0.25)
    assert found.mixing < 1.2
    assert 0.4 < found.accepted < 0.8


def quadratic(scales, n=500):
    """A linear model of uncorrelated inputs of these sizes at its minimum; curvatures are the squares."""
    rng = torch.Generator().manual_seed(0)
    x = torch.linalg.qr(torch.randn(n, len(scales), generator=rng, dtype=torch.float64)).Q * math.sqrt(n)
    net = nn.Linear(len(scales), 1, bias=False).double()
    nn.init.zeros_(net.weight)
    levels = torch.tensor(scales, dtype=torch.float64).square() * n / math.log(n)
    return net, (x * torch.tensor(scales, dtype=torch.float64), torch.zeros(n, 1, dtype=torch.float64)), levels


def test_curvatures_of_very_different_size_all_count():
    net, data, levels = quadratic([10.0, 1.0, 0.1, 0.03])  # with steps of one length 0.73 (0.61 to 0.85) without a word
    exact = effective_dimension(levels, 1.0) / 2
    found = local_learning_coefficient(net, data, half_squares, localisation=1.0, chains=8, steps=100, burn_in=60)
    assert found.estimate.lower < exact < found.estimate.upper
    assert found.estimate.value == pytest.approx(exact, rel=0.1)
    assert found.reached == pytest.approx(1.0, abs=0.15)
    assert found.estimate.trouble is None


def test_chains_that_have_not_reached_the_flat_directions_say_so():
    net, data, levels = quadratic(list(np.logspace(1, -2, 50)))
    found = local_learning_coefficient(net, data, half_squares, localisation=0.01, steps=60, burn_in=30)
    assert found.estimate.upper < effective_dimension(levels, 0.01) / 2
    assert found.reached < 0.9
    said = found.estimate.trouble.render()
    assert "raise steps and burn_in" in said


class Product(nn.Module):
    """x -> a b x: around a = b = 0 the loss is flat along two lines that cross."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.b = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x):
        return x * self.a * self.b


@pytest.mark.slow
def test_of_a_singular_model_it_is_less_than_half_its_parameters():
    n = 200
    x = torch.full((n, 1), 2.0, dtype=torch.float64)
    strength = 4 * n / math.log(n)

    def weight(a, b):
        return math.exp(-strength * (a * b) ** 2 / 2 - (a * a + b * b) / 2)

    box = [[-7, 7], [-7, 7]]
    options = {"epsabs": 1e-7, "points": [0.0]}
    total = integrate.nquad(weight, box, opts=options)[0]
    mean = integrate.nquad(lambda a, b: strength * (a * b) ** 2 / 2 * weight(a, b), box, opts=options)[0] / total
    found = local_learning_coefficient(
        Product(), (x, torch.zeros_like(x)), half_squares, localisation=1.0, steps=800, burn_in=100
    )
    assert mean < 0.45  # half the number of parameters is 1
    assert found.estimate.lower < mean < found.estimate.upper
    assert found.estimate.upper < 0.7


def test_the_answer_depends_on_the_seed_and_the_network_stays_as_it_was():
    net, data = regression()
    before = net.weight.detach().clone()
    one, two, other = (
        local_learning_coefficient(net, data, half_squares, localisation=1.0, steps=20, burn_in=5, seed=s)
        for s in (0, 0, 1)
    )
    assert one == two
    assert one.estimate.value != other.estimate.value
    assert torch.equal(net.weight, before)


def test_what_went_wrong_is_said():
    net, data = regression()
    with torch.no_grad():
        net.weight += 3.0
    found = local_learning_coefficient(net, data, half_squares, localisation=1.0, steps=30, burn_in=15)
    assert found.estimate.value < 0
    assert "no minimum" in found.estimate.trouble.render() or "raise steps" in found.estimate.trouble.render()


@pytest.mark.slow
def test_the_interval_over_chains_covers_as_often_as_it_says():
    net, data = regression()
    exact = effective_dimension(torch.linalg.eigvalsh(data[0].T @ data[0]) / math.log(60), 1.0) / 2
    found = [
        local_learning_coefficient(net, data, half_squares, localisation=1.0, steps=50, burn_in=30, seed=s).estimate
        for s in range(12)
    ]
    assert 0.75 <= np.mean([f.lower <= exact <= f.upper for f in found]) <= 1.0
    assert np.mean([f.value for f in found]) == pytest.approx(exact, rel=0.08)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"chains": 1}, ValueError, "at least 2 chains"),
        ({"localisation": 0.0}, ValueError, "localisation must be positive"),
        ({"steps": 1}, ValueError, "2 steps"),
        ({"data": (torch.zeros(2, 4).double(), torch.zeros(2, 1).double())}, ValueError, "at least 3 examples, got 2"),
        ({"net": nn.Linear(4, 1).double().requires_grad_(False)}, ValueError, "no parameter"),
        ({"net": nn.Sequential(nn.Linear(4, 1).double(), nn.Dropout())}, RefusedError, "training mode"),
    ],
)
def test_refusals(options, error, said):
    options = dict(options)
    net, data = regression()
    net, data = options.pop("net", net), options.pop("data", data)
    with pytest.raises(error, match=said):
        local_learning_coefficient(net, data, half_squares, **options)
