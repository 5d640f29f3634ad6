"""Slopes of exact laws, laws of scaling, refusals, and coverage under correlated noise."""

import math

import numpy as np
import pytest
from scipy import stats

from theorylens.dynamics import last_part, loss_slope, turning
from theorylens.results import Statistical, Unknown

from .conftest import autoregressive


def test_an_exact_power_law_and_an_exact_exponential_are_recovered():
    steps = np.arange(200, 401)
    power = loss_slope(steps, 7.0 * steps**-0.35)
    assert power.estimate.value == pytest.approx(-0.35, rel=1e-9)
    assert math.exp(power.intercept) == pytest.approx(7.0, rel=1e-8)
    assert power.estimate.upper - power.estimate.lower < 1e-9
    rate = loss_slope(steps * 1e5, 3.0 * np.exp(-2e-8 * steps * 1e5), scale="log-linear")
    assert rate.estimate.value == pytest.approx(-2e-8, rel=1e-9)
    assert math.exp(rate.intercept) == pytest.approx(3.0, rel=1e-8)


def test_without_correlation_the_slope_is_nearly_that_of_least_squares():
    rng = np.random.default_rng(0)
    steps = np.arange(1000, 2000)
    losses = np.exp(0.01 * rng.standard_normal(1000)) * steps**-0.5
    plain = stats.linregress(np.log(steps), np.log(losses))
    found = loss_slope(steps, losses)
    assert found.estimate.value == pytest.approx(plain.slope, abs=plain.stderr / 2)
    assert found.correlation < 0.1
    # Never narrower than least squares allows.
    assert found.estimate.upper - found.estimate.lower > 2 * 1.9 * plain.stderr


def test_correlated_noise_widens_the_interval_and_is_recognised():
    rng = np.random.default_rng(1)
    steps = np.arange(500, 1000)
    smooth, rough = (loss_slope(steps, np.exp(0.01 * autoregressive(rng, 500, c)[0]) * steps**-0.5) for c in (0.0, 0.9))
    assert rough.correlation == pytest.approx(0.9, abs=0.06)
    assert rough.estimate.upper - rough.estimate.lower > 5 * (smooth.estimate.upper - smooth.estimate.lower)


def test_scaling_the_loss_or_the_steps_moves_the_slope_as_it_must():
    rng = np.random.default_rng(2)
    steps = np.arange(50, 100)
    losses = np.exp(0.1 * rng.standard_normal(50)) / steps
    for scale, factor in (("log-log", 1.0), ("log-linear", 0.1)):
        kept, scaled = (loss_slope(steps * u, losses * v, scale=scale).estimate for u, v in ((1, 1), (10, 1e-3)))
        for name in ("value", "lower", "upper"):
            assert getattr(scaled, name) == pytest.approx(getattr(kept, name) * factor, rel=1e-9)


def test_a_higher_level_gives_a_wider_interval():
    rng = np.random.default_rng(3)
    steps = np.arange(20, 40)
    losses = np.exp(0.1 * rng.standard_normal(20))
    widths = [(e := loss_slope(steps, losses, level=q).estimate).upper - e.lower for q in (0.5, 0.9, 0.99)]
    assert widths == sorted(widths)
    interval = loss_slope(steps, losses).estimate.uncertainty
    assert isinstance(interval, Statistical)
    assert interval.level == 0.95
    assert "5 block means" in interval.method.render()


def test_few_records_have_a_slope_and_no_interval():
    found = loss_slope(np.arange(10, 17), np.arange(17.0, 10.0, -1))
    assert isinstance(found.estimate.uncertainty, Unknown)
    assert "only 7 recorded steps, at least 8 are needed" in found.estimate.trouble.render()
    assert found.estimate.value < 0
    assert loss_slope(np.arange(10, 18), np.arange(18.0, 10.0, -1)).estimate.trouble is None


