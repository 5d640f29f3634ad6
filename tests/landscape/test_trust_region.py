"""Trust-region Newton: the ball's minimum against a grid and a general solver, the hard case, saddles, a network."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import nn

from theorylens.landscape import TrustRegionNewton
from theorylens.landscape._trust_region import within_ball


def model(matrix, gradient, h):
    return float(gradient @ h + h @ matrix @ h / 2)


@pytest.mark.parametrize("seed", range(8))
def test_no_start_of_a_general_solver_finds_a_lower_point_of_the_ball(seed):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((4, 4))
    matrix, gradient = (a + a.T) / 2 + (3 * np.eye(4) if seed % 2 else 0), rng.standard_normal(4)
    radius = float(rng.uniform(0.1, 2))
    h, hard = within_ball(matrix, gradient, radius)
    assert not hard
    assert np.linalg.norm(h) <= radius * (1 + 1e-9)
    ball = {"type": "ineq", "fun": lambda v: radius**2 - v @ v}
    found = [
        minimize(lambda v: model(matrix, gradient, v), start, constraints=ball, method="SLSQP").x
        for start in rng.standard_normal((6, 4)) * radius / 4
    ]
    others = [model(matrix, gradient, v * min(1.0, radius / np.linalg.norm(v))) for v in found]  # back into the ball
    assert model(matrix, gradient, h) <= min(others) + 1e-12
    assert model(matrix, gradient, h) == pytest.approx(min(others), abs=1e-5)


def test_cases_by_hand():
    newton, _ = within_ball(np.diag([2.0, 4.0]), np.array([1.0, 2.0]), 10.0)
    assert newton == pytest.approx([-0.5, -0.5])  # inside the ball it is Newton's step
    edge, _ = within_ball(np.diag([2.0, 2.0]), np.array([3.0, 4.0]), 1.0)
    assert edge == pytest.approx([-0.6, -0.8])
    hard, said = within_ball(np.diag([1.0, -1.0]), np.array([1.0, 0.0]), 2.0)
    assert said
    assert hard[0] == pytest.approx(-0.5)  # 1 / (1 + s) with s = 1
    assert abs(hard[1]) == pytest.approx(math.sqrt(4 - 0.25))
    saddle, said = within_ball(np.diag([1.0, -3.0]), np.zeros(2), 0.5)
    assert said
    assert np.abs(saddle) == pytest.approx([0.0, 0.5])
    assert within_ball(np.zeros((2, 2)), np.zeros(2), 1.0)[0].tolist() == [0.0, 0.0]
    flat, _ = within_ball(np.diag([0.0, 1.0]), np.array([3.0, 0.0]), 2.0)
    assert flat == pytest.approx([-2.0, 0.0])


@pytest.mark.parametrize("start", [(0.0, 0.0), (1.0, 0.0)])
def test_golden_it_leaves_the_saddle_for_the_minimum(golden, start):
    w = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    rule = TrustRegionNewton([w], radius=0.5)
    for _ in range(30):
        loss = rule.step(lambda: (w[0] ** 2 - w[1] ** 2) / 2 + w[1] ** 4 / 4)
    assert float(loss) == pytest.approx(golden("G3.2-7"), rel=1e-9)
    assert all(e.step_norm <= e.radius * (1 + 1e-9) for e in rule.events)
    assert all(e.decrease > 0 for e in rule.events[:3] if e.accepted)


def test_the_radius_falls_where_the_model_is_wrong_and_a_refused_step_leaves_no_trace():
    w = torch.tensor([3.0], dtype=torch.float64, requires_grad=True)
    rule = TrustRegionNewton([w], radius=50.0, largest=50.0)
    rule.step(lambda: torch.sqrt(1 + 100 * w[0] ** 2))  # Newton's step overshoots by far
    refused = [e for e in rule.events if not e.accepted]
    assert refused
    assert rule.events[-1].accepted
    assert all(b.radius <= a.step_norm / 4 * (1 + 1e-12) for a, b in zip(rule.events, rule.events[1:], strict=False))
    assert abs(float(w.detach()[0])) < 3
    grown = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    rule = TrustRegionNewton([grown], radius=0.25, largest=1.0)
    radii = []
    for _ in range(6):
        rule.step(lambda: (grown[0] - 30.0) ** 2)
        radii.append(rule.radius)
    assert radii == [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert float(grown.detach()[0]) == pytest.approx(0.25 + 0.5 + 4 * 1.0)


def test_a_network_is_trained_and_goes_on_from_a_copy_of_its_state():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(100, 6, generator=generator)
    y = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > 1).long()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    rule = TrustRegionNewton(net.parameters())
    first = float(rule.step(lambda: F.cross_entropy(net(x), y)))
    for _ in range(6):
        rule.step(lambda: F.cross_entropy(net(x), y))
    twin = copy.deepcopy(net)
    other = TrustRegionNewton(twin.parameters())
    other.load_state_dict(rule.state_dict())
    last = float(rule.step(lambda: F.cross_entropy(net(x), y)))
    assert float(other.step(lambda: F.cross_entropy(twin(x), y))) == last
    assert other.radius == rule.radius
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))
    assert last < 0.5 * first
    assert rule.products == sum({id(e): e.products for e in rule.events if e.accepted}.values())


def test_refusals():
    w = torch.zeros(2, requires_grad=True)
    with pytest.raises(ValueError, match="radius must be positive and at most largest"):
        TrustRegionNewton([w], radius=0.0)
    with pytest.raises(ValueError, match="radius must be positive and at most largest"):
        TrustRegionNewton([w], radius=2.0, largest=1.0)
    with pytest.raises(ValueError, match="subspace must be at least 1"):
        TrustRegionNewton([w], subspace=0)
    with pytest.raises(ValueError, match="needs a closure"):
        TrustRegionNewton([w]).step()
