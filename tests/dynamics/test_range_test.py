"""Range test: the edge on a quadratic, on a real network against 2/λ, and runs that fall nowhere."""

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.core import global_randomness_kept
from theorylens.dynamics import RangeTest, max_stable_lr, range_test
from theorylens.landscape import eigenvalues
from theorylens.training import Optimisation


def test_on_a_noisy_quadratic_the_edge_is_the_stability_limit():
    y = 3 + torch.randn(64, 1, generator=torch.Generator().manual_seed(0))
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    found = range_test(net, (torch.full((64, 1), 2.0), y), "mse", lowest=1e-3, highest=10, steps=60)
    limit = max_stable_lr(8.0)
    assert 0.05 * limit < found.lowest <= limit
    assert limit < found.edge < 3 * limit


def test_the_properties_on_bare_numbers():
    found = RangeTest(
        rates=np.array([1.0, 2.0, 4.0, 8.0, 16.0]), losses=np.array([0.9, 0.5, 0.4, 0.8, np.inf]), first=1.0
    )
    assert (found.lowest, found.steepest, found.edge) == (4.0, 2.0, 16.0)
    curve = found.curve()
    assert len(curve.lines[0].x) == 4
    assert curve.walls[0].at == 1.0
    flat = RangeTest(rates=np.array([1.0, 2.0]), losses=np.array([0.999, 1.0]), first=1.0)
    assert (flat.lowest, flat.steepest, flat.edge) == (None, None, None)


@pytest.fixture(scope="module")
def network():
    with global_randomness_kept(0):
        return nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 10)).eval()


def test_on_digits_the_edge_lies_beyond_the_curvature_of_the_start(network, digits):
    data = digits.split("train").take(range(200))
    before = {k: v.clone() for k, v in network.state_dict().items()}
    found = range_test(network, data, "cross_entropy", lowest=1e-3, highest=100.0, steps=50)
    assert found.lowest is not None
    assert found.steepest <= found.lowest < found.edge
    sharpness = eigenvalues(network, data, "cross_entropy", k=1).values[0]
    assert found.edge > max_stable_lr(sharpness)  # early in training the limit is passed without harm (catapult)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert not network.training


def test_it_is_keyed_by_its_seed_and_leaves_the_world_alone(network, digits):
    data = digits.split("train").take(range(200))
    state = torch.random.get_rng_state()
    one, same, other = (range_test(network, data, "cross_entropy", steps=10, seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert one.losses.tolist() == same.losses.tolist()
    assert one.losses.tolist() != other.losses.tolist()


def test_adam_has_another_edge(network, digits):
    data = digits.split("train").take(range(200))
    how = Optimisation(optimizer="adam", batch_size=64)
    found = range_test(network, data, "cross_entropy", highest=100.0, steps=40, optimisation=how)
    assert found.lowest < 2.0


@pytest.mark.parametrize(
    "options", [{"lowest": 0.0}, {"lowest": 2.0, "highest": 1.0}, {"highest": float("inf")}, {"steps": 9}]
)
def test_refusals(network, digits, options):
    with pytest.raises(ValueError, match="needed are 0 < lowest < highest and at least 10 steps"):
        range_test(network, digits.split("train"), "cross_entropy", **options)
