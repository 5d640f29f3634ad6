"""SSRGD and the noise of accelerated perturbed descent: against the papers' pseudo-code and formulas."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from theorylens.core import global_randomness_kept, rng_for
from theorylens.landscape import (
    SSRGD,
    AcceleratedPerturbedGD,
    Thresholds,
    accelerated_noise,
    escape_direction,
    ssrgd_thresholds,
)


def at(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def closing(rule, f):
    def closure():
        rule.zero_grad()
        loss = f()
        loss.backward()
        return loss

    return closure


def tilted(w, rows):
    """(x² - y²) / 2 + y⁴ / 4, with four examples tilted and bent against each other."""
    bent = torch.tensor([1.0, -1.0, 3.0, -3.0], dtype=torch.float64)[rows].mean()
    return (w[0] ** 2 - w[1] ** 2) / 2 + w[1] ** 4 / 4 + bent * (w[0] + 2 * w[1] + w[0] * w[1] / 4)


def naive(start, gradient, loss, how, m, batches, rng, steps):
    """The paper's algorithm for finite sums, line by line; the loss is looked at when an epoch begins."""
    x, t, t_init, super_epoch, places = start.clone(), 0, 0, False, []
    while True:
        g = gradient(x, range(4))
        if super_epoch and (loss(tilde) - loss(x) >= how.decrease or t - t_init >= how.wait):
            super_epoch = False
            if loss(tilde) - loss(x) < how.decrease:
                return places, tilde
        if not super_epoch and g.norm() <= how.gradient:
            super_epoch, tilde, t_init = True, x.clone(), t
            drawn = torch.randn(len(x), generator=rng, dtype=torch.float64)
            share = float(torch.rand(1, generator=rng, dtype=torch.float64)) ** (1 / len(x))
            x = tilde + how.radius * share * drawn / drawn.norm()
            g = gradient(x, range(4))
        v, stop = g, m if super_epoch else 1 + int(torch.randint(m, (1,), generator=rng))
        for k in range(1, m + 1):
            before, x, rows = x, x - how.lr * v, batches[t]
            t += 1
            places.append(x)
            if t == steps:
                return places, None
            if k == stop:
                break
            v = gradient(x, rows) - gradient(before, rows) + v


@pytest.mark.parametrize("m", [1, 4, 7])
def test_it_goes_where_the_pseudo_code_goes(m):
    how = Thresholds(lr=0.1, radius=0.01, gradient=1e-3, decrease=1e-4, wait=60)
    picks = torch.randint(4, (3000, 2), generator=torch.Generator().manual_seed(5)).tolist()

    def gradient(x, rows):
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(tilted(leaf, list(rows)), leaf)[0]

    start = torch.zeros(2, dtype=torch.float64)
    expected, stopped = naive(
        start, gradient, lambda x: float(tilted(x, [0, 1, 2, 3])), how, m, picks, rng_for(3, "landscape.ssrgd"), 3000
    )
    w = at(0.0, 0.0)
    rule = SSRGD([w], how, epoch=m, seed=3)
    for t, place in enumerate(expected):
        rule.step(closing(rule, lambda t=t: tilted(w, picks[t])), closing(rule, lambda: tilted(w, [0, 1, 2, 3])))
        torch.testing.assert_close(w.detach(), place, rtol=1e-12, atol=1e-13)
    assert stopped is not None
    assert not rule.finished
    rule.step(closing(rule, lambda: tilted(w, [0])), closing(rule, lambda: tilted(w, [0, 1, 2, 3])))
    assert rule.finished
    torch.testing.assert_close(w.detach(), stopped, rtol=1e-12, atol=1e-13)
    assert abs(float(w[1].detach().abs()) - 1) < 2e-3  # the minima are at y = +-1
    assert len(rule.events) >= 2
    assert [e.outcome <= -how.decrease for e in rule.events] == [True] * (len(rule.events) - 1) + [False]


