"""A run in its plane: coordinates, the loss there, the random walk beside it, refusals."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.core import objective
from theorylens.landscape import trajectory_plane
from theorylens.report._plots import figure


@pytest.fixture(scope="module")
def run(digits):
    """The trained network, its data and states on the way: between its start and it, with a detour."""
    data, rng = digits.split("train").take(range(60)), torch.Generator().manual_seed(0)
    end = {k: v.clone() for k, v in digits.net.state_dict().items()}
    detour = {k: 0.1 * torch.randn(v.shape, generator=rng) for k, v in end.items()}
    states = [
        {k: (1 - t) * digits.init[k] + t * end[k] + t * (1 - t) * detour[k] for k in end} for t in (0.0, 0.3, 0.6, 0.8)
    ]
    return digits.net, data, states


def test_a_run_in_a_plane_is_all_in_it_and_the_losses_are_those_of_its_checkpoints(run):
    net, data, states = run
    found = trajectory_plane(net, data, "cross_entropy", states, points=7)
    assert sum(found.explained) == pytest.approx(1, abs=1e-5)  # single precision of the states
    assert found.outside < 1e-3
    assert found.path[-1].tolist() == [0, 0]
    start = nn.utils.parameters_to_vector(net.parameters()).detach()
    one, two = found.surface.directions
    goal = objective(net, data, "cross_entropy")
    middle = np.argmin(abs(found.surface.at_first)), np.argmin(abs(found.surface.at_second))
    assert found.surface.losses[middle] == goal.value
    first = torch.cat([states[0][k].reshape(-1) for k in net.state_dict()])
    rebuilt = start + found.path[0, 0] * one + found.path[0, 1] * two
    assert torch.allclose(rebuilt, first, atol=1e-5)
    for coordinates, at in zip(found.path.T, (found.surface.at_first, found.surface.at_second), strict=True):
        assert at[0] <= coordinates.min() <= coordinates.max() <= at[-1]
        assert 0 in at
        assert np.diff(at) == pytest.approx(np.diff(at)[0])
    assert figure(found.matrix()).axes
    assert figure(found.curve()).axes


def test_shares_of_a_random_walk_are_those_of_a_simulated_one():
    rng = torch.Generator().manual_seed(0)
    net = nn.Linear(20_000, 1, bias=False)
    steps = torch.randn(9, 20_000, generator=rng).cumsum(0)
    with torch.no_grad():
        net.weight.copy_(steps[-1:])
    data = torch.zeros(2, 20_000), torch.zeros(2, 1)
    found = trajectory_plane(net, data, "mse", [{"weight": s[None]} for s in steps[:-1]], points=3)
    assert found.explained == pytest.approx(found.random_walk, rel=0.03)
    assert sum(found.random_walk) > 0.75


def test_refusals(run):
    net, data, states = run
    with pytest.raises(ValueError, match="at least 2 checkpoints beside the network, got 1"):
        trajectory_plane(net, data, "cross_entropy", states[:1])
    with pytest.raises(ValueError, match="points must be at least 3, got 2"):
        trajectory_plane(net, data, "cross_entropy", states, points=2)
    with pytest.raises(ValueError, match=r"checkpoint 1 has no 0\.weight of shape"):
        trajectory_plane(net, data, "cross_entropy", [states[0], {}])
    bad = {k: v * float("nan") for k, v in states[1].items()}
    with pytest.raises(ValueError, match="checkpoint 1 has parameters that are not finite"):
        trajectory_plane(net, data, "cross_entropy", [states[0], bad])
    twin = copy.deepcopy(net).double()
    wide = data[0].double(), data[1]
    line = [{k: t * v for k, v in twin.state_dict().items()} for t in (0.5, 2.0)]
    with pytest.raises(ValueError, match="the checkpoints lie on one line"):
        trajectory_plane(twin, wide, "cross_entropy", line)
