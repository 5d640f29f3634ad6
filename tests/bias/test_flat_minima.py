"""Sharpness along runs and over runs: matrices known in full, laws, enumeration, and real trainings."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.bias import flatness_preference, linear_stability, log_slope, sharpness_at, sharpness_series
from theorylens.core import Subject, objective
from theorylens.report._plots import figure
from theorylens.training import Keeping, Optimisation, fit


def linear(weights):
    net = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([weights]))
    return net


X, Y = torch.tensor([[1.0, 0.5], [0.0, 2.0]]).double(), torch.zeros(2, 1).double()
HESSIAN = X.T @ X  # of the mean squared error over two rows


def test_all_three_are_those_of_the_matrix():
    found = sharpness_at(objective(linear([0.5, -3.0]), (X, Y), "mse"))
    w = torch.tensor([0.5, 3.0]).double()
    assert found.largest.value == pytest.approx(torch.linalg.eigvalsh(HESSIAN)[-1].item(), rel=1e-6)
    assert found.trace.value == pytest.approx(HESSIAN.trace().item(), rel=1e-6)
    adaptive = torch.linalg.eigvalsh(w[:, None] * HESSIAN * w)[-1].item()
    assert found.adaptive.value == pytest.approx(adaptive, rel=1e-6)


def test_adaptive_sharpness_does_not_see_layers_rescaled_against_each_other():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 5, bias=False), nn.ReLU(), nn.Linear(5, 2, bias=False)).double()
        x, y = torch.randn(20, 3).double(), torch.randn(20, 2).double()
    before = sharpness_at(objective(net, (x, y), "mse"))
    with torch.no_grad():
        net[0].weight.mul_(4)
        net[2].weight.div_(4)
    after = sharpness_at(objective(net, (x, y), "mse"))
    assert after.adaptive.value == pytest.approx(before.adaptive.value, rel=1e-5)
    assert after.largest.value != pytest.approx(before.largest.value, rel=0.1)


def test_a_series_reads_each_checkpoint():
    net = linear([1.0, 1.0])
    states = {k: {"weight": torch.full((1, 2), float(k)).double()} for k in (4, 1)}
    found = sharpness_series(net, states, (X, Y), "mse")
    assert found.steps == (1, 4)
    assert found.values("adaptive")[1] == pytest.approx(16 * found.values("adaptive")[0], rel=1e-6)
    assert found.values("loss").tolist() == pytest.approx(
        [((X.sum(1) * k) ** 2).mean().item() for k in (1, 4)], rel=1e-6
    )
    assert net.weight.tolist() == [[1.0, 1.0]]
    assert figure(found.curve(lr=0.1)) is not None


def made(value, seed, power=0.5):
    """A network whose Hessian grows with the setting as a known power, up to noise of the seed."""
    noise = 1 + 0.05 * torch.randn(1, generator=torch.Generator().manual_seed(1000 * seed + int(value))).item()
    size = (value**power * noise) ** 0.5
    start = {"weight": torch.ones(1, 2).double()}
    net = Quartic()
    with torch.no_grad():
        net.weight.fill_(size)
    return Subject(model=net, loss="mse", train=(torch.ones(4, 2).double(), torch.zeros(4, 1).double()), init=start)


class Quartic(nn.Module):
    """f = |w|² / 2: the Hessian of f² grows with |w|²."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 2).double())

    def forward(self, x):
        return (self.weight.square().sum() / 2).expand(len(x), 1)


@pytest.mark.parametrize("measure", ["largest", "trace"])
def test_a_known_power_is_found_and_its_control_is_flat(measure):
    found = flatness_preference(made, [8, 32, 128], [0, 1, 2, 3], measure=measure)
    assert found.slope.lower < 0.5 < found.slope.upper
    assert found.slope.lower > 0.3
    assert found.control.value == pytest.approx(0, abs=1e-6)
    assert figure(found.curve()) is not None


def test_no_preference_is_not_found():
    found = flatness_preference(partial(made, power=0.0), [8, 32, 128], [0, 1, 2, 3])
    assert found.slope.lower < 0 < found.slope.upper


def test_a_slope_is_that_of_least_squares():
    x, y = np.array([1.0, 2.0, 5.0]), np.exp(np.random.default_rng(0).normal(size=(4, 3)))
    each = [np.polyfit(np.log(x), np.log(row), 1)[0] for row in y]
    assert log_slope(x, y).value == pytest.approx(np.mean(each), rel=1e-9)


def digits_run(batch_size, seed):
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x[:200] / 16, dtype=torch.float32), torch.tensor(y[:200])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 10))
    how = Optimisation(lr=0.3, batch_size=int(batch_size), epochs=25)
    return fit(net, (x, y), "cross_entropy", how, seed=seed, keeping=Keeping(checkpoints=2)).subject()


def test_on_real_runs_the_comparison_shows_what_it_is_compared_at():
    """25 epochs: larger batches take fewer steps, so their losses are higher. The result has both numbers to say so."""
    found = flatness_preference(digits_run, [10, 100], [0, 1, 2], rows=100)
    assert found.trained.shape == (3, 2)
    assert (found.loss[:, 0] < found.loss[:, 1]).all()
    assert found.control.value == pytest.approx(0, abs=1e-5)
    assert found.slope.upper > found.slope.lower


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_linear_stability_is_the_mean_over_all_minibatches(batch_size):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, generator=g).double()
    net = nn.Linear(3, 1, bias=False).double()
    y = net(x).detach()  # interpolated
    mean = torch.zeros(3, 3).double()
    batches = list(itertools.combinations(range(4), batch_size))
    for rows in batches:
        step = torch.eye(3).double() - 0.2 * 2 * x[list(rows)].T @ x[list(rows)] / batch_size
        mean += step @ step / len(batches)
    found = linear_stability(net, (x, y), "mse", lr=0.2, batch_size=batch_size)
    assert found.value == pytest.approx(torch.linalg.eigvalsh(mean)[-1].item(), rel=1e-6)


def test_refusals():
    net = linear([1.0, 1.0])
    for call, match in (
        (lambda: sharpness_series(net, {}, (X, Y), "mse"), "no checkpoints"),
        (lambda: sharpness_series(net, {0: net.state_dict()}, (X, Y), "mse").values("depth"), "measure must be one of"),
        (lambda: flatness_preference(made, [8], [0, 1, 2]), "at least 2 different positive"),
        (lambda: flatness_preference(made, [8, -1], [0, 1, 2]), "at least 2 different positive"),
        (lambda: flatness_preference(made, [8, 16], [0, 1]), "at least 3"),
        (lambda: flatness_preference(made, [8, 16], [0, 1, 2], measure="depth"), "measure must be one of"),
        (lambda: log_slope(np.array([1.0, 2.0]), np.array([[1.0, -1.0]])), "no logarithm"),
        (lambda: linear_stability(net, (X, Y), "mse", lr=0.0, batch_size=1), "lr must be a positive"),
        (lambda: linear_stability(net, (X, Y), "mse", lr=0.1, batch_size=3), "at most the 2 examples"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
