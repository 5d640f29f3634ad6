"""The average of checkpoints: intervals, judge, probe on a run that oscillates and on one that does not; tracking."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from theorylens import core
from theorylens.core import RefusedError, Subject, UnsuitableError
from theorylens.landscape import SharpnessTracker, average_weights, eigenvalues, probe_averaged_checkpoints
from theorylens.landscape import _average_probe as average
from theorylens.numerics import tally
from theorylens.report._plots import figure
from theorylens.results import Estimate, Exact, Message, Statistical, Unknown, Verdict
from theorylens.training import Keeping, Optimisation, fit

WHY = Message("test.why", "for a test")


def comparison(low, high, trouble=None, steps=(2, 3, 4)):
    limits = Statistical(lower=low, upper=high, level=0.95, method=WHY)
    value = (low + high) / 2 if math.isfinite(low + high) else 0.0
    return average.Comparison(
        last=1.0, average=1.0 + value, steps=steps,
        difference=Estimate(value=value, uncertainty=limits, trouble=trouble),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "verdict", "said", "reading"),
    [
        (comparison(-0.3, -0.1), Verdict.HOLDS, "has validation loss 0.8, the last one 1", "Yes, the average can"),
        (
            comparison(0.1, 0.3),
            Verdict.FAILS,
            "(steps 2 to 4) is worse: validation loss 1.2 against 1",
            "No, these checkpoints",
        ),
        (
            comparison(0.1, 0.3, steps=(17, 72)),
            Verdict.INCONCLUSIVE,
            "(steps 17 to 72) is worse",
            "Not these: only the last",
        ),
        (comparison(-0.3, -0.1, steps=(17, 72)), Verdict.HOLDS, "(steps 17 to 72) has", "Yes, the average can"),
        (comparison(-0.1, 0.3), Verdict.INCONCLUSIVE, "not told apart", "Open: these rows cannot tell"),
        (comparison(-math.inf, math.inf), Verdict.INCONCLUSIVE, "not told apart", "too few rows"),
        (comparison(-0.3, -0.1, WHY), Verdict.INCONCLUSIVE, "no answer: for a test", "Yes"),
    ],
)
def test_the_judge(found, verdict, said, reading):
    got, reason = average.judge(found)
    assert got is verdict
    assert said in reason.render()
    assert reading in average.read(found).render()


def test_the_interval_is_students_over_units():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 40))
    found = average.paired(a, b, np.arange(40))
    half = 2.0226909 * (a - b).std(ddof=1) / 40**0.5
    assert (found.value, found.lower) == pytest.approx(((a - b).mean(), (a - b).mean() - half), rel=1e-6)
    # Every row four times, as one unit: the same interval, not half of it.
    fourfold = average.paired(np.repeat(a, 4), np.repeat(b, 4), np.repeat(np.arange(40), 4))
    assert fourfold.lower == pytest.approx(found.lower, rel=1e-9)
    assert isinstance(average.paired(a, a, np.arange(40)).uncertainty, Exact)
    few = average.paired(a[:5], b[:5], np.arange(5))
    assert (few.lower, few.upper) == (-math.inf, math.inf)
    bad = average.paired(np.array([1.0, math.inf]), np.array([1.0, math.inf]), np.arange(2))
    assert isinstance(bad.uncertainty, Unknown)


@pytest.mark.slow
def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    units = np.repeat(np.arange(30), 3)
    for _ in range(2000):
        gap = np.repeat(rng.standard_normal(30), 3) + rng.standard_normal(90) + 0.5
        found = average.paired(gap, np.zeros(90), units)
        hits += found.lower <= 0.5 <= found.upper
    assert hits / 2000 >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_late_steps():
    assert average.late_steps([0, 10, 20, 30, 40]) == [20, 30, 40]
    assert average.late_steps([0, 1, 4, 17, 72]) == [17, 72]
    assert average.late_steps([0]) == []
    assert average.late_steps([0, 5]) == [5]


def noisy_line():
    """Linear regression whose checkpoints scatter around the solution: the mean is better than the last."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(200, 4, generator=rng)
    w = torch.randn(4, 1, generator=rng)
    y = x @ w + 0.1 * torch.randn(200, 1, generator=rng)
    net, states = nn.Linear(4, 1, bias=False), {}
    for step in range(20):
        states[step * 10] = {"weight": (w + 0.3 * torch.randn(4, 1, generator=rng)).T.clone()}
    net.load_state_dict(states[190])
    return Subject(
        model=net, loss="mse", train=(x[:100], y[:100]), validation=(x[100:], y[100:]), checkpoints=states
    )  # fmt: skip


