"""Trained paths between networks: closed forms of the curves, the best bend, real networks, statistics, refusals."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import nn

from theorylens.core import Task, global_randomness_kept, objective
from theorylens.landscape import barrier, connect, linear_path, update_statistics
from theorylens.landscape._connect import path_weights, state_at
from theorylens.report._plots import figure
from theorylens.training import Optimisation

QUICK = Optimisation(optimizer="adam", lr=1e-2, batch_size=150, epochs=60, schedule="cosine")


def test_weights_of_the_curves_are_bernsteins_and_tents():
    for t in (0.0, 0.25, 0.5, 1.0):
        assert path_weights("bezier", 1, t) == pytest.approx([(1 - t) ** 2, 2 * t * (1 - t), t**2])
    assert path_weights("bezier", 2, 0.5) == pytest.approx([1 / 8, 3 / 8, 3 / 8, 1 / 8])
    assert path_weights("polygon", 1, 0.25) == pytest.approx([0.5, 0.5, 0])
    assert path_weights("polygon", 2, 0.5) == pytest.approx([0, 0.5, 0.5, 0])
    assert path_weights("polygon", 2, 1.0) == pytest.approx([0, 0, 0, 1])


def flat(a, b):
    net = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[a, b]]))
    return net


EYE = torch.eye(2, dtype=torch.float64).repeat(16, 1), torch.zeros(32, 1, dtype=torch.float64)


def ring(outputs, targets):
    """Lowest where the two weights lie on the unit circle."""
    return (2 * outputs.square().mean() - 1).square().expand(len(outputs))


@pytest.mark.parametrize("kind", ["bezier", "polygon"])
def test_bends_on_the_line_make_the_line(kind):
    first, second = flat(1.0, 0.0), flat(-1.0, 2.0)
    bends = [{"weight": torch.tensor([[1 - 2 * t, 2 * t]], dtype=torch.float64)} for t in (1 / 3, 2 / 3)]
    for share in (0.1, 0.4, 0.9):
        found = state_at(first, second, bends, kind, share)["weight"][0].tolist()
        assert found == pytest.approx([1 - 2 * share, 2 * share])


@pytest.mark.parametrize("kind", ["bezier", "polygon"])
def test_the_bend_is_where_the_mean_loss_is_lowest(kind):
    """Against a direct minimisation of the integral by quadrature."""
    first, second = flat(1.0, 0.0), flat(-1.0, 0.1)
    shares = (np.arange(400) + 0.5) / 400
    weights = np.array([path_weights(kind, 1, t) for t in shares])

    def mean(bend):
        w = weights @ np.array([[1.0, 0.0], bend, [-1.0, 0.1]])
        return float(((w**2).sum(1) - 1).__pow__(2).mean())

    best = minimize(mean, [0.0, 0.5], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10})
    rule = Optimisation(optimizer="adam", lr=0.05, batch_size=32, epochs=500, schedule="cosine")
    found = connect(first, second, EYE, ring, kind=kind, optimisation=rule, points=41)
    assert found.bends[0]["weight"][0].tolist() == pytest.approx(best.x.tolist(), abs=0.08)
    assert found.path.losses.mean() == pytest.approx(best.fun, abs=0.03)
    assert found.descent == pytest.approx(found.straight.losses.mean() - found.path.losses.mean())
    assert len(found.training_losses) == 500
    assert found.training_losses[-100:].mean() < 0.5 * found.training_losses[:20].mean()


def trained(seed, data, norm=False):
    x, y = data
    with global_randomness_kept(seed):
        middle = [nn.BatchNorm1d(16)] if norm else []
        net = nn.Sequential(nn.Linear(64, 16), *middle, nn.ReLU(), nn.Linear(16, 10))
        rule = torch.optim.Adam(net.parameters(), lr=1e-2)
        for _ in range(120):
            rule.zero_grad()
            F.cross_entropy(net(x), y).backward()
            rule.step()
    return net.eval()


@pytest.fixture(scope="module")
def rows(digits):
    return digits.split("train").take(range(300))


@pytest.fixture(scope="module")
def pair(rows):
    return trained(0, rows), trained(1, rows)


@pytest.fixture(scope="module")
def connection(pair, rows):
    return connect(*pair, rows, "cross_entropy", optimisation=QUICK, points=11)


def test_two_networks_of_digits_are_connected_where_the_line_has_a_barrier(pair, rows, connection):
    assert connection.straight.barrier == barrier(*pair, rows, "cross_entropy", points=11, statistics="recompute")
    assert connection.straight.barrier > 0.3
    assert connection.barrier < 0.2 * connection.straight.barrier
    assert connection.descent > 0.1
    assert figure(connection.curve()).axes


def test_the_ends_are_the_networks_to_the_last_bit_and_are_not_touched(pair, rows, connection):
    for share, net, loss in zip((0, 1), pair, connection.path.losses[[0, -1]], strict=True):
        assert all(torch.equal(v, net.state_dict()[k]) for k, v in connection.at(share).state_dict().items())
        assert objective(net, rows, "cross_entropy").value == loss
    middle = connection.at(0.5)
    assert objective(middle, rows, "cross_entropy").value == connection.path.losses[5]
    with pytest.raises(ValueError, match="share must be between 0 and 1, got 2"):
        connection.at(2)


def test_the_same_seed_gives_the_same_bits_and_the_callers_randomness_stays(pair, rows, connection):
    before = torch.get_rng_state(), [{k: v.clone() for k, v in net.state_dict().items()} for net in pair]
    again = connect(*pair, rows, "cross_entropy", optimisation=QUICK, points=11)
    assert torch.equal(torch.get_rng_state(), before[0])
    for net, state in zip(pair, before[1], strict=True):
        assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
        assert all(p.requires_grad for p in net.parameters())
    assert again.path.losses.tolist() == connection.path.losses.tolist()
    short = Optimisation(optimizer="adam", lr=1e-2, batch_size=150, epochs=2)
    one, two = (connect(*pair, rows, "cross_entropy", optimisation=short, points=3, seed=s) for s in (0, 1))
    assert one.path.losses[1] != two.path.losses[1]


def test_statistics_are_taken_anew_at_every_place(rows):
    nets = [trained(s, rows, norm=True) for s in (0, 1)]
    short = Optimisation(optimizer="adam", lr=1e-2, batch_size=150, epochs=20)
    fresh = connect(*nets, rows, "cross_entropy", optimisation=short, points=5)
    stale = connect(*nets, rows, "cross_entropy", optimisation=short, points=5, statistics="interpolate")
    assert fresh.bends[0].keys() == stale.bends[0].keys()
    assert all(torch.equal(fresh.bends[0][k], stale.bends[0][k]) for k in fresh.bends[0])
    assert stale.barrier > 3 * fresh.barrier + 0.05  # the same weights with statistics that do not belong to them
    by_hand = fresh.at(0.5)
    assert update_statistics(by_hand, rows) == 1
    assert objective(by_hand, rows, "cross_entropy").value == pytest.approx(fresh.path.losses[2], rel=1e-6)


def test_errors_have_a_barrier_too(pair, rows):
    x, y = rows
    path = linear_path(*pair, rows, "cross_entropy", points=5, of="error")
    middle = copy.deepcopy(pair[0])
    with torch.no_grad():
        for p, q in zip(middle.parameters(), pair[1].parameters(), strict=True):
            p.copy_((p + q) / 2)
        wrong = (middle(x).argmax(1) != y).double().mean()
    assert path.losses[2] == pytest.approx(float(wrong), abs=1e-12)
    assert barrier(*pair, rows, "cross_entropy", points=5, of="error") == path.barrier > 0.02
    assert path.curve().y_name.render() == "mean error"
    task = Task(loss="mse")
    with pytest.raises(ValueError, match="the loss mse has no error beside it"):
        linear_path(flat(1.0, 0.0), flat(0.0, 1.0), EYE, task, points=3, of="error")


def test_tied_parameters_stay_tied():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(torch.tanh(self.a(x)))

    first, second = Tied(), Tied()
    bend = {"a.weight": torch.full((2, 2), 7.0)}
    state = state_at(first, second, [bend], "polygon", 0.5)
    assert torch.equal(state["a.weight"], bend["a.weight"])
    assert torch.equal(state["b.weight"], bend["a.weight"])


def test_refusals(unchecked_shapes):
    a, b = flat(1.0, 0.0), flat(0.0, 1.0)
    with pytest.raises(ValueError, match="kind must be 'bezier' or 'polygon', got 'arc'"):
        connect(a, b, EYE, ring, kind="arc")
    with pytest.raises(ValueError, match="bends must be at least 1, got 0"):
        connect(a, b, EYE, ring, bends=0)
    with pytest.raises(ValueError, match=r"weight has shape \(1, 2\) in one network and \(1, 3\)"):
        connect(a, nn.Linear(3, 1, bias=False), EYE, ring)
    with pytest.raises(ValueError, match="of must be 'loss' or 'error', got 'accuracy'"):
        connect(a, b, EYE, ring, of="accuracy")
