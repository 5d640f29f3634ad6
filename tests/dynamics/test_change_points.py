"""Change points: found where they were made, none in noise and plain decay, p-values as rare as they say."""

import math

import numpy as np
import pytest
from scipy import stats

from theorylens.dynamics import change_points
from theorylens.dynamics._break_search import EFFECT, BreakSearch, _filtered, _gains, _whitened, sequential_p_value
from theorylens.dynamics._smooth_law import smooth_law, span

from .conftest import autoregressive

T = np.arange(200)
BROKEN = np.where(T < 60, 1.0, np.where(T < 140, 0.6, 0.42)) * (T + 1.0) ** -0.1
PLATEAU = np.where(T < 80, 2.0, 2.0 * np.exp(-(T - 80) / 25))


def noisy(law, correlation, seed=0, size=0.05):
    noise = autoregressive(np.random.default_rng(seed), len(law), correlation)[0] * math.sqrt(1 - correlation**2)
    return law * np.exp(size * noise)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_two_drops_and_the_end_of_a_plateau_are_found(correlation):
    drops = change_points(T, noisy(BROKEN, correlation))
    assert drops.steps == (60, 140)
    assert max(drops.p_values) <= 0.05
    end = change_points(T, noisy(PLATEAU, correlation))
    assert len(end.steps) == 1
    assert abs(end.steps[0] - 80) <= 5
    before, after = end.phases
    assert before.estimate.lower <= 0.002
    assert after.estimate.value == pytest.approx(-1 / 25, rel=0.15)


@pytest.mark.parametrize(
    "law",
    [np.exp(-T / 50), (T + 1.0) ** -0.5, 0.1 + 2 * np.exp(-T / 30), np.full(200, 0.7), 0.2 + (1 + T / 9) ** -1.3],
    ids=["exponential", "power", "floor", "constant", "shifted power"],
)
def test_a_law_without_noise_has_no_phases(law):
    found = change_points(T[:120], law[:120])
    assert found.steps == ()
    assert found.fitted == pytest.approx(law[:120], rel=EFFECT)


def test_the_law_of_decay_contains_its_special_cases():
    x = np.linspace(0, 1, 80)
    for law in (0.3 + np.exp(-5 * x), np.exp(-40 * x) + 1e-3, (1 + x / 0.02) ** -0.7, (1 + x) ** 0.5):
        # Within what counts as no change: the power of an exponential is cut off.
        assert smooth_law(x, np.log(law), logarithm=True).fitted == pytest.approx(np.log(law), abs=EFFECT)
    raw = smooth_law(x, 1 - 2 * np.exp(-4 * x), logarithm=False)
    assert raw.fitted == pytest.approx(1 - 2 * np.exp(-4 * x), abs=2e-3)
    basis = raw.directions
    assert basis.T @ basis == pytest.approx(np.eye(basis.shape[1]), abs=1e-9)
    ones = np.ones(80)
    assert basis @ (basis.T @ ones) == pytest.approx(ones, abs=1e-6)  # a shift of the loss is no change of its course


def test_losses_below_zero_are_judged_as_they_are():
    law = np.where(T < 100, 1.0, -1.0) + 0.1 * np.random.default_rng(0).standard_normal(200)
    found = change_points(T, law)
    assert found.steps == (100,)
    assert found.phases[1] is None


def test_scaling_the_loss_or_the_steps_moves_nothing_else():
    losses = noisy(BROKEN, 0.5)
    one, other = change_points(T, losses), change_points(10 * T, 7 * losses)
    assert other.steps == tuple(10 * s for s in one.steps)
    assert other.p_values == one.p_values


def test_long_records_are_averaged_and_placed_as_finely_as_that_allows():
    t = np.arange(6000)
    law = np.where(t < 2000, 1.0, 0.5) * (t + 1.0) ** -0.05
    found = change_points(t, noisy(law, 0.9))
    assert len(found.steps) == 1
    assert abs(found.steps[0] - 2000) <= found.resolution == pytest.approx(50, rel=0.01)


def test_a_change_too_small_to_matter_is_none():
    law = np.where(T < 100, 1.0, 1.005)
    assert change_points(T, law * np.exp(1e-4 * np.random.default_rng(0).standard_normal(200))).steps == ()


