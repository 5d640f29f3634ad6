"""McDiarmid and Azuma both ways: golden values, clipping, exact tails of coins and walks, what is refused."""

import math

import mpmath
import numpy as np
import pytest
from scipy import stats

from theorylens.numerics.differences import (
    azuma,
    azuma_deviation,
    bounded_differences,
    efron_stein,
    mcdiarmid,
    mcdiarmid_deviation,
)

MEAN = np.full(1000, 1e-3)


def test_golden_values(golden):
    exact, raw = golden("G1.3-1")
    assert mcdiarmid(MEAN, 0.05) == pytest.approx(exact, rel=1e-9)
    assert raw > 1
    assert mcdiarmid(MEAN, 0.01) == 1.0
    assert mcdiarmid_deviation(MEAN, 0.05) == pytest.approx(golden("G1.3-2"), rel=1e-9)


def test_legitimate_values_of_the_tutorial():
    """S1.3-1."""
    found = [mcdiarmid(MEAN, t) for t in (0.01, 0.05, 0.1, 0.2)]
    assert found == pytest.approx([1.0, 0.0134758940, 4.1223e-09, 3.6097e-35], rel=1e-4)


@pytest.mark.parametrize("sides", [1, 2])
def test_each_undoes_the_other(sides):
    c = [0.1, 0.5, 2.0, 0.0]
    for delta in (1e-9, 0.05, 0.7):
        assert mcdiarmid(c, mcdiarmid_deviation(c, delta, sides=sides), sides=sides) == pytest.approx(delta, rel=1e-9)
        assert azuma(c, azuma_deviation(c, delta, sides=sides), sides=sides) == pytest.approx(delta, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-250, 1e-150, 1.0, 1e150, 1e250])
def test_units_do_not_matter(scale):
    """Squares of 1e-250 are 0 and those of 1e250 infinite."""
    c = np.full(4, scale)
    assert mcdiarmid(c, scale, sides=1) == pytest.approx(math.exp(-0.5), rel=1e-12)
    assert azuma(c, 4 * scale) == pytest.approx(2 * math.exp(-2.0), rel=1e-12)
    assert mcdiarmid_deviation(c, 0.05, sides=1) == pytest.approx(scale * math.sqrt(2 * math.log(20)), rel=1e-12)


@pytest.mark.parametrize(("deviation", "c"), [(26.0, 1.0), (1e3, 1e-150), (1e200, 1e-200), (1e-200, 1e-290)])
def test_a_tail_too_small_for_a_double_is_the_least_one_not_nothing(deviation, c):
    assert mcdiarmid([c], deviation) == azuma([c, 0.0], 2 * deviation) == 5e-324


@pytest.mark.parametrize("delta", [5e-324, 1e-300, 0.3, 1 - 5 * 2**-53, 1 - 2**-53])
def test_deviations_are_rounded_up_at_the_ends_of_the_scale(delta):
    for sides in (1, 2):
        exact = mpmath.sqrt(2 * 7 * (mpmath.log(sides) - mpmath.log(mpmath.mpf(delta))))
        found = azuma_deviation(np.ones(7), delta, sides=sides)
        assert exact <= found <= exact * (1 + 1e-14)


def test_the_tail_of_a_mean_of_coins_lies_below_mcdiarmid():
    n, k = 40, np.arange(41)
    for p in np.linspace(0, 1, 101):
        for t in (0.05, 0.1, 0.2, 0.3):
            upper = stats.binom.pmf(k, n, p)[k / n - p >= t].sum()
            lower = stats.binom.pmf(k, n, p)[p - k / n >= t].sum()
            assert upper <= mcdiarmid(np.full(n, 1 / n), t, sides=1)
            assert upper + lower <= mcdiarmid(np.full(n, 1 / n), t)


def test_the_tail_of_a_walk_lies_below_azuma():
    n = 60
    ends = 2 * np.arange(n + 1) - n
    weight = stats.binom.pmf(np.arange(n + 1), n, 0.5)
    for t in range(1, n, 3):
        assert weight[ends >= t].sum() <= azuma(np.ones(n), t, sides=1)
    # A step of +-1 has a range of 2: taking 1 for the range would promise too much.
    assert weight[ends >= 10].sum() > mcdiarmid(np.ones(n), 10, sides=1)


def test_a_function_that_cannot_move_does_not():
    assert mcdiarmid([0.0, 0.0], 0.1) == 0.0
    assert mcdiarmid([0.0], 0.0) == 1.0
    assert mcdiarmid_deviation([0.0], 0.5) == 0.0


def test_differences_of_the_mean_and_of_the_largest():
    sample = np.array([0.2, 0.9, 0.4])
    ends = np.array([0.0, 1.0])
    assert bounded_differences(np.mean, sample, ends) == pytest.approx([1 / 3] * 3)
    # The largest of three: replacing the 0.9 leaves 0.4 or gives 1; replacing another can only raise 0.9 to 1.
    assert bounded_differences(np.max, sample, ends) == pytest.approx([0.1, 0.6, 0.1])
    with pytest.raises(ValueError, match="inputs and replacements, got 0 and 2"):
        bounded_differences(np.mean, np.zeros(0), ends)


def test_efron_stein_bounds_the_variance_and_is_exact_for_a_mean():
    rng = np.random.default_rng(0)
    found = [efron_stein(np.mean, rng.random(20), rng.random(20)) for _ in range(4000)]
    assert np.mean(found) == pytest.approx(1 / 12 / 20, rel=0.02)
    largest = np.mean([efron_stein(np.max, rng.random(5), rng.random(5)) for _ in range(4000)])
    assert largest > stats.beta(5, 1).var()  # of the largest of five uniform numbers
    with pytest.raises(ValueError, match="one copy of every input"):
        efron_stein(np.mean, np.zeros(3), np.zeros(2))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: mcdiarmid([0.1], -0.1), "deviation must be a finite number, at least 0, got -0.1"),
        (lambda: mcdiarmid([-0.1], 0.1), "differences must be finite and at least 0"),
        (lambda: mcdiarmid([math.inf], 0.1), "differences must be finite"),
        (lambda: mcdiarmid([0.1], math.nan), "deviation must be"),
        (lambda: mcdiarmid([], 0.1), "one number per input"),
        (lambda: mcdiarmid([0.1], 0.1, sides=3), "sides must be 1 or 2"),
        (lambda: mcdiarmid_deviation([0.1], 0.0), "delta must lie strictly"),
        (lambda: azuma([0.1], -1.0), "deviation"),
        (lambda: azuma_deviation([0.1], 1.0), "delta"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()
