"""Adaptive optimisers: what their state says, checked against the steps they really take."""

import math

import pytest
import torch
from torch import nn

from theorylens.bias import adaptive_optimizer_bias, adaptive_state, norm_box

X = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]).double()
Y = torch.tensor([[1.0], [2.0], [0.5]]).double()


def linear():
    net = nn.Linear(2, 1, bias=False).double()
    nn.init.constant_(net.weight, 0.3)
    return net


def train(net, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(net(X), Y).backward()
        before = net.weight.detach().clone()
        optimizer.step()
    return (net.weight.detach() - before).flatten()


def test_adam_s_first_step(golden):
    p = nn.Parameter(torch.zeros(1).double())
    optimizer = torch.optim.Adam([p], lr=1.0, eps=1e-8)
    p.grad = torch.full((1,), 0.5).double()
    optimizer.step()
    assert -p.item() == pytest.approx(golden("G5.2-8"), rel=1e-9)
    assert adaptive_state(optimizer).direction.item() == pytest.approx(golden("G5.2-8"), rel=1e-9)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.8, 0.95)),
        lambda p: torch.optim.Adam(p, lr=0.05, amsgrad=True),
        lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.0),
    ],
)
def test_the_state_predicts_the_step_that_was_taken(make):
    net = linear()
    optimizer = make(net.parameters())
    for steps in (1, 7):
        moved = train(net, optimizer, steps)
        state = adaptive_state(optimizer)
        assert torch.allclose(-state.lr * state.direction, moved, rtol=1e-9)
    assert state.step == 8


@pytest.mark.parametrize("centered", [False, True])
def test_rmsprop_too(centered):
    net = linear()
    optimizer = torch.optim.RMSprop(net.parameters(), lr=0.01, centered=centered)
    moved = train(net, optimizer, 5)
    state = adaptive_state(optimizer)
    assert torch.allclose(-0.01 * state.preconditioner * net.weight.grad.flatten(), moved, rtol=1e-9)
    assert state.momentum is None
    assert state.sign_alignment is None
    assert state.limit == pytest.approx(200)


def test_the_tutorial_s_second_moments_in_a_real_optimiser():
    """S5.2-1: relative rates for v = (.01, .1, .5, 1), here with the scale kept beside them."""
    p = nn.Parameter(torch.zeros(4).double())
    optimizer = torch.optim.Adam([p], betas=(0.9, 0.0), eps=1e-8)
    p.grad = torch.tensor([0.01, 0.1, 0.5, 1.0], dtype=torch.float64).sqrt()
    optimizer.step()
    state = adaptive_state(optimizer)
    assert state.relative.tolist() == pytest.approx([2.56797236, 0.81206422, 0.36316616, 0.25679726], abs=1e-8)
    assert float(state.preconditioner.max() / state.preconditioner.min()) == pytest.approx(10, rel=1e-6)
    assert state.preconditioner[-1].item() == pytest.approx(1, rel=1e-7)


def test_preconditioned_sharpness_is_that_of_the_matrix():
    net = linear()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    train(net, optimizer, 5)
    state = adaptive_state(optimizer)
    hessian = 2 * X.T @ X / 3
    root = state.preconditioner.sqrt()
    found = adaptive_optimizer_bias(net, (X, Y), "mse", optimizer)
    expected = torch.linalg.eigvalsh(root[:, None] * hessian * root)[-1].item()
    assert found.preconditioned.value == pytest.approx(expected, rel=1e-6)
    assert found.sharpness.value == pytest.approx(torch.linalg.eigvalsh(hessian)[-1].item(), rel=1e-6)
    assert found.limit == pytest.approx(2 * 1.9 / 0.1 / 0.01)
    assert found.share == pytest.approx(expected / found.limit, rel=1e-6)
    assert found.box is None