def test_the_same_seed_gives_the_same_p_values():
    losses = noisy(PLATEAU, 0.5)
    assert change_points(T, losses, seed=3).p_values == change_points(T, losses, seed=3).p_values


def test_the_gain_of_a_break_is_the_fall_of_the_squared_error():
    """Against least squares with and without the two columns."""
    rng = np.random.default_rng(0)
    x, y = np.linspace(0, 1, 40), rng.standard_normal(40)
    base = span(np.stack([np.ones(40), x, np.exp(-x)], axis=1))
    search = BreakSearch(x, y, base, 1.0)
    gain, _ = _gains(y - base @ (base.T @ y), *search.reduced(base))
    for k, place in enumerate(search.candidates):
        extra = np.stack([np.arange(40) >= place, np.where(np.arange(40) >= place, x - x[place], 0)], axis=1)
        errors = [
            np.linalg.lstsq(a, y, rcond=None)[1][0] for a in (base, np.concatenate([base, extra], axis=1))
        ]  # fmt: skip
        assert gain[k] == pytest.approx(errors[0] - errors[1], abs=1e-9)


def test_noise_is_filtered_and_whitened_back():
    shocks = np.random.default_rng(0).standard_normal(50)
    noise = _filtered(shocks, 0.8)
    assert _whitened(noise, 0.8) == pytest.approx(shocks)
    many = np.stack([_filtered(s, 0.8) for s in np.random.default_rng(1).standard_normal((4000, 30))])
    assert many.var(0) == pytest.approx(np.full(30, 1 / (1 - 0.8**2)), rel=0.15)


def test_sequential_p_values():
    values = iter([1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1])
    assert sequential_p_value(lambda: next(values), 0.5, 99, 0.05) == 6 / 8  # the sixth at or above, in eight draws
    assert sequential_p_value(lambda: 0.0, 0.5, 99, 0.05) == 1 / 100


@pytest.mark.slow
def test_sequential_p_values_are_valid():
    rng = np.random.default_rng(0)
    p = np.array([sequential_p_value(rng.random, rng.random(), 99, 0.05) for _ in range(4000)])
    for level in (0.02, 0.05):
        assert stats.binomtest(int((p <= level).sum()), 4000, level, alternative="greater").pvalue > 1e-4


NULLS = {"constant": np.ones(100), "floor": 0.1 + 2 * np.exp(-np.arange(100) / 10), "power": (T[:100] + 1.0) ** -0.5}


@pytest.mark.slow
@pytest.mark.parametrize(("correlation", "most"), [(0.0, 0.05), (0.5, 0.05), (0.9, 0.08)])
@pytest.mark.parametrize("name", NULLS)
def test_no_more_changes_in_noise_than_the_level_allows(name, correlation, most):
    """At most 5 % of records; strongly correlated ones, whose correlation 100 records hardly tell, a little more."""
    runs = 120
    found = sum(
        len(change_points(T[:100], noisy(NULLS[name], correlation, seed), simulations=99, seed=seed).steps) > 0
        for seed in range(runs)
    )
    assert stats.binomtest(found, runs, most, alternative="greater").pvalue > 1e-3, found / runs


@pytest.mark.parametrize(
    ("steps", "losses", "options", "said"),
    [
        (range(9), np.ones(9), {}, "need at least 10 records, got 9"),
        (range(11), np.ones(10), {}, r"one length, got \(11,\) and \(10,\)"),
        (range(10), [1.0] * 9 + [math.nan], {}, "1 of 10 losses are not finite, the first is nan at step 9"),
        (range(10), [1.0] * 9 + [math.inf], {}, "1 of 10 losses are not finite, the first is inf"),
        ([0] * 10, np.ones(10), {}, "strictly increasing"),
        (range(10), np.ones(10), {"level": 0.0}, "level must lie between 0 and 1"),
        (range(10), np.ones(10), {"simulations": 9}, "simulations at least 1/level - 1"),
    ],
)
def test_refusals(steps, losses, options, said):
    with pytest.raises(ValueError, match=said):
        change_points(np.array(steps), np.array(losses), **options)
