"""Effective receptive fields against closed forms, and the probe that shows them beside the theoretical one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from theorylens.bias import effective_field, probe_receptive_field
from theorylens.bias._field_of_view import judge
from theorylens.core import Subject, UnsuitableError
from theorylens.results import Exact, Message, Status


def averages(depth: int) -> nn.Sequential:
    """Stacked 3-tap means along both axes: the gradient of the centre is a binomial-like bump, known exactly."""
    layers = []
    for _ in range(depth):
        conv = nn.Conv2d(1, 1, 3, padding=1, bias=False).double()
        nn.init.constant_(conv.weight, 1 / 9)
        layers.append(conv)
    return nn.Sequential(*layers)


def test_stacked_means_have_the_width_of_their_convolved_kernel() -> None:
    depth, side = 6, 31
    kernel = torch.tensor([1.0])
    for _ in range(depth):
        kernel = torch.nn.functional.conv1d(kernel[None, None], torch.full((1, 1, 3), 1 / 3), padding=2)[0, 0]
    mass = kernel.double() ** 2 / (kernel.double() ** 2).sum()
    places = torch.arange(len(mass), dtype=torch.float64)
    variance = float((mass * places**2).sum() - (mass * places).sum() ** 2)
    images = torch.rand(3, 1, side, side, dtype=torch.float64)
    found = effective_field(averages(depth), images, str(depth - 1), torch.Generator().manual_seed(0))
    assert found.width == pytest.approx(4 * math.sqrt(variance + 1 / 12), rel=1e-6)
    assert float(found.energy.sum()) == pytest.approx(1)
    assert int((found.energy > 0).any(0).sum()) == 2 * depth + 1  # no wider than the theoretical field


def test_random_signs_sum_the_squared_gradients_of_the_channels() -> None:
    conv = nn.Conv2d(1, 6, 3, padding=1, bias=False).double()
    images = torch.rand(4000, 1, 5, 5, dtype=torch.float64)
    found = effective_field(nn.Sequential(conv), images, "0", torch.Generator().manual_seed(0))
    exact = (conv.weight.detach() ** 2).sum((0, 1))
    torch.testing.assert_close(found.energy[1:4, 1:4], exact / exact.sum(), rtol=0.1, atol=0.01)


def test_a_dead_unit_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 1))
    with torch.no_grad():
        model[0].bias.fill_(-100.0)
    with pytest.raises(ValueError, match="no gradient of layer '2' reaches the input"):
        effective_field(model, torch.rand(3, 1, 6, 6), "2", torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("size", "used", "start", "first", "id"),
    [
        (5, None, None, "Part of it", "TL502.part"),
        (9, None, None, "All of it", "TL502.whole"),
        (9, 6.0, None, "All of it", "TL502.used"),
        (5, 4.0, 3.0, "Part of it", "TL502.used_beside"),
    ],
)
def test_the_reading_answers_first(size: int, used: float | None, start: float | None, first: str, id: str) -> None:
    _, reason, reading = judge(size, 8, used, start)
    assert reading.render().startswith(first)
    assert reading.id == id
    assert isinstance(reason, Message)


def test_on_digits_the_last_convolution_sees_all_eight_pixels(subject: Subject) -> None:
    result = probe_receptive_field(subject)
    assert result.estimate.value == 8  # 3, pooling 4 every 2, 3 more: 4 + 2 * 2
    assert isinstance(result.estimate.uncertainty, Exact)
    assert result.assumptions[0].status is Status.MET
    used = result.settings["effective width"]
    assert isinstance(used, float)
    assert 2 < used < 9
    curve, trained, untrained, table = result.payload
    assert list(curve.lines[0].y) == [3, 4, 8]  # type: ignore[union-attr]
    assert trained.values.sum() == pytest.approx(1)  # type: ignore[union-attr]
    assert abs(trained.values - untrained.values).max() > 1e-3  # type: ignore[union-attr]
    assert [row[2] for row in table.rows] == [3, 4, 8]  # type: ignore[union-attr]


def test_dense_networks_on_images_and_flat_inputs_are_unsuitable() -> None:
    x, y = torch.randn(12, 1, 4, 4), torch.arange(12) % 3
    dense = Subject(model=nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), loss="cross_entropy", train=(x, y))
    with pytest.raises(UnsuitableError, match="no convolution is applied"):
        probe_receptive_field(dense)
    flat = Subject(model=nn.Linear(16, 3), loss="cross_entropy", train=(x.flatten(1), y))
    with pytest.raises(UnsuitableError, match="not images"):
        probe_receptive_field(flat)
