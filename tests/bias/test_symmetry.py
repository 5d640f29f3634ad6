"""Symmetries of networks: exact by construction, broken by construction, and naive twins."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from theorylens.bias import TURNS, equivariance_curve, symmetry_error, turn_errors


def images(n: int = 6, side: int = 8) -> Tensor:
    return torch.randn(n, 2, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def symmetric_convolution() -> nn.Conv2d:
    """A kernel that is the same under all eight flips and turns, so the convolution turns along with its input."""
    conv = nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular").double()
    with torch.no_grad():
        kernel = conv.weight
        conv.weight.copy_(sum(torch.rot90(k, q, (2, 3)) for k in (kernel, kernel.flip(3)) for q in range(4)) / 8)
    return conv


def test_a_symmetric_kernel_turns_along_and_its_mean_stays() -> None:
    conv = symmetric_convolution()
    for name, (stays, along) in turn_errors(conv, images()).items():
        assert along is not None, name
        assert along < 1e-12
        assert stays > 0.1
    pooled = nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert all(stays < 1e-12 and along is None for stays, along in turn_errors(pooled, images()).values())


def test_an_ordinary_kernel_does_not_turn_along() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular").double()
    assert all(along is not None and along > 0.1 for _, along in turn_errors(conv, images()).values())


def test_turns_form_the_group_of_the_square() -> None:
    x = images()
    assert len(TURNS) == 6
    assert torch.equal(TURNS["turn by 90°"](TURNS["turn by 90°"](x)), TURNS["turn by 180°"](x))
    assert torch.equal(TURNS["turn by 90°"](TURNS["turn by 270°"](x)), x)
    assert len({tuple(t(x).flatten().tolist()) for t in TURNS.values()}) == 6


def test_images_that_are_not_square_are_only_flipped() -> None:
    x = torch.randn(2, 1, 4, 6)
    assert set(turn_errors(nn.Identity(), x)) == {"flip left-right", "flip up-down", "turn by 180°"}


def test_symmetry_error_is_the_ratio_of_norms() -> None:
    x = images()
    found = symmetry_error(lambda z: z**2 + z, x, torch.neg, torch.neg)
    expected = float((2 * x**2).norm() / (x**2 + x).norm())  # (x² - x) + (x² + x)
    assert found == pytest.approx(expected, rel=1e-12)
    assert symmetry_error(lambda z: z**3, x, torch.neg, torch.neg) == 0
    assert symmetry_error(lambda z: z * 0, x, torch.neg) == 0


def test_the_curve_of_a_strided_convolution_is_exact_at_multiples_of_the_stride() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 3, stride=2, padding=1, padding_mode="circular").double()
    curve = equivariance_curve(conv, images(), shifts=range(5), stride=2)
    along, stays = curve.lines
    assert along.x.tolist() == [0, 2, 4]
    assert max(along.y) < 1e-12
    assert stays.y[0] == 0
    assert min(stays.y[1:]) > 0.1


def test_the_curve_of_a_padded_network_is_not_flat_and_agrees_with_a_loop() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(), nn.Linear(192, 4)).double()
    x = images()
    (stays,) = equivariance_curve(model, x, shifts=[0, 3]).lines
    with torch.no_grad():
        gap = sum(float((model(torch.roll(x, 3, a)) - model(x)).norm() ** 2) for a in (2, 3))
        norm = 2 * float(model(x).norm() ** 2)
    assert stays.y[1] == pytest.approx(math.sqrt(gap / norm), rel=1e-12)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="give on_outputs= that moves the outputs"):
        symmetry_error(lambda z: z[:, :, : z.shape[3] // 2], torch.zeros(1, 1, 4, 6), lambda z: z.transpose(2, 3))
    with pytest.raises(ValueError, match="not finite"):
        symmetry_error(lambda z: z / 0, images(), torch.neg)
    with pytest.raises(ValueError, match=r"shape \(n, channels, height, width\), got \(3, 4\)"):
        equivariance_curve(nn.Identity(), torch.zeros(3, 4))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"shape \(n, channels, height, width\)"):
        turn_errors(nn.Identity(), torch.zeros(3, 4))  # type: ignore[arg-type]
