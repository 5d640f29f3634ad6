"""Covering numbers and Dudley's integral: golden values, real covers, classes whose complexity is known exactly."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from theorylens.generalization import (
    ball_covering,
    ball_packing,
    covering_bound,
    covering_tail,
    dudley,
    empirical_cover,
    entropy_integral,
    linear_covering,
    spectral_covering,
)


def test_golden_values(golden):
    assert covering_bound(0.1, math.log(100), 1000) == pytest.approx(golden("G1.3-3"), rel=1e-9)
    integral = entropy_integral(lambda e: 10 * math.log(1 + 2 / e), 0.0, 1.0)
    assert 12 / math.sqrt(1000) * integral == pytest.approx(golden("G1.3-5"), rel=1e-9)
    assert entropy_integral(lambda e: 3 * math.log(1 + 2 / e), 0.0, 1.0) == pytest.approx(2.3427396338679, rel=1e-12)


def test_legitimate_values_of_the_tutorial():
    """S1.3-2."""
    assert covering_bound(0.1, math.log(100), 1000) == pytest.approx(0.1959705182, abs=1e-10)


def test_a_line_needs_as_many_intervals_as_it_needs():
    """In one dimension the covering number of [-r, r] is ceil(r/e), between the two bounds."""
    for scale in (0.9, 0.5, 0.31, 0.1, 0.01):
        exact = math.log(math.ceil(1 / scale))
        assert ball_packing(1.0, scale, 1) <= exact <= ball_covering(1.0, scale, 1)
    assert ball_covering(1.0, 1.0, 7) == 0.0 == ball_packing(1.0, 2.0, 7)


def test_a_greedy_cover_of_a_ball_is_no_larger_than_the_bound():
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(4000, 3))
    ball = direction / np.linalg.norm(direction, axis=1)[:, None] * rng.random((4000, 1)) ** (1 / 3)
    cover = empirical_cover(ball * math.sqrt(3))  # the root mean square over 3 points is then the Euclidean length
    for scale in (0.8, 0.5, 0.3):
        # Greedy centres are more than `scale` apart, so they are a packing: within the volume bound.
        assert cover.log_count(scale) <= ball_covering(1.0, scale, 3)
        assert cover.least(scale) <= cover.count(scale)
        assert math.log(cover.least(scale)) <= ball_covering(1.0, scale, 3)


def test_covers_cover_and_packings_are_apart():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(60, 8))
    cover = empirical_cover(values)
    apart = np.sqrt(((values[:, None] - values[None]) ** 2).mean(2))
    for scale in (0.5, 1.0, 1.3):
        chosen = cover.centres[: cover.count(scale)]
        assert apart[:, chosen].min(1).max() <= scale
        packed = apart[np.ix_(*[cover.centres[: cover.least(scale / 2)]] * 2)]
        assert packed[~np.eye(len(packed), dtype=bool)].min(initial=math.inf) > scale
    assert cover.count(0.0) == 60
    copies = empirical_cover(np.tile([[1.0, 2.0]], (5, 1)))
    assert (copies.count(0.0), copies.least(0.0), len(copies.radii)) == (1, 1, 1)


def test_linear_functions_are_covered_by_no_more_than_said_and_dimension_matters_little():
    """Averages of k atoms, enumerated, cover the unit ball on real points: Maurey's number is not too small."""
    x = np.array([[1.0, 0.0], [0.0, 1.0], [0.7, 0.7], [-0.6, 0.8]])
    radius = float(np.sqrt((x**2).sum(1).mean()))
    scale = radius / math.sqrt(3)  # k = 3
    total = math.sqrt((x**2).sum())
    atoms = [np.zeros(4)]
    for j in range(2):
        column = x[:, j] / np.linalg.norm(x[:, j]) * total
        atoms += [column, -column]
    averages = np.array([np.mean(c, axis=0) for c in itertools.combinations_with_replacement(atoms, 3)])
    assert math.log(len(averages)) == pytest.approx(math.log(math.comb(4 + 3, 3)))
    angle = np.linspace(0, 2 * np.pi, 400)
    functions = np.stack([np.cos(angle), np.sin(angle)], 1) @ x.T
    distance = np.sqrt(((functions[:, None] - averages[None]) ** 2).mean(2)).min(1).max()
    assert distance <= scale
    assert linear_covering(1.0, radius, scale * 0.999999, 2) <= math.log(len(averages)) + 3
    assert linear_covering(1.0, 1.0, 0.1, 10**6) < 1.3 * linear_covering(1.0, 1.0, 0.1, 10**5)
    assert linear_covering(1.0, 1.0, 1e-9, 5) == pytest.approx(5 * math.log(1 + 2e9))
    assert linear_covering(2.0, 3.0, 6.0, 4) == 0.0


def test_bounds_of_networks_scale_as_the_theorem_says():
    one = spectral_covering([2.0, 1.0], [1.0, 1.0], 0.5, inputs=1.0, width=8)
    by_hand = math.log(128) * 4 / 0.25 * (0.5 ** (2 / 3) + 1) ** 3
    assert one == pytest.approx(by_hand, rel=1e-12)
    assert spectral_covering([2.0, 1.0], [1.0, 1.0], 0.25, inputs=1.0, width=8) == pytest.approx(4 * one)
    assert spectral_covering([2.0, 1.0], [1.0, 1.0], 0.5, inputs=3.0, width=8) == pytest.approx(9 * one)
    half = spectral_covering([2.0, 1.0], [1.0, 1.0], 0.5, inputs=1.0, width=8, lipschitz=[0.5, 1.0])
    assert half == pytest.approx(one / 4)
    assert spectral_covering([2.0], [0.0], 0.5, inputs=1.0, width=8) == 0.0


