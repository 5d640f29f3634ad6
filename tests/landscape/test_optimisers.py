"""Optimisers that leave saddles, on a demo with a known answer, on networks, and what they refuse."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from theorylens.landscape import (
    CubicNewton,
    PerturbedGD,
    SaddleFreeNewton,
    Thresholds,
    octopus,
    perturbed_gd_thresholds,
)


def demo(w):
    return (w[0] ** 2 - w[1] ** 2) / 2 + w[1] ** 4 / 4


def at(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def with_backward(rule, f, *arguments):
    def closure():
        rule.zero_grad()
        loss = f(*arguments)
        loss.backward()
        return loss

    return closure


def until_finished(rule, limit=20_000):
    """Steps to take until the rule says that it has come to an end; a rule that never does fails."""
    for step in range(limit):
        if rule.finished:
            return
        yield step
    raise AssertionError(f"not finished after {limit} steps")


HOW = Thresholds(lr=0.1, radius=0.01, gradient=1e-3, decrease=1e-4, wait=100)


@pytest.mark.parametrize("start", [(0.0, 0.0), (1.0, 0.0)])
def test_golden_descent_stays_at_the_saddle_and_perturbed_descent_does_not(golden, start):
    w = at(*start)
    plain = torch.optim.SGD([w], lr=0.1)
    for _ in range(2000):
        plain.step(with_backward(plain, demo, w))
    assert demo(w).item() == pytest.approx(0, abs=1e-12)
    w = at(*start)
    rule = PerturbedGD([w], Thresholds(lr=0.1, radius=1e-3, gradient=1e-6, decrease=1e-4, wait=200))
    for _ in until_finished(rule):
        rule.step(with_backward(rule, demo, w))
    assert demo(w).item() == pytest.approx(golden("G3.2-7"), rel=1e-9)
    assert abs(w[1].item()) == pytest.approx(1, rel=1e-6)


def test_noise_comes_only_where_the_gradient_is_small_and_ends():
    w = at(1.0, 0.0)
    rule = PerturbedGD([w], HOW, seed=3)
    for _ in range(5):
        rule.step(with_backward(rule, demo, w))
    assert not rule.events  # on the slope it is plain descent, to the last bit
    twin = 1.0
    for _ in range(5):
        twin -= 0.1 * twin
    assert w[0].item() == twin
    for _ in until_finished(rule):
        rule.step(with_backward(rule, demo, w))
    first, last = rule.events[0], rule.events[-1]
    assert first.gradient_norm <= HOW.gradient
    assert first.outcome < -0.2
    assert -HOW.decrease < last.outcome
    assert all(b.step - a.step > HOW.wait for a, b in zip(rule.events, rule.events[1:], strict=False))
    settled = w.detach().clone()
    for _ in range(3):
        rule.step(with_backward(rule, demo, w))
    assert torch.equal(w.detach(), settled)  # it has come to an end


def test_the_gradient_is_held_against_the_threshold_by_its_length_over_all_tensors():
    """Two tensors with slopes 0.03 and 0.04: |g| = 0.05, while its square and each slope lie below 0.045."""
    for threshold, noticed in ((0.045, False), (0.055, True)):
        a, b = at(0.03, 0.0), at(0.04, 0.0)
        how = Thresholds(lr=1e-3, radius=1e-3, gradient=threshold, decrease=1e-9, wait=50)
        rule = PerturbedGD([a, b], how)
        rule.step(with_backward(rule, lambda w: (w[0].square().sum() + w[1].square().sum()) / 2, [a, b]))
        assert bool(rule.events) is noticed
        if noticed:
            assert rule.events[0].gradient_norm == pytest.approx(0.05)


def test_perturbations_are_uniform_in_the_ball_and_seeded():
    lengths = []
    for seed in range(300):
        w = at(0.0, 0.0)
        rule = PerturbedGD([w], HOW, seed=seed)
        rule.step(with_backward(rule, lambda v: 0 * v.sum(), w))  # nothing but the perturbation moves it
        lengths.append(float(w.detach().norm()) / HOW.radius)
    assert max(lengths) <= 1
    inside = sum(length**2 < 0.5 for length in lengths)  # areas of the disc
    assert abs(inside - 150) < 4 * math.sqrt(75)
    w, v = at(0.0, 0.0), at(0.0, 0.0)
    for x in (w, v):
        rule = PerturbedGD([x], HOW, seed=5)
        rule.step(with_backward(rule, demo, x))
    assert torch.equal(w, v)


def test_thresholds_are_those_of_the_paper():
    given = {"smoothness": 4.0, "lipschitz": 2.0, "epsilon": 0.1, "dimension": 10, "drop": 3.0, "delta": 0.05, "c": 0.5}
    found = perturbed_gd_thresholds(**given)
    chi = 3 * max(math.log(10 * 4 * 3 / (0.5 * 0.01 * 0.05)), 4)
    assert found.lr == 0.125
    assert found.radius == pytest.approx(0.5**0.5 / chi**2 * 0.1 / 4)
    assert found.gradient == pytest.approx(0.5**0.5 / chi**2 * 0.1)
    assert found.decrease == pytest.approx(0.5 / chi**3 * (0.001 / 2) ** 0.5)
    assert found.wait == math.ceil(chi / 0.25 * 4 / 0.2**0.5)


def test_with_the_thresholds_of_the_theorem_it_ends_at_a_second_order_point():
    f = lambda w: demo(w)  # noqa: E731
    how = perturbed_gd_thresholds(smoothness=4.0, lipschitz=6.0, epsilon=0.1, dimension=2, drop=0.25, c=1.0)
    w = at(0.0, 0.0)
    rule = PerturbedGD([w], how)
    for _ in range(20_000):
        rule.step(with_backward(rule, f, w))
        if rule.finished:
            break
    assert rule.finished
    low = min(1.0, 3 * w[1].item() ** 2 - 1)
    assert low >= -math.sqrt(6.0 * 0.1)
    assert demo(w).item() < -0.2


@pytest.mark.parametrize("kind", [CubicNewton, lambda p: SaddleFreeNewton(p, lr=1.0, damping=1e-3)])
def test_newton_methods_leave_the_neighbourhood_of_a_saddle(kind):
    w = at(1.0, 1e-3)
    rule = kind([w])
    for _ in range(40):
        rule.step(lambda: demo(w))
    assert demo(w).item() == pytest.approx(-0.25, rel=1e-9)


def test_only_the_cubic_one_leaves_the_saddle_itself():
    w = at(0.0, 0.0)
    rule = CubicNewton([w])
    for _ in range(20):
        rule.step(lambda: demo(w))
    assert demo(w).item() == pytest.approx(-0.25, rel=1e-9)
    v = at(0.0, 0.0)
    free = SaddleFreeNewton([v], lr=1.0)
    for _ in range(20):
        free.step(lambda: demo(v))
    assert demo(v).item() == 0


def test_each_step_of_a_quadratic_is_the_nesterov_polyak_step():
    w = at(0.0, 0.0)
    rule = CubicNewton([w], regularisation=1.0, adaptive=False)
    rule.step(lambda: w[0] + 0.5 * w[1] + (w[0] ** 2 - w[1] ** 2) / 2)
    assert w.tolist() == pytest.approx([-0.4524331972, -2.377883157], rel=1e-9)
    event = rule.events[0]
    assert event.promised == pytest.approx(2.002521935, rel=1e-8)
    assert event.step_norm == pytest.approx(2.42054211, rel=1e-8)


def test_a_poor_step_is_undone_and_tried_again_with_more_regularisation():
    w = at(2.0)
    rule = CubicNewton([w], regularisation=1e-6)
    before = []
    for _ in range(30):
        loss = rule.step(lambda: (1 + w[0] ** 2).sqrt())  # Newton's method diverges from 2
        before.append(loss.item())
    assert before == sorted(before, reverse=True)
    assert before[-1] == pytest.approx(1)
    assert any(not e.accepted for e in rule.events)


@pytest.mark.parametrize("subspace", [10, 1000])
def test_a_network_is_trained_by_cubic_newton(subspace):
    torch.manual_seed(0)
    x = torch.randn(60, 3)
    y = (x[:, :1] * x[:, 1:2]).double()
    net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    rule = CubicNewton(net.parameters(), subspace=subspace)
    losses = [rule.step(lambda: F.mse_loss(net(x.double()), y)).item() for _ in range(25)]
    assert losses[-1] < 0.1 * losses[0]
    assert losses == sorted(losses, reverse=True)
    assert all(e.products <= max(40, 31) for e in rule.events)


def test_the_saddle_free_step_is_the_one_of_the_whole_matrix():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    x, y = torch.randn(20, 2).double(), torch.randn(20, 1).double()
    leaves = list(net.parameters())
    flat = torch.cat([p.detach().reshape(-1) for p in leaves])
    g = torch.autograd.grad(F.mse_loss(net(x), y), leaves, create_graph=True)
    g = torch.cat([s.reshape(-1) for s in g])
    h = torch.stack([torch.cat([v.reshape(-1) for v in torch.autograd.grad(s, leaves, retain_graph=True)]) for s in g])
    values, axes = torch.linalg.eigh((h + h.T) / 2)
    wanted = flat - 0.5 * axes @ ((axes.T @ g.detach()) / (values.abs() + 0.01))
    rule = SaddleFreeNewton(leaves, lr=0.5, damping=0.01, subspace=len(flat))
    rule.step(lambda: F.mse_loss(net(x), y))
    assert torch.allclose(torch.cat([p.detach().reshape(-1) for p in leaves]), wanted, atol=1e-9)


def test_refusals():
    w = at(1.0)
    with pytest.raises(ValueError, match="radius must be a positive number, got 0"):
        Thresholds(lr=0.1, radius=0, gradient=1, decrease=1, wait=1)
    with pytest.raises(ValueError, match="wait must be at least 1 step, got 0"):
        Thresholds(lr=0.1, radius=1, gradient=1, decrease=1, wait=0)
    with pytest.raises(ValueError, match="epsilon must be a positive number"):
        perturbed_gd_thresholds(smoothness=1, lipschitz=1, epsilon=0, dimension=1, drop=1)
    with pytest.raises(ValueError, match="needed are dimension >= 1"):
        perturbed_gd_thresholds(smoothness=1, lipschitz=1, epsilon=1, dimension=0, drop=1)
    with pytest.raises(ValueError, match=r"PerturbedGD.step needs a closure"):
        PerturbedGD([w], HOW).step()
    with pytest.raises(ValueError, match="the loss is nan after 0 steps; lower lr"):
        PerturbedGD([w], HOW).step(lambda: torch.tensor(math.nan))
    for rule in (CubicNewton([w]), SaddleFreeNewton([w])):
        with pytest.raises(ValueError, match="step needs a closure"):
            rule.step()
        with pytest.raises(ValueError, match=r"a float; it must return the loss as a scalar tensor"):
            rule.step(lambda: 1.0)
        with pytest.raises(ValueError, match=r"a tensor of shape .* without a graph"):
            rule.step(lambda: w.detach().sum())
        with pytest.raises(ValueError, match="the closure called backward"):
            rule.step(lambda rule=rule: with_backward(rule, lambda: (w**4).sum())())
        with pytest.raises(ValueError, match="the loss is nan"):
            rule.step(lambda: (w * math.nan).sum())
    with pytest.raises(ValueError, match="regularisation M must be a positive number, got 0"):
        CubicNewton([w], regularisation=0)
    with pytest.raises(ValueError, match="subspace must be at least 1"):
        CubicNewton([w], subspace=0)
    with pytest.raises(ValueError, match="damping must be a positive number, got 0"):
        SaddleFreeNewton([w], damping=0)
    with pytest.raises(ValueError, match="takes one lr and damping"):
        SaddleFreeNewton([{"params": [w], "lr": 1.0}, {"params": [at(1.0)]}]).step(lambda: w.sum())
    with pytest.raises(ValueError, match="no parameter requires a gradient"):
        CubicNewton([torch.zeros(1)]).step(lambda: w.sum())


# ---- the octopus function ----------------------------------------------------------------------------------------


def test_octopus_is_twice_continuous_across_its_pieces():
    tau = math.e
    for border in (tau, 2 * tau):
        sides = []
        for side in (-1e-9, 1e-9):
            x = torch.tensor([border + side, 0.3, -0.2], dtype=torch.float64)
            hessian = torch.autograd.functional.hessian(octopus, x)
            slope = torch.autograd.functional.jacobian(octopus, x)
            sides.append((octopus(x), slope, hessian))
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*sides, strict=True))


def test_octopus_has_a_strict_saddle_at_each_stage_and_a_minimum_at_the_end():
    tau, last = math.e, math.inf
    for k in range(4):
        x = torch.tensor([4 * tau] * k + [0.0] * (3 - k), dtype=torch.float64)
        assert torch.autograd.functional.jacobian(octopus, x).abs().max() < 1e-9
        values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(octopus, x))
        assert float(values[0]) == pytest.approx(-2.0 if k < 3 else 8.0, abs=1e-9)
        assert float(octopus(x)) < last
        last = float(octopus(x))


def arrivals(step, x, limit):
    """Steps at which each coordinate has left its saddle."""
    found = []
    for t in range(limit):
        step()
        while len(found) < int((x.detach().abs() >= 2 * math.e).sum()):
            found.append(t)
        if len(found) == len(x):
            break
    return found


def start(d):
    rng = torch.Generator().manual_seed(0)
    return (0.05 + 0.9 * torch.rand(d, dtype=torch.float64, generator=rng)).requires_grad_()


def test_each_saddle_takes_descent_several_times_as_long_and_perturbed_descent_not():
    x = start(4)
    plain = torch.optim.SGD([x], lr=1 / 16)
    slow = arrivals(lambda: plain.step(with_backward(plain, octopus, x)), x, 8000)
    x = start(4)
    rule = PerturbedGD([x], Thresholds(lr=1 / 16, radius=0.01, gradient=0.1, decrease=0.1, wait=60))
    fast = arrivals(lambda: rule.step(with_backward(rule, octopus, x)), x, 8000)
    assert len(slow) == len(fast) == 4
    assert all(b > 5 * a for a, b in itertools.pairwise(slow))
    assert max(b - a for a, b in itertools.pairwise(fast)) < 120


def test_octopus_refuses_what_is_outside_of_its_tube():
    with pytest.raises(ValueError, match="leaves the tube of the octopus function at coordinate 0"):
        octopus(torch.tensor([0.0, 3.0]))
    with pytest.raises(ValueError, match="needed are smoothness > curvature > 0"):
        octopus(torch.zeros(2), smoothness=1.0, curvature=2.0)
