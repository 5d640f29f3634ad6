"""The chapter's probes on a small trained network, and their judges on bare numbers."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.core import Subject, UnsuitableError
from theorylens.kernels import PROBES, alignment, ntk, probe_alignment, probe_effective_dimension, probe_movement
from theorylens.kernels._alignment_probe import judge as judge_alignment
from theorylens.kernels._dimension_probe import RIDGE, dimension_without_each, relative_levels
from theorylens.kernels._dimension_probe import judge as judge_dimension
from theorylens.kernels._effective_dimension import dimension_at
from theorylens.kernels._jackknife import leave_one_out
from theorylens.kernels._movement import moved
from theorylens.kernels._movement_probe import changes_without_each
from theorylens.kernels._movement_probe import judge as judge_movement
from theorylens.kernels._subset import chosen_rows, tangent_kernel
from theorylens.results import (
    Done,
    Estimate,
    Kind,
    Matrix,
    Message,
    Spectrum,
    Statistical,
    Unknown,
    Verdict,
    outcome_from_view,
    outcome_view,
)

WHY = Message("test.why", "because")


def number(value, half=0.01):
    return Estimate(
        value=value, uncertainty=Statistical(lower=value - half, upper=value + half, level=0.95, method=WHY)
    )


UNKNOWN = Estimate(value=0.5, uncertainty=Unknown(why=WHY))
NULL = number(0.0, 0.02)


@pytest.mark.parametrize(
    ("found", "null", "init", "growth", "shuffled", "verdict", "first"),
    [
        (Estimate(value=np.nan, uncertainty=Unknown(why=WHY), trouble=WHY), NULL, None, None, None,
         Verdict.INCONCLUSIVE, "the alignment cannot"),
        (number(0.5), UNKNOWN, None, None, None, Verdict.INCONCLUSIVE, "the alignment cannot"),
        (number(0.015), NULL, number(0.3), number(0.2), None, Verdict.INCONCLUSIVE, "No: the alignment is 0.01"),
        (number(0.5), NULL, None, None, None, Verdict.INCONCLUSIVE, "Beyond chance"),
        (number(0.5), NULL, number(0.495), number(0.005), None, Verdict.INCONCLUSIVE, "No change"),
        (number(0.5), NULL, number(0.3), UNKNOWN, None, Verdict.INCONCLUSIVE, "No change"),
        (number(0.3), NULL, number(0.5), number(-0.2), None, Verdict.DESCRIPTIVE, "No: the alignment fell"),
        (number(0.5), NULL, number(0.3), number(0.2), number(0.505), Verdict.INCONCLUSIVE, "Yes, but"),
        (number(0.5), NULL, number(0.3), number(0.2), number(0.1), Verdict.DESCRIPTIVE, "Yes: the alignment rose"),
        (number(0.5), NULL, number(0.3), number(0.2), None, Verdict.DESCRIPTIVE, "Yes: the alignment rose"),
    ],
)  # fmt: skip
def test_every_branch_of_the_alignment_judge(found, null, init, growth, shuffled, verdict, first):
    said, reason, reading = judge_alignment(found, null, init, growth, shuffled)
    assert said is verdict
    assert reading.render().startswith(first)
    assert reason.render()


@pytest.mark.parametrize(
    ("init", "says"),
    [(None, "cannot be re-initialised"), (20.005, "not told apart"), (30, "fewer than"), (10, "more than")],
)
def test_every_branch_of_the_dimension_judge(init, says):
    start = None if init is None else Message("control.init", "random initialisation")
    verdict, reason, reading = judge_dimension(number(20), 150, None if init is None else number(init), start)
    assert verdict is Verdict.DESCRIPTIVE
    assert says in reading.render()
    assert reason.render().startswith("20.0 of 150")


@pytest.mark.parametrize(
    ("value", "first"), [(0.05, "Hardly"), (0.095, "Somewhat"), (0.505, "Somewhat"), (2, "Yes, far")]
)
def test_every_branch_of_the_movement_judge(value, first):
    verdict, _, reading = judge_movement(number(value), 0.3)
    assert verdict is Verdict.DESCRIPTIVE
    assert reading.render().startswith(first)


def test_rows_are_even_and_depend_on_content_only(digits):
    rows = chosen_rows(digits)
    assert rows.by_class
    assert len(rows) == 150
    assert np.bincount(rows.targets).tolist() == [15] * 10
    x, y = digits.train.data
    assert torch.equal(y[rows.index], rows.targets)
    again = Subject(model=digits.net, loss="cross_entropy", train=(x, y), batch_size=7)
    assert torch.equal(chosen_rows(again).index, rows.index)


def test_alignment_of_a_trained_network(digits):
    result = probe_alignment(digits)
    assert result.kind is Kind.INDICATOR
    assert result.verdict is Verdict.DESCRIPTIVE
    assert [c.role for c in result.controls] == ["theory", "init", "shuffled"]
    null, init, shuffled = (c.estimate for c in result.controls)
    assert result.estimate.lower > init.value > null.upper
    assert abs(null.value) < 0.01  # debiased: independent labels give zero
    assert shuffled.value < 0.2
    assert sum(isinstance(p, Matrix) for p in result.payload) == 2
    drawn = next(p for p in result.payload if isinstance(p, Matrix))
    assert drawn.values.shape == (50, 50)
    blocks = drawn.values[:50, :50]
    own = np.mean([blocks[5 * c : 5 * c + 5, 5 * c : 5 * c + 5].mean() for c in range(10)])
    assert own > blocks.mean()


def test_the_kernel_of_the_probe_is_the_public_one(digits):
    rows = chosen_rows(digits)
    K = ntk(digits.net, digits.train.data[0][rows.index], output="trace")
    assert torch.equal(K.double(), tangent_kernel(digits, rows))
    debiased = alignment(K, rows.targets, debiased=True)
    assert probe_alignment(digits).estimate.value == pytest.approx(debiased, abs=0.03)  # classes weighted evenly there


def test_effective_dimension_of_a_trained_network(digits):
    result = probe_effective_dimension(digits)
    assert [c.role for c in result.controls] == ["init", "shuffled"]
    spectrum = next(p for p in result.payload if isinstance(p, Spectrum))
    levels = spectrum.levels[0].values
    assert levels.mean() == pytest.approx(1)
    assert result.estimate.value == pytest.approx((levels / (levels + 0.01)).sum())
    assert 0 < result.estimate.lower < result.estimate.upper <= 150


def test_the_dimension_without_a_row_is_that_of_the_smaller_kernel(digits):
    K = tangent_kernel(digits, chosen_rows(digits))[::5][:, ::5]
    naive = leave_one_out(lambda kept: dimension_at(relative_levels(K[kept][:, kept]), RIDGE), len(K))
    np.testing.assert_allclose(dimension_without_each(K), naive, rtol=1e-7)


def test_the_movement_without_a_row_is_that_of_the_smaller_kernels(digits):
    first, last = (tangent_kernel(s, chosen_rows(digits))[::5][:, ::5] for s in (digits.initial().subject, digits))
    naive = leave_one_out(lambda kept: moved(first[kept][:, kept], last[kept][:, kept]).relative, len(first))
    np.testing.assert_allclose(changes_without_each(first, last), naive, rtol=1e-9)


def test_a_rescaled_output_has_the_same_dimension_and_alignment(digits):
    class Scaled(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return 100 * self.net(x)

    other = Subject(model=Scaled(digits.net), loss="cross_entropy", train=digits.train)
    for probe in (probe_alignment, probe_effective_dimension):
        assert probe(other).estimate.value == pytest.approx(probe(digits).estimate.value, rel=1e-4)


def test_movement_of_a_trained_network_and_its_checkpoints(digits):
    result = probe_movement(digits)
    rows = chosen_rows(digits)
    start = digits.initial().subject
    first, last = (tangent_kernel(s, rows) for s in (start, digits))
    assert result.estimate.value == pytest.approx(float((last - first).norm() / first.norm()))
    size, turn = result.payload[:2]
    assert size.lines[0].x.tolist() == [0, 10, 20, 30]
    assert size.lines[0].y[0] == 0
    assert size.lines[0].y[-1] == pytest.approx(result.estimate.value, rel=1e-5)
    assert 0 <= turn.lines[0].y[-1] <= 1


def test_an_untrained_network_has_not_moved_and_is_inconclusive(digits):
    net = copy.deepcopy(digits.net)
    net.load_state_dict(digits.init)
    fresh = Subject(model=net, loss="cross_entropy", train=digits.train, init=digits.init)
    assert probe_movement(fresh).estimate.value == 0
    found = probe_alignment(fresh)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reading.render().startswith("No change")


def test_movement_needs_the_networks_own_start(digits):
    bare = Subject(model=digits.net, loss="cross_entropy", train=digits.train)
    with pytest.raises(UnsuitableError, match="own initial weights"):
        probe_movement(bare)


def test_regression_binary_and_tiny_subjects():
    torch.manual_seed(0)
    x = torch.randn(60, 3)
    net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))
    regression = Subject(model=net, loss="mse", train=(x, x[:, :1] * 2))
    assert not chosen_rows(regression).by_class
    assert probe_alignment(regression).estimate.value > 0.3  # the initial kernel is nearly linear
    flat = Subject(
        model=nn.Sequential(net, nn.Flatten(0)), loss="binary_cross_entropy", train=(x, (x[:, 0] > 0).float())
    )
    assert chosen_rows(flat).by_class
    assert probe_alignment(flat).estimate.value > 0.1
    tiny = Subject(model=net, loss="mse", train=(x[:3], x[:3, :1]))
    result = probe_alignment(tiny)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.estimate.trouble is not None
    assert isinstance(probe_effective_dimension(tiny).estimate.uncertainty, Unknown)
    constant = Subject(model=net, loss="mse", train=(x, torch.ones(60, 1)))
    assert probe_alignment(constant).estimate.trouble is not None


def test_what_is_skipped_and_why():
    x = torch.randn(30, 4, 3)
    tokens = Subject(model=nn.Linear(3, 5), loss="cross_entropy", train=(x, torch.randint(5, (30, 4))))
    with pytest.raises(UnsuitableError, match="needs a classifier or a regression, the task is language"):
        probe_alignment(tokens)
    planes = Subject(model=nn.Linear(3, 5), loss="mse", train=(x, torch.randn(30, 4, 5)))
    with pytest.raises(UnsuitableError, match="the model gives 3 axes"):
        probe_alignment(planes)
    frozen = nn.Linear(3, 2).requires_grad_(False)
    still = Subject(model=frozen, loss="cross_entropy", train=(x[:, 0], torch.arange(30) % 2))
    with pytest.raises(UnsuitableError, match="no parameter that requires a gradient"):
        probe_effective_dimension(still)


@pytest.mark.parametrize("probe", PROBES, ids=lambda p: p.code)
def test_same_answer_again_alone_and_at_another_batch_size(digits, probe):
    first = probe(digits)
    again = Subject(
        model=digits.net, loss="cross_entropy", train=digits.train.data, init=digits.init, shuffled=digits.shuffled,
        checkpoints=digits.checkpoints, batch_size=64,
    )  # fmt: skip
    assert probe(again).estimate.value == pytest.approx(first.estimate.value, rel=1e-5)
    assert probe.cost(digits, None).gradients >= 1500
    done = Done(about=probe.about, result=first)
    assert outcome_view(outcome_from_view(outcome_view(done))) == outcome_view(done)
