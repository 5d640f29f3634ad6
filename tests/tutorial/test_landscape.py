"""What the tutorial's code on loss landscapes gets wrong and this library does not, one test a defect."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from theorylens import landscape
from theorylens.core import global_randomness_kept, objective
from theorylens.landscape import (
    CubicNewton,
    PerturbedGD,
    Place,
    Thresholds,
    cubic_step,
    curvature_summary,
    downward_direction,
    eigenvalues,
    escape_time,
    expected_sharpness,
    gd_escape_steps,
    invariance,
    noisy_gd_escape_steps,
    octopus,
    p_spin_index_share,
    random_direction,
    second_order_test,
    slice_1d,
    trace,
)
from theorylens.numerics.operator import DenseOperator


class Surface(nn.Module):
    """A parameter whose value under ``f`` is the loss of every row."""

    def __init__(self, f, *at):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(at, dtype=torch.float64))
        self.f = f

    def forward(self, x):
        return self.f(self.w).expand(len(x))


ROWS = (torch.zeros(4, 1), torch.zeros(4))


def itself(outputs, targets):
    return outputs


def regression(n=70, seed=0):
    with global_randomness_kept(seed):
        x, y = torch.randn(n, 3).double(), torch.randn(n, 1).double()
        x[-6:] *= 4  # a last batch that is small and unlike the others
        return nn.Linear(3, 1).double(), (x, y)


# ---- critical points ---------------------------------------------------------------------------------------------


def test_the_curvature_toolkit_works_on_a_network():
    net, data = regression()
    found = landscape.critical_point(net, data, "mse")
    assert found.place is Place.SLOPE
    assert len(eigenvalues(net, data, "mse", k=4)) == 4


def test_a_zero_eigenvalue_does_not_hide_a_strict_saddle():
    assert second_order_test([1, -1, 1, -1, 0]).place is Place.SADDLE
    assert second_order_test([1] * 9 + [0]).place is Place.DEGENERATE  # and not unknown
    with pytest.raises(ValueError, match="not finite"):
        second_order_test([math.nan] * 3)
    assert second_order_test([1.0, 2.0], gradient_norm=5.0).place is Place.SLOPE
    assert second_order_test([1e-9, -1e-9]).place is Place.SADDLE  # tolerances are relative


def test_the_largest_eigenvalue_is_not_the_one_largest_in_size():
    net = Surface(lambda w: (w[0] ** 2 - 3 * w[1] ** 2) / 2, 0.0, 0.0)
    found = eigenvalues(net, ROWS, itself, k=2)
    assert found.values.tolist() == pytest.approx([1, -3], rel=1e-9)
    assert eigenvalues(net, ROWS, itself, k=1).values[0] == pytest.approx(1, rel=1e-9)


def test_the_hessian_is_that_of_all_the_data():
    net, data = regression()
    x = torch.cat([data[0], torch.ones(70, 1, dtype=torch.float64)], 1)
    truth = np.linalg.eigvalsh((2 * x.T @ x / 70).numpy())[::-1]
    found = eigenvalues(net, data, "mse", k=4, batch_size=32)
    assert found.values == pytest.approx(truth, rel=1e-6)
    assert eigenvalues(net, data, "mse", k=4, batch_size=32).values.tolist() == found.values.tolist()
    assert (found.residuals < 1e-6).all()  # and says how sure it is
    gradient = torch.autograd.grad(F.mse_loss(net(data[0]), data[1]), list(net.parameters()))
    norm = torch.cat([g.reshape(-1) for g in gradient]).norm()
    assert landscape.critical_point(net, data, "mse", batch_size=32).gradient_norm == pytest.approx(float(norm))
    assert net.training  # the mode is the caller's
    zero = Surface(lambda w: 0 * w.sum(), 1.0, 1.0)
    assert eigenvalues(zero, ROWS, itself, k=1).values[0] == 0


def test_a_small_last_batch_counts_for_its_examples():
    net, data = regression()
    direction = random_direction(net, normalise="none").double()
    found = slice_1d(net, data, "mse", direction, points=3, batch_size=32)
    assert found.losses[1] == pytest.approx(F.mse_loss(net(data[0]), data[1]).item(), rel=1e-12)
    pieces = [F.mse_loss(net(x), y).item() for x, y in zip(*(d.split(32) for d in data), strict=True)]
    assert found.losses[1] != pytest.approx(np.mean(pieces), rel=0.05)


def test_a_spectrum_is_that_of_a_hessian_and_not_of_random_numbers():
    net, data = regression()
    goal = objective(net, data, "mse")
    dense = torch.stack([goal.hessian() @ e for e in torch.eye(4, dtype=torch.float64)])
    found = eigenvalues(net, data, "mse", k=4)
    for value in found.values:
        assert float(torch.linalg.det(dense - value * torch.eye(4))) == pytest.approx(0, abs=1e-4)


def test_low_critical_points_of_random_fields_are_minima():
    """Saddles are common at high energy only: the index grows with the height."""
    assert p_spin_index_share(3, -1.65) == 0
    assert 0 < p_spin_index_share(3, -1.0) < p_spin_index_share(3, 0.0) == 0.5


def test_golden_both_sign_draws_of_a_trace(golden):
    matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    values = [float(z @ matrix @ z) for z in torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)]
    net = Surface(lambda w: w @ matrix @ w / 2, 0.0, 0.0)
    assert [*values, trace(net, ROWS, itself).value] == pytest.approx(golden("G3.1-3"), rel=1e-9)


# ---- saddles -----------------------------------------------------------------------------------------------------


def saddle(w):
    return (w[0] ** 2 - w[1] ** 2) / 2 + w[1] ** 4 / 4


def backward(rule, w):
    def closure():
        rule.zero_grad()
        loss = saddle(w)
        loss.backward()
        return loss

    return closure


def start(*at):
    return torch.tensor(at, dtype=torch.float64, requires_grad=True)


def test_the_optimisers_are_the_named_algorithms():
    for rule in (landscape.PerturbedGD, landscape.CubicNewton, landscape.SaddleFreeNewton):
        assert issubclass(rule, torch.optim.Optimizer)
    w = start(0.0, 0.0)
    rule = CubicNewton([w])
    for _ in range(15):
        rule.step(lambda: saddle(w))
    assert saddle(w).item() == pytest.approx(-0.25)


def test_no_direction_is_made_up_at_a_minimum():
    rng = torch.Generator().manual_seed(0)
    assert downward_direction(DenseOperator(torch.eye(100)), torch.zeros(100), generator=rng) is None
    down = DenseOperator(torch.diag(torch.tensor([1.0, -1.0])))
    for slope in (1.0, -1.0):
        found = downward_direction(down, torch.tensor([0.0, slope]), generator=rng)
        assert float(found.vector[1]) == pytest.approx(-slope)


def test_perturbed_descent_comes_to_rest():
    """Noise at every step would leave a standard deviation of .7 on this bowl."""
    w = start(1.0)
    rule = PerturbedGD([w], Thresholds(lr=0.01, radius=0.1, gradient=0.01, decrease=0.001, wait=50))
    for _ in range(2000):
        rule.zero_grad()
        rule.step(lambda: _bowl(rule, w))
    assert rule.finished
    assert len(rule.events) == 1
    assert abs(w.item()) < 0.011


def _bowl(rule, w):
    rule.zero_grad()
    loss = (w**2).sum() / 2
    loss.backward()
    return loss


def test_the_cubic_step_is_not_the_saddle_free_one():
    h = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    found = cubic_step(torch.tensor([1.0, 0.5], dtype=torch.float64), h, 1.0)
    assert found.step.tolist() == pytest.approx([-0.4524, -2.3779], abs=1e-4)
    assert cubic_step(torch.zeros(2, dtype=torch.float64), h, 1.0).norm == pytest.approx(2)  # it leaves the saddle


def test_escape_time_depends_on_the_learning_rate():
    steps = [gd_escape_steps(-0.1, lr=lr, distance=0.01) for lr in (1e-4, 1e-2, 1e-1)]
    assert steps[0] / steps[1] == pytest.approx(100, rel=0.01)
    assert steps[1] / steps[2] == pytest.approx(10, rel=0.01)
    noisy = [noisy_gd_escape_steps(-1.0, lr=0.01, noise=s) for s in (1e-3, 1e-1)]
    assert noisy[0] > noisy[1] + 400
    with pytest.raises(ValueError, match="never leaves"):
        gd_escape_steps(-0.1, lr=0.1, distance=0.0)
    with pytest.raises(ValueError, match="distance must lie between"):
        gd_escape_steps(-0.1, lr=0.1, distance=2.0)


def test_printed_steps_are_steps_and_not_continuous_time():
    run = escape_time(Surface(saddle, 0.0, 0.0), ROWS, itself, lr=0.01, distance=0.01, radius=0.1)
    assert run.steps.value == pytest.approx(run.predicted, rel=0.02)
    assert run.steps.value > 20 * math.log(0.1 / 0.01)


def test_escape_is_not_logarithmic_over_a_chain_of_saddles():
    with global_randomness_kept(0):
        x = (0.1 + 0.8 * torch.rand(3, dtype=torch.float64)).requires_grad_()
    rule, times = torch.optim.SGD([x], lr=1 / 16), []
    for step in range(3000):
        rule.zero_grad()
        octopus(x).backward()
        rule.step()
        while len(times) < int((x.detach() >= 2 * math.e).sum()):
            times.append(step)
        if len(times) == 3:
            break
    assert times[1] > 4 * times[0]
    assert times[2] > 4 * times[1]
    stuck = start(0.0, 0.0)  # and from the saddle itself, never
    rule = torch.optim.SGD([stuck], lr=0.1)
    for _ in range(100):
        rule.step(backward(rule, stuck))
    assert stuck.tolist() == [0, 0]


# ---- flat minima -------------------------------------------------------------------------------------------------


def test_measures_of_flatness_take_networks():
    net, data = regression()
    assert expected_sharpness(net, data, "mse", radius=0.1, draws=16).lower > -1
    assert landscape.worst_case_sharpness(net, data, "mse", radius=0.1).estimate.value > 0


def test_sharpness_is_seeded_and_says_how_far_it_is_off():
    steep = Surface(lambda w: w[0] ** 2 + 100 * w[1] ** 2, 0.0, 0.0)
    one, again = (expected_sharpness(steep, ROWS, itself, radius=0.1, draws=10) for _ in range(2))
    assert one == again
    found = [expected_sharpness(steep, ROWS, itself, radius=0.1, draws=10, seed=s) for s in range(40)]
    assert sum(f.lower <= 1.01 <= f.upper for f in found) >= 32


def test_the_ratio_of_two_bowls_is_exact():
    bowls = [Surface(lambda w, c=c: w[0] ** 2 + c * w[1] ** 2, 0.0, 0.0) for c in (100.0, 1.0)]
    traces = [trace(b, ROWS, itself).value for b in bowls]
    assert traces[0] / traces[1] == pytest.approx(50.5, rel=1e-12)


def test_negative_eigenvalues_make_no_flatness_of_nan_or_infinity():
    for spectrum in ([2.0, -1.0], [-1.0, 0.0], [-2.0, 1.0]):
        found = curvature_summary(spectrum)
        assert all(math.isfinite(v) for v in vars(found).values())
    assert curvature_summary([2.0, -1.0]).flat_share == 0  # what bends downwards is not flat


def test_golden_flatness_is_a_matter_of_parametrisation(golden):
    def at(c):
        return Surface(lambda w: (w[0] * w[1] - 1) ** 2, c, 1 / c)

    assert [trace(at(c), ROWS, itself).value for c in (1.0, 10.0)] == pytest.approx(golden("G3.3-4"), rel=1e-9)


def test_a_measure_that_sees_rescaling_is_found_out():
    with global_randomness_kept(0):
        net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    _, data = regression()
    assert not invariance(lambda m: trace(m, data, "mse").value, net, data).invariant
    tensor = invariance(
        lambda m: expected_sharpness(m, data, "mse", radius=0.1, scale="tensor", draws=8).value, net, data
    )
    assert tensor.invariant
