"""Shifts: networks that are equivariant by construction, a naive twin, and the probe on digits."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from theorylens.bias import LayerShift, equivariance_error, probe_equivariance, shift_disagreement, shifted
from theorylens.bias._translation import judge
from theorylens.core import Subject, UnsuitableError
from theorylens.results import Estimate, Message, Statistical, Verdict


def images(n: int = 20, side: int = 12) -> Tensor:
    return torch.randn(n, 1, side, side, generator=torch.Generator().manual_seed(1))


def convolutional(padding_mode: str = "zeros", stride: int = 1) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, stride, padding=1, padding_mode=padding_mode), nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1, padding_mode=padding_mode), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(4, 5),
        )  # fmt: skip


def test_circular_convolutions_are_exactly_equivariant_and_pooled_exactly_invariant() -> None:
    model = convolutional("circular").double()
    errors = equivariance_error(model, images().double(), fill="circular")
    assert [e.name for e in errors] == ["0", "2"]
    assert all(e.whole < 1e-12 and e.one_pixel < 1e-12 and e.interior is not None for e in errors)
    assert shift_disagreement(model, images().double(), 2, 3, fill="circular").value == 0


def test_zero_padding_breaks_the_border_and_only_the_border() -> None:
    for error in equivariance_error(convolutional().double(), images().double(), fill="circular"):
        assert error.interior is not None
        assert error.interior < 1e-12
        assert error.whole > 0.05


def test_a_stride_breaks_shifts_by_one_pixel_but_not_by_the_stride() -> None:
    for error in equivariance_error(convolutional("circular", stride=2).double(), images().double(), fill="circular"):
        assert error.stride == (2, 2)
        assert error.whole < 1e-12
        assert error.one_pixel > 0.1


def test_the_error_of_one_convolution_agrees_with_a_naive_twin() -> None:
    conv = nn.Conv2d(1, 3, 3, padding=1).double()
    x = images(3, 6).double()
    gap = norm = 0.0
    with torch.no_grad():
        for axis in (2, 3):
            expected = torch.roll(conv(x), 1, axis)
            gap += float(((conv(torch.roll(x, 1, axis)) - expected) ** 2).sum())
            norm += float((expected**2).sum())
    (error,) = equivariance_error(nn.Sequential(conv), x, fill="circular")
    assert error.whole == pytest.approx(math.sqrt(gap / norm), rel=1e-12)


def test_scaling_the_network_does_not_change_relative_errors() -> None:
    conv = nn.Conv2d(1, 3, 3, padding=1, bias=False).double()
    model = nn.Sequential(conv)
    (before,) = equivariance_error(model, images().double())
    with torch.no_grad():
        conv.weight.mul_(7)
    (after,) = equivariance_error(model, images().double())
    assert after.whole == pytest.approx(before.whole, rel=1e-10)


def test_shifts_compose_and_come_back() -> None:
    x = images(2, 7)
    there = shifted(x, 2, -1, "circular")
    assert torch.equal(there, torch.roll(x, (2, -1), (2, 3)))
    assert torch.equal(shifted(there, -2, 1, "circular"), x)
    assert torch.equal(shifted(shifted(x, 1, 0), 1, 0), shifted(x, 2, 0))
    zeros = shifted(x, 0, 3, "zeros")
    assert float(zeros[..., :3].abs().sum()) == 0
    assert torch.equal(zeros[..., 3:], x[..., :-3])


def test_the_share_and_its_interval_are_the_counted_ones() -> None:
    def model(x: Tensor) -> Tensor:  # decides by the sign of the top left pixel
        return x[:, 0, 0, 0]

    x = images(50, 4)
    estimate = shift_disagreement(model, x, 0, 1, fill="circular")
    k = int(((x[:, 0, 0, 0] > 0) != (x[:, 0, 0, -1] > 0)).sum())
    assert 10 < k < 40
    assert estimate.value == k / 50
    assert estimate.lower == pytest.approx(stats.beta.ppf(0.025, k, 51 - k), rel=1e-8)
    assert estimate.upper == pytest.approx(stats.beta.ppf(0.975, k + 1, 50 - k), rel=1e-8)


def test_bad_images_fills_and_scores_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(n, channels, height, width\), got \(2, 3\)"):
        shifted(torch.zeros(2, 3).reshape(2, 3, 1, 1)[..., 0, 0], 0, 1)
    with pytest.raises(ValueError, match="fill must be one of edge, circular, zeros, got 'mirror'"):
        shifted(images(), 0, 1, "mirror")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not finite"):
        shift_disagreement(lambda x: x.flatten(1) / 0 * 0, images(), 0, 1)


def estimated(value: float, lower: float, upper: float) -> Estimate:
    method = Message("test.method", "made up")
    return Estimate(value=value, uncertainty=Statistical(lower=lower, upper=upper, level=0.95, method=method))


def layer(interior: float | None) -> LayerShift:
    return LayerShift(name="conv", stride=(2, 2), whole=0.3, interior=interior, one_pixel=0.4)


@pytest.mark.parametrize(
    ("control", "last", "ids"),
    [
        (None, None, {"TL501.alone", "TL501.dense"}),
        (estimated(0.12, 0.08, 0.16), layer(None), {"TL501.same", "TL501.border_everywhere"}),
        (estimated(0.5, 0.4, 0.6), layer(1e-8), {"TL501.changed", "TL501.exact_inside"}),
        (estimated(0.5, 0.4, 0.6), layer(0.2), {"TL501.changed", "TL501.broken_inside"}),
    ],
)
def test_the_reading_names_control_and_border(control: Estimate | None, last: LayerShift | None, ids: set[str]) -> None:
    verdict, reason, reading = judge(estimated(0.1, 0.07, 0.14), control, last, 10)
    assert verdict is Verdict.DESCRIPTIVE
    assert reason.render() == "a shift by one pixel changes 10.0\N{NO-BREAK SPACE}% of the decisions"
    assert {m.id for m in reading.values.values() if isinstance(m, Message)} == ids


def test_a_network_that_knows_one_answer_is_inconclusive() -> None:
    verdict, reason, _ = judge(estimated(0.0, 0.0, 0.01), None, None, 1)
    assert verdict is Verdict.INCONCLUSIVE
    assert reason.id == "TL501.one_class"
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():
        model[1].bias.copy_(torch.tensor([100.0, 0, 0]))
    x = torch.randn(20, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    constant = Subject(model=model, loss="cross_entropy", train=(x, torch.arange(20) % 3))
    assert probe_equivariance(constant).verdict is Verdict.INCONCLUSIVE


def test_the_probe_counts_what_a_loop_over_images_counts(subject: Subject) -> None:
    result = probe_equivariance(subject, rows=60)
    (matrix,) = [p for p in result.payload if type(p).__name__ == "Matrix"]
    x = subject.split("test").take(subject.split("test").subset(60))[0]
    net = subject.net
    with torch.no_grad():
        before = net(x).argmax(1)
        naive = torch.cat([x[:, :, :1, :], x[:, :, :-1, :]], dim=2)  # one pixel down, edge repeated
        share = float((net(naive).argmax(1) != before).double().mean())
    assert matrix.values[3, 2] == pytest.approx(share, abs=1e-12)  # type: ignore[union-attr]
    assert matrix.values[2, 2] == 0  # type: ignore[union-attr]
    one = [matrix.values[k] for k in ((1, 2), (3, 2), (2, 1), (2, 3))]  # type: ignore[union-attr]
    assert min(one) <= result.estimate.value <= max(one)
    assert result.control("init") is not None
    assert probe_equivariance(subject, rows=60).estimate == result.estimate


def test_flat_inputs_and_regressions_are_unsuitable() -> None:
    x = torch.randn(20, 4)
    flat = Subject(model=nn.Linear(4, 3), loss="cross_entropy", train=(x, torch.arange(20) % 3))
    with pytest.raises(UnsuitableError, match="not images"):
        probe_equivariance(flat)
    line = Subject(model=nn.Linear(4, 1), loss="mse", train=(x, torch.randn(20, 1)))
    with pytest.raises(UnsuitableError, match="does not choose between classes"):
        probe_equivariance(line)
