"""Counts of convolutions: the contract's values, enumeration with sparse dense maps, and torch's own flop counter."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from theorylens.bias import convolution_counts, convolution_table, receptive_field

from .architectures import ResNet18, three_convolutions, vgg16


def test_the_contracts_convolution_has_its_counts(golden) -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1))
    (row,) = convolution_counts(model, (3, 32, 32))
    assert [row.parameters, row.dense] == golden("G5.1-2")
    assert row.sharing == 32 * 32
    assert row.connections == pytest.approx(9 / 1024, rel=1e-12)


def test_the_contracts_receptive_fields(golden) -> None:
    found = []
    for model, shape in ((three_convolutions(), (1, 32, 32)), (vgg16(), (3, 64, 64)), (ResNet18(), (3, 64, 64))):
        field = receptive_field(model.eval(), shape)
        last = field.last_convolution if isinstance(model, ResNet18) else field.layers[-1]
        found.append([last.size[0], last.stride[0]])
    assert found == golden("G5.1-1")


def test_the_matrix_of_a_convolution_has_the_counted_connections_and_uses() -> None:
    conv = nn.Conv2d(2, 3, 3, padding=1, bias=False).double()
    (row,) = convolution_counts(nn.Sequential(conv), (2, 7, 7))
    basis = torch.eye(2 * 49, dtype=torch.float64).reshape(-1, 2, 7, 7)
    matrix = conv(basis).reshape(98, 3 * 49).T  # (outputs, inputs)
    assert row.dense == matrix.numel()
    middle = matrix.reshape(3, 7, 7, 2, 49)[0, 3, 3]  # a unit away from the border
    places = int((middle != 0).any(0).sum())
    assert row.connections == pytest.approx(places / 49, rel=1e-12)
    weight = conv.weight[0, 0, 1, 1]
    assert row.sharing == int((matrix == weight).sum())  # the centre tap is used at every output place


@pytest.mark.parametrize(
    ("conv", "shape"),
    [
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False), (4, 9, 9)),
        (nn.Conv2d(3, 5, 5, dilation=2, bias=False), (3, 12, 12)),
        (nn.Conv1d(3, 5, 4, bias=False), (3, 12)),
        (nn.Conv3d(2, 3, 3, bias=False), (2, 5, 5, 5)),
    ],
)
def test_multiplications_are_those_of_torchs_flop_counter(conv: nn.Module, shape: tuple[int, ...]) -> None:
    (row,) = convolution_counts(nn.Sequential(conv), shape)
    with FlopCounterMode(display=False) as counter:
        conv(torch.zeros(1, *shape))
    assert 2 * row.macs == counter.get_total_flops()


def test_a_model_without_convolutions_is_refused() -> None:
    with pytest.raises(ValueError, match="uses no convolution module"):
        convolution_counts(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), (1, 2, 2))
    with pytest.raises(ValueError, match="no convolution is applied"):
        receptive_field(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), (1, 2, 2))


def test_a_layer_that_is_used_twice_is_counted_twice_and_the_table_says_so() -> None:
    conv = nn.Conv2d(2, 2, 3, padding=1)
    rows = convolution_counts(nn.Sequential(conv, nn.ReLU(), conv), (2, 5, 5))
    table = convolution_table(rows)
    assert len(rows) == len(table.rows) == 2
