"""Abstaining, and answering in sets: exact by enumeration, valid by simulation; the words of TL122 and TL123."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import nn

from theorylens.core import Subject
from theorylens.generalization import (
    clopper_pearson,
    conformal_sets,
    conformal_threshold,
    probe_abstention,
    probe_conformal,
    selective_error,
)
from theorylens.generalization._abstention import judge as judge_abstention
from theorylens.generalization._conformal_probe import judge as judge_sets
from theorylens.results import Status, Verdict


def test_the_threshold_row_is_not_counted():
    c, e = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    found = selective_error(c, e, coverages=(0.4, 1.0))
    assert found.threshold.tolist() == [0.7, -math.inf]
    assert found.answered.tolist() == [2, 5]
    assert found.error.tolist() == [0.5, 0.6]
    assert found.bound[0] == clopper_pearson(1, 2, 0.025)


def test_one_answer_has_a_bound():
    found = selective_error([0.9, 0.8, 0.7, 0.6], [0, 0, 1, 0], coverages=(0.25,), delta=0.1)
    assert (found.answered.tolist(), found.error.tolist()) == ([1], [0.0])
    assert found.bound[0] == pytest.approx(0.9)  # no error in one: 1 - delta


def test_ties_with_the_threshold_are_left_out():
    found = selective_error([0.9, 0.8, 0.8, 0.8], [0, 1, 1, 1], coverages=(0.5,))
    assert found.answered.tolist() == [1]


def test_nobody_answers_when_all_are_alike():
    found = selective_error([0.5] * 4, [0, 1, 0, 1], coverages=(0.5, 1.0))
    assert found.answered.tolist() == [0, 4]
    assert math.isnan(found.error[0])
    assert found.bound[0] == 1.0


@pytest.mark.parametrize("coverage", [0.25, 0.5, 0.75])
def test_a_bound_at_a_threshold_from_the_same_rows_misses_no_more_than_delta(coverage):
    """Confidence in three levels with their own error rates, 6 rows, every outcome enumerated with its chance."""
    levels, chance, error = (0.9, 0.7, 0.5), (0.3, 0.4, 0.3), (0.3, 0.5, 0.7)
    n, delta, missed = 6, 0.4, 0.0
    for counts in product(range(n + 1), repeat=2):
        if sum(counts) > n:
            continue
        size = (*counts, n - sum(counts))
        p_sizes = math.factorial(n) * np.prod([c**k / math.factorial(k) for c, k in zip(chance, size, strict=True)])
        c = np.repeat(levels, size)
        for wrong in product(*(range(k + 1) for k in size)):
            p_wrong = np.prod([binom.pmf(w, k, r) for w, k, r in zip(wrong, size, error, strict=True)])
            e = np.concatenate([[1.0] * w + [0.0] * (k - w) for w, k in zip(wrong, size, strict=True)])
            found = selective_error(c, e, delta=delta, coverages=(coverage,))
            above = np.array(levels) > found.threshold[0]
            if not above.any():
                continue
            truth = np.dot(np.array(chance)[above], np.array(error)[above]) / np.array(chance)[above].sum()
            missed += p_sizes * p_wrong * (found.bound[0] < truth - 1e-12)
    assert 0 < missed <= delta + 1e-12


@pytest.mark.slow
def test_all_coverages_hold_at_once():
    runs, delta, missed = 4000, 0.2, 0
    rng = np.random.default_rng(0)
    for _ in range(runs):
        c = rng.random(60)
        e = (rng.random(60) < 0.5 * (1 - c)).astype(float)  # error 0.5 (1 - c) at confidence c
        found = selective_error(c, e, delta=delta)
        t = np.maximum(found.threshold, 0)
        missed += bool((found.bound < 0.5 * (1 - (1 + t) / 2)).any())
    assert missed > 0
    assert binom.sf(missed - 1, runs, delta) > 1e-4


@pytest.mark.parametrize(
    ("c", "e", "options", "said"),
    [
        ([0.5], [1, 0], {}, "one confidence and one outcome per row"),
        ([float("nan")], [1], {}, "confidences must be numbers"),
        ([0.5], [2], {}, "outcomes 0 .right. or 1"),
        ([0.5], [1], {"coverages": (0.0,)}, r"coverages must lie in \(0, 1\]"),
        ([0.5], [1], {"coverages": ()}, r"coverages must lie in \(0, 1\]"),
        ([0.5], [1], {"delta": 1.0}, "delta must lie strictly between"),
    ],
)
def test_what_selective_error_refuses(c, e, options, said):
    with pytest.raises(ValueError, match=said):
        selective_error(c, e, **options)


# -------------------------------------------------------------------------------------------------- conformal


@pytest.mark.parametrize("alpha", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("n", [3, 4, 5])
def test_over_all_orders_the_true_class_is_missed_exactly_as_promised(n, alpha):
    """n held-out scores and a new one, all orders equally likely: the new one is below the threshold in k of n + 1."""
    values = np.arange(1.0, n + 2)
    missed = np.mean([v < conformal_threshold(np.delete(values, i), alpha) for i, v in enumerate(values)])
    assert missed == pytest.approx(math.floor((n + 1) * alpha) / (n + 1), abs=1e-12)
    assert missed <= alpha


def test_too_few_rows_name_every_class():
    threshold = conformal_threshold([0.9, 0.8], 0.1)
    assert threshold == -math.inf
    assert conformal_sets([[0.1, 0.9]], threshold).all()


def test_sets_hold_the_scores_at_or_above_the_threshold():
    assert conformal_sets([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]], 0.3).tolist() == [
        [False, True, True], [True, False, False],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("scores", "alpha", "said"),
    [
        ([], 0.1, "one score per held-out row"),
        ([float("nan")], 0.1, "one score per held-out row"),
        ([0.5], 0.0, "alpha must lie strictly between"),
        ([0.5], 1.0, "alpha must lie strictly between"),
    ],
)
def test_what_has_no_threshold(scores, alpha, said):
    with pytest.raises(ValueError, match=said):
        conformal_threshold(scores, alpha)


def test_scores_need_two_axes():
    with pytest.raises(ValueError, match=r"scores \(n, classes\) are needed"):
        conformal_sets([0.1, 0.9], 0.5)


# ------------------------------------------------------------------------------------------------------ probes


def known(n, seed, spread=2.0):
    """Scores, and classes drawn from their softmax."""
    rng = torch.Generator().manual_seed(seed)
    s = spread * torch.randn(n, 3, generator=rng, dtype=torch.float64)
    return s, torch.multinomial(torch.softmax(s, 1), 1, generator=rng)[:, 0]


def outputs_subject():
    return Subject(outputs={"test": known(400, 1), "validation": known(300, 2)}, loss="cross_entropy")


def test_abstaining_helps_where_confidence_sorts():
    result = probe_abstention(outputs_subject())
    s, y = known(400, 1)
    conf, wrong = torch.softmax(s, 1).amax(1), (s.argmax(1) != y)
    half = wrong[conf > conf.sort(descending=True).values[200]].double().mean()
    assert result.estimate.value == pytest.approx(float(half))
    assert result.verdict is Verdict.DESCRIPTIVE
    assert result.payload[0].lines[1].y[-1] == clopper_pearson(int(wrong.sum()), 400, 0.005)


def test_abstaining_is_not_shown_to_help_where_it_does_not_sort():
    s, _ = known(60, 1)
    y = torch.randint(0, 3, (60,), generator=torch.Generator().manual_seed(0))
    result = probe_abstention(Subject(outputs={"test": (s, y)}, loss="cross_entropy"))
    assert result.verdict is Verdict.INCONCLUSIVE


def test_equal_confidences_are_trouble_and_not_a_number():
    s = torch.zeros(10, 3, dtype=torch.float64)
    result = probe_abstention(Subject(outputs={"test": (s, torch.zeros(10).long())}, loss="cross_entropy"))
    assert math.isnan(result.estimate.value)
    assert result.estimate.trouble.id == "TL122.tied"


def test_words_of_abstaining():
    verdict, _, reading = judge_abstention(0.01, 0.02, 0.05, 0.08)
    assert (verdict, reading.id) == (Verdict.DESCRIPTIVE, "TL122.reading.sorts")
    verdict, _, reading = judge_abstention(0.04, 0.06, 0.05, 0.08)
    assert (verdict, reading.id) == (Verdict.INCONCLUSIVE, "TL122.reading.unclear")


def test_sets_keep_their_promise_on_rows_like_the_held_out_ones():
    result = probe_conformal(outputs_subject())
    assert result.verdict is Verdict.DESCRIPTIVE
    assert result.payload[0].lower[0] < 0.05 + 0.03
    assert 1 < result.estimate.value < 3
    sizes = [row[2] for row in result.payload[1].rows]
    assert sizes == sorted(sizes)  # promising more takes more classes


def test_sets_break_their_promise_on_rows_of_another_kind():
    s, _ = known(400, 1)
    y = s.argmin(1)
    subject = Subject(outputs={"test": (s, y), "validation": known(300, 2)}, loss="cross_entropy")
    assert probe_conformal(subject).verdict is Verdict.FAILS


def test_words_of_sets():
    assert judge_sets(0.2, 0.15, 1.5, 10)[0] is Verdict.FAILS
    assert judge_sets(0.06, 0.04, 1.5, 10)[0] is Verdict.DESCRIPTIVE


def test_rows_in_two_splits_are_said():
    x, y = torch.randn(40, 3), torch.randint(0, 3, (40,))
    subject = Subject(model=nn.Linear(3, 3), loss="cross_entropy", test=(x, y), validation=(x[:10], y[:10]))
    assert probe_conformal(subject).assumptions[0].status is Status.BROKEN
