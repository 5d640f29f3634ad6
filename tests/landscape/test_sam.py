"""SAM and ASAM: golden step, a twin by hand, both interfaces, any base, batch statistics, AMP scale, refusals."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from theorylens.landscape import ASAM, SAM, eigenvalues


def bowl(w):
    return w[0] ** 2 + 100 * w[1] ** 2


def closure_of(rule, f):
    def closure():
        rule.zero_grad()
        loss = f()
        loss.backward()
        return loss

    return closure


def start():
    return torch.tensor([1.0, 0.5], dtype=torch.float64, requires_grad=True)


def test_golden_step(golden):
    w = start()
    rule = SAM(torch.optim.SGD([w], lr=0.01), rho=0.05)
    loss = rule.step(closure_of(rule, lambda: bowl(w)))
    assert w.tolist() == pytest.approx(golden("G3.3-3"), rel=1e-9)
    assert w.tolist() == pytest.approx({"S3.3-1": [0.9799800040, -0.5999800060]}["S3.3-1"], rel=1e-9)
    assert loss.item() == 26  # at the weights themselves


def test_the_two_step_interface_does_the_same_with_accumulated_gradients():
    w = start()
    rule = SAM(torch.optim.SGD([w], lr=0.01), rho=0.05)
    for turn in (rule.first_step, rule.second_step):
        for _ in range(4):
            (bowl(w) / 4).backward()
        turn()
    assert w.tolist() == pytest.approx([0.979980004, -0.599980006], rel=1e-9)


def test_radius_zero_is_the_base_optimiser():
    torch.manual_seed(0)
    nets = [nn.Linear(3, 2)]
    nets.append(copy.deepcopy(nets[0]))
    x, y = torch.randn(10, 3), torch.randint(2, (10,))
    plain = torch.optim.Adam(nets[0].parameters(), lr=0.1)
    aware = SAM(torch.optim.Adam(nets[1].parameters(), lr=0.1), rho=0)
    for _ in range(5):
        plain.zero_grad()
        F.cross_entropy(nets[0](x), y).backward()
        plain.step()
        aware.step(closure_of(aware, lambda: F.cross_entropy(nets[1](x), y)))
    assert all(torch.equal(a, b) for a, b in zip(*(n.parameters() for n in nets), strict=True))


def test_the_scale_of_a_loss_as_of_amp_does_not_change_the_neighbour():
    w, v = start(), start()
    for x, scale in ((w, 1.0), (v, 65536.0)):
        rule = SAM(torch.optim.SGD([x], lr=1.0), rho=0.05)
        (scale * bowl(x)).backward()
        rule.first_step()
    assert torch.allclose(w, v, rtol=1e-12)


def test_a_zero_or_infinite_gradient_moves_nothing():
    w = torch.zeros(2, requires_grad=True)
    rule = SAM(torch.optim.SGD([w], lr=0.1, weight_decay=0.0), rho=0.05)
    rule.step(closure_of(rule, lambda: bowl(w)))
    assert w.tolist() == [0, 0]
    assert rule.skipped == 1
    w.grad = torch.tensor([math.inf, 1.0])
    rule.first_step()
    assert w.tolist() == [0, 0]
    assert rule.skipped == 2


def test_adaptive_steps_follow_the_weights():
    w = start()
    rule = ASAM(torch.optim.SGD([w], lr=0.01), rho=0.5, eta=0.01)
    bowl(w).backward()
    g = w.grad.clone()
    t = torch.tensor([1.01, 0.51], dtype=torch.float64)
    rule.first_step()
    wanted = torch.tensor([1.0, 0.5]) + 0.5 * t**2 * g / (t * g).norm()
    assert torch.allclose(w.detach(), wanted, rtol=1e-12)
    bowl(w).backward()
    rule.second_step()
    assert torch.allclose(w.detach(), torch.tensor([1.0, 0.5]) - 0.01 * torch.stack([2 * wanted[0], 200 * wanted[1]]))


def test_rescaling_two_layers_moves_the_adaptive_neighbour_along_and_not_the_plain_one():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5, bias=False), nn.ReLU(), nn.Linear(5, 2, bias=False)).double()
    other = copy.deepcopy(net)
    with torch.no_grad():
        other[0].weight *= 4
        other[2].weight /= 4
    x, y = torch.randn(20, 3).double(), torch.randint(2, (20,))
    for kind, same in ((lambda b: ASAM(b, eta=0.0), True), (SAM, False)):
        outputs = []
        for m in (net, other):
            m = copy.deepcopy(m)
            rule = kind(torch.optim.SGD(m.parameters(), lr=0.1))
            F.cross_entropy(m(x), y).backward()
            rule.first_step()
            outputs.append(m(x))
        assert torch.allclose(*outputs, atol=1e-9) is same


def test_shards_have_neighbours_of_their_own():
    w = start()
    rule = SAM(torch.optim.SGD([w], lr=0.01), rho=0.05)
    losses = rule.sharded_step([closure_of(rule, lambda: w[0] ** 2), closure_of(rule, lambda: 100 * w[1] ** 2)])
    # Each shard moves along its own axis only: gradients 2 (1.05) and 200 (0.55), averaged.
    assert w.tolist() == pytest.approx([1 - 0.01 * 2.1 / 2, 0.5 - 0.01 * 110 / 2], rel=1e-12)
    assert [v.item() for v in losses] == [1, 25]


def test_running_statistics_count_a_batch_once():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).train()
    twin = copy.deepcopy(net)
    x, y = torch.randn(16, 3), torch.randint(2, (16,))
    rule = SAM(torch.optim.SGD(net.parameters(), lr=0.1), model=net)
    rule.step(closure_of(rule, lambda: F.cross_entropy(net(x), y)))
    twin(x)
    assert torch.equal(net[1].running_mean, twin[1].running_mean)
    assert int(net[1].num_batches_tracked) == 1


def test_weights_come_back_to_the_last_bit_and_after_an_error():
    w = torch.rand(50, requires_grad=True)
    before = w.detach().clone()
    rule = SAM(torch.optim.SGD([w], lr=0.0), rho=0.3)
    rule.step(closure_of(rule, lambda: w.sin().sum()))
    assert torch.equal(w, before)
    calls = []

    def failing():
        calls.append(1)
        if len(calls) == 2:
            raise ArithmeticError("second pass")
        return closure_of(rule, lambda: w.sin().sum())()

    with pytest.raises(ArithmeticError):
        rule.step(failing)
    assert torch.equal(w, before)


def test_schedulers_and_state_dicts_reach_the_base():
    w = start()
    base = torch.optim.Adam([w], lr=0.1)
    rule = SAM(base, rho=0.05)
    schedule = torch.optim.lr_scheduler.ExponentialLR(rule, 0.5)
    rule.step(closure_of(rule, lambda: bowl(w)))
    schedule.step()
    assert base.param_groups[0]["lr"] == 0.05
    saved = copy.deepcopy(rule.state_dict())
    v = w.detach().clone().requires_grad_()
    again = SAM(torch.optim.Adam([v], lr=0.3), rho=0.05)
    again.load_state_dict(saved)
    for x, r in ((w, rule), (v, again)):
        r.step(closure_of(r, lambda x=x: bowl(x)))
    assert torch.equal(w, v)


def test_it_ends_flatter_than_its_base_on_digits(digits):
    x, y = digits.split("train").take(range(150))
    found = []
    for aware in (False, True):
        net = copy.deepcopy(digits.net)
        net.load_state_dict(digits.init)
        base = torch.optim.SGD(net.parameters(), lr=0.5)
        rule = SAM(base, rho=0.5) if aware else base
        for _ in range(150):
            rule.step(closure_of(rule, lambda net=net: F.cross_entropy(net(x), y)))
        found.append(eigenvalues(net.eval(), (x, y), "cross_entropy", k=1).values[0])
    assert found[1] < 0.8 * found[0]


def test_refusals(unchecked_shapes):
    w = start()
    with pytest.raises(ValueError, match=r"rho must be at least 0, got -0.1"):
        SAM(torch.optim.SGD([w], lr=0.1), rho=-0.1)
    with pytest.raises(ValueError, match="rho must be at least 0, got nan"):
        ASAM(torch.optim.SGD([w], lr=0.1), rho=math.nan)
    with pytest.raises(ValueError, match="eta must be at least 0, got -1"):
        ASAM(torch.optim.SGD([w], lr=0.1), eta=-1)
    with pytest.raises(TypeError, match="base is a list, needed is an optimiser"):
        SAM([w])
    rule = SAM(torch.optim.SGD([w], lr=0.1))
    with pytest.raises(ValueError, match=r"SAM.step needs a closure"):
        rule.step()
    with pytest.raises(RuntimeError, match="no parameter has a gradient"):
        rule.first_step()
    with pytest.raises(RuntimeError, match="second_step needs first_step before it"):
        rule.second_step()
    bowl(w).backward()
    rule.first_step()
    with pytest.raises(RuntimeError, match="first_step was called twice"):
        rule.first_step()
    with pytest.raises(ValueError, match="sharded_step needs at least one closure"):
        rule.sharded_step([])