def test_beyond_the_limit_steps_grow_and_below_they_do_not():
    """The limit belongs to a frozen preconditioner: v is held by a beta2 that no longer moves it."""
    for factor, grows in ((0.9, False), (1.1, True)):
        p = nn.Parameter(torch.ones(1).double())
        optimizer = torch.optim.Adam([p], lr=0.1, betas=(0.9, 1 - 1e-12))
        p.grad = torch.ones(1).double()
        optimizer.step()
        state = adaptive_state(optimizer)
        curvature = factor * state.limit / state.preconditioner.item()
        for entry in optimizer.state.values():
            entry["exp_avg"].zero_()
            entry["step"] += 1000
            entry["exp_avg_sq"].mul_(1001)
        with torch.no_grad():
            p.fill_(1e-12)
        size = []
        for _ in range(150):
            p.grad = curvature * p.detach()
            optimizer.step()
            size.append(abs(p.item()))
        assert (max(size[-20:]) > max(size[:20])) is grows


def test_sign_alignment_is_one_for_equal_steps():
    p = nn.Parameter(torch.zeros(3).double())
    optimizer = torch.optim.Adam([p])
    p.grad = torch.tensor([0.1, -5.0, 2.0]).double()
    optimizer.step()  # the first step of Adam is sign descent
    assert adaptive_state(optimizer).sign_alignment == pytest.approx(1, abs=1e-6)
    p.grad = torch.tensor([0.1, 5.0, -2.0]).double()
    optimizer.step()
    assert adaptive_state(optimizer).sign_alignment < 0.99


def test_adamw_ends_where_the_box_says():
    """Minimise (w - c)² / 2: inside of the box the coordinate is c, outside it stops at the wall."""
    c = torch.tensor([0.5, -3.0, 5.0]).double()
    p = nn.Parameter(torch.zeros(3).double())
    optimizer = torch.optim.AdamW([p], lr=0.02, betas=(0.9, 0.99), weight_decay=0.5)
    for step in range(6000):
        optimizer.param_groups[0]["lr"] = 0.02 / (1 + step / 1000)
        p.grad = p.detach() - c
        optimizer.step()
    found = norm_box(p, p.detach() - c, 0.5)
    assert found.radius == 2
    assert found.largest == pytest.approx(2, rel=0.01)
    assert found.largest <= 2.001
    assert found.at_the_wall == pytest.approx(2 / 3)
    assert found.gap == pytest.approx(0, abs=0.1)
    assert p[0].item() == pytest.approx(0.5, abs=0.26)  # the interior coordinate is held back by the decay's pull
    assert norm_box(torch.zeros(3), p.detach() - c, 0.5).gap == pytest.approx(1)


def test_the_box_is_part_of_the_report_of_adamw():
    net = linear()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.1)
    train(net, optimizer, 3)
    found = adaptive_optimizer_bias(net, (X, Y), "mse", optimizer)
    assert found.box.radius == pytest.approx(10)
    assert found.box.largest == pytest.approx(net.weight.abs().max().item())


def test_refusals():
    net, other = linear(), linear()
    optimizer = torch.optim.Adam(net.parameters())
    with pytest.raises(ValueError, match="empty before the first step"):
        adaptive_state(optimizer)
    with pytest.raises(ValueError, match="empty before the first step"):
        adaptive_optimizer_bias(net, (X, Y), "mse", optimizer)
    with pytest.raises(ValueError, match="a SGD keeps no second moment"):
        adaptive_state(torch.optim.SGD(net.parameters(), lr=0.1))
    train(net, optimizer, 1)
    with pytest.raises(ValueError, match="does not hold the parameters"):
        adaptive_optimizer_bias(other, (X, Y), "mse", optimizer)
    two = torch.optim.Adam([{"params": [net.weight]}, {"params": [other.weight], "lr": 5.0}])
    net.weight.grad, other.weight.grad = torch.ones_like(net.weight), torch.ones_like(net.weight)
    two.step()
    with pytest.raises(ValueError, match="groups with different settings"):
        adaptive_state(two)
    heavy = torch.optim.RMSprop(net.parameters(), momentum=0.9)
    train(net, heavy, 1)
    with pytest.raises(ValueError, match="RMSprop with momentum"):
        adaptive_state(heavy)
    with pytest.raises(ValueError, match="weight_decay must be positive"):
        norm_box(torch.ones(2), torch.ones(2), 0.0)
    with pytest.raises(ValueError, match="one shape"):
        norm_box(torch.ones(2), torch.ones(3), 0.1)
    assert math.isfinite(adaptive_state(optimizer).limit)