def test_with_the_whole_data_as_batch_it_is_descent_and_counts_what_it_takes():
    how = Thresholds(lr=0.1, radius=0.01, gradient=1e-12, decrease=1e-4, wait=60)
    w, v = at(0.5, 0.4), at(0.5, 0.4)
    rule, plain = SSRGD([w], how, epoch=5), torch.optim.SGD([v], lr=0.1)
    for _ in range(40):
        full = closing(rule, lambda: tilted(w, [0, 1, 2, 3]))
        rule.step(full, full)
        plain.step(closing(plain, lambda: tilted(v, [0, 1, 2, 3])))
        torch.testing.assert_close(w, v, rtol=0, atol=1e-14)
    assert rule.steps == 40
    assert rule.batches == 2 * (rule.steps - rule.gradients + (rule._left > 0))
    assert 40 / 5 <= rule.gradients < 40


def test_a_network_leaves_its_saddle_and_ends_where_nothing_bends_down():
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)).double()
    y = (x @ torch.randn(3, 2, generator=torch.Generator().manual_seed(1)).double()).tanh()
    with global_randomness_kept(0):
        net = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False)).double()
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()  # every example's gradient is zero here: only a perturbation leaves
    how = Thresholds(lr=0.2, radius=1e-3, gradient=1e-3, decrease=1e-5, wait=150)
    rule = SSRGD(net.parameters(), how, epoch=8)
    order = torch.Generator().manual_seed(2)
    assert escape_direction(net, (x, y), "mse").curvature < -0.1
    for _ in range(6000):
        rows = torch.randint(64, (8,), generator=order)
        rule.step(
            closing(rule, lambda rows=rows: F.mse_loss(net(x[rows]), y[rows])),
            closing(rule, lambda: F.mse_loss(net(x), y)),
        )
        if rule.finished:
            break
    assert rule.finished
    bent = escape_direction(net, (x, y), "mse")
    assert bent is None or bent.curvature > -0.02
    assert rule.gradients < rule.steps / 3


def test_an_interrupted_step_leaves_the_weights_and_a_state_resumes_to_the_last_bit(tmp_path):
    how = Thresholds(lr=0.1, radius=0.01, gradient=1e-2, decrease=1e-4, wait=30)

    def run(w, rule, steps):
        for t in range(rule.steps, rule.steps + steps):
            rule.step(closing(rule, lambda t=t: tilted(w, [t % 4])), closing(rule, lambda: tilted(w, [0, 1, 2, 3])))

    w, again = at(0.0, 0.0), at(9.0, 9.0)
    rule, other = SSRGD([w], how, epoch=6, seed=1), SSRGD([again], how, epoch=6, seed=2)
    run(w, rule, 21)
    torch.save({"w": w.detach(), "rule": rule.state_dict()}, tmp_path / "state.pt")
    kept = torch.load(tmp_path / "state.pt", weights_only=True)
    again.data.copy_(kept["w"])
    other.load_state_dict(kept["rule"])
    run(w, rule, 40)
    run(again, other, 40)
    assert torch.equal(w, again)
    assert rule.events == other.events != []

    calls = itertools.count()

    def broken():
        if next(calls) == 1:
            raise KeyboardInterrupt
        return closing(rule, lambda: tilted(w, [0]))()

    while rule._left < 2:  # in the last step of an epoch no batch is looked at
        run(w, rule, 1)
    before = w.detach().clone()
    with pytest.raises(KeyboardInterrupt):
        rule.step(broken, closing(rule, lambda: tilted(w, [0, 1, 2, 3])))
    assert torch.equal(before, w.detach())


