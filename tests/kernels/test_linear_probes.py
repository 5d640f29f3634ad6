"""TL404 and TL405 on a small trained network, their judges on bare numbers, the coverage of their intervals."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.core import Subject, UnsuitableError
from theorylens.kernels import (
    Scaled,
    leave_one_out_residuals,
    ntk,
    probe_kernel_regression,
    probe_linearised,
)
from theorylens.kernels._jackknife import leave_one_out, with_interval
from theorylens.kernels._linearised_probe import Outputs, compared
from theorylens.kernels._linearised_probe import judge as judge_linearised
from theorylens.kernels._regression_probe import RIDGE, centred_targets, unexplained
from theorylens.kernels._regression_probe import judge as judge_regression
from theorylens.kernels._subset import chosen_rows, tangent_kernel
from theorylens.report._plots import figure
from theorylens.results import Curve, Estimate, Kind, Message, Points, Statistical, Table, Unknown, Verdict
from theorylens.training import Keeping, Optimisation, fit

WHY = Message("test.why", "because")


def number(value, half=0.01):
    return Estimate(
        value=value, uncertainty=Statistical(lower=value - half, upper=value + half, level=0.95, method=WHY)
    )


UNKNOWN = Estimate(value=0.05, uncertainty=Unknown(why=WHY))


@pytest.mark.parametrize(
    ("found", "first"),
    [
        (number(0.05), "Yes"),
        (number(0.095), "Partly"),
        (number(0.505), "Partly"),
        (number(0.8), "No"),
        (UNKNOWN, "Undecided"),
    ],
)
def test_every_branch_of_the_linearised_judge(found, first):
    verdict, reason, reading = judge_linearised(found)
    assert verdict is (Verdict.INCONCLUSIVE if found is UNKNOWN else Verdict.DESCRIPTIVE)
    assert reading.render().startswith(first)
    assert reason.render()


@pytest.mark.parametrize(
    ("found", "wrong", "network", "verdict", "first"),
    [
        (number(1.2), 0.5, 0.1, Verdict.INCONCLUSIVE, "No better than chance"),
        (UNKNOWN, 0.5, 0.1, Verdict.INCONCLUSIVE, "Undecided: kernel regression"),
        (number(0.3), None, None, Verdict.DESCRIPTIVE, "70 % of the targets' variance"),
        (number(0.3), 0.2, None, Verdict.DESCRIPTIVE, "20 % wrong on rows it did not see, from 50 rows"),
        (number(0.3), 0.2, 0.1, Verdict.DESCRIPTIVE, "20 % wrong on rows it did not see"),
    ],
)
def test_every_branch_of_the_regression_judge(found, wrong, network, verdict, first):
    said, reason, reading = judge_regression(found, number(1.2, 0.1), wrong, network, 600, 50)
    assert said is verdict
    assert reading.render().replace("\xa0", " ").startswith(first)
    assert reason.render()
    if network and said is Verdict.DESCRIPTIVE:
        assert "trained on 600" in reading.render()


def test_a_trained_convolutional_network_left_its_linearisation(digits):
    result = probe_linearised(digits)
    assert result.kind is Kind.DESCRIPTION
    assert result.estimate.lower > 0.5
    points = next(p for p in result.payload if isinstance(p, Points))
    found = compared(digits, "train")
    assert len(points.x) == 1000
    assert float((found.now - found.linear).norm() / (found.now - found.start).norm()) == result.estimate.value
    assert [c.role for c in result.controls] == ["shuffled"]
    assert result.controls[0].estimate.value != result.estimate.value
    assert all(figure(p) is not None for p in result.payload)


def lazy(alpha):
    x = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
    y = torch.sin(2 * x[:, :1])
    torch.manual_seed(0)
    net = Scaled(nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 1)), alpha)
    optimisation = Optimisation(lr=0.1 / alpha**2, batch_size=80, epochs=60)
    fitted = fit(net, (x[:80], y[:80]), "mse", optimisation, keeping=Keeping(every=60))
    return fitted.subject(test=(x[80:], y[80:]))


def test_a_network_of_large_scale_is_its_linearisation_on_the_test_rows():
    result = probe_linearised(lazy(100.0))
    assert result.estimate.upper < 0.1
    assert result.settings == {"split": "test", "rows": 40}
    assert result.reading.render().startswith("Yes")
    table = next(p for p in result.payload if isinstance(p, Table))
    assert [row[0] for row in table.rows] == ["train", "test"]
    assert len(table.columns) == 2  # a regression has no errors
    assert probe_linearised(lazy(0.5)).estimate.value > 3 * result.estimate.value


def test_what_has_no_linearisation_is_skipped(digits):
    other = Subject(model=digits.net, loss="cross_entropy", train=digits.train)
    with pytest.raises(UnsuitableError, match="own initial weights"):
        probe_linearised(other)
    still = Subject(
        model=digits.net, loss="cross_entropy", train=digits.train, init=copy.deepcopy(digits.net.state_dict())
    )
    with pytest.raises(UnsuitableError, match="did not change the outputs"):
        probe_linearised(still)


def test_kernel_regression_of_the_start_on_digits(digits):
    x, y = digits.train.data
    subject = replace(digits, test=(x[:50], y[:50]))
    result = probe_kernel_regression(subject)
    start = digits.initial().subject
    rows = chosen_rows(digits)
    K, targets = tangent_kernel(start, rows), centred_targets(rows)
    ridge = RIDGE * float(K.trace()) / len(K)
    residuals = leave_one_out_residuals(K, targets, ridge)
    assert result.estimate.value == pytest.approx(float(residuals.square().sum() / targets.square().sum()), rel=1e-9)
    assert result.estimate.upper < 0.6 < result.controls[0].estimate.lower
    table = next(p for p in result.payload if isinstance(p, Table))
    wrong = float(((targets - residuals).argmax(1) != rows.targets).double().mean())
    assert table.rows[0][3] == pytest.approx(wrong)
    assert table.rows[2][3] == pytest.approx(float(subject.scores("test").errors.mean()))
    curve = next(p for p in result.payload if isinstance(p, Curve))
    assert curve.lines[1].y == pytest.approx(curve.lines[0].y, rel=0.12)
    assert all(figure(p) is not None for p in result.payload)


def test_shuffled_labels_are_not_predicted(digits):
    x, y = digits.train.data
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(3))
    result = probe_kernel_regression(replace(digits, train=(x, y[order]), shuffled=None))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.estimate.value > 1


def test_regression_targets_are_explained_as_shares():
    result = probe_kernel_regression(lazy(1.0))
    assert "explained" in result.reading.render()
    assert result.estimate.value < 0.8


def test_outputs_times_ten_change_nothing(digits):
    class Tenfold(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return 10 * self.inner(x)

    net = Tenfold(copy.deepcopy(digits.net))
    init = {f"inner.{k}": v for k, v in digits.init.items()}
    other = Subject(model=net, loss="cross_entropy", train=digits.train, init=init)
    for probe in (probe_linearised, probe_kernel_regression):
        assert probe(other).estimate.value == pytest.approx(probe(digits).estimate.value, rel=1e-4)


def test_too_few_rows_or_constant_targets_are_skipped():
    torch.manual_seed(0)
    net = nn.Linear(3, 1)
    x = torch.randn(30, 3)
    with pytest.raises(UnsuitableError, match="too few"):
        probe_kernel_regression(Subject(model=net, loss="mse", train=(x[:6], x[:6, :1])))
    with pytest.raises(UnsuitableError, match="targets are constant"):
        probe_kernel_regression(Subject(model=net, loss="mse", train=(x, torch.ones(30, 1))))


def gram(x):
    return torch.exp(-0.2 * torch.cdist(x, x) ** 2)


@pytest.mark.slow
def test_the_interval_of_the_unexplained_share_covers():
    g = torch.Generator().manual_seed(0)
    found, covered = [], []
    for _ in range(800):
        x = torch.randn(40, 3, generator=g, dtype=torch.float64)
        y = torch.sin(2 * x[:, :1]) + 0.3 * torch.randn(40, 1, generator=g, dtype=torch.float64)
        K = gram(x)
        without = leave_one_out(lambda kept, K=K, y=y: unexplained(K[kept][:, kept], y[kept]), 40)
        found.append(with_interval(unexplained(K, y), without, np.zeros(40, dtype=np.int64), (0.0, np.inf)))
    truth = np.mean([e.value for e in found])
    covered = [e.lower <= truth <= e.upper for e in found]
    assert np.mean(covered) > 0.9


@pytest.mark.slow
def test_the_interval_of_the_gap_covers():
    g = torch.Generator().manual_seed(0)
    covered = 0
    truth = (0.3**2 + 0.2**2 * 5) ** 0.5 / 5**0.5  # per row: change x (5 numbers), miss .2 x and noise .3 in one
    for _ in range(2000):
        way = torch.randn(60, 5, generator=g, dtype=torch.float64)
        miss = 0.2 * way
        miss[:, 0] += 0.3 * torch.randn(60, generator=g, dtype=torch.float64)
        outputs = Outputs(start=torch.zeros(60, 5), linear=way - miss, now=way, errors={})
        found = with_interval(outputs.gap, outputs.without_each(), np.zeros(60, dtype=np.int64), (0.0, np.inf))
        covered += found.lower <= truth <= found.upper
    assert covered / 2000 > 0.92


def test_the_gap_without_a_row_is_that_of_the_other_rows(digits):
    found = compared(digits, "train")
    some = Outputs(start=found.start[:12], linear=found.linear[:12], now=found.now[:12], errors={})
    naive = leave_one_out(
        lambda kept: Outputs(start=some.start[kept], linear=some.linear[kept], now=some.now[kept], errors={}).gap, 12
    )
    np.testing.assert_allclose(some.without_each(), naive, rtol=1e-10)


def test_the_kernel_of_the_start_is_that_of_the_start(digits):
    rows = chosen_rows(digits)
    start = copy.deepcopy(digits.net)
    start.load_state_dict(digits.init)
    K = ntk(start.eval(), digits.train.data[0][rows.index], output="trace").double()
    assert torch.equal(K, tangent_kernel(digits.initial().subject, rows))