def rademacher(values):
    """Exact empirical Rademacher complexity of a finite class by all sign patterns."""
    n = values.shape[1]
    signs = np.array(list(itertools.product((-1, 1), repeat=n)))
    return float((signs @ values.T / n).max(1).mean())


def test_every_bound_lies_above_the_exact_complexity():
    rng = np.random.default_rng(2)
    for _ in range(5):
        values = np.clip(rng.normal(size=(30, 10)), -1, 1)
        exact, cover = rademacher(values), empirical_cover(values)
        largest = float(np.sqrt((values**2).mean(1)).max())
        assert exact <= dudley(cover, 10, largest).bound
        for scale in (0.0, 0.2, 0.5):
            assert exact <= covering_bound(scale, cover.log_count(scale), 10)
            assert dudley(cover, 10, largest).bound <= dudley(cover, 10, largest, truncation=scale).bound + 1e-12


def test_the_best_truncation_is_the_best_on_a_grid():
    for n, logs in ((1000, lambda e: 1 / e**2), (10_000, lambda e: 50 * math.log(1 + 2 / e)), (300, lambda e: 2 / e)):
        best = dudley(logs, n, 1.0)
        grid = np.geomspace(1e-3, 1, 30)
        tried = [dudley(logs, n, 1.0, truncation=float(a)).bound for a in grid]
        assert best.bound <= min(tried) + 1e-9
        assert best.bound >= 0.97 * min(tried)
    assert dudley(lambda e: 1 / e**2, 900, 1.0).truncation == pytest.approx(0.1)  # ln N = n/9


def test_chaining_beats_one_scale_for_many_points():
    n, logs = 10**6, lambda e: 20 * math.log(1 + 2 / e)
    one = min(covering_bound(e, logs(e), n) for e in np.geomspace(1e-5, 1, 200))
    assert (
        dudley(logs, 10**12, 1.0).bound / min(covering_bound(e, logs(e), 10**12) for e in np.geomspace(1e-8, 1, 300))
        < dudley(logs, n, 1.0).bound / one
    )  # the gain grows with n: no logarithm is left


def test_linear_class_bound_is_above_its_exact_complexity():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(12, 4))
    signs = np.array(list(itertools.product((-1, 1), repeat=12)))
    exact = float(np.linalg.norm(signs @ x, axis=1).mean() / 12)
    rms = float(np.sqrt((x**2).sum(1).mean()))
    assert exact <= dudley(lambda e: linear_covering(1.0, rms, e, 4), 12, rms).bound


def test_the_tail_by_covers_written_out_and_against_coins():
    assert covering_tail(0.2, math.log(50), 20_000) == pytest.approx(4 * 50 * math.exp(-20_000 * 0.2**2 / 32))
    assert covering_tail(0.2, math.log(50), 20_000) >= 4 * 50 * math.exp(-25.0)
    assert covering_tail(0.05, 10.0, 1000) == 1.0
    assert covering_tail(0.5, math.inf, 10) == 1.0
    # k independent fair coins are k losses: the chance that the mean of one strays is known exactly.
    for k, n, off in ((1, 400, 0.25), (50, 1000, 0.25), (50, 4000, 0.1)):
        stray = 2 * stats.binom.cdf(math.floor(n * (0.5 - off)), n, 0.5)
        assert 1 - (1 - stray) ** k <= covering_tail(off, math.log(k), n)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: covering_tail(0.0, 1.0, 10), "deviation must be finite and positive"),
        (lambda: covering_tail(0.1, -1.0, 10), "covering number is at least 1"),
        (lambda: covering_tail(0.1, 1.0, 0), "whole number"),
        (lambda: covering_bound(0.1, -0.1, 10), "covering number is at least 1"),
        (lambda: covering_bound(-0.1, 1.0, 10), "scale must be finite and at least 0, got -0.1"),
        (lambda: covering_bound(0.1, float("nan"), 10), "at least 1"),
        (lambda: covering_bound(0.1, 1.0, 0), "whole number"),
        (lambda: ball_covering(1.0, 0.0, 2), "scale must be positive"),
        (lambda: ball_covering(-1.0, 0.1, 2), "at least 0, got -1.0"),
        (lambda: ball_covering(1.0, 0.1, 0), "dimension must be"),
        (lambda: spectral_covering([1.0], [1.0, 2.0], 0.1, inputs=1.0, width=3), "one distance per spectral norm"),
        (lambda: spectral_covering([0.0], [1.0], 0.1, inputs=1.0, width=3), "must be positive"),
        (lambda: empirical_cover(np.zeros(3)), "finite matrix"),
        (lambda: empirical_cover(np.full((2, 2), np.nan)), "finite matrix"),
        (lambda: empirical_cover(np.eye(2)).count(-0.1), "at least 0, got -0.1"),
        (lambda: dudley(lambda e: 1.0, 0, 1.0), "whole number"),
        (lambda: dudley(lambda e: 1.0, 10, -1.0), "finite and at least 0, got -1.0"),
        (lambda: dudley(lambda e: -1.0, 10, 1.0), "at least 0, got -1.0"),
        (lambda: dudley(lambda e: 1.0, 10, 1.0, truncation=2.0), "between 0 and the largest"),
        (lambda: dudley(lambda e: 1 / e**2, 1000, 1.0, truncation=0.0), "does not converge; use a positive truncation"),
        (lambda: entropy_integral(lambda e: 1.0, 1.0, 0.5), "0 <= low <= high"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()