@pytest.mark.parametrize(
    ("steps", "losses", "options", "said"),
    [
        ([1, 2, 3], [1, 2], {}, r"one length, got \(3,\) and \(2,\)"),
        ([1], [1], {}, "at least 2 records, got 1"),
        ([1, 1], [1, 1], {}, "strictly increasing"),
        ([1, 2], [1, 0], {}, r"1 of 2 losses have no logarithm, the first is 0\.0 at step 2"),
        ([1, 2], [float("nan"), 1], {}, "1 of 2 losses have no logarithm, the first is nan at step 1"),
        ([0, 2], [1, 1], {}, "positive steps, the first is 0"),
        ([1, 2], [1, 1], {"scale": "linear"}, "scale must be"),
        ([1, 2], [1, 1], {"level": 1.0}, "level must lie strictly between 0 and 1"),
    ],
)
def test_refusals(steps, losses, options, said, unchecked_shapes):
    with pytest.raises(ValueError, match=said):
        loss_slope(np.array(steps, float), np.array(losses, float), **options)


def test_the_last_part_is_by_step_and_leaves_step_zero_out():
    steps, losses = last_part(np.array([0, 10, 40, 50, 100]), np.arange(5.0))
    assert steps.tolist() == [50, 100]
    assert losses.tolist() == [3, 4]
    assert last_part(np.array([0, 1, 2]), np.arange(3.0), share=1.0)[0].tolist() == [1, 2]
    with pytest.raises(ValueError, match="share must lie above 0 and be at most 1, got 0"):
        last_part(np.array([0, 1]), np.zeros(2), share=0.0)


def test_the_turn_of_a_validation_loss():
    steps = np.arange(1, 101)
    rng = np.random.default_rng(0)
    bowl = (np.log(steps / 40) ** 2 + 1) * np.exp(0.005 * rng.standard_normal(100))
    turned = turning(steps, bowl)
    assert turned.step == pytest.approx(40, abs=8)
    assert turned.rises
    assert turned.last / turned.lowest == pytest.approx(np.log(2.5) ** 2 + 1, rel=0.03)
    falling = turning(steps, 5 / np.sqrt(steps))
    assert (falling.step, falling.rises) == (100, False)
    assert falling.slope.value == pytest.approx(-0.5, rel=1e-6)
    sparse = np.full(100, np.nan)
    sparse[::20] = [3.0, 2.0, 1.0, 2.0, 3.0]
    assert turning(steps, sparse).step == 41
    assert turning(steps, sparse).slope is None
    for bad in (np.full(3, np.nan), np.array([1.0, np.inf, 1.0])):
        with pytest.raises(ValueError, match="never recorded, or is infinite"):
            turning(np.arange(3), bad)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("coefficient", "n", "at_least"),
    [
        (0.0, 12, 0.95), (0.0, 24, 0.95), (0.0, 200, 0.95),
        (0.5, 12, 0.94), (0.5, 24, 0.95), (0.5, 200, 0.95),
        # Undercovers where fewer records than a few correlation times are there: said in the docstring and the report.
        (0.9, 12, 0.86), (0.9, 24, 0.92), (0.9, 200, 0.94),
    ],
)  # fmt: skip
def test_the_interval_covers_the_truth_as_often_as_it_says(coefficient, n, at_least):
    noise = autoregressive(np.random.default_rng(4), n, coefficient, runs=2000)
    steps = np.arange(n, 2 * n)
    hits = 0
    for each in noise:
        found = loss_slope(steps, np.exp(0.05 * each) * steps**-0.5).estimate
        hits += found.lower <= -0.5 <= found.upper
    assert hits / 2000 >= at_least - 3 * math.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.slow
def test_noise_without_a_turn_is_called_a_rise_about_as_often_as_the_level_allows():
    """The minimum is picked from the noise; the rise is not judged from there."""
    noise = autoregressive(np.random.default_rng(5), 100, 0.5, runs=2000)
    rises = sum(turning(np.arange(1, 101), np.exp(0.05 * each)).rises for each in noise)
    assert rises / 2000 <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 2000)
