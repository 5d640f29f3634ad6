"""TL104: the gap between what is known of the training examples and what can be said of new ones."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import stats

from theorylens.core import Subject
from theorylens.generalization import clopper_pearson, probe_gap
from theorylens.generalization._evidence import evidence
from theorylens.generalization._gap import gap, judge
from theorylens.results import Estimate, Message, Statistical, Verdict


def test_digits(subject):
    result = probe_gap(subject)
    train, test = (float(subject.scores(role).errors.mean()) for role in ("train", "test"))
    wrong = int(subject.scores("test").errors.sum())
    assert result.estimate.value == pytest.approx(test - train, abs=1e-15)
    assert result.estimate.lower == pytest.approx(clopper_pearson(wrong, 600, 0.025, "lower") - train, abs=1e-12)
    assert result.estimate.upper == pytest.approx(clopper_pearson(wrong, 600, 0.025) - train, abs=1e-12)
    assert result.verdict is Verdict.DESCRIPTIVE
    control = {c.role: c.estimate for c in result.controls}
    assert abs(control["init"].value) < 0.1
    assert control["shuffled"].value > 0.2  # it learned its labels by heart, and nothing else


def test_the_table_holds_losses_too(subject):
    rows = probe_gap(subject).payload[1].rows
    losses = subject.scores("test").losses.numpy()
    half = stats.t.ppf(0.975, 599) * losses.std(ddof=1) / math.sqrt(600)
    assert rows[2][1] == pytest.approx(float(subject.scores("train").losses.mean()))
    assert rows[3][1:] == pytest.approx((losses.mean(), losses.mean() - half, losses.mean() + half))


@pytest.mark.parametrize("p", [0.02, 0.3, 0.9])
def test_the_interval_covers_the_expected_gap_by_exact_summation(p, stated):
    """n = 25 test rows; the training error is a constant, so the sum over the binomial is the coverage."""
    n, delta, train = 25, 0.1, 0.0
    missed = 0.0
    for k in range(n + 1):
        subject = stated([0] * n, [1] * k + [0] * (n - k), classes=2, train=_perfect())
        found = gap(evidence(subject, "train"), evidence(subject, "test"), delta)
        if not found.lower <= p - train <= found.upper:
            missed += stats.binom.pmf(k, n, p)
    assert missed <= delta + 1e-12


def _perfect():
    return torch.stack([torch.arange(4) % 2, 1000.0 + torch.arange(4)], 1).float(), torch.arange(4) % 2


def test_shared_rows_hide_the_gap(subject):
    result = probe_gap(dataclasses.replace(subject, test=subject.train, shuffled=None))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.estimate.value == 0


def test_few_rows_have_no_interval_of_the_loss(stated):
    rows = probe_gap(stated([0, 1, 0], [0, 1, 1], train=_perfect())).payload[1].rows
    assert rows[3][2:] == ("-", "-")


@pytest.mark.parametrize(
    ("lower", "upper", "shared", "said"),
    [
        (0.01, 0.1, 0, "more frequent"),
        (-0.1, -0.01, 0, "less frequent"),
        (-0.1, 0.1, 0, "no difference"),
        (0.01, 0.1, 5, "5 test inputs"),
    ],
)
def test_judge(lower, upper, shared, said):
    level = Statistical(lower=lower, upper=upper, level=0.95, method=Message("m", "exact"))
    verdict, reason = judge(Estimate(value=(lower + upper) / 2, uncertainty=level), shared)
    assert said in reason.render()
    assert (verdict is Verdict.INCONCLUSIVE) == bool(shared)


def test_units_weigh_alike(stated):
    from theorylens.core import Split

    base = stated([0] * 6, [1, 0, 0, 0, 0, 1], classes=2, train=_perfect())
    split = Split(base.test.data, units=["a", "b", "b", "b", "b", "b"])
    found = evidence(Subject(model=base.model, loss="cross_entropy", test=split, train=_perfect()), "test")
    assert probe_gap(dataclasses.replace(base, test=split)).estimate.value == pytest.approx(np.mean([1, 0.2]))
    assert found.bound(0.05).n == 2
