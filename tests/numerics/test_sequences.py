"""Limits that hold at all times: every path of short games summed exactly, long ones drawn, and what is refused."""

import itertools
import math

import numpy as np
import pytest

from theorylens.numerics.concentration import hoeffding
from theorylens.numerics.sequences import METHODS, confidence_sequence, mixture_radius, stitched_radius

PATHS = np.array(list(itertools.product((0.0, 1.0), repeat=11)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("delta", [0.8, 0.3])
def test_over_all_paths_of_coins_the_rate_is_ever_missed_as_rarely_as_it_says(method, delta):
    found = [confidence_sequence(path, delta, method=method) for path in PATHS]
    lower, upper = (np.array([getattr(f, e)[-1] for f in found]) for e in ("lower", "upper"))  # the tightest so far
    ones = PATHS.sum(1)
    missing = []
    for p in np.linspace(0.02, 0.98, 49):
        weight = p**ones * (1 - p) ** (11 - ones)
        missing.append(float(weight[(lower > p) | (upper < p)].sum()))
    assert max(missing) <= delta
    if method == "betting" and delta == 0.8:
        assert max(missing) > 0.05  # the games are long enough for something to be missed


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_in_long_games_too(method):
    rng, delta, missed, runs = np.random.default_rng(0), 0.2, 0, 200
    for i in range(runs):
        p = (0.5, 0.1)[i % 2]
        found = confidence_sequence((rng.random(1500) < p).astype(float), delta, method=method)
        missed += bool((found.lower > p).any() or (found.upper < p).any())
    assert missed / runs <= delta + 4 * math.sqrt(delta * (1 - delta) / runs)


def test_looking_all_the_time_with_fixed_intervals_fails_and_this_does_not():
    """The mistake it is for: checking Hoeffding's interval after every term."""
    rng, n, delta, runs = np.random.default_rng(1), 3000, 0.5, 200
    t = np.arange(1, n + 1)
    naive = ours = 0
    for _ in range(runs):
        x = rng.choice([0.0, 1.0], n)
        off = np.abs(np.cumsum(x) / t - 0.5)
        naive += bool((off > hoeffding(t, delta / 2)).any())
        ours += bool((off > mixture_radius(t, delta)).any())
    assert naive / runs > delta
    assert ours / runs <= delta


def test_betting_adapts_to_small_variance_and_the_boundaries_do_not():
    x = np.clip(0.3 + 0.02 * np.random.default_rng(0).standard_normal(2000), 0, 1)
    widths = {m: float(np.ptp([(f := confidence_sequence(x, method=m)).lower[-1], f.upper[-1]])) for m in METHODS}
    assert widths["betting"] < 0.3 * min(widths["mixture"], widths["stitched"])


def test_limits_never_widen_and_contain_what_they_should():
    x = np.random.default_rng(2).random(300)
    for method in METHODS:
        found = confidence_sequence(x, method=method)
        assert (np.diff(found.lower) >= 0).all()
        assert (np.diff(found.upper) <= 0).all()
        assert found.mean == pytest.approx(np.cumsum(x) / np.arange(1, 301))
    turned, plain = (confidence_sequence(v) for v in (1 - x, x))
    assert turned.lower == pytest.approx(1 - plain.upper, abs=1e-9)


def test_the_mixture_solves_its_martingale_and_both_boundaries_shrink():
    t, delta, tuned = 500.0, 0.05, 500.0
    r = tuned / (2 * math.log(1 / delta) + math.log(2 * math.log(1 / delta) + 1) + 1)
    s = float(mixture_radius(t, delta)) * t
    capital = math.sqrt(r / (t + r)) * math.exp(s**2 / (2 * 0.25 * (t + r)))
    assert capital == pytest.approx(1 / delta, rel=1e-9)
    grid = np.array([10, 100, 10**4, 10**6])
    for radius in (mixture_radius(grid, delta), stitched_radius(grid, delta)):
        assert (np.diff(radius) < 0).all()
        assert (radius > hoeffding(grid, delta / 2)).all()  # the price of looking at all times


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: confidence_sequence([0.5, 1.2]), r"at least one term in \[0, 1\]"),
        (lambda: confidence_sequence([0.5, math.nan]), "at least one term"),
        (lambda: confidence_sequence([]), "at least one term"),
        (lambda: confidence_sequence([0.5], 1.0), "strictly between 0 and 1"),
        (lambda: confidence_sequence([0.5], method="peeking"), "unknown method 'peeking'; there are betting"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()
