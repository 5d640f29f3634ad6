"""Two networks on the same rows: exact test, exact interval, and the words of TL121."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, multinomial
from torch import nn

from theorylens.core import Split, Subject, UnsuitableError
from theorylens.generalization import mcnemar, paired_comparison, probe_rivals
from theorylens.generalization._rivals import judge
from theorylens.results import Status, Verdict


@pytest.mark.parametrize(("b", "c"), [(0, 5), (7, 2), (3, 3), (1, 0), (40, 61)])
def test_the_p_value_is_the_exact_binomial_one(b, c):
    assert mcnemar(b, c) == pytest.approx(binomtest(b, b + c, 0.5).pvalue, rel=1e-12)


def test_no_disagreement_says_nothing():
    assert mcnemar(0, 0) == 1.0
    found = paired_comparison([0, 1, 0], [0, 1, 0])
    assert found.p == 1.0
    assert found.difference.lower < 0 < found.difference.upper


def test_swapping_the_networks_turns_the_difference_around():
    a, b = [1, 1, 0, 0, 1, 0, 0, 0], [0, 1, 0, 1, 0, 0, 0, 0]
    one, two = paired_comparison(a, b), paired_comparison(b, a)
    assert (one.first_only, one.second_only, one.n) == (2, 1, 8)
    assert one.difference.value == -two.difference.value
    assert one.difference.lower == -two.difference.upper
    assert one.p == two.p


def test_the_interval_takes_the_ends_of_both_counts_at_half_of_delta():
    """Two-sided Clopper-Pearson intervals of both counts at delta / 2 each, subtracted: no wider than promised."""
    found = paired_comparison([1] * 12 + [0] * 88, [0] * 12 + [1] * 5 + [0] * 83, delta=0.1).difference
    one, two = (binomtest(k, 100).proportion_ci(0.95) for k in (12, 5))
    assert (found.lower, found.upper) == pytest.approx((one.low - two.high, one.high - two.low), rel=1e-9)


@pytest.mark.parametrize("chances", [(0.1, 0.05), (0.3, 0.3), (0.02, 0.0), (0.5, 0.4), (0.0, 0.0)])
@pytest.mark.parametrize("n", [6, 14])
def test_the_interval_misses_no_more_than_delta(chances, n):
    """Summed exactly over all outcomes: how many rows only the first errs on, how many only the second."""
    delta, missed = 0.1, 0.0
    truth = chances[0] - chances[1]
    for b, c in product(range(n + 1), repeat=2):
        if b + c > n:
            continue
        first = np.array([1] * b + [0] * (n - b))
        second = np.array([0] * b + [1] * c + [0] * (n - b - c))
        ends = paired_comparison(first, second, delta=delta).difference
        if not ends.lower <= truth <= ends.upper:
            missed += multinomial.pmf([b, c, n - b - c], n, [*chances, 1 - sum(chances)])
    assert missed <= delta + 1e-12


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_test_rejects_no_more_than_said(rate):
    """Equal networks that differ on a share of 30 rows: chance of p <= 0.05, summed exactly."""
    from scipy.stats import binom

    n, total = 30, 0.0
    for differing in range(n + 1):
        for b in range(differing + 1):
            if mcnemar(b, differing - b) <= 0.05:
                total += binom.pmf(differing, n, rate) * binom.pmf(b, differing, 0.5)
    assert total <= 0.05


@pytest.mark.parametrize(
    ("a", "b", "delta", "said"),
    [
        ([1], [1, 0], 0.05, "one outcome per example"),
        ([], [], 0.05, "one outcome per example"),
        ([0.5], [1], 0.05, "outcomes must be 0"),
        ([1], [1], 0.0, "delta must lie strictly between"),
    ],
)
def test_what_cannot_be_compared(a, b, delta, said):
    with pytest.raises(ValueError, match=said):
        paired_comparison(a, b, delta=delta)


def test_counts_are_not_negative():
    with pytest.raises(ValueError, match="counts must be at least 0"):
        mcnemar(-1, 2)


# -------------------------------------------------------------------------------------------------------- probe


class Sign(nn.Module):
    """Answers class 1 where column ``column`` is positive."""

    def __init__(self, column):
        super().__init__()
        self.column, self.scale = column, nn.Parameter(torch.ones(()))

    def forward(self, x):
        s = self.scale * x[:, self.column]
        return torch.stack([-s, s], 1)


def subject_of(errors, others, **split):
    """One column per network; it errs on the rows named."""
    n = 200
    rng = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, (n,), generator=rng)
    x = torch.rand(n, 1 + len(others), generator=rng) + 0.1
    sign = 2.0 * y - 1
    for column, wrong in enumerate([errors, *others.values()]):
        x[:, column] *= sign
        x[list(wrong), column] *= -1
    models = {name: Sign(i + 1) for i, name in enumerate(others)}
    return Subject(model=Sign(0), loss="cross_entropy", test=Split((x, y), **split), others=models)


def test_better_than_each():
    result = probe_rivals(subject_of(range(5), {"old": range(60), "older": range(100)}))
    assert result.verdict is Verdict.HOLDS
    assert result.estimate.value == pytest.approx(-55 / 200)
    assert [row[1:3] for row in result.payload[1].rows] == [(0, 55), (0, 95)]
    assert result.reading.render().startswith("Yes: it errs less often than each of 2 others; the closest, old,")


def test_worse_than_one():
    result = probe_rivals(subject_of(range(60), {"new": range(5), "old": range(100)}))
    assert result.verdict is Verdict.FAILS
    assert "new" in result.reason.render()
    assert "old" not in result.reason.render()


def test_not_told_apart():
    result = probe_rivals(subject_of(range(10), {"twin": range(5, 15)}))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.estimate.value == 0.0


def test_comparisons_share_delta():
    one = probe_rivals(subject_of(range(20), {"a": range(30)})).estimate
    three = probe_rivals(subject_of(range(20), {"a": range(30), "b": range(90), "c": range(90)})).estimate
    assert three.lower < one.lower
    assert three.value == one.value


def test_p_values_are_adjusted_in_their_order():
    result = probe_rivals(subject_of(range(10), {"a": range(25), "b": range(22)}))
    (_, _, _, p_a, holm_a), (_, _, _, p_b, holm_b) = result.payload[1].rows
    assert p_a < p_b
    assert holm_a == pytest.approx(2 * p_a)
    assert holm_b == pytest.approx(max(2 * p_a, p_b))


def test_one_row_per_unit_is_counted():
    result = probe_rivals(subject_of(range(0, 200, 4), {"a": range(2)}, units=[i // 2 for i in range(200)]))
    assert result.settings["rows"] == 100


def test_rows_seen_in_training_take_the_yes_away():
    base = subject_of(range(5), {"old": range(80)})
    x, y = base.test.take(range(200))
    subject = Subject(model=base.model, loss="cross_entropy", test=(x, y), train=(x[:20], y[:20]), others=base.others)
    result = probe_rivals(subject)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.assumptions[0].status is Status.BROKEN


def test_errors_that_are_not_right_or_wrong_are_not_compared():
    x = torch.rand(20, 1)
    from theorylens.core import Task

    task = Task(loss="mse", error=lambda o, t: (o - t).abs().clamp(max=1).reshape(len(o)))
    net = nn.Linear(1, 1)
    with pytest.raises(UnsuitableError, match="compared by right or wrong"):
        probe_rivals(Subject(model=net, task=task, test=(x, x), others={"a": net}))


def test_words_of_an_undecided_case_name_the_rival_in_doubt():
    found = {"far": paired_comparison([0] * 100, [1] * 100), "near": paired_comparison([1, 0] * 50, [0, 1] * 50)}
    verdict, reason, _ = judge(found)
    assert verdict is Verdict.INCONCLUSIVE
    assert reason.render() == "cannot be told apart from near here"
