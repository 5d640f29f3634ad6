"""Occam's bound: exact validity on a small class, the bits of a network, and TL103."""

import dataclasses
import itertools
import math

import pytest
import torch
from torch import nn

from theorylens.generalization import affordable_bits, clopper_pearson, occam_bound, probe_weight_bits, weight_bits
from theorylens.generalization._finite_class import judge
from theorylens.results import Curve, Verdict


def _thresholds():
    """Four inputs of equal chance; the label x >= 2 is turned over with chance 0.2. Hypotheses: x >= t, t = 0 ... 4."""
    return [(x, y, 0.25 * (0.8 if y == (x >= 2) else 0.2)) for x in range(4) for y in (False, True)]


@pytest.mark.parametrize("delta", [0.4, 0.1])
@pytest.mark.parametrize("n", [4, 8])
def test_all_hypotheses_hold_at_once_with_probability_one_minus_delta(n, delta):
    """Summed over every sample of n from eight atoms (up to order): the chance that any of the five bounds fails."""
    atoms = _thresholds()
    risks = [sum(p for x, y, p in atoms if (x >= t) != y) for t in range(5)]
    bounds = [occam_bound(k / n, math.log(5), n, delta) for k in range(n + 1)]
    missed = 0.0
    for drawn in itertools.combinations_with_replacement(range(8), n):
        wrong = [sum((atoms[i][0] >= t) != atoms[i][1] for i in drawn) for t in range(5)]
        if any(bounds[k] < r for k, r in zip(wrong, risks, strict=True)):
            orders = math.factorial(n) // math.prod(math.factorial(drawn.count(i)) for i in range(8))
            missed += orders * math.prod(atoms[i][2] for i in drawn)
    assert missed <= delta + 1e-12
    assert missed > 0 or n == 4


def test_the_best_of_the_class_without_its_size_would_be_caught():
    """One hundred coins of one bias, the luckiest chosen: without ln 100 the bound fails far too often."""
    n, p, size, delta = 60, 0.5, 100, 0.05
    from scipy import stats

    def missed(nats):
        worst = max(k for k in range(n + 1) if occam_bound(k / n, nats, n, delta) < p)
        return 1 - (1 - stats.binom.cdf(worst, n, p)) ** size

    assert missed(math.log(size)) <= delta
    assert missed(0.0) > 0.4


def test_one_hypothesis_is_the_chernoff_bound_and_lies_above_the_exact_one():
    assert occam_bound(0.05, 0.0, 100, 0.05) > clopper_pearson(5, 100, 0.05)
    assert occam_bound(0.0, 0.0, 100, 0.05) == pytest.approx(1 - 0.05 ** (1 / 100), rel=1e-10)


def test_bits_count_parameters_and_buffers_once():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    assert weight_bits(net) == 32 * (12 + 4 + 4 + 4 + 4 + 4) + 64
    tied = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    tied[1].weight = tied[0].weight
    assert weight_bits(tied) == 32 * (4 + 2 + 2)
    assert weight_bits(nn.Linear(2, 2).double()) == 64 * 6


def test_affordable_bits_are_where_the_bound_meets_the_trivial_level():
    bits = affordable_bits(0.02, 0.5, 1000, 0.05)
    assert occam_bound(0.02, bits * math.log(2), 1000, 0.05) == pytest.approx(0.5, rel=1e-9)
    assert affordable_bits(0.5, 0.5, 1000, 0.05) == -math.inf


def test_digits_are_vacuous_and_said_kindly(subject):
    result = probe_weight_bits(subject)
    assert result.verdict is Verdict.VACUOUS
    assert result.certificate.split == "train"
    assert result.settings["bits"] == 32 * (64 * 32 + 32 + 32 * 10 + 10)
    assert result.certificate.bound == 1.0
    assert "no fault of the network" in result.reading.render()
    (curve,) = result.payload
    assert isinstance(curve, Curve)
    assert (curve.lines[0].y[1:] >= curve.lines[0].y[:-1]).all()


def test_a_tiny_network_with_many_examples_is_not_vacuous():
    x = torch.linspace(-1, 1, 4001)[:, None]
    net = nn.Linear(1, 1, bias=False)
    nn.init.ones_(net.weight)
    from theorylens.core import Subject

    subject = Subject(model=net, loss="binary_cross_entropy", train=(x, (x > 0).float()))
    result = probe_weight_bits(subject)
    assert result.verdict is Verdict.HOLDS
    assert result.certificate.bound == pytest.approx(occam_bound(0.0, 32 * math.log(2), 4001, 0.05), rel=1e-12)
    assert result.certificate.bound < 0.01


def test_a_doubled_training_file_is_not_twice_the_evidence(subject):
    x, y = subject.train.data
    twice = dataclasses.replace(subject, train=(torch.cat([x, x]), torch.cat([y, y])), shuffled=None)
    assert probe_weight_bits(twice).certificate.n == 800


def test_judge():
    assert judge(0.2, 0.5, 10)[0] is Verdict.HOLDS
    assert judge(0.5, 0.5, 10)[0] is Verdict.VACUOUS


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((1.5, 1.0, 10, 0.05), "must lie in"),
        ((0.5, -1.0, 10, 0.05), "-ln P instead of ln P"),
        ((0.5, 1.0, 0, 0.05), "at least 1"),
        ((0.5, 1.0, 10, 0.0), "strictly between"),
    ],
)
def test_refusals(arguments, said):
    with pytest.raises(ValueError, match=said):
        occam_bound(*arguments)