def test_thresholds_have_the_units_of_what_they_bound():
    how = {"smoothness": 2.0, "lipschitz": 3.0, "epsilon": 1e-2, "curvature": 0.1, "dimension": 50}
    found = ssrgd_thresholds(**how)
    assert found.lr == pytest.approx((math.sqrt(5) - 1) / 4, rel=1e-12)
    assert found.gradient == 1e-2
    radius = min(1e-3 / (9 * 1e-2), 0.1**1.5 / (3 * math.sqrt(2)))
    log = math.log(50 * 0.1 / (3 * radius))
    assert found.radius == pytest.approx(radius / log, rel=1e-12)
    assert found.decrease == pytest.approx(1e-3 / 9 / log**3, rel=1e-12)
    assert found.wait == math.ceil(log / (found.lr * 0.1))
    # A loss in other units (u) over lengths in other units (s): each threshold goes along.
    u, s = 7.0, 3.0
    scaled = {
        "smoothness": 2 * u / s**2,
        "lipschitz": 3 * u / s**3,
        "epsilon": 1e-2 * u / s,
        "curvature": 0.1 * u / s**2,
    }
    other = ssrgd_thresholds(**scaled, dimension=50)
    assert other.radius == pytest.approx(found.radius * s, rel=1e-9)
    assert other.decrease == pytest.approx(found.decrease * u, rel=1e-9)
    assert other.lr == pytest.approx(found.lr * s**2 / u, rel=1e-9)
    assert other.wait == found.wait


def test_the_accelerated_noise_is_the_theorems():
    given = {"smoothness": 4.0, "lipschitz": 6.0, "epsilon": 1e-2}
    chi, kappa = math.log(2 * 4 * 0.5 / (6 * 1e-2 * 0.1)), 4 / math.sqrt(6e-2)
    for c in (1.0, 2.0):
        radius, wait = accelerated_noise(**given, dimension=2, drop=0.5, c=c)
        assert radius == pytest.approx(1e-2 / 16 / (chi**5 * c**8), rel=1e-12)
        assert wait == math.ceil(math.sqrt(kappa) * chi * c)
    w = at(0.0, 0.0)
    rule = AcceleratedPerturbedGD([w], **given, drop=0.5)
    assert (rule.radius, rule.wait) == accelerated_noise(**given, dimension=2, drop=0.5)
    for _ in range(600):
        loss = rule.step(closing(rule, lambda: tilted(w, [0, 1, 2, 3])))
    assert float(loss.detach()) == pytest.approx(-0.25, abs=1e-3)
    assert AcceleratedPerturbedGD([w], **given, drop=0.5, wait=7).wait == 7


def test_refusals():
    w, how = at(1.0), Thresholds(lr=0.1, radius=0.01, gradient=1e-2, decrease=1e-4, wait=30)
    with pytest.raises(ValueError, match="epoch must be at least 1 step, got 0"):
        SSRGD([w], how, epoch=0)
    with pytest.raises(ValueError, match="needs two closures"):
        SSRGD([w], how, epoch=2).step(lambda: w.sum())
    for bad in ("smoothness", "lipschitz", "epsilon", "curvature"):
        known = {"smoothness": 1.0, "lipschitz": 1.0, "epsilon": 1.0, "curvature": 1.0, bad: -1.0}
        with pytest.raises(ValueError, match=f"{bad} must be a positive number, got -1"):
            ssrgd_thresholds(**known, dimension=3)
    with pytest.raises(ValueError, match="dimension must be at least 1"):
        ssrgd_thresholds(smoothness=1.0, lipschitz=1.0, epsilon=1.0, curvature=1.0, dimension=0)
    with pytest.raises(ValueError, match="need drop, a bound"):
        AcceleratedPerturbedGD([w], smoothness=1.0, lipschitz=1.0, epsilon=0.1)
    with pytest.raises(ValueError, match="drop must be a positive number, got 0"):
        AcceleratedPerturbedGD([w], smoothness=1.0, lipschitz=1.0, epsilon=0.1, drop=0)
    with pytest.raises(ValueError, match=r"needed are dimension >= 1, 0 < delta < 1 and c >= 1"):
        accelerated_noise(smoothness=1.0, lipschitz=1.0, epsilon=0.1, dimension=1, drop=1.0, delta=1.0)