def test_an_average_of_noisy_checkpoints_is_better():
    subject = noisy_line()
    result = probe_averaged_checkpoints(subject)
    assert result.verdict is Verdict.HOLDS
    chosen = [s for s in sorted(subject.checkpoints) if s >= 95]
    assert result.settings == {"checkpoints": len(chosen), "from_step": 100, "statistics_batch": 256}
    mean = average_weights(subject.checkpoints[s] for s in chosen)["weight"]
    x, y = subject.split("validation").take(range(100))
    truth = F.mse_loss(x @ mean.T, y) - F.mse_loss(x @ subject.checkpoints[190]["weight"].T, y)
    assert result.estimate.value == pytest.approx(float(truth), rel=1e-5)
    assert len(result.payload[0].lines[0].x) == 12
    assert result.cost.forwards == pytest.approx(probe_averaged_checkpoints.cost(subject, None).forwards, rel=0.3)


def test_statistics_are_taken_anew_for_the_average():
    with core.global_randomness_kept(0):
        net = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
        x = torch.randn(150, 3)
        y = (x[:, 0] > 0).long()
    run = fit(net, (x[:100], y[:100]), "cross_entropy", Optimisation(lr=0.2, batch_size=20, epochs=8),
              validation=(x[100:], y[100:]), keeping=Keeping(checkpoints=6))  # fmt: skip
    result = probe_averaged_checkpoints(run.subject())
    assert any("1 were taken anew" in a.evidence.render() for a in result.assumptions if a.evidence)
    assert math.isfinite(result.estimate.value)


def test_too_few_checkpoints_are_unsuitable():
    subject = noisy_line()
    early = {s: subject.checkpoints[s] for s in (0, 190)}
    with pytest.raises(UnsuitableError, match="needs at least 2 checkpoints after step 0, has 1"):
        probe_averaged_checkpoints(
            Subject(model=subject.model, loss="mse", train=subject.train, validation=subject.validation,
                    checkpoints=early)
        )  # fmt: skip


# ---- sharpness while training ------------------------------------------------------------------------------------


def test_full_batch_descent_ends_at_the_edge_of_stability():
    """Sharpness settles at 2/lr, as Cohen et al. (2021) found; three products a look follow it."""
    with core.global_randomness_kept(0):
        x = torch.randn(100, 8)
        y = torch.tanh(x @ torch.randn(8, 3)) + 0.1 * torch.randn(100, 3)
        net = nn.Sequential(nn.Linear(8, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 3))
    lr = 0.4
    tracker = SharpnessTracker((x, y), lambda o, t: (o - t).square().sum(1), every=50)
    rule = torch.optim.SGD(net.parameters(), lr=lr)
    for step in range(2001):
        rule.zero_grad()
        (net(x) - y).square().sum(1).mean().backward()
        rule.step()
        tracker(step, net, {"lr": lr})
    assert len(tracker.steps) == 41
    late = tracker.values[-10:]
    assert np.mean(late) == pytest.approx(2 / lr, rel=0.02)
    exact = eigenvalues(net, (x, y), lambda o, t: (o - t).square().sum(1), k=1).values[0]
    assert tracker.values[-1] == pytest.approx(exact, rel=0.02)
    assert tracker.values[-1] <= exact + tracker.residuals[-1] + 1e-4
    curve = tracker.curve()
    assert curve.lines[1].y == pytest.approx(np.full(41, 2 / lr))
    assert figure(curve).axes


def test_a_look_takes_the_products_it_says_and_only_the_first_one_more():
    with core.global_randomness_kept(0):
        net, rows = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 1)), (torch.randn(10, 6), torch.zeros(10, 1))
    tracker = SharpnessTracker(rows, "mse", products=3)
    for step, products in enumerate((20, 3, 3)):
        with tally() as work:
            tracker(step, net, {})
        assert work.hvps <= products * 10  # fewer where the vector is an eigenvector already
    assert tracker.values[2] == pytest.approx(eigenvalues(net, rows, "mse", k=1).values[0], rel=1e-4)


def test_tracker_without_a_rate_draws_no_limit_and_refuses_what_is_lost():
    net, rows = nn.Linear(2, 1), (torch.randn(5, 2), torch.zeros(5, 1))
    tracker = SharpnessTracker(rows, "mse", every=3)
    for step in range(4):
        tracker(step, net, {})
    assert tracker.steps == [0, 3]
    assert len(tracker.curve().lines) == 1
    with pytest.raises(ValueError, match="every must be at least 1 and products at least 2, got 0 and 3"):
        SharpnessTracker(rows, "mse", every=0)
    with torch.no_grad():
        net.weight.fill_(1e30)
    with pytest.raises(RefusedError, match="the loss is inf at step 6"):
        tracker(6, net, {})
