"""Calibration: bins, the unbiased squared error, the exact test, the Brier decomposition, the temperature, TL120."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import binom
from torch import nn

from theorylens.core import Split, Subject, UnsuitableError
from theorylens.generalization import (
    brier_parts,
    calibration_p,
    clopper_pearson,
    probe_calibration,
    reliability,
    squared_calibration_error,
    temperature,
)
from theorylens.generalization._calibration_probe import judge
from theorylens.results import Estimate, Message, Statistical, Status, Verdict


def drawn(n, seed, shift=0.0):
    """Confidences, and outcomes that are right with chance confidence + shift."""
    rng = np.random.default_rng(seed)
    c = 0.6 + 0.3 * rng.random(n)
    return c, (rng.random(n) < c + shift).astype(float)


def test_bins_hold_equal_numbers_and_their_own_rows():
    c, y = drawn(100, 0)
    found, order = reliability(c, y, bins=5), np.argsort(c)
    assert found.count.tolist() == [20] * 5
    for b in range(5):
        rows = order[20 * b : 20 * b + 20]
        assert found.confidence[b] == pytest.approx(c[rows].mean())
        assert found.accuracy[b] == pytest.approx(y[rows].mean())
        assert found.upper[b] == clopper_pearson(round(y[rows].sum()), 20, 0.025)


def test_rows_of_one_confidence_stay_together():
    assert reliability([0.5] * 7 + [0.9] * 3, [1] * 10, bins=5).count.tolist() == [7, 3]
    assert reliability([0.5] * 10, [1] * 10, bins=5).count.tolist() == [10]


def test_the_order_of_the_rows_does_not_matter():
    c, y = drawn(60, 1)
    order = np.random.default_rng(0).permutation(60)
    assert squared_calibration_error(c[order], y[order], bins=6) == pytest.approx(
        squared_calibration_error(c, y, bins=6), rel=1e-12
    )


def test_the_squared_error_is_unbiased_for_given_bins():
    """Two confidences, each a bin: the mean over all outcomes, weighted by their chances, is the true value."""
    c, p = np.array([0.6] * 3 + [0.9] * 3), np.array([0.5] * 3 + [0.8] * 3)
    mean = 0.0
    for outcome in range(64):
        y = np.array([outcome >> i & 1 for i in range(6)], dtype=float)
        chance = np.prod(np.where(y == 1, p, 1 - p))
        mean += chance * squared_calibration_error(c, y, bins=2)
    assert mean == pytest.approx(0.1**2, abs=1e-12)


def test_the_plain_error_of_a_calibrated_network_would_not_vanish():
    c = np.full(200, 0.7)
    plain, unbiased = [], []
    for seed in range(300):
        y = (np.random.default_rng(seed).random(200) < 0.7).astype(float)
        plain.append((y.mean() - 0.7) ** 2)
        unbiased.append(squared_calibration_error(c, y, bins=1))
    assert np.mean(plain) > 0.0007
    assert abs(np.mean(unbiased)) < 4 * np.std(unbiased) / math.sqrt(300)


def test_the_p_value_is_that_of_all_outcomes():
    """Four rows of two confidences: with all 16 outcomes the exact p-value is a sum."""
    c, y = np.array([0.6, 0.6, 0.9, 0.9]), np.array([0.0, 0.0, 1.0, 0.0])

    def statistic(outcome):
        return sum((outcome[i : i + 2].sum() - c[i : i + 2].sum()) ** 2 / 2 for i in (0, 2))

    exact = 0.0
    for number in range(16):
        outcome = np.array([number >> i & 1 for i in range(4)], dtype=float)
        if statistic(outcome) >= statistic(y) - 1e-12:
            exact += np.prod(np.where(outcome == 1, c, 1 - c))
    draws = 40_000
    found = calibration_p(c, y, bins=2, draws=draws, rng=np.random.default_rng(0))
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / draws))


def test_a_network_far_off_is_found():
    c, y = drawn(500, 0, shift=-0.15)
    assert calibration_p(c, y, draws=999, rng=np.random.default_rng(0)) == 0.001


@pytest.mark.slow
def test_a_calibrated_network_is_rejected_as_often_as_said():
    runs = 2000
    rejected = sum(
        calibration_p(*drawn(80, seed), bins=4, draws=99, rng=np.random.default_rng(seed)) <= 0.05
        for seed in range(runs)
    )
    assert binom.sf(rejected - 1, runs, 0.05) > 1e-4
    assert binom.cdf(rejected, runs, 0.05) > 1e-4  # and not too rarely


def test_the_parts_of_the_brier_score_add_up():
    c, y = drawn(137, 3, shift=-0.1)
    for bins in (1, 4, 20):
        parts = brier_parts(c, y, bins=bins)
        assert parts.score == pytest.approx(((c - y) ** 2).mean())
        assert parts.score == pytest.approx(
            parts.reliability - parts.resolution + parts.uncertainty + parts.within, rel=1e-12
        )


def test_within_vanishes_when_each_confidence_is_a_bin():
    parts = brier_parts([0.2] * 5 + [0.7] * 5, [1, 0, 0, 0, 0, 1, 1, 1, 1, 0], bins=2)
    assert parts.within == pytest.approx(0.0, abs=1e-15)
    assert parts.reliability == pytest.approx(0.5 * 0.1**2)


@pytest.mark.parametrize(
    ("c", "y", "said"),
    [
        ([0.5], [1, 0], "one confidence and one outcome per row"),
        ([], [], "one confidence and one outcome per row"),
        ([1.2], [1], r"confidences must lie in \[0, 1\]"),
        ([float("nan")], [1], r"confidences must lie in \[0, 1\]"),
        ([0.5], [0.5], "correct must hold 0"),
    ],
)
@pytest.mark.parametrize("measure", [reliability, squared_calibration_error, brier_parts])
def test_what_cannot_be_judged(measure, c, y, said):
    with pytest.raises(ValueError, match=said):
        measure(c, y)


def test_a_bin_of_one_row_has_no_variance():
    with pytest.raises(ValueError, match="leave a bin with one row"):
        squared_calibration_error([0.5, 0.6, 0.7], [1, 0, 1], bins=3)
    with pytest.raises(ValueError, match="at least one bin"):
        reliability([0.5], [1], bins=0)
    with pytest.raises(ValueError, match="at least one draw"):
        calibration_p([0.5], [1], draws=0, rng=np.random.default_rng(0))


# ------------------------------------------------------------------------------------------------- temperature


def scores(n=400, classes=3, scale=1.0, seed=0):
    rng = torch.Generator().manual_seed(seed)
    s = 2 * torch.randn(n, classes, generator=rng, dtype=torch.float64)
    y = torch.multinomial(torch.softmax(s, 1), 1, generator=rng)[:, 0]
    return scale * s, y


def test_the_temperature_is_where_the_cross_entropy_is_least():
    s, y = scores(scale=3.0)
    found = minimize_scalar(
        lambda t: float(torch.nn.functional.cross_entropy(s / t, y)), bounds=(0.5, 10), method="bounded",
        options={"xatol": 1e-9},
    )  # fmt: skip
    assert temperature(s, y).value == pytest.approx(found.x, rel=1e-4)


def test_scaling_the_scores_scales_the_temperature():
    s, y = scores()
    one, three = temperature(s, y), temperature(3 * s, y)
    assert three.value == pytest.approx(3 * one.value, rel=1e-9)
    assert three.upper == pytest.approx(3 * one.upper, rel=1e-6)


def test_one_logit_is_two_classes():
    s, y = scores(classes=2)
    assert temperature(s[:, 1] - s[:, 0], y).value == pytest.approx(temperature(s, y).value, rel=1e-9)


@pytest.mark.slow
def test_the_interval_of_the_temperature_covers():
    runs, inside = 2000, 0
    for seed in range(runs):
        found = temperature(*scores(n=150, scale=2.0, seed=seed))
        inside += found.lower <= 2.0 <= found.upper
    assert binom.cdf(inside, runs, 0.95) > 1e-4
    assert binom.sf(inside - 1, runs, 0.95) > 1e-6


def test_answers_that_are_all_right_have_no_temperature():
    s = torch.eye(3, dtype=torch.float64)
    found = temperature(s, torch.arange(3))
    assert found.trouble is not None
    assert found.trouble.id == "temperature.none"
    assert found.lower == 0.0


def test_scores_against_the_targets_have_none_either():
    found = temperature(-torch.eye(3, dtype=torch.float64), torch.arange(3))
    assert found.trouble is not None
    assert found.trouble.id == "temperature.useless"
    assert math.isinf(found.upper)


@pytest.mark.parametrize(
    ("s", "y", "said"),
    [
        (torch.zeros(3, 2), torch.zeros(2), "scores .* are needed"),
        (torch.zeros(0, 2), torch.zeros(0), "scores .* are needed"),
        (torch.tensor([[math.nan, 0.0]]), torch.zeros(1), "scores must be finite"),
    ],
)
def test_what_has_no_temperature(s, y, said):
    with pytest.raises(ValueError, match=said):
        temperature(s, y)


# ------------------------------------------------------------------------------------------------------- probe


def gap(value, lower, upper):
    ends = Statistical(lower=lower, upper=upper, level=0.95, method=Message("t.m", "m"))
    return Estimate(value=value, uncertainty=ends)


@pytest.mark.parametrize(
    ("p", "found", "verdict", "first"),
    [
        (0.01, gap(0.05, 0.01, 0.1), Verdict.FAILS, "No, it is too sure: it expects to err on 5.00"),
        (0.01, gap(-0.05, -0.1, -0.01), Verdict.FAILS, "No, it is too cautious"),
        (0.01, gap(0.0, -0.1, 0.1), Verdict.FAILS, "No: on 100 test rows some confidences are too high"),
        (0.2, gap(0.05, 0.01, 0.1), Verdict.DESCRIPTIVE, "Undecided: on 100 test rows no miscalibration was found"),
    ],
)
def test_the_answer_in_words(p, found, verdict, first):
    said, _, reading = judge(p, found, 0.1, 100)
    assert said is verdict
    assert reading.render().replace("\N{NO-BREAK SPACE}", " ").startswith(first)


def from_scores(s, y, **fields):
    return Subject(outputs={"test": (s, y), **fields.pop("outputs", {})}, loss="cross_entropy", **fields)


def test_scores_drawn_from_their_own_confidences_are_not_called_wrong():
    s, y = scores(n=600)
    result = probe_calibration(from_scores(s, y))
    assert result.verdict is Verdict.DESCRIPTIVE
    assert result.settings["p"] > 0.05
    assert result.estimate.lower < 0 < result.estimate.upper


def test_scores_three_times_too_large_are_and_a_temperature_mends_them():
    s, y = scores(n=600, scale=3.0)
    held = scores(n=300, scale=3.0, seed=5)
    result = probe_calibration(from_scores(s, y, outputs={"validation": held}))
    assert result.verdict is Verdict.FAILS
    assert result.estimate.lower > 0
    before, after = result.payload[1].rows
    assert after[1] < before[1]
    assert after[2] < before[2]


def test_probabilities_are_taken_as_they_are():
    s, y = scores(n=200)
    a, b = probe_calibration(from_scores(s, y)), probe_calibration(from_scores(torch.softmax(s, 1), y))
    assert a.estimate.value == pytest.approx(b.estimate.value, abs=1e-9)


def test_the_number_is_confidence_minus_accuracy():
    s, y = scores(n=200)
    result = probe_calibration(from_scores(s, y))
    confidence, right = torch.softmax(s, 1).amax(1).mean(), (s.argmax(1) == y).double().mean()
    assert result.estimate.value == pytest.approx(float(confidence - right), abs=1e-12)
    wrong = 200 - round(200 * float(right))
    assert result.estimate.upper == pytest.approx(float(confidence) - 1 + clopper_pearson(wrong, 200, 0.025), abs=1e-12)


def test_rows_of_one_unit_break_the_test():
    s, y = scores(n=200)
    model = nn.Identity()
    subject = Subject(model=model, loss="cross_entropy", test=Split((s, y), units=[i // 2 for i in range(200)]))
    broken = [a.statement.id for a in probe_calibration(subject).assumptions if a.status is Status.BROKEN]
    assert broken == ["TL120.independent"]


def test_a_regression_states_no_confidence():
    x = torch.randn(20, 1)
    with pytest.raises(UnsuitableError, match="states no error to bound"):
        probe_calibration(Subject(model=nn.Identity(), loss="mse", test=(x, x)))
