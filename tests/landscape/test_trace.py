"""Traces: goldens, the exact diagonal, the estimate against it, coverage, judge and probe."""

import math

import pytest
import torch
from torch import nn

from theorylens import core
from theorylens.core import RefusedError, Subject
from theorylens.landscape import probe_trace, trace
from theorylens.landscape._trace_probe import judge, read
from theorylens.numerics.operator import DenseOperator
from theorylens.numerics.trace import hutchinson
from theorylens.results import Estimate, Exact, Intervals, Message, Statistical, Unknown, Verdict

WHY = Message("test.why", "for a test")


def dense(goal):
    hessian = goal.hessian()
    return torch.stack([hessian @ e for e in torch.eye(goal.size, dtype=goal.dtype)])


def test_golden_the_mean_over_both_signs_is_the_trace(quadratic):
    # z = (1, 1) gives 7 and z = (1, -1) gives 3: any draw is one of them, their mean 5 is the trace.
    matrix = [[2.0, 1.0], [1.0, 3.0]]
    assert trace(*quadratic(matrix)).value == pytest.approx(5.0, rel=1e-12)
    assert isinstance(trace(*quadratic(matrix)).uncertainty, Exact)
    drawn = hutchinson(DenseOperator(torch.tensor(matrix)), 500, generator=torch.Generator().manual_seed(0))
    share = (drawn.value - 3) / 4
    assert share * 500 == pytest.approx(round(share * 500), abs=1e-6)
    assert drawn.lower <= 5 <= drawn.upper


@pytest.mark.parametrize("c", [1.0, 10.0])
def test_golden_rescaling_changes_the_trace_and_not_the_function(c):
    """f = (ab - 1)² at (c, 1/c): trace 2 (c² + 1/c²), the same function value (Dinh et al. 2017)."""

    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(torch.tensor(c, dtype=torch.float64))
            self.b = nn.Parameter(torch.tensor(1 / c, dtype=torch.float64))

        def forward(self, x):
            return (self.a * self.b - 1).square().expand(len(x))

    data = torch.zeros(3, 1), torch.zeros(3)
    assert trace(Product(), data, lambda o, t: o).value == pytest.approx(2 * (c**2 + c**-2), rel=1e-12)


def test_few_parameters_give_the_exact_trace_and_many_an_interval_around_it():
    with core.global_randomness_kept(0):
        small, large = (nn.Sequential(nn.Linear(6, h), nn.Tanh(), nn.Linear(h, 4)).double().eval() for h in (10, 40))
        data = torch.randn(30, 6).double(), torch.randint(4, (30,))
    truth = torch.trace(dense(core.objective(small, data, "cross_entropy"))).item()
    for draws in (2, 64):
        assert trace(small, data, "cross_entropy", draws=draws, batch_size=7).value == pytest.approx(truth, rel=1e-10)
    truth = torch.trace(dense(core.objective(large, data, "cross_entropy"))).item()
    estimate = trace(large, data, "cross_entropy", draws=256, seed=1)
    assert isinstance(estimate.uncertainty, Statistical)
    assert estimate.lower <= truth <= estimate.upper
    assert estimate.value == pytest.approx(truth, rel=0.1)
    assert trace(large, data, "cross_entropy", draws=256, seed=1, batch_size=7).value == pytest.approx(
        estimate.value, rel=1e-9
    )
    assert trace(large, data, "cross_entropy", draws=256, seed=2).value != estimate.value


@pytest.mark.slow
def test_the_interval_covers_the_trace_of_a_network_as_often_as_it_says():
    with core.global_randomness_kept(0):
        net = nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 4)).double().eval()
        data = torch.randn(30, 6).double(), torch.randint(4, (30,))
    matrix = dense(core.objective(net, data, "cross_entropy"))
    operator, truth = DenseOperator((matrix + matrix.T) / 2), torch.trace(matrix).item()
    hits = 0
    for seed in range(1000):
        found = hutchinson(operator, 16, generator=torch.Generator().manual_seed(seed))
        hits += found.lower <= truth <= found.upper
    assert hits / 1000 >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 1000) - 0.01


