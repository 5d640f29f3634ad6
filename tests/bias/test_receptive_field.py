"""Receptive fields: textbook values, closed forms, and the gradient route as an independent witness."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from theorylens.bias import gradient_support, receptive_field
from theorylens.bias._gradient_support import _pooled

from .architectures import ResNet18, three_convolutions, vgg16


class Functional(nn.Module):
    """Padding, slicing, concatenation and pooling as plain function calls."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(1, 2, 5, padding=2)
        self.narrow = nn.Conv2d(1, 2, 3, padding=1)
        self.last = nn.Conv2d(4, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([F.relu(self.wide(x)), torch.tanh(self.narrow(x))], dim=1)
        x = F.max_pool2d(x, 3, 2, padding=1)
        x = F.pad(x, (1, 2, 0, 3))[:, :, 1::2, ::2]
        return self.last(x)


def witness(model: nn.Module, shape: tuple[int, ...], layer: str) -> None:
    """The recursion and the gradients must name the same pixels for the centre unit of ``layer``."""
    model.eval()
    row = [x for x in receptive_field(model, shape).layers if x.name == layer][-1]
    unit, reach = gradient_support(model, shape, layer)
    assert reach == tuple(row.seen(a, unit[a], shape[1 + a]) for a in range(len(shape) - 1))


def test_three_convolutions_of_three_see_seven_pixels() -> None:
    found = receptive_field(three_convolutions(), (1, 20, 20))
    assert (found.size, found.stride) == ((7, 7), (1, 1))
    assert [x.size for x in found.layers] == [(3, 3), (5, 5), (7, 7)]


def test_vgg16_to_its_last_pooling_sees_212_pixels_every_32() -> None:
    found = receptive_field(vgg16(), (3, 64, 64))
    assert (found.size, found.stride) == ((212, 212), (32, 32))
    assert found.last_convolution.size == (196, 196)


def test_resnet18_to_its_last_convolution_sees_435_pixels_every_32() -> None:
    found = receptive_field(ResNet18().eval(), (3, 64, 64))
    last = found.last_convolution
    assert (last.name, last.size, last.stride) == ("blocks.7.conv2", (435, 435), (32, 32))


def test_gradients_agree_on_vgg16_where_the_whole_field_fits() -> None:
    model = vgg16()
    witness(model, (3, 320, 320), "28")
    _, reach = gradient_support(model, (3, 320, 320), "30")
    assert [hi - lo + 1 for lo, hi in reach] == [212, 212]


def test_gradients_agree_on_resnet18_where_the_whole_field_fits() -> None:
    model = ResNet18().eval()
    _, reach = gradient_support(model, (3, 512, 512), "blocks.7.conv2")
    assert [hi - lo + 1 for lo, hi in reach] == [435, 435]
    witness(model, (3, 512, 512), "blocks.5.conv2")


@pytest.mark.parametrize(
    ("model", "shape", "layer", "size", "stride"),
    [
        (nn.Sequential(nn.Conv2d(1, 1, 3, dilation=2), nn.Conv2d(1, 1, 3, dilation=4)), (1, 40, 40), "1", 13, 1),
        (
            nn.Sequential(nn.Conv2d(1, 1, 4, padding="same", dilation=2), nn.Conv2d(1, 1, 3, stride=3)),
            (1, 30, 30),
            "1",
            9,
            3,
        ),
        (nn.Sequential(nn.MaxPool2d(3, 2, dilation=2), nn.Conv2d(1, 1, 3)), (1, 30, 30), "1", 9, 2),
        (nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(1, 1, 3, padding=1)), (1, 17, 17), "1", 6, 2),
        (nn.Sequential(nn.Conv1d(1, 2, 5, stride=2), nn.GELU(), nn.Conv1d(2, 2, 3)), (1, 50), "2", 9, 2),
        (nn.Sequential(nn.Conv3d(1, 1, 3), nn.MaxPool3d(2), nn.Conv3d(1, 1, 2)), (1, 12, 12, 12), "2", 6, 2),
        (nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Conv2d(1, 1, 3)), (1, 32, 32), "1", 12, 4),
    ],
)
def test_both_routes_agree_with_the_recursion_by_hand(
    model: nn.Module, shape: tuple[int, ...], layer: str, size: int, stride: int
) -> None:
    row = [x for x in receptive_field(model, shape).layers if x.name == layer][-1]
    assert set(row.size) == {size}
    assert set(row.stride) == {stride}
    witness(model, shape, layer)


def test_function_calls_branches_and_slices_are_followed_as_computed() -> None:
    model = Functional()
    last = receptive_field(model, (1, 60, 60)).last_convolution
    assert last.size == (15, 15)  # 5, then 7 every 2, sliced to every 4: 7 + 2 * 4
    assert last.stride == (4, 4)
    assert last.first[0] != last.first[1]  # the padding was not symmetric
    witness(model, (1, 60, 60), "last")


def test_rectangular_kernels_have_a_field_per_axis() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, (1, 7)), nn.Conv2d(1, 1, (5, 1), stride=(2, 1)))
    found = receptive_field(model, (1, 30, 30))
    assert (found.size, found.stride) == ((5, 7), (2, 1))
    witness(model, (1, 30, 30), "1")


def test_what_comes_after_attention_or_resizing_is_not_listed() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.last(x * x.mean((2, 3), keepdim=True))

    assert [x.name for x in receptive_field(Gate(), (1, 9, 9)).layers] == ["first"]
    up = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Upsample(scale_factor=2), nn.Conv2d(1, 1, 3))
    assert [x.name for x in receptive_field(up, (1, 9, 9)).layers] == ["0"]


def test_a_dense_network_has_no_receptive_field() -> None:
    with pytest.raises(ValueError, match="no convolution is applied"):
        receptive_field(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), (1, 8, 8))
    with pytest.raises(ValueError, match="spatial axes"):
        receptive_field(three_convolutions(), (8,))
    with pytest.raises(ValueError, match="no layer 'x'; it has 0, 1"):
        gradient_support(three_convolutions(), (1, 8, 8), "x")


def test_hooks_are_removed_and_weights_untouched() -> None:
    model = three_convolutions()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    receptive_field(model, (1, 9, 9))
    gradient_support(model, (1, 9, 9), "4")
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("length", range(4, 14))
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"), [(3, 2, 0, 1), (2, 2, 0, 1), (3, 2, 1, 1), (2, 3, 1, 2)]
)
def test_pooling_windows_are_counted_as_torch_counts_them(
    length: int, kernel: int, stride: int, padding: int, dilation: int
) -> None:
    for ceil in (True, False):
        made = F.max_pool1d(torch.zeros(1, 1, length), kernel, stride, padding, dilation, ceil_mode=ceil)
        assert _pooled(length, kernel, stride, padding, dilation, ceil) == made.shape[-1]


def test_dense_layers_after_pooling_in_ceil_mode_get_the_shape_they_expect() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(2, 2, 2), nn.Flatten(), nn.LazyLinear(3)
    )
    model(torch.zeros(1, 1, 24, 24))
    witness(model, (1, 24, 24), "2")
