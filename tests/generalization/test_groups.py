"""Bounds by group: values, what is independent, validity summed exactly, and the words of TL124."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import nn

from theorylens.core import Split, Subject, UnsuitableError
from theorylens.generalization import clopper_pearson, group_bounds, holdout_bound, probe_worst_group
from theorylens.generalization._groups_probe import judge, trivial_worst
from theorylens.results import Verdict


def counted(*pairs):
    """Errors and groups from (wrong, n) of each group."""
    errors = np.concatenate([np.r_[np.ones(k), np.zeros(n - k)] for k, n in pairs])
    groups = np.concatenate([np.full(n, i) for i, (_, n) in enumerate(pairs)])
    return errors, groups


def test_each_group_is_the_exact_bound_on_its_own_rows():
    found = group_bounds(*counted((5, 100), (0, 50), (9, 60)), delta=0.1)
    share = 1 - 0.9 ** (1 / 3)
    assert found.independent
    assert found.n.tolist() == [100, 50, 60]
    for i, (k, n) in enumerate([(5, 100), (0, 50), (9, 60)]):
        assert found.upper[i] == pytest.approx(clopper_pearson(k, n, share / 2), rel=1e-9)
        assert found.lower[i] == pytest.approx(clopper_pearson(k, n, share / 2, "lower"), rel=1e-9)


def test_the_worst_group_pays_no_share():
    found = group_bounds(*counted((5, 100), (0, 50), (9, 60)), delta=0.1)
    assert found.worst == 2
    assert found.bound == max(clopper_pearson(k, n, 0.1) for k, n in [(5, 100), (0, 50), (9, 60)])
    assert found.bound < found.upper.max()


def test_one_group_is_the_plain_bound():
    errors, groups = counted((7, 90))
    assert group_bounds(errors, groups).bound == holdout_bound(errors).bound


def test_a_small_group_may_carry_the_bound():
    found = group_bounds(*counted((30, 300), (0, 4)))
    assert found.worst == 0
    assert found.bound == clopper_pearson(0, 4, 0.05)


@pytest.mark.parametrize("rates", [(0.1, 0.3), (0.3, 0.3), (0.02, 0.5), (0.9, 0.6), (0.0, 0.05)])
@pytest.mark.parametrize("sizes", [(6, 9), (12, 3)])
def test_both_promises_fail_no_more_often_than_delta(rates, sizes):
    """All outcomes of two groups, summed exactly."""
    delta, all_missed, worst_missed = 0.1, 0.0, 0.0
    for a, b in product(range(sizes[0] + 1), range(sizes[1] + 1)):
        chance = binom.pmf(a, sizes[0], rates[0]) * binom.pmf(b, sizes[1], rates[1])
        found = group_bounds(*counted((a, sizes[0]), (b, sizes[1])), delta=delta)
        if ((found.lower > rates) | (found.upper < rates)).any():
            all_missed += chance
        if found.bound < max(rates):
            worst_missed += chance
    assert all_missed <= delta + 1e-12
    assert worst_missed <= delta + 1e-12


def test_without_a_share_for_each_group_the_limits_would_fail_too_often():
    """The exact sum is not blind: the bounds at full delta, read as joint, miss more often than delta."""
    rate = clopper_pearson(2, 40, 0.1) * (1 + 1e-6)
    upper = clopper_pearson(np.arange(41), 40, 0.1)
    chance = binom.pmf(np.arange(41), 40, rate)
    missed = 1 - chance[upper >= rate].sum() ** 2
    assert missed > 0.15


def test_a_unit_in_two_groups_costs_an_equal_share():
    errors, groups = counted((5, 100), (0, 50))
    apart = group_bounds(errors, groups, units=np.arange(150))
    shared = np.arange(150)
    shared[149] = 0
    together = group_bounds(errors, groups, units=shared)
    assert (apart.independent, together.independent) == (True, False)
    assert together.upper[0] == pytest.approx(clopper_pearson(5, 100, 0.0125), rel=1e-9)


def test_units_of_several_rows_are_counted_once():
    errors, groups = counted((5, 100), (0, 50))
    twice = group_bounds(np.repeat(errors, 2), np.repeat(groups, 2), units=np.repeat(np.arange(150), 2))
    assert twice.n.tolist() == [100, 50]
    assert twice.bound > group_bounds(errors, groups).bound  # Chernoff-kl instead of the binomial tail


def test_a_doubled_file_is_the_single_file():
    errors, groups = counted((5, 100), (0, 50))
    both = group_bounds(np.r_[errors, errors], np.r_[groups, groups], copies=np.r_[np.arange(150), np.arange(150)])
    one = group_bounds(errors, groups)
    assert both.bound == one.bound
    assert both.upper.tolist() == one.upper.tolist()


def test_another_range_is_rescaled():
    errors, groups = counted((5, 100), (9, 50))
    found = group_bounds(2 * errors - 1, groups, error_range=(-1.0, 1.0), binary=False)
    unit = group_bounds(errors, groups, binary=False)
    assert found.upper == pytest.approx(2 * unit.upper - 1)
    assert found.bound == pytest.approx(2 * unit.bound - 1)


def test_the_order_of_rows_and_the_names_of_groups_change_nothing():
    errors, groups = counted((5, 100), (0, 50), (9, 60))
    order = np.random.default_rng(0).permutation(len(errors))
    found, mixed = group_bounds(errors, groups), group_bounds(errors[order], [f"g{g}" for g in groups[order]])
    assert mixed.names == ("g0", "g1", "g2")
    assert mixed.upper.tolist() == found.upper.tolist()
    assert group_bounds([0, 1], [("a",), 3]).names == (("a",), 3)


@pytest.mark.parametrize(
    ("errors", "groups", "more", "said"),
    [
        ([], [], {}, "at least one number"),
        ([0, 1], [0], {}, "as many groups, got 1"),
        ([0, 1], [0, 1], {"units": [0]}, "as many units"),
        ([0, 2], [0, 1], {}, "declared range"),
        ([0, np.nan], [0, 1], {}, "declared range"),
        ([0, 1], [0, 1], {"delta": 1.0}, "delta must lie strictly between"),
    ],
)
def test_what_has_no_bound(errors, groups, more, said):
    with pytest.raises(ValueError, match=said):
        group_bounds(errors, groups, **more)


# -------------------------------------------------------------------------------------------------------- probe


class Column(nn.Module):
    """Answers the class written in the second column."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.scale * nn.functional.one_hot(x[:, 1].long(), 3).float()


