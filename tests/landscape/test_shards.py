"""m-sharpness and the Fisher-Rao norm: limits, laws, refusals; a third of a trace from few products."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from theorylens import core
from theorylens.landscape import (
    NegativeCurvature,
    fisher_rao_norm,
    invariance,
    m_sharpness,
    worst_case_sharpness,
)
from theorylens.numerics.operator import DenseOperator
from theorylens.numerics.trace import hutchinson, hutchpp
from theorylens.results import Exact, Unknown


def relu_net(outputs=3):
    with core.global_randomness_kept(0):
        net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, outputs)).double().eval()
        return net, (torch.randn(30, 4).double(), torch.randint(outputs, (30,)))


def test_one_shard_is_the_worst_case_and_small_shards_are_worse():
    net, data = relu_net()
    whole = worst_case_sharpness(net, data, "cross_entropy", radius=0.1, starts=1, steps=30).estimate.value
    assert m_sharpness(net, data, "cross_entropy", m=30, radius=0.1, steps=30).value == pytest.approx(whole, rel=1e-6)
    values = [m_sharpness(net, data, "cross_entropy", m=m, radius=0.1).value for m in (30, 8, 1)]
    assert values == sorted(values)
    assert values[2] > 1.2 * values[0]


def test_to_first_order_it_is_the_mean_norm_of_the_shards_gradients():
    net, data = relu_net()
    norms = [core.objective(net, (data[0][i : i + 1], data[1][i : i + 1]), "cross_entropy").gradient().norm()
             for i in range(30)]  # fmt: skip
    found = m_sharpness(net, data, "cross_entropy", m=1, radius=1e-6)
    assert found.value == pytest.approx(1e-6 * float(sum(norms)) / 30, rel=1e-3)
    assert found.upper == math.inf


def test_the_fisher_rao_norm_is_that_of_liang_and_does_not_see_rescaling():
    """Without biases, two layers: w . grad of a loss is 2 (d loss / d f) . f, by Euler's theorem."""
    with core.global_randomness_kept(0):
        net = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False)).double().eval()
        data = torch.randn(30, 4).double(), torch.randint(3, (30,))
    f = net(data[0]).detach()
    slope = f.softmax(1) - torch.eye(3, dtype=torch.float64)[data[1]]
    truth = float((2 * (slope * f).sum(1)).square().mean())
    assert fisher_rao_norm(net, data, "cross_entropy") == pytest.approx(truth, rel=1e-9)
    assert invariance(lambda m: fisher_rao_norm(m, data, "cross_entropy"), net, data).invariant


def test_refusals_of_shards():
    net, data = relu_net()
    with pytest.raises(ValueError, match="m must be at least 1, got 0"):
        m_sharpness(net, data, "cross_entropy", m=0, radius=0.1)
    with pytest.raises(ValueError, match="radius must be a positive number"):
        m_sharpness(net, data, "cross_entropy", m=3, radius=0)


def until_finished(rule, limit=20_000):
    """Steps to take until the rule says that it has come to an end; a rule that never does fails."""
    for step in range(limit):
        if rule.finished:
            return
        yield step
    raise AssertionError(f"not finished after {limit} steps")


@pytest.mark.parametrize(("bend", "left"), [(0.05, False), (0.15, True)])
def test_curvature_counts_below_minus_the_root_of_rho_epsilon(bend, left):
    """With rho = 1 and epsilon = 0.01 a saddle of curvature -0.05 is second-order stationary, one of -0.15 is not."""
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    rule = NegativeCurvature([w], lr=0.2, epsilon=0.01, lipschitz=1.0)
    rule.step(lambda: (w[0] ** 2 - bend * w[1] ** 2) / 2 + w[1] ** 4 / 4)
    assert (bool(rule.events), rule.finished) == (left, not left)


def test_negative_curvature_leaves_the_saddle_and_ends_at_a_second_order_point():
    w = torch.tensor([0.5, 0.0], dtype=torch.float64, requires_grad=True)
    rule = NegativeCurvature([w], lr=0.2, epsilon=1e-4, lipschitz=6.0)
    losses = []
    for _ in until_finished(rule):
        losses.append(rule.step(lambda: (w[0] ** 2 - w[1] ** 2) / 2 + w[1] ** 4 / 4).item())
    assert losses[-1] == pytest.approx(-0.25, abs=1e-7)
    event = rule.events[0]
    assert event.curvature == pytest.approx(-1, rel=1e-6)
    assert event.length == pytest.approx(2 / 6, rel=1e-6)
    drop = event.loss - losses[event.step + 1]
    assert drop >= 2 / (3 * 6**2)  # the promise of the step length
    settled = w.detach().clone()
    rule.step(lambda: w.sum())
    assert torch.equal(w.detach(), settled)


def test_negative_curvature_trains_groups_with_their_own_rates_and_refuses_nonsense():
    a, b = (torch.ones(1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    rule = NegativeCurvature([{"params": [a], "lr": 0.1}, {"params": [b]}], lr=0.2, lipschitz=1.0)
    rule.step(lambda: (a**2 + b**2).sum() / 2)
    assert (a.item(), b.item()) == pytest.approx((0.9, 0.8))
    with pytest.raises(ValueError, match="step needs a closure"):
        rule.step()
    with pytest.raises(ValueError, match="lipschitz must be a positive number, got 0"):
        NegativeCurvature([a], lr=0.1, lipschitz=0)


# ---- Hutch++ -----------------------------------------------------------------------------------------------------


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def spiked(n=200, spikes=5, seed=0):
    values = np.concatenate([np.linspace(50, 100, spikes), np.sin(np.arange(n - spikes))])
    q = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=rng(seed))).Q
    m = q @ torch.from_numpy(values).diag() @ q.T
    return DenseOperator((m + m.T) / 2), values.sum()


def test_hutchpp_is_much_closer_where_few_eigenvalues_carry_the_trace():
    operator, truth = spiked()
    gaps = [[abs(f(operator, 48, generator=rng(s)).value - truth) for s in range(20)] for f in (hutchpp, hutchinson)]
    assert np.mean(gaps[0]) < 0.2 * np.mean(gaps[1])


def test_hutchpp_is_exact_when_the_sketch_spans_everything():
    small = DenseOperator(torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64))
    found = hutchpp(small, 12, generator=rng())
    assert found.value == pytest.approx(5, rel=1e-12)
    assert isinstance(found.uncertainty, Exact)
    rest = hutchpp(DenseOperator(torch.zeros(20, 20, dtype=torch.float64)), 12, generator=rng())
    assert rest.value == 0
    assert isinstance(rest.uncertainty, Unknown)
    with pytest.raises(ValueError, match="products must be at least 6 to give an interval, got 5"):
        hutchpp(small, 5, generator=rng())
    with pytest.raises(ValueError, match="level must lie strictly between 0 and 1"):
        hutchpp(small, 6, level=1.0, generator=rng())


@pytest.mark.slow
@pytest.mark.parametrize("products", [24, 48])
def test_the_interval_of_hutchpp_covers_the_trace_as_often_as_it_says(products):
    operator, truth = spiked(n=80)
    hits = 0
    for seed in range(600):
        found = hutchpp(operator, products, generator=rng(seed))
        hits += found.lower <= truth <= found.upper
    assert hits / 600 >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 600)
