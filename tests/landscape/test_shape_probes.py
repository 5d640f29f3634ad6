"""Spectrum, random changes and the line from initialisation: judges on bare numbers, probes on a small network."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from theorylens import core
from theorylens.core import Subject, UnsuitableError
from theorylens.landscape import (
    Path,
    expected_sharpness,
    linear_path,
    probe_expected_sharpness,
    probe_linear_path,
    probe_spectral_density,
)
from theorylens.landscape import _line_probe as line
from theorylens.landscape import _sharpness_probe as sharp
from theorylens.landscape import _spectrum_probe as spectrum
from theorylens.landscape._expected_sharpness import mean_rise
from theorylens.results import Curve, Estimate, Exact, Kind, Message, Statistical, Status, Unknown, Verdict

WHY = Message("test.why", "for a test")


def number(value, error=None):
    if error is None:
        return Estimate(value=float(value), uncertainty=Exact())
    limits = Statistical(lower=value - error, upper=value + error, level=0.95, method=WHY)
    return Estimate(value=float(value), uncertainty=limits)


UNKNOWN = Estimate(value=math.inf, uncertainty=Unknown(why=WHY), trouble=WHY)


@pytest.mark.parametrize(
    ("found", "others", "verdict", "said"),
    [
        (number(40, 2), {"init": number(90, 5)}, Verdict.DESCRIPTIVE, "40 of 900 directions, 90 before training"),
        (number(40, 2), {"init": number(41, 5)}, Verdict.INCONCLUSIVE, "not told apart from before training (41)"),
        (number(40, 2), {"init": number(9, 1), "shuffled": number(41, 1)}, Verdict.INCONCLUSIVE, "shuffled labels"),
        (number(40), {"init": number(41)}, Verdict.INCONCLUSIVE, "not told apart from before training (41)"),
        (number(40, 2), {}, Verdict.DESCRIPTIVE, "about 40 of 900 directions"),
    ],
)
def test_the_judge_of_spectra(found, others, verdict, said):
    got, reason = spectrum.judge(found, others, 900)
    assert got is verdict
    assert said in reason.render()


@pytest.mark.parametrize(
    ("outliers", "classes", "said"),
    [(0, 10, "No gap sets"), (9, 10, "9 eigenvalues stand apart, one fewer than the 10 classes"),
     (3, 10, "The 3 largest eigenvalues stand apart"), (1, 2, "The largest eigenvalue stands apart"),
     (1, None, "The largest eigenvalue stands apart")],
)  # fmt: skip
def test_the_reading_of_spectra(outliers, classes, said):
    words = spectrum.read(number(40, 60), number(0.731, 0.1), outliers, classes, 900).render()
    assert words.startswith("About 40 of 900 (from 1 to 100)")
    assert said in words
    assert "73" in words


def test_outliers_that_were_there_before_training_are_not_what_was_learnt():
    words = spectrum.read(number(40, 60), number(0.731, 0.1), 9, 10, 900, before=9).render()
    assert "one fewer than the 10 classes, but as many did before training" in words
    assert "as in many classifiers" in spectrum.read(number(40), number(0.7), 9, 10, 900, before=0).render()


@pytest.mark.parametrize(
    ("found", "others", "verdict", "said", "reading"),
    [
        (number(2, 0.1), {"init": number(1, 0.1)}, Verdict.INCONCLUSIVE, "by 2, more than before training (1)",
         "it is less"),
        (number(1, 0.1), {"init": number(2, 0.1)}, Verdict.DESCRIPTIVE, "by 1, 2 before training", "it is more"),
        (number(2, 1), {"init": number(1.5, 1)}, Verdict.INCONCLUSIVE, "as before training (1.5)", "what was learnt"),
        (number(2, 0.1), {"init": number(1, 0.1), "shuffled": number(2.1, 1)}, Verdict.INCONCLUSIVE,
         "as after training on shuffled", "about the labels"),
        (number(2, 0.1), {}, Verdict.DESCRIPTIVE, "raises the loss by 2", "no network before training"),
        (UNKNOWN, {}, Verdict.INCONCLUSIVE, "not known: for a test", "no network before training"),
        (number(2, 0.1), {"init": UNKNOWN}, Verdict.INCONCLUSIVE, "not known: for a test", "cannot be compared"),
    ],
)  # fmt: skip
def test_the_judge_of_random_changes(found, others, verdict, said, reading):
    got, reason = sharp.judge(found, others, 0.1)
    assert got is verdict
    assert said in reason.render()
    assert reading in sharp.read(found, 0.5, others, 0.1).render()


def path(*losses):
    return Path(at=np.linspace(0, 1, len(losses)), losses=np.array(losses, dtype=float))


@pytest.mark.parametrize(
    ("found", "verdict", "said", "reading"),
    [
        (path(4, 2, 1), Verdict.DESCRIPTIVE, "falls all the way", "Yes, at all 3 points looked at. Half of the fall"),
        (path(4, 5, 1), Verdict.DESCRIPTIVE, "rises by 1 (0.33 of its whole fall)", "No, it rises by 1"),
        (path(4, 2, 1, 1.002, 1), Verdict.DESCRIPTIVE, "falls all the way", "Yes, at all 5"),
        (path(1, 2, 1), Verdict.INCONCLUSIVE, "is not below that at the start", "There is no fall"),
        (path(1, math.inf, 0.5), Verdict.INCONCLUSIVE, "overflows", "No, it rises by inf"),
        (path(1, math.nan, 0.5), Verdict.INCONCLUSIVE, "overflows", "No, it rises by inf"),
    ],
)
def test_the_judge_of_lines(found, verdict, said, reading):
    got, reason = line.judge(found)
    assert got is verdict
    assert said in reason.render()
    assert reading in line.read(found).render()


def test_rise_barrier_and_climb_of_a_path():
    bent = path(4, 1, 3, 2)
    assert bent.rise == 2
    assert bent.climb == 0
    assert bent.barrier == pytest.approx(3 - (4 / 3 + 2 * 2 / 3))
    assert path(4, math.nan, 1).barrier == path(4, math.nan, 1).climb == math.inf


def test_the_spectrum_of_a_trained_network(digits):
    result = probe_spectral_density(digits)
    goal = core.objective(digits.net, digits.split("train").take(range(300)), "cross_entropy")
    hessian = goal.hessian()
    dense = torch.stack([hessian @ e for e in torch.eye(goal.size)]).double()
    sizes = torch.linalg.eigvalsh((dense + dense.T) / 2).abs()
    shares = sizes / sizes.sum()
    truth = math.exp(-float((shares * shares.clamp(min=1e-300).log()).sum()))
    half = (result.estimate.upper - result.estimate.lower) / 2
    assert abs(result.estimate.value - truth) <= 1.5 * half + 0.1 * truth
    assert {c.role for c in result.controls} == {"init", "shuffled"}
    assert result.kind is Kind.INDICATOR
    curve = result.payload[0]
    assert isinstance(curve, Curve)
    assert curve.y_log
    assert all((part > 0).all() for each in curve.lines for part in (each.lower, each.y, each.upper))
    assert probe_spectral_density.cost(digits, None).hvps == pytest.approx(result.cost.hvps, rel=1.0)
    assert result.assumptions[0].status is Status.MET


def test_few_parameters_have_an_exact_spectrum():
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 3, generator=rng), torch.randn(20, 1, generator=rng)
    result = probe_spectral_density(Subject(model=nn.Linear(3, 1), loss="mse", train=(x, y)))
    assert isinstance(result.estimate.uncertainty, Exact)
    assert result.verdict is Verdict.INCONCLUSIVE  # a linear model has the same Hessian before training


def test_random_changes_of_a_trained_network(digits):
    result = probe_expected_sharpness(digits, rung=64)
    data = digits.split("train").take(range(300))
    direct = expected_sharpness(digits.net, data, "cross_entropy", radius=0.1, scale="tensor", draws=256)
    half = [(e.upper - e.lower) / 2 for e in (result.estimate, direct)]
    assert result.estimate.value == pytest.approx(direct.value, abs=2 * math.hypot(*half))
    assert result.plan == 64
    curve = result.payload[1]
    assert [each.role for each in curve.lines] == ["network", "init"]
    assert curve.lines[0].y[5] == pytest.approx(core.objective(digits.net, data, "cross_entropy").value, rel=1e-6)
    assert result.cost.forwards == pytest.approx(probe_expected_sharpness.cost(digits, 64).forwards, rel=0.1)


def test_whether_a_rescaling_of_layers_moves_the_number_is_tried_where_it_can_be(digits, monkeypatch):
    (assumed,) = [
        a for a in probe_expected_sharpness(digits, rung=16).assumptions if "rescaling" in a.statement.render()
    ]
    assert assumed.status is Status.UNCHECKED  # tanh
    assert "no two consecutive layers" in assumed.evidence.render()
    with core.global_randomness_kept(0):
        net = nn.Sequential(nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10)).eval()
    relu = Subject(model=net, loss="cross_entropy", train=digits.split("train").take(range(100)))
    result = probe_expected_sharpness(relu, rung=16)
    (assumed,) = [a for a in result.assumptions if "rescaling" in a.statement.render()]
    assert assumed.status is Status.MET
    assert "1 pairs of layers" in assumed.evidence.render()
    assert "did not change this number when tried" in result.reading.render()
    assert result.cost.forwards == pytest.approx(probe_expected_sharpness.cost(relu, 16).forwards, rel=0.1)
    # Noise of one size for all weights is moved by it, and that is noticed.
    plain = lambda goal, scale, **how: mean_rise(goal, scale="absolute", **how)  # noqa: E731
    monkeypatch.setattr(sharp, "mean_rise", plain)
    blurred = probe_expected_sharpness(relu, rung=16)
    (assumed,) = [a for a in blurred.assumptions if "rescaling" in a.statement.render()]
    assert assumed.status is Status.BROKEN
    assert "moved it by a factor" in blurred.reading.render()
    moved = sharp.Rescaled(before=0.5, after=1.5, pairs=2, same=False)
    assert "moved it by a factor 3." in sharp.read(number(0.5), 0.5, {}, 0.1, moved).render()


def test_a_network_without_a_matrix_still_has_a_slice():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.s = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return x * self.s

    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    result = probe_expected_sharpness(Subject(model=Scale(), loss="mse", train=(x, x)))
    assert result.verdict is Verdict.DESCRIPTIVE
    assert not result.controls  # it cannot be re-initialised


def test_the_line_of_a_trained_network(digits):
    result = probe_linear_path(digits)
    start = digits.initial().subject.net.eval()
    direct = linear_path(start, digits.net, digits.split("train").take(range(300)), "cross_entropy")
    assert result.payload[0].lines[0].y == pytest.approx(direct.losses, rel=1e-6)
    assert result.estimate.value == pytest.approx(direct.rise, abs=1e-7)
    assert result.estimate.upper == math.inf  # between the points it may be more
    assert result.kind is Kind.DESCRIPTION
    assert result.cost.forwards == pytest.approx(probe_linear_path.cost(digits, None).forwards, rel=0.1)
    assert {a.status for a in result.assumptions} == {Status.MET}


def test_without_its_own_start_there_is_no_line(digits):
    x, y = digits.split("train").take(range(20))
    with pytest.raises(UnsuitableError, match="needs the network this one was trained from"):
        probe_linear_path(Subject(model=digits.net, loss="cross_entropy", train=(x, y)))
    same = Subject(model=digits.net, loss="cross_entropy", train=(x, y), init=digits.net.state_dict())
    with pytest.raises(UnsuitableError, match="still at its initialisation"):
        probe_linear_path(same)