def test_refusals(quadratic):
    with pytest.raises(RefusedError, match="the loss is nan"):
        trace(*quadratic([[1.0]], constant=float("nan")))
    net = nn.Linear(300, 1).eval()
    with pytest.raises(ValueError, match="draws must be at least 2"):
        trace(net, (torch.ones(3, 300), torch.ones(3, 1)), "mse", draws=1)


def number(value, error=None):
    value = float(value)
    if error is None:
        return Estimate(value=value, uncertainty=Exact())
    return Estimate(
        value=value, uncertainty=Statistical(lower=value - error, upper=value + error, level=0.95, method=WHY)
    )


UNKNOWN = Estimate(value=5.0, uncertainty=Unknown(why=WHY))


@pytest.mark.parametrize(
    ("value", "others", "verdict", "said", "reading"),
    [
        (number(8.0), {"init": number(2.0)}, Verdict.DESCRIPTIVE, "8, 4 times that before", "made the loss sharper"),
        (number(2.0), {"init": number(8.0)}, Verdict.DESCRIPTIVE, "2, 0.25 times", "made the loss flatter"),
        (number(8.0, 3), {"init": number(6.0, 1)}, Verdict.INCONCLUSIVE, "not told apart from that", "what was learnt"),
        (number(8.0), {"init": number(8.00001)}, Verdict.INCONCLUSIVE, "not told apart from that", "what was learnt"),
        (number(8.0), {"init": number(2), "shuffled": number(9, 2)}, Verdict.INCONCLUSIVE, "shuffled", "the labels"),
        (number(8.0), {}, Verdict.DESCRIPTIVE, "trace 8", "Nothing to compare it with"),
        (number(8.0), {"init": number(-2.0)}, Verdict.DESCRIPTIVE, "trace 8", "sharper"),
        (UNKNOWN, {"init": number(5.0)}, Verdict.INCONCLUSIVE, "not compared: for a test", "they are not compared"),
        (number(8.0), {"init": UNKNOWN}, Verdict.INCONCLUSIVE, "8, not compared", "they are not compared"),
    ],
)  # fmt: skip
def test_the_judge_and_the_reading(value, others, verdict, said, reading):
    got, reason = judge(value, others)
    assert got is verdict
    assert said in reason.render()
    assert reading in read(value, others, 1000).render()


def test_the_reading_gives_the_mean_curvature():
    assert "By 0.008 on average over 1,000 directions" in read(number(8.0), {}, 1000).render()
    assert "r² times 0.004 on average" in read(number(8.0), {}, 1000).render()


def test_the_trace_of_a_trained_network(digits):
    result = probe_trace(digits, rung=32)
    data = digits.split("train").take(range(300))
    truth = trace(digits.net, data, "cross_entropy", draws=256)
    half = [(e.upper - e.lower) / 2 for e in (truth, result.estimate)]
    assert result.estimate.value == pytest.approx(truth.value, abs=2 * (half[0] ** 2 + half[1] ** 2) ** 0.5)
    assert result.plan == 32
    assert {c.role for c in result.controls} == {"init", "shuffled"}
    assert isinstance(result.payload[0], Intervals)
    assert result.payload[0].roles == ("network", "init", "shuffled")
    again = probe_trace(digits, rung=32)
    assert again.estimate == result.estimate
    assert probe_trace(digits, rung=32, seed=1).estimate.value != result.estimate.value
    announced = probe_trace.cost(digits, 32)
    assert announced.hvps == 3 * 2 * 32 * 300  # of H, and of G where that pays
    assert 3 * 32 * 300 < result.cost.hvps <= announced.hvps
    assert result.cost.gradients <= announced.gradients
    assert result.settings["route"] in ("Gauss-Newton and rest", "hutchinson")


def test_a_linear_model_has_the_same_trace_as_its_control():
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 3, generator=rng), torch.randn(20, 1, generator=rng)
    result = probe_trace(Subject(model=nn.Linear(3, 1), loss="mse", train=(x, y)))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert isinstance(result.estimate.uncertainty, Exact)
    # Of 2 X'X / n with the constant column of the bias.
    assert result.estimate.value == pytest.approx(2 * (x.double().square().sum().item() / 20 + 1), rel=1e-5)
