"""Searching for critical points: saddles in closed form, losses without bad minima, networks, places that are none."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from theorylens import reference
from theorylens.core import RefusedError, objective
from theorylens.landscape import Found, Place, critical_point, find_critical_point
from theorylens.landscape._minimum_residual import minimum_residual
from theorylens.landscape._signs import dense_spectrum

ROWS = torch.zeros(4, 1, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)


class Function(nn.Module):
    """A function of a parameter vector as a network whose output is its loss."""

    def __init__(self, value, at):
        super().__init__()
        self.value = value
        self.w = nn.Parameter(torch.as_tensor(at, dtype=torch.float64))

    def forward(self, x):
        return self.value(self.w).expand(len(x))


def search(value, at, **options):
    return find_critical_point(Function(value, at), ROWS, lambda o, t: o, **options)


# ---- least residuals --------------------------------------------------------------------------------------------


def test_the_least_residual_is_that_of_dense_least_squares():
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    values = np.concatenate([-np.logspace(-3, 2, 15), np.logspace(-3, 2, 15), np.zeros(10)])
    matrix, b = axes @ np.diag(values) @ axes.T, rng.normal(size=40)
    found, short = minimum_residual(lambda v: matrix @ v, b, exactness=1e-14, steps=40, dependent=(1e-12, 1e-2))
    step = np.linalg.pinv(matrix, rcond=1e-10) @ b
    assert found.residual == pytest.approx(np.linalg.norm(matrix @ step - b) / np.linalg.norm(b), rel=1e-6)
    assert found.residual == pytest.approx(math.sqrt(((axes.T @ b)[30:] ** 2).sum()) / np.linalg.norm(b), rel=1e-6)
    assert found.norm == pytest.approx(100, rel=1e-6)
    assert found.image == pytest.approx(matrix @ found.step, abs=1e-8)
    assert found.stretch == pytest.approx(np.linalg.norm(matrix @ b) / np.linalg.norm(b))
    assert short.residual > found.residual
    assert np.linalg.norm(short.step) < 0.1 * np.linalg.norm(found.step)
    crude, = minimum_residual(lambda v: matrix @ v, b, exactness=0.9, steps=40)  # fmt: skip
    assert found.residual < crude.residual <= 0.9


# ---- functions in closed form ----------------------------------------------------------------------------------


def saddle(w):
    return 1 + w[0] ** 2 - w[1] ** 2


@pytest.mark.parametrize("method", ["newton-mr", "gradient-norm"])
def test_the_saddle_of_a_difference_of_squares_is_found_by_both(method):
    found = search(saddle, [0.7, -1.3], method=method)
    assert found.found is Found.POINT
    assert found.model.w.tolist() == pytest.approx([0, 0], abs=1e-7)
    assert found.gradient_norm < 1e-8
    assert found.loss == pytest.approx(1)
    if method == "newton-mr":
        assert len(found.gradient_norms) == 2  # one Newton step
        assert found.newton_residual < 1e-12
        assert found.distance == pytest.approx(math.hypot(0.7, 1.3))
    place = critical_point(found.model, ROWS, lambda o, t: o)
    assert place.place is Place.SADDLE
    assert (place.signs.index.value, place.signs.nullity.value, place.signs.positive.value) == (1, 0, 1)


def test_the_network_given_is_not_touched():
    net = Function(saddle, [0.7, -1.3])
    found = find_critical_point(net, ROWS, lambda o, t: o)
    assert net.w.tolist() == [0.7, -1.3]
    assert net.w.grad is None
    assert found.state["w"].tolist() == found.model.w.tolist() != net.w.tolist()
    again = find_critical_point(found.model, ROWS, lambda o, t: o)
    assert (again.found, len(again.gradient_norms), again.products) == (Found.POINT, 1, 0)


def test_convergence_is_quadratic():
    found = search(lambda w: (w.exp() - w).sum() + w.prod() * 0.1, [0.9, -0.6])
    norms = np.log(found.gradient_norms)
    assert found.found is Found.POINT
    assert norms[-1] < 1.7 * norms[-2] < 0
    assert len(norms) < 10


def test_a_flat_place_that_is_no_critical_point_is_named():
    """The norm of the gradient has a minimum where the gradient is not zero (Frye et al. 2021)."""
    found = search(lambda w: w[0] ** 3 / 3 + w[0] + w[1] ** 2, [0.4, 0.3])  # slope x² + 1 >= 1
    assert found.found is Found.FLAT
    assert found.gradient_norm == pytest.approx(1, abs=1e-3)
    assert found.flatness < 0.01
    other = search(lambda w: w[0] ** 3 / 3 + w[0] + w[1] ** 2, [0.4, 0.3], method="gradient-norm")
    assert other.found is Found.FLAT
    assert other.gradient_norm == pytest.approx(1, abs=1e-3)


def test_a_loss_that_falls_towards_infinity_has_no_critical_point_to_find():
    found = search(lambda w: (-w).exp().sum(), [0.0])
    assert found.gradient_norm < 1.5e-8
    assert found.found is Found.FAR
    assert found.distance == pytest.approx(1, rel=1e-6)


# ---- losses of which the critical points are known ---------------------------------------------------------------

KNOWN = {
    "factorisation": lambda seed: reference.matrix_factorisation([3.0, 1.0], 1, seed),
    "symmetric": lambda seed: reference.matrix_factorisation([3.0, 2.0, 1.0], 2, seed, symmetric=True),
    "linear": lambda seed: reference.linear_network([3, 1, 2], 30, seed),
    "phase": lambda seed: reference.phase_retrieval(3, 100, seed),
}


@pytest.mark.parametrize("name", KNOWN)
def test_critical_points_of_benign_losses_are_global_minima_or_strict_saddles(name):
    kinds = set()
    for seed in range(4):
        known = KNOWN[name](seed)
        found = find_critical_point(known.subject.net, known.subject.split("train"), known.subject.task, max_steps=60)
        if found.found is not Found.POINT:
            continue
        goal = objective(found.model, known.subject.split("train"), known.subject.task)
        spectrum = dense_spectrum(goal)
        low = spectrum[0] / spectrum[-1]  # factors of unlike size stretch the spectrum, but not the signs in it
        is_minimum = goal.value < known.minimum + 1e-8
        assert is_minimum != (low < -1e-9)
        kinds.add(is_minimum)
        if known.critical_values is not None:
            assert known.distance(goal.value) < 1e-8
        assert found.gradient_norm < 1e-7
    assert False in kinds  # gradient norms are met by saddles as well, and most often


def test_at_the_origin_a_factorisation_has_plus_and_minus_the_singular_values():
    known = reference.matrix_factorisation([3.0, 2.0, 1.0], 2, scale=0.0)
    point = critical_point(known.subject.net, known.subject.split("train"), known.subject.task)
    goal = objective(known.subject.net, known.subject.split("train"), known.subject.task)
    assert dense_spectrum(goal) == pytest.approx([-3, -3, -2, -2, -1, -1, 1, 1, 2, 2, 3, 3], abs=1e-12)
    assert point.gradient_norm == 0
    assert point.place is Place.SADDLE
    assert point.signs.index.value == 6


# ---- networks --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    """A tanh network in double precision, its data, and a critical point found from its start."""
    rng = torch.Generator().manual_seed(4)
    x, y = torch.randn(30, 3, generator=rng).double(), torch.randn(30, 1, generator=rng).double()
    for seed in range(2, 20):
        rng = torch.Generator().manual_seed(seed)
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
        with torch.no_grad():
            for p in net.parameters():
                p.copy_(0.5 * torch.randn(p.shape, generator=rng))
        found = find_critical_point(net.eval(), (x, y), "mse", tolerance=1e-8, max_steps=60)
        if found.found is Found.POINT:
            return net, (x, y), found
    raise AssertionError("none of the starts led to a critical point")


def test_a_tanh_network_reaches_a_true_critical_point_whose_index_is_that_of_the_dense_hessian(small):
    _, data, found = small
    assert found.gradient_norm < 1e-8
    assert found.newton_residual < 0.1
    assert found.distance < 1e-3
    flat = torch.cat([p.detach().reshape(-1) for p in found.model.parameters()])

    def loss(w):
        a, b, c, d = w.split([12, 4, 4, 1])
        return ((torch.tanh(data[0] @ a.view(4, 3).T + b) @ c + d - data[1][:, 0]) ** 2).mean()

    assert torch.autograd.functional.jacobian(loss, flat).norm() < 1e-8
    dense = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat))
    point = critical_point(found.model, data, "mse")
    assert point.signs.exact
    assert point.signs.index.value == int((dense < -point.signs.threshold).sum())
    assert point.signs.nullity.value == int((dense.abs() <= point.signs.threshold).sum())
    assert found.products > len(found.gradient_norms)


def test_a_refined_search_agrees_and_counts_its_work(small):
    _, data, found = small
    net = copy.deepcopy(found.model)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(1e-3)
    calls = []

    def counted(outputs, targets):
        calls.append(1)
        return (outputs - targets)[:, 0] ** 2

    again = find_critical_point(net, data, counted)
    assert again.found is Found.POINT
    assert again.loss == pytest.approx(found.loss, rel=1e-3)
    assert len(calls) >= again.gradients


def test_refusals(unchecked_shapes):
    net = Function(saddle, [0.7, -1.3])
    with pytest.raises(ValueError, match="method must be 'newton-mr' or 'gradient-norm', got 'newton'"):
        find_critical_point(net, ROWS, lambda o, t: o, method="newton")
    with pytest.raises(ValueError, match="max_steps must be at least 1, got 0"):
        find_critical_point(net, ROWS, lambda o, t: o, max_steps=0)
    for bad in (0.0, math.nan):
        with pytest.raises(ValueError, match="tolerance must be a positive number"):
            find_critical_point(net, ROWS, lambda o, t: o, tolerance=bad)
    with pytest.raises(RefusedError, match="not finite"):
        find_critical_point(Function(saddle, [math.nan, 0.0]), ROWS, lambda o, t: o)
