"""Noise at every step, acceleration, the theorem's steps, and optimisers that go on from a saved state."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from theorylens import core
from theorylens.landscape import (
    AcceleratedPerturbedGD,
    CubicNewton,
    NegativeCurvature,
    NoisyGD,
    PerturbedGD,
    SaddleFreeNewton,
    Thresholds,
    noisy_gd_escape_steps,
    octopus,
    perturbed_gd_escape_steps,
    perturbed_gd_thresholds,
)


def at(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def demo(w):
    return (w[0] ** 2 - w[1] ** 2) / 2 + w[1] ** 4 / 4


def with_backward(rule, f, *arguments):
    def closure():
        rule.zero_grad()
        loss = f(*arguments)
        loss.backward()
        return loss

    return closure


# ---- noise at every step -----------------------------------------------------------------------------------------


def test_noisy_descent_leaves_the_saddle_and_jitters_around_the_minimum_as_much_as_theory_says():
    lr, radius = 0.1, 0.02
    w = at(0.0, 0.0)
    rule = NoisyGD([w], lr=lr, radius=radius)
    ends = []
    for t in range(4500):
        rule.step(with_backward(rule, demo, w))
        if t >= 1000:
            ends.append(w.detach().clone())
    places = torch.stack(ends)
    assert abs(places[:, 1].abs().mean().item() - 1) < 0.01
    noise = lr**2 * radius**2 / 2
    for axis, curvature in ((0, 1.0), (1, 2.0)):  # at y = +-1 the second derivative is 2
        theory = noise / (1 - (1 - lr * curvature) ** 2)
        assert places[:, axis].var().item() == pytest.approx(theory, rel=0.2)


def test_noisy_descent_needs_as_long_as_the_recursion_says():
    """As many saddles side by side as there are coordinates, each with noise of its own."""
    d, lr, noise = 4000, 0.05, 0.2
    steps = noisy_gd_escape_steps(-1.0, lr=lr, noise=noise, radius=1.0)
    w = torch.zeros(d, dtype=torch.float64, requires_grad=True)
    rule = NoisyGD([w], lr=lr, radius=noise * math.sqrt(d))
    for _ in range(round(steps)):
        rule.step(with_backward(rule, lambda v: -(v**2).sum() / 2, w))
    growth = (1 + lr) ** (round(steps) - steps)
    assert w.detach().square().mean().item() == pytest.approx(growth**2, abs=4 * math.sqrt(2 / d))


def test_without_noise_it_is_plain_descent_and_batches_do():
    w, v = at(1.0, 0.3), at(1.0, 0.3)
    noisy, plain = NoisyGD([w], lr=0.1, radius=0.0), torch.optim.SGD([v], lr=0.1)
    for _ in range(10):
        for rule, x in ((noisy, w), (plain, v)):
            rule.zero_grad()
            demo(x).backward()
            rule.step()  # no closure, as in a loop over batches
    assert torch.equal(w, v)


def test_batches_with_noise_leave_a_saddle_where_every_example_is_flat_and_batches_alone_do_not():
    """A two-layer linear network at zero: the gradient of each example vanishes, so no choice of batches moves it."""
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).double()
    losses = []
    for radius in (0.0, 1e-3):
        net = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 3, bias=False)).double()
        for p in net.parameters():
            nn.init.zeros_(p)
        rule = NoisyGD(net.parameters(), lr=0.1, radius=radius)
        for t in range(600):
            batch = x[8 * (t % 5) : 8 * (t % 5) + 8]
            rule.zero_grad()
            F.mse_loss(net(batch), batch).backward()
            rule.step()
        losses.append(F.mse_loss(net(x), x).item())
    assert losses[0] == pytest.approx(x.square().mean().item(), rel=1e-12)
    assert losses[1] < 0.5 * losses[0]  # rank two of three


# ---- acceleration ------------------------------------------------------------------------------------------------

HOW = {"smoothness": 4.0, "lipschitz": 6.0, "epsilon": 1e-2, "radius": 1e-3, "wait": 60}


def test_an_accelerated_step_is_nesterovs():
    w = at(1.0, 0.5)
    rule = AcceleratedPerturbedGD([w], **HOW)
    lr, theta = 1 / 16, 1 / (4 * math.sqrt(4 / math.sqrt(0.06)))
    assert rule.param_groups[0]["lr"] == lr
    assert rule.theta == pytest.approx(theta)
    assert rule.gamma == pytest.approx(theta**2 / lr)
    assert rule.reach == pytest.approx(rule.gamma / 24)
    bowl = lambda v: v[0] ** 2 + 2 * v[1] ** 2  # noqa: E731
    x, v = torch.tensor([1.0, 0.5]).double(), torch.zeros(2).double()
    for _ in range(10):
        y = x + (1 - theta) * v
        new = y - lr * torch.stack([2 * y[0], 4 * y[1]])
        x, v = new, new - x
        rule.step(with_backward(rule, bowl, w))
        assert torch.allclose(w.detach(), x, rtol=1e-12)
    assert not rule.events


def test_momentum_down_a_hill_is_given_up_for_the_lower_end():
    """f = -x² / 2 bends down everywhere, so every look with momentum exploits it."""
    w = at(0.1)
    rule = AcceleratedPerturbedGD([w], smoothness=1.0, lipschitz=1.0, epsilon=1e-4, radius=1e-6, wait=10)
    hill = lambda v: -(v**2).sum() / 2  # noqa: E731
    rule.step(with_backward(rule, hill, w))
    moved = w.item()
    assert moved == pytest.approx(0.125)
    rule.step(with_backward(rule, hill, w))
    # |v| = 0.025 is at least the reach of gamma / 4: it stays and momentum is gone.
    assert rule.events[0].kind == "exploitation"
    assert w.item() == moved
    rule._velocity = [torch.tensor([-1e-6], dtype=torch.float64)]
    rule.step(with_backward(rule, hill, w))
    assert w.item() == pytest.approx(moved + rule.reach)  # the lower of both ends, against the momentum


def test_it_is_faster_than_descent_along_a_narrow_valley_and_leaves_saddles():
    narrow = lambda v: 50 * v[0] ** 2 + 0.05 * v[1] ** 2  # noqa: E731
    fast, slow = at(1.0, 1.0), at(1.0, 1.0)
    rule = AcceleratedPerturbedGD([fast], smoothness=100.0, lipschitz=1.0, epsilon=1e-2, radius=1e-9, wait=10_000)
    plain = torch.optim.SGD([slow], lr=1 / 100)
    for _ in range(1000):
        rule.step(with_backward(rule, narrow, fast))
        plain.step(with_backward(plain, narrow, slow))
    assert narrow(fast).item() < 0.1 * narrow(slow).item()
    w = at(1.0, 0.0)  # on the stable manifold of the saddle
    rule = AcceleratedPerturbedGD([w], **HOW)
    for _ in range(500):
        rule.step(with_backward(rule, demo, w))
    assert demo(w).item() == pytest.approx(-0.25, abs=1e-3)
    assert {e.kind for e in rule.events} == {"perturbation", "exploitation"}
    assert rule.gradients > 2 * rule.steps


@pytest.mark.parametrize("kind", ["noisy", "accelerated"])
def test_saddles_of_the_octopus_are_left_where_descent_stays(kind):
    """From exactly the first saddle, where gradient descent stays for ever."""

    def stage(x):
        return int((x.detach().abs() >= 2 * math.e).sum())

    x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    plain = torch.optim.SGD([x], lr=1 / 16)
    for _ in range(100):
        plain.step(with_backward(plain, octopus, x))
    assert not x.any()
    rule = (
        NoisyGD([x], lr=1 / 16, radius=0.01)
        if kind == "noisy"
        else AcceleratedPerturbedGD([x], smoothness=16.0, lipschitz=8.0, epsilon=0.1, radius=0.01, wait=60)
    )
    for _ in range(1500):
        rule.step(with_backward(rule, octopus, x))
        if stage(x) == 3:
            break
    assert stage(x) == 3


# ---- the theorem -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dimension", "delta"), [(1, 0.2), (5, 0.1), (100, 0.3)])
def test_perturbed_descent_has_left_a_quadratic_saddle_as_often_as_said(dimension, delta):
    r, curvature, lr = 0.01, -0.5, 0.1
    steps = perturbed_gd_escape_steps(curvature, lr=lr, perturbation=r, dimension=dimension, delta=delta)
    left = 0
    for seed in range(600):
        w = torch.zeros(dimension, dtype=torch.float64, requires_grad=True)
        rule = PerturbedGD([w], Thresholds(lr=lr, radius=r, gradient=1.0, decrease=1e-9, wait=10**6), seed=seed)
        rule.step(with_backward(rule, lambda v: 0 * v.sum(), w))
        left += abs(w[0].item()) * (1 - lr * curvature) ** steps >= 1
    assert left / 600 == pytest.approx(1 - delta, abs=4 * math.sqrt(delta * (1 - delta) / 600))


def test_the_steps_grow_with_the_logarithm_of_the_dimension_and_of_one_over_delta():
    def steps(d, delta):
        return perturbed_gd_escape_steps(-0.1, lr=0.1, perturbation=1e-3, dimension=d, delta=delta)

    growth = math.log1p(0.01)
    assert (steps(10**6, 0.01) - steps(10**4, 0.01)) * growth == pytest.approx(math.log(10), rel=1e-2)
    assert (steps(10**4, 1e-4) - steps(10**4, 1e-3)) * growth == pytest.approx(math.log(10), rel=1e-2)
    # The wait of the theorem, which allows for a changing Hessian, is longer.
    how = perturbed_gd_thresholds(smoothness=1.0, lipschitz=1.0, epsilon=0.01, dimension=100, drop=1.0, c=0.25)
    reach = math.sqrt(0.01 / 1.0)  # sqrt(epsilon / rho): how far the curvature sqrt(rho epsilon) holds
    found = perturbed_gd_escape_steps(-0.1, lr=how.lr, perturbation=how.radius, dimension=100, radius=reach, delta=0.1)
    assert found < how.wait


# ---- saved states ------------------------------------------------------------------------------------------------


def rules(params):
    how = Thresholds(lr=0.1, radius=0.01, gradient=1e-2, decrease=1e-4, wait=5)
    return {
        "perturbed": lambda: PerturbedGD(params, how, seed=1),
        "noisy": lambda: NoisyGD(params, lr=0.1, radius=0.1, seed=1),
        "accelerated": lambda: AcceleratedPerturbedGD(
            params, smoothness=8.0, lipschitz=4.0, epsilon=0.1, radius=0.01, wait=4, seed=1
        ),
        "negative": lambda: NegativeCurvature(params, lr=0.1, lipschitz=1.0, epsilon=0.01, seed=1),
        "cubic": lambda: CubicNewton(params, subspace=6, seed=1),
        "free": lambda: SaddleFreeNewton(params, subspace=6, seed=1),
    }


NEWTON = ("negative", "cubic", "free")


@pytest.mark.parametrize("name", ["perturbed", "noisy", "accelerated", *NEWTON])
def test_log_counters_and_randomness_are_part_of_the_state(name, tmp_path):
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)).double()
    y = x[:, :1] * x[:, 1:2]

    def network():
        with core.global_randomness_kept(0):
            net = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 1, bias=False)).double()
        with torch.no_grad():
            for p in net.parameters():
                p.mul_(1e-3)  # beside the saddle at zero
        return net

    def train(net, rule, steps):
        f = lambda: F.mse_loss(net(x), y)  # noqa: E731
        for _ in range(steps):
            rule.step(f if name in NEWTON else with_backward(rule, f))

    net = network()
    rule = rules(list(net.parameters()))[name]()
    train(net, rule, 7)
    torch.save({"net": net.state_dict(), "rule": rule.state_dict()}, tmp_path / "state.pt")
    kept = torch.load(tmp_path / "state.pt", weights_only=True)
    other = network()
    other.load_state_dict(kept["net"])
    again = rules(list(other.parameters()))[name]()
    again.load_state_dict(kept["rule"])
    train(net, rule, 7)
    train(other, again, 7)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    assert again.events == rule.events
    assert all(getattr(again, c) == getattr(rule, c) for c in ("steps", "products", "gradients") if hasattr(rule, c))
    assert name == "noisy" or rule.events
    if name in NEWTON:
        assert rule.products > 0
    other_kind = rules(list(other.parameters()))["cubic" if name != "cubic" else "free"]()
    with pytest.raises(ValueError, match=f"the state is that of {type(rule).__name__}, not of"):
        other_kind.load_state_dict(kept["rule"])


def test_products_are_counted_once_each():
    w = at(0.0, 0.0)
    rule = NegativeCurvature([w], lr=0.2, epsilon=1e-6, lipschitz=6.0)
    while not rule.finished:
        rule.step(lambda: demo(w))
    assert rule.products > sum(e.products for e in rule.events)  # the last search found nothing and cost as well
    v = at(2.0)
    newton = CubicNewton([v], regularisation=1e-6)
    for _ in range(5):
        newton.step(lambda: (1 + v[0] ** 2).sqrt())
    assert len(newton.events) > 5  # several tries in a step share its products
    assert newton.products == 5


def test_refusals():
    w = at(1.0)
    with pytest.raises(ValueError, match="lr must be a positive number, got 0"):
        NoisyGD([w], lr=0, radius=1)
    with pytest.raises(ValueError, match="radius must be at least 0, got -1"):
        NoisyGD([w], lr=0.1, radius=-1)
    for bad in ("smoothness", "lipschitz", "epsilon", "radius"):
        with pytest.raises(ValueError, match=f"{bad} must be a positive number, got 0"):
            AcceleratedPerturbedGD([w], **{**HOW, bad: 0})
    with pytest.raises(ValueError, match="wait must be at least 1 step, got 0"):
        AcceleratedPerturbedGD([w], **{**HOW, "wait": 0})
    with pytest.raises(ValueError, match="take a smaller epsilon"):
        AcceleratedPerturbedGD([w], **{**HOW, "epsilon": 100.0})
    with pytest.raises(ValueError, match="one group of parameters is needed"):
        AcceleratedPerturbedGD([{"params": [w]}, {"params": [at(1.0)]}], **HOW)
    with pytest.raises(ValueError, match=r"AcceleratedPerturbedGD.step needs a closure"):
        AcceleratedPerturbedGD([w], **HOW).step()
    with pytest.raises(ValueError, match="the loss is nan after 0 steps"):
        AcceleratedPerturbedGD([w], **HOW).step(lambda: torch.tensor(math.nan))
    with pytest.raises(ValueError, match="needed are dimension >= 1 and delta between 0 and 1, got 0 and"):
        perturbed_gd_escape_steps(-1.0, lr=0.1, perturbation=0.1, dimension=0)
    with pytest.raises(ValueError, match="perturbation must be a positive number, got 0"):
        perturbed_gd_escape_steps(-1.0, lr=0.1, perturbation=0, dimension=3)
    with pytest.raises(ValueError, match="an optimiser without a log"):
        PerturbedGD([w], Thresholds(lr=1, radius=1, gradient=1, decrease=1, wait=1)).load_state_dict(
            torch.optim.SGD([w], lr=0.1).state_dict()
        )
