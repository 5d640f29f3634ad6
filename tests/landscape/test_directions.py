"""Directions and pictures of planes: what a filter is, eigenvectors, matrices as they are drawn."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from theorylens import core
from theorylens.landscape import Surface, curvature_directions, random_direction, slice_1d, slice_2d
from theorylens.report._plots import figure


def pieces(net, flat):
    names = [n for n, p in net.named_parameters() if p.requires_grad]
    sizes = [p.numel() for p in net.parameters() if p.requires_grad]
    return {n: t.view_as(net.get_parameter(n)) for n, t in zip(names, flat.split(sizes), strict=True)}


def test_normalisation_layers_stay_even_where_their_scales_have_two_axes():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm((2, 4)), nn.Linear(4, 2))
    found = pieces(net, random_direction(net))
    assert not found["1.weight"].any()
    assert not found["1.bias"].any()
    assert found["2.weight"].norm(dim=1).tolist() == pytest.approx(net[2].weight.norm(dim=1).tolist(), rel=1e-5)


def test_a_filter_of_a_transposed_convolution_is_what_one_output_channel_reads():
    torch.manual_seed(0)
    net = nn.ConvTranspose2d(2, 5, 3)
    found = pieces(net, random_direction(net))["weight"]
    norms = [t.square().sum(dim=(0, 2, 3)).sqrt().tolist() for t in (found, net.weight)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    assert (found.flatten(1).norm(dim=1) - net.weight.flatten(1).norm(dim=1)).abs().max() > 1e-3


def test_a_filter_of_zeros_stays_zero_and_nothing_to_move_is_said():
    net = nn.Linear(2, 2)
    with torch.no_grad():
        net.weight[0] = 0
    found = pieces(net, random_direction(net))["weight"]
    assert not found[0].any()
    assert found[1].any()
    with pytest.raises(ValueError, match=r"nothing would move: .*use normalise='none'"):
        random_direction(nn.Sequential(nn.LayerNorm(3)))


def test_eigenvectors_are_those_of_the_dense_hessian(quadratic):
    matrix = torch.tensor([[3.0, 1.0, 0.0], [1.0, -2.0, 0.5], [0.0, 0.5, 0.25]], dtype=torch.float64)
    parts = quadratic(matrix)
    values, vectors = torch.linalg.eigh(matrix)
    for which, columns in (("LA", [2, 1]), ("SA", [0, 1]), ("BE", [2, 0])):
        found = curvature_directions(*parts, which=which)
        for row, column in zip(found, columns, strict=True):
            assert abs(float(row @ vectors[:, column])) == pytest.approx(1, abs=1e-9)
            line = slice_1d(*parts, row, reach=0.1, points=3).losses
            assert (line[0] + line[2] - 2 * line[1]) / 0.01 == pytest.approx(float(values[column]), rel=1e-6)


def test_without_directions_random_ones_are_drawn_by_the_seed(digits):
    data = digits.split("train").take(range(60))
    one = slice_1d(digits.net, data, "cross_entropy", points=3, seed=4)
    assert torch.equal(one.direction, random_direction(digits.net, seed=4))
    plane = slice_2d(digits.net, data, "cross_entropy", points=3, seed=4)
    assert plane.losses[1, 1] == core.objective(digits.net, data, "cross_entropy").value
    assert plane.losses[:, 1].tolist() == one.losses.tolist()
    assert torch.equal(plane.directions[1], random_direction(digits.net, seed=5))


def test_a_surface_is_drawn_with_full_ink_where_it_overflows():
    at = np.array([-1.0, 0.0, 1.0])
    losses = np.array([[2.0, 1.0, math.inf], [1.0, 0.5, math.nan], [3.0, 1.0, 2.0]])
    made = Surface(at_first=at, at_second=at, losses=losses, directions=(torch.ones(1), torch.ones(1))).matrix()
    assert made.top == 3
    assert made.values.tolist() == [[2, 1, 3], [1, 0.5, 3], [3, 1, 2]]
    assert made.rows == made.columns == ("-1", "0", "1")
    assert figure(made).axes
