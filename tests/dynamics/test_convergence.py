"""Convergence evidence: exact rates, exact products, intervals that cover, and states that follow from bare numbers."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.core import RefusedError
from theorylens.dynamics import State, convergence_diagnostic, mean_product, pl_ratio, successive_gradients
from theorylens.dynamics._convergence import state
from theorylens.results import Estimate, Exact, Message, Statistical

from .conftest import autoregressive

T = np.arange(1, 201)


def limits(low, high):
    why = Message("test", "for a test")
    return Estimate(
        value=(low + high) / 2, uncertainty=Statistical(lower=low, upper=high, level=0.95, method=why)
    )  # fmt: skip


def test_a_linear_rate_and_a_power_are_recovered():
    found = convergence_diagnostic(0.3 + 2 * 0.97**T, optimum=0.3)
    assert found.rate.value == pytest.approx(math.log(0.97), rel=1e-6)
    assert found.state is State.DESCENDING
    assert found.pl_constant is None
    assert convergence_diagnostic(2.0 / T).power.value == pytest.approx(-1, rel=1e-6)


def test_the_pl_constant_of_a_quadratic_lies_between_its_curvatures():
    x = np.array([[math.cos(a), math.sin(a)] for a in np.linspace(0, 2, 200)])
    curvature = np.array([0.5, 4.0])
    losses, norms = (x**2 @ curvature) / 2, np.sqrt(x**2 @ curvature**2)
    ratio = pl_ratio(norms, losses)
    assert ((ratio >= 0.5 - 1e-12) & (ratio <= 4 + 1e-12)).all()
    assert ratio[0] == pytest.approx(0.5)  # along the flat axis
    assert convergence_diagnostic(losses, gradient_norms=norms).pl_constant == pytest.approx(ratio.min())


@pytest.mark.parametrize(
    ("rate", "product", "wanted"),
    [
        (limits(-2, -1), None, State.DESCENDING),
        (limits(1, 2), None, State.RISING),
        (limits(-1, 1), None, State.UNDECIDED),
        (limits(-2, -1), limits(-2, -1), State.OSCILLATING),
        (limits(-1, 1), limits(1, 2), State.DESCENDING),
        (limits(1, 2), limits(-1, 1), State.RISING),
        (limits(-2, -1), limits(-1, 1), State.DESCENDING),
    ],
)
def test_products_decide_before_slopes(rate, product, wanted):
    assert state(rate, product) is wanted


def test_a_run_at_a_constant_rate_comes_to_oscillate_and_is_recognised():
    """SGD on x²/2 with noise: the products are positive on the way down and negative at the end."""
    early, _ = noisy_descent(0.01, 64)
    assert mean_product(early).lower > 0
    late, losses = noisy_descent(0.3, 4000)
    late = late[1000:]
    found = mean_product(late)
    assert found.upper < 0
    assert found.lower <= -0.3 / (2 - 0.3) <= found.upper  # -η σ² / (2 - η) at stationarity
    assert convergence_diagnostic(losses, products=late).state is State.OSCILLATING


def noisy_descent(lr, steps):
    """Products of successive gradients, and losses, of SGD on x²/2 from 300 with unit noise."""
    rng = np.random.default_rng(0)
    x, gradients, losses = 300.0, [], []
    for _ in range(steps):
        gradients.append(x + rng.standard_normal())
        losses.append(x**2 / 2 + 1e-6)
        x -= lr * gradients[-1]
    return np.array(gradients[1:]) * np.array(gradients[:-1]), losses


@pytest.mark.slow
@pytest.mark.parametrize(("correlation", "n", "least"), [(0.0, 32, 0.95), (0.0, 400, 0.95), (0.8, 400, 0.93)])
def test_the_interval_of_a_mean_product_covers(correlation, n, least):
    noise = autoregressive(np.random.default_rng(2), n, correlation, runs=2000)
    hits = sum((e := mean_product(values)).lower <= 0 <= e.upper for values in noise)
    assert hits / 2000 >= least - 3 * math.sqrt(0.05 * 0.95 / 2000)


def regression(n=12, seed=0):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, generator=rng, dtype=torch.float64)
    y = x @ torch.tensor([[1.0], [-1.0]], dtype=torch.float64) + torch.randn(n, 1, generator=rng, dtype=torch.float64)
    net = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[2.0, 1.0]]))
    return net, x, y


def enumerated(net, x, y, lr):
    """Means over all pairs of single examples, in units of the mean squared gradient."""
    w = net.weight.detach()[0]
    slope = lambda w, i: 2 * (x[i] @ w - y[i, 0]) * x[i]  # noqa: E731
    pairs = [(i, j) for i in range(len(x)) for j in range(len(x))]
    scale = np.mean([float(slope(w, i) @ slope(w, i)) for i in range(len(x))])
    rest = np.mean([float(slope(w, i) @ slope(w, j)) for i, j in pairs])
    step = np.mean([float(slope(w, i) @ slope(w - lr * slope(w, i), j)) for i, j in pairs])
    return rest / scale, step / scale


@pytest.mark.parametrize("lr", [0.01, 0.3])
def test_sampled_pairs_agree_with_all_pairs(lr):
    net, x, y = regression()
    found = successive_gradients(net, (x, y), "mse", lr=lr, batch_size=1, draws=500)
    rest, step = enumerated(net, x, y, lr)
    error = (found.after.upper - found.after.lower) / 2
    assert found.before.value == pytest.approx(rest, abs=3 * (found.before.upper - found.before.lower) / 4)
    assert found.after.value == pytest.approx(step, abs=1.5 * error)


def test_whole_batches_are_exact_and_follow_the_hessian():
    net, x, y = regression()
    lr = 0.2
    found = successive_gradients(net, (x, y), "mse", lr=lr, batch_size=12)
    g = 2 * x.T @ (x @ net.weight.detach().T - y) / 12
    hessian = 2 * x.T @ x / 12
    assert isinstance(found.after.uncertainty, Exact)
    assert found.before.value == pytest.approx(1.0)
    assert found.after.value == pytest.approx(1 - lr * float(g.T @ hessian @ g / (g.T @ g)), rel=1e-9)


def test_the_network_is_left_as_it_was_and_the_answer_is_keyed():
    net, x, y = regression()
    before = net.weight.detach().clone()
    one, other = (successive_gradients(net, (x, y), "mse", lr=0.1, batch_size=2, draws=8, seed=s) for s in (0, 0))
    assert torch.equal(net.weight, before)
    assert one.step.tolist() == other.step.tolist()
    third = successive_gradients(net, (x, y), "mse", lr=0.1, batch_size=2, draws=8, seed=1)
    assert third.step.tolist() != one.step.tolist()


@pytest.mark.slow
def test_the_interval_of_the_products_covers_the_truth():
    net, x, y = regression()
    truth = enumerated(net, x, y, 0.1)[1]
    hits = 0
    for seed in range(300):
        e = successive_gradients(net, (x, y), "mse", lr=0.1, batch_size=1, draws=64, seed=seed).after
        hits += e.lower <= truth <= e.upper
    assert hits / 300 >= 0.92 - 3 * math.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: convergence_diagnostic(np.ones(5)), "8 records in the last half of the steps, there are 3"),
        (lambda: convergence_diagnostic(np.ones(20), steps=np.arange(3)), r"one length, got \(3,\) and \(20,\)"),
        (lambda: convergence_diagnostic(np.ones(20), optimum=1.0), "above the optimum 1; record 0 is 1"),
        (lambda: convergence_diagnostic([math.nan] * 20), "record 0 is nan"),
        (lambda: pl_ratio([1.0], [1.0, 2.0]), "a gradient norm is needed for each loss"),
        (lambda: pl_ratio([-1.0], [1.0]), "must be numbers, zero or more"),
        (lambda: pl_ratio([1.0], [0.0]), "must lie above the optimum 0"),
        (lambda: mean_product(np.ones(15)), "at least 16 products"),
        (lambda: mean_product([math.inf] * 16), "16 of 16 products are not finite"),
        (lambda: pairs_of(lr=0.0), "lr must be a positive number, got 0.0"),
        (lambda: pairs_of(lr=1.0, batch_size=0), "batch_size must be at least 1"),
        (lambda: pairs_of(lr=1.0, draws=2), "draws at least 8, got 1 and 2"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def pairs_of(**options):
    net, x, y = regression()
    return successive_gradients(net, (x, y), "mse", **{"lr": 0.1, "batch_size": 1, **options})


def test_a_network_in_training_mode_is_refused():
    net = nn.Sequential(nn.Linear(2, 1), nn.Dropout(0.5))
    with pytest.raises(RefusedError, match="in training mode"):
        successive_gradients(net, (torch.zeros(3, 2), torch.zeros(3, 1)), "mse", lr=0.1, batch_size=1)