def subject_of(wrong, size=100, **split):
    """Three classes of ``size`` rows; in class c the first ``wrong[c]`` rows are answered with the next class."""
    y = torch.arange(3).repeat_interleave(size)
    answer = y.clone()
    for c, count in enumerate(wrong):
        answer[c * size : c * size + count] = (c + 1) % 3
    x = torch.stack([torch.arange(3 * size).float(), answer.float()], 1)
    return Subject(model=Column(), loss="cross_entropy", test=Split((x, y), **split))


def test_the_worst_class_is_named_and_bounded():
    result = probe_worst_group(subject_of((2, 40, 5)))
    assert result.verdict is Verdict.HOLDS
    assert result.estimate.value == pytest.approx(0.4)
    assert result.certificate.bound == clopper_pearson(40, 100, 0.05)
    assert result.certificate.trivial == pytest.approx(2 / 3)
    assert result.reading.render().startswith("class 1: 40.00\N{NO-BREAK SPACE}% of 100 units are wrong there")
    assert result.payload[0].names == ("1", "2", "0")
    assert result.examples == tuple(range(100, 140))


def test_classes_that_cannot_be_told_apart():
    result = probe_worst_group(subject_of((10, 12, 8)))
    assert "2 of the other 2 groups may be as bad" in result.reading.render()
    assert result.settings["singled_out"] is False


def test_declared_environments_come_before_classes():
    where = ["north", "south", "east"] * 100
    result = probe_worst_group(subject_of((2, 40, 5), environments=where))
    assert set(result.payload[0].names) == {"north", "south", "east"}
    assert result.settings["environments"] is True


def test_a_bound_above_the_guess_is_vacuous():
    result = probe_worst_group(subject_of((0, 2, 0), size=4))
    assert result.verdict is Verdict.VACUOUS
    assert "the smallest group has 4 units" in result.reason.render()


def test_shared_inputs_spoil_it():
    subject = subject_of((2, 40, 5))
    x, y = subject.split("test").data
    seen = Subject(model=Column(), loss="cross_entropy", test=subject.test, train=(x[:10], y[:10]))
    result = probe_worst_group(seen)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "10 test inputs" in result.reason.render()


def test_one_group_is_nothing_to_compare():
    with pytest.raises(UnsuitableError, match="one group only"):
        probe_worst_group(subject_of((2, 4, 5), environments=["here"] * 300))


def test_the_guess_may_toss_coins():
    """Groups with class shares (1, 0) and (1/4, 3/4): answering class 1 with chance 4/6... solved by hand."""
    y = torch.tensor([0] * 8 + [0] * 2 + [1] * 6)
    x = torch.stack([torch.arange(16.0), y.float()], 1)
    subject = Subject(model=Column(), loss="cross_entropy", test=Split((x, y), environments=["a"] * 8 + ["b"] * 8))
    from theorylens.generalization._evidence import evidence

    # q right in a; q/4 + 3(1-q)/4 right in b; equal at q = 1/2.
    where = np.array(["a"] * 8 + ["b"] * 8)
    found = evidence(subject, "test")
    assert trivial_worst(found, where, plain=True) == pytest.approx(0.5)
    assert trivial_worst(found, where, plain=False) == found.trivial == pytest.approx(6 / 16)  # on average, at least


def test_one_logit_has_two_classes_to_guess():
    x = torch.arange(40.0).reshape(-1, 1)
    y = (torch.arange(40) % 4 == 0).float()
    for targets, after in ((y, torch.nn.Flatten(0)), (y[:, None], torch.nn.Identity())):
        layer = torch.nn.Linear(1, 1)
        torch.nn.init.zeros_(layer.weight)
        net = torch.nn.Sequential(layer, after)
        subject = Subject(model=net, loss="binary_cross_entropy", test=(x, targets))
        result = probe_worst_group(subject)
        assert result.certificate.trivial == pytest.approx(0.5)  # a coin
        assert result.verdict is Verdict.VACUOUS


def test_judge_counts_only_groups_that_reach_the_worst():
    found = group_bounds(*counted((50, 100), (45, 100), (0, 100)))
    _, _, reading = judge(found, "x", 0.9, 0)
    assert "1 of the other 2 groups may be as bad" in reading.render()
