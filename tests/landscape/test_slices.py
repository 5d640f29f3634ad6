"""Slices, surfaces, lines between networks: closed forms, filter norms, exactness at the network, refusals."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from theorylens import core
from theorylens.landscape import (
    barrier,
    escape_direction,
    linear_path,
    random_direction,
    slice_1d,
    slice_2d,
)
from theorylens.report._plots import figure


def test_a_quadratic_is_a_parabola_along_every_line(quadratic):
    parts = quadratic([[2.0, 1.0], [1.0, 4.0]], linear=[1.0, -1.0], at=[0.5, 0.25])
    v = torch.tensor([1.0, 2.0], dtype=torch.float64)
    found = slice_1d(*parts, v, reach=2.0, points=5)
    w = parts[0].w.detach()
    m, b = parts[0].matrix, parts[0].linear
    for a, loss in zip(found.at, found.losses, strict=True):
        x = w + a * v
        assert loss == pytest.approx(float(1 + b @ x + x @ m @ x / 2), rel=1e-12)
    assert found.at.tolist() == [-2, -1, 0, 1, 2]


def test_the_network_itself_is_a_point_of_every_grid_to_the_last_bit(digits):
    data = digits.split("train").take(range(130))
    value = core.objective(digits.net, data, "cross_entropy").value
    one, two = (random_direction(digits.net, seed=s) for s in (0, 1))
    line = slice_1d(digits.net, data, "cross_entropy", one, points=5)
    plane = slice_2d(digits.net, data, "cross_entropy", one, two, points=3)
    assert line.losses[2] == value
    assert plane.losses[1, 1] == value
    assert plane.losses[:, 1] == pytest.approx(line.losses[[0, 2, 4]], rel=1e-12)
    assert line.losses[1] != value


def test_losses_are_weighted_by_examples_and_not_by_batches(digits):
    data = digits.split("train").take(range(130))
    v = random_direction(digits.net)
    one, ragged = (slice_1d(digits.net, data, "cross_entropy", v, points=3, batch_size=b).losses for b in (130, 60))
    assert ragged == pytest.approx(one, rel=1e-6)
    with torch.no_grad():  # the slow twin
        moved = copy.deepcopy(digits.net)
        nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(moved.parameters()) + v, moved.parameters())
        assert one[2] == pytest.approx(F.cross_entropy(moved(data[0]), data[1]).item(), rel=1e-5)


def test_filters_get_the_norms_of_the_networks_own_and_biases_stay():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))
    flat = random_direction(net)
    pieces = dict(
        zip(
            [n for n, _ in net.named_parameters()],
            torch.split(flat, [p.numel() for p in net.parameters()]),
            strict=True,
        )
    )
    for name in ("0.weight", "3.weight"):
        own = dict(net.named_parameters())[name].detach()
        assert pieces[name].view_as(own).flatten(1).norm(dim=1) == pytest.approx(own.flatten(1).norm(dim=1), rel=1e-5)
    for name in ("0.bias", "1.weight", "1.bias", "3.bias"):
        assert not pieces[name].any()
    whole = random_direction(net, normalise="tensor")
    own = nn.utils.parameters_to_vector(net.parameters()).detach()
    assert float(whole[:54].norm()) == pytest.approx(float(own[:54].norm()), rel=1e-5)
    plain = random_direction(net, normalise="none")
    assert abs(float(plain.square().mean()) - 1) < 0.5
    assert torch.equal(flat, random_direction(net))
    assert not torch.equal(flat, random_direction(net, seed=1))
    only = random_direction(net, names=["3.weight"])
    assert not only[: 54 + 3 + 6].any()
    assert only[63:87].any()


def test_a_filter_normalised_slice_does_not_see_a_rescaling_and_a_plain_one_does():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5, bias=False), nn.ReLU(), nn.Linear(5, 2, bias=False)).double().eval()
    data = torch.randn(20, 3).double(), torch.randint(2, (20,))
    other = copy.deepcopy(net)
    with torch.no_grad():
        other[0].weight *= 4
        other[2].weight /= 4
    same = [slice_1d(m, data, "cross_entropy", random_direction(m)).losses for m in (net, other)]
    assert same[0] == pytest.approx(same[1], rel=1e-9)
    plain = [slice_1d(m, data, "cross_entropy", random_direction(m, normalise="none")).losses for m in (net, other)]
    assert plain[0][0] != pytest.approx(plain[1][0], rel=0.05)


def test_along_a_hessian_eigenvector_the_curvature_is_its_eigenvalue(quadratic):
    parts = quadratic([[2.0, 0.0], [0.0, -1.0]])
    found = slice_1d(*parts, escape_direction(*parts).vector, reach=0.1, points=3)
    assert (found.losses[0] + found.losses[2] - 2 * found.losses[1]) / 0.01 == pytest.approx(-1.0, rel=1e-6)


def test_the_network_is_left_to_the_last_bit_also_after_an_exception(digits):
    net = copy.deepcopy(digits.net)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    data, calls = digits.split("train").take(range(50)), []

    def failing(outputs, targets):
        calls.append(1)
        if len(calls) > 8:
            raise ArithmeticError("in the middle")
        return F.cross_entropy(outputs, targets, reduction="none")

    with pytest.raises(ArithmeticError):
        slice_1d(net, data, failing, random_direction(net))
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert not net.training


def test_pictures_are_drawn(digits):
    data = digits.split("train").take(range(50))
    curve = slice_1d(digits.net, data, "cross_entropy", random_direction(digits.net), points=5).curve()
    start = copy.deepcopy(digits.net)
    start.load_state_dict(digits.init)
    path = linear_path(start, digits.net, data, "cross_entropy", points=4).curve()
    for payload in (curve, path):
        assert figure(payload).axes


def test_refusals_of_slices(quadratic, unchecked_shapes):
    parts = quadratic([[1.0]])
    one = torch.ones(1, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"direction of shape \(2,\) does not match 1 parameters"):
        slice_1d(*parts, torch.ones(2))
    for bad in (0 * one, one * math.nan):
        with pytest.raises(ValueError, match="give one of positive finite length"):
            slice_1d(*parts, bad)
    for points in (1, 4):
        with pytest.raises(ValueError, match=f"points must be odd and at least 3, .*got {points}"):
            slice_1d(*parts, one, points=points)
    with pytest.raises(ValueError, match="reach must be a positive number, got 0"):
        slice_2d(*parts, one, one, reach=0)
    with pytest.raises(ValueError, match="normalise must be 'filter', 'tensor' or 'none', got 'layer'"):
        random_direction(parts[0], normalise="layer")
    with pytest.raises(ValueError, match=r"no trainable parameters named \['v'\]"):
        random_direction(parts[0], names=["v"])
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        random_direction(nn.ReLU())


# ---- lines between networks --------------------------------------------------------------------------------------


def scalar(value):
    net = nn.Linear(1, 1, bias=False).double().eval()
    with torch.no_grad():
        net.weight.fill_(value)
    return net


ROWS = (torch.ones(3, 1, dtype=torch.float64), torch.zeros(3, 1, dtype=torch.float64))


def double_well(outputs, targets):
    return (outputs[:, 0] ** 2 - 1) ** 2


def test_golden_barrier_of_the_double_well(golden):
    assert barrier(scalar(-1), scalar(1), ROWS, double_well) == pytest.approx(golden("G3.3-5"), rel=1e-9)
    path = linear_path(scalar(-1), scalar(1), ROWS, double_well, points=101)
    assert path.climb == pytest.approx(1, rel=1e-12)
    assert path.losses == pytest.approx(((2 * path.at - 1) ** 2 - 1) ** 2, abs=1e-12)


def test_a_convex_loss_has_no_barrier_and_the_chord_is_what_counts():
    path = linear_path(scalar(0), scalar(3), ROWS, "mse")
    assert path.barrier == 0
    assert path.climb == 0
    assert not path.falls()
    assert linear_path(scalar(3), scalar(0), ROWS, "mse").falls()
    # concave between 0.6 and 0: above the chord, below the higher end
    bent = linear_path(scalar(-1), scalar(0), ROWS, double_well, points=201)
    assert bent.barrier > 0.05
    assert bent.climb == 0


def permuted(net, order):
    other = copy.deepcopy(net)
    with torch.no_grad():
        other[0].weight.copy_(net[0].weight[order])
        other[0].bias.copy_(net[0].bias[order])
        other[2].weight.copy_(net[2].weight[:, order])
    return other


def test_permuted_units_are_the_same_function_with_a_barrier_in_between(digits):
    data = digits.split("train").take(range(300))
    other = permuted(digits.net, torch.arange(11, -1, -1))
    assert torch.allclose(other(data[0]), digits.net(data[0]), atol=1e-5)
    assert barrier(digits.net, other, data, "cross_entropy", points=5) > 0.3
    assert barrier(digits.net, digits.net, data, "cross_entropy", points=5) == pytest.approx(0, abs=1e-6)


def test_ends_are_the_networks_and_statistics_can_be_taken_anew():
    torch.manual_seed(0)
    nets = []
    x, y = torch.randn(64, 3), torch.randint(2, (64,))
    for _ in range(2):
        net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
        net.train()
        for _ in range(3):
            net(x + 1)
        nets.append(net.eval())
    values = [core.objective(net, (x, y), "cross_entropy").value for net in nets]
    path = linear_path(*nets, (x, y), "cross_entropy", points=3)
    assert path.losses[[0, -1]].tolist() == values
    fresh = linear_path(*nets, (x, y), "cross_entropy", points=3, statistics="recompute")
    assert abs(fresh.losses[1] - path.losses[1]) > 1e-3
    # With one batch, statistics taken anew are those of training mode (but for the unbiased variance).
    middle = copy.deepcopy(nets[0]).train()
    with torch.no_grad():
        for p, a, b in zip(middle.parameters(), nets[0].parameters(), nets[1].parameters(), strict=True):
            p.copy_((a + b) / 2)
        assert fresh.losses[1] == pytest.approx(F.cross_entropy(middle(x), y).item(), rel=0.02)


def test_refusals_of_paths(unchecked_shapes):
    with pytest.raises(ValueError, match="points must be at least 3, got 2"):
        linear_path(scalar(0), scalar(1), ROWS, "mse", points=2)
    with pytest.raises(ValueError, match="the two networks differ in bias"):
        linear_path(scalar(0), nn.Linear(1, 1), ROWS, "mse")
    with pytest.raises(ValueError, match=r"weight has shape \(1, 1\) in one network and \(2, 1\) in the other"):
        linear_path(scalar(0), nn.Linear(1, 2, bias=False), ROWS, "mse")
    with pytest.raises(ValueError, match="weight is not finite in one of the networks"):
        linear_path(scalar(0), scalar(math.nan), ROWS, "mse")
    with pytest.raises(ValueError, match="statistics must be 'interpolate' or 'recompute', got 'none'"):
        linear_path(scalar(0), scalar(1), ROWS, "mse", statistics="none")


def test_a_surface_of_a_quadratic_is_the_quadratic(quadratic):
    parts = quadratic([[2.0, 1.0], [1.0, 4.0]])
    axes = torch.eye(2, dtype=torch.float64)
    found = slice_2d(*parts, axes[0], axes[1], reach=1.0, points=3)
    wanted = np.array([[1 + (2 * a * a + 2 * a * b + 4 * b * b) / 2 for b in (-1, 0, 1)] for a in (-1, 0, 1)])
    assert found.losses == pytest.approx(wanted, rel=1e-12)
