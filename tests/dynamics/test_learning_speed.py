"""Speeds and power laws: exact ones are recovered, intervals cover, short and bad records are refused."""

import math

import numpy as np
import pytest

from theorylens.dynamics import learning_speed, loss_power_law
from theorylens.results import Unknown

from .conftest import autoregressive

T = np.arange(1, 201)


def test_the_speed_of_an_exponential_is_its_rate_in_every_window():
    found = learning_speed(T, 0.2 + 3 * np.exp(-T / 40), 20, floor=0.2)
    assert found.speeds == pytest.approx(np.full(len(found.speeds), 1 / 40), rel=1e-6)
    assert found.slowdown is None
    assert found.steps[0] == pytest.approx(10.5)
    assert np.diff(found.steps) == pytest.approx(np.full(len(found.steps) - 1, 10.0))


def test_the_slowdown_comes_after_the_fastest_window():
    rate = np.where(T < 60, 0.002, np.where(T < 120, 0.05, 0.01))  # slow, fast, slow again
    found = learning_speed(T, np.exp(-np.cumsum(rate)), 10)
    assert 60 <= found.fastest <= 120
    assert found.slowdown is not None
    assert 115 <= found.slowdown <= 130
    assert found.final == pytest.approx(0.01)
    assert found.mean == pytest.approx(rate.mean(), rel=0.1)
    assert len(found.curve().lines[0].lower) == len(found.speeds)


def test_windows_too_short_for_an_interval_have_none():
    found = learning_speed(T, 1.0 / T, 4)
    assert np.isnan(found.lower).all()
    assert found.curve().lines[0].lower is None


def test_an_exact_power_law_is_recovered():
    found = loss_power_law(T, 0.3 + 2.0 * T**-0.7)
    values = found.floor.value, found.factor.value, found.exponent.value
    assert values == pytest.approx((0.3, 2.0, 0.7), rel=1e-6)
    assert found.at(1000) == pytest.approx(0.3 + 2 * 1000**-0.7, rel=1e-6)
    assert found.curve().lines[1].role == "theory"
    assert found.curve().lines[1].y == pytest.approx(0.3 + 2.0 * T**-0.7)


def test_a_law_without_a_floor_says_that_the_floor_is_not_told():
    found = loss_power_law(T, 2.0 * T**-0.7)
    assert found.floor.value == pytest.approx(0, abs=1e-6)
    assert isinstance(found.floor.uncertainty, Unknown)
    assert found.exponent.value == pytest.approx(0.7, rel=1e-6)


def test_scaling_moves_the_law_as_it_must():
    noise = np.exp(0.03 * np.random.default_rng(0).standard_normal(200))
    one, other = (
        loss_power_law(T, (0.3 + 2.0 * T**-0.7) * noise),
        loss_power_law(10 * T, 5 * (0.3 + 2.0 * T**-0.7) * noise),
    )
    assert other.exponent.value == pytest.approx(one.exponent.value, rel=1e-5)
    assert other.floor.value == pytest.approx(5 * one.floor.value, rel=1e-5)
    assert other.factor.value == pytest.approx(5 * one.factor.value * 10**one.exponent.value, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("correlation", "n"), [(0.0, 50), (0.0, 300), (0.5, 50), (0.5, 300), (0.9, 100), (0.9, 500)])
def test_the_intervals_cover_the_truth_as_often_as_they_say(correlation, n):
    t = np.arange(1, n + 1)
    noise = autoregressive(np.random.default_rng(1), n, correlation, runs=500) * math.sqrt(1 - correlation**2)
    hits = np.zeros(2)
    for each in noise:
        found = loss_power_law(t, (0.3 + 2 * t**-0.7) * np.exp(0.03 * each))
        hits += [found.exponent.lower <= 0.7 <= found.exponent.upper, found.floor.lower <= 0.3 <= found.floor.upper]
    assert (hits / 500 >= 0.93 - 3 * math.sqrt(0.05 * 0.95 / 500)).all(), hits / 500


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: learning_speed(T[:10], np.ones(10), 10), "has 10 losses, needed are more than the window of 10"),
        (lambda: learning_speed(T, np.ones(200), 1), "at least 2 records for a slope, got 1"),
        (lambda: learning_speed(T, np.ones(200), 5, floor=1.0), "above the floor 1; at step 1 it is 1"),
        (lambda: learning_speed(T, np.ones(100), 5), r"one length, got \(200,\) and \(100,\)"),
        (lambda: learning_speed(T[::-1], np.ones(200), 5), "strictly increasing"),
        (lambda: loss_power_law(T[:7], 1.0 / T[:7]), "at least 8 records, got 7"),
        (lambda: loss_power_law(T - 1, 1.0 / T), "positive losses at positive steps"),
        (lambda: loss_power_law(T, np.full(200, 2.0)), "the loss stays at 2, so no power"),
        (lambda: loss_power_law(T, np.where(T == 7, math.nan, 1.0 / T)), "the loss at step 7 is nan"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()
