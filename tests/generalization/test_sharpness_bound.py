"""The bound in which flatness appears: by hand, valid by simulation, blind to flatness far from the reference."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from theorylens import core
from theorylens.generalization import kl_inverse, pac_bayes_kl, sharpness_bound


def sample(n, seed):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=rng).double()
    flip = torch.rand(n, generator=rng) < 0.1
    return x, ((x[:, 0] > 0) ^ flip).long()


def fitted(x, y, steps=60):
    with core.global_randomness_kept(0):
        net = nn.Linear(3, 2).double()
    start = {k: v.clone() for k, v in net.state_dict().items()}
    rule = torch.optim.SGD(net.parameters(), lr=0.5)
    for _ in range(steps):
        rule.zero_grad()
        F.cross_entropy(net(x), y).backward()
        rule.step()
    return net.eval(), start


def test_it_is_the_formula_and_the_best_of_the_sizes_is_paid_for():
    x, y = sample(400, 0)
    net, start = fitted(x, y)
    found = sharpness_bound(net, (x, y), "cross_entropy", reference=start, sigmas=(0.1, 1.0), delta=0.1, draws=200)
    distance = sum(float((p.detach() - start[n]).square().sum()) for n, p in net.named_parameters())
    assert found.divergence == pytest.approx(distance / (2 * found.sigma**2), rel=1e-12)
    part = 0.1 / 4
    upper = kl_inverse(found.error + found.rise, math.log(1 / part) / 200)
    assert found.bound == pytest.approx(pac_bayes_kl(upper, found.divergence, 400, part), rel=1e-12)
    assert found.error == pytest.approx(float((net(x).argmax(1) != y).double().mean()), rel=1e-12)
    # The rise is the expected sharpness of the error: an average over other draws agrees.
    rng, errors = torch.Generator().manual_seed(1), []
    weights = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
    for _ in range(400):
        w = weights + found.sigma * torch.randn(8, generator=rng).double()
        errors.append(float(((x @ w[:6].reshape(2, 3).T + w[6:]).argmax(1) != y).double().mean()))
    mean, spread = sum(errors) / 400, torch.tensor(errors).std().item()
    assert abs(found.error + found.rise - mean) < 4 * spread * math.sqrt(1 / 200 + 1 / 400)
    alone = [
        sharpness_bound(net, (x, y), "cross_entropy", reference=start, sigmas=(s,), delta=0.1, draws=200).bound
        for s in (0.1, 1.0)
    ]
    assert min(alone) < found.bound < min(alone) + 0.05
    assert found.bound < 0.6  # it says something about so small a network


def test_a_flat_place_far_away_costs_as_much_as_a_sharp_one_nearby():
    x, y = sample(400, 0)
    net, start = fitted(x, y)
    near = sharpness_bound(net, (x, y), "cross_entropy", reference=start, sigmas=(0.3,), draws=100)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(8)  # the same decisions, and noise of one size matters eight times less
    far = sharpness_bound(net, (x, y), "cross_entropy", reference=start, sigmas=(0.3,), draws=100)
    assert far.error == near.error
    assert far.rise <= near.rise
    assert far.bound > near.bound


@pytest.mark.slow
def test_it_holds_for_as_many_data_sets_as_it_says():
    fresh_x, fresh_y = sample(4000, 10_000)
    rng, broken, slack = torch.Generator().manual_seed(0), 0, []
    for seed in range(120):
        x, y = sample(60, seed)
        net, start = fitted(x, y, steps=20)
        found = sharpness_bound(
            net, (x, y), "cross_entropy", reference=start, sigmas=(0.3, 1.0), delta=0.2, draws=60, seed=seed
        )
        weights = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
        errors = []
        for _ in range(60):
            w = weights + found.sigma * torch.randn(8, generator=rng).double()
            errors.append(float(((fresh_x @ w[:6].reshape(2, 3).T + w[6:]).argmax(1) != fresh_y).double().mean()))
        truth = sum(errors) / 60
        broken += truth > found.bound
        slack.append(found.bound - truth)
    assert broken / 120 <= 0.2
    assert sum(slack) / 120 < 0.5


def test_refusals():
    x, y = sample(50, 0)
    net, start = fitted(x, y, steps=1)
    how = {"reference": start}
    for bad in ((), (0.1, 0.0), (math.nan,)):
        with pytest.raises(ValueError, match="sigmas must be positive numbers"):
            sharpness_bound(net, (x, y), "cross_entropy", sigmas=bad, **how)
    with pytest.raises(ValueError, match="needed are 0 < delta < 1 and at least one draw, got 1 and 64"):
        sharpness_bound(net, (x, y), "cross_entropy", delta=1, **how)
    with pytest.raises(ValueError, match=r"the reference has no bias of shape \(2,\)"):
        sharpness_bound(net, (x, y), "cross_entropy", reference={"weight": start["weight"]})
