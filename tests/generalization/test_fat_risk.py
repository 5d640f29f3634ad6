"""The margin bound from the fat-shattering dimension: its counting lemma by brute force, its formula, its laws."""

import itertools
import math

import numpy as np
import pytest

from theorylens.generalization import _fat_risk, fat_covering, fat_shattering, fat_shattering_bound


def apart(f, g):
    return any(abs(a - b) >= 2 for a, b in zip(f, g, strict=True))


def strong_dimension(family, n):
    """Largest set of points on which levels 2 or 3 can be passed below and above in every pattern."""
    best = 0
    for size in range(1, n + 1):
        for points in itertools.combinations(range(n), size):
            for around in itertools.product((2, 3), repeat=size):
                patterns = set()
                for f in family:
                    sides = [1 if f[x] > r else (-1 if f[x] < r else 0) for x, r in zip(points, around, strict=True)]
                    if 0 not in sides:
                        patterns.add(tuple(sides))
                if len(patterns) == 2**size:
                    best = size
    return best


def test_the_counting_lemma_holds_for_every_set_of_functions_on_two_points():
    functions = list(itertools.product(range(1, 5), repeat=2))
    worst = {0: 0, 1: 0, 2: 0}
    families = [()]
    while families:
        grown = []
        for family in families:
            first = functions.index(family[-1]) + 1 if family else 0
            grown += [(*family, f) for f in functions[first:] if all(apart(f, g) for g in family)]
        for family in grown:
            d = strong_dimension(family, 2)
            worst[d] = max(worst[d], len(family))
        families = grown
    assert worst == {0: 1, 1: 4, 2: 4}
    for d, size in worst.items():
        assert size <= math.exp(fat_covering(2, d)) * (1 + 1e-12)


def test_the_counting_lemma_holds_for_sets_found_greedily_on_more_points():
    rng = np.random.default_rng(0)
    for n in (3, 4):
        functions = list(itertools.product(range(1, 5), repeat=n))
        for _ in range(60):
            family, d = [], int(rng.integers(1, n))
            for i in rng.permutation(len(functions))[:60]:
                f = functions[i]
                if all(apart(f, g) for g in family) and strong_dimension([*family, f], n) <= d:
                    family.append(f)
            assert len(family) <= math.exp(fat_covering(n, d)) * (1 + 1e-12)


def written_out(n, d):
    """The lemma with whole numbers."""
    ways = sum(math.comb(n, i) * 2**i for i in range(1, d + 1))
    doublings = ways.bit_length()  # least r with 2^r > ways
    product = 2
    for s in range(doublings):
        product *= 6 * (n - s)
    return min(n * math.log(2), math.log(product)) if doublings < n else n * math.log(2)


@pytest.mark.parametrize(("n", "d"), [(100, 1), (1000, 3), (2000, 10), (20_000, 40), (50, 16), (50, 40)])
def test_the_cover_is_the_lemma_in_whole_numbers(n, d):
    assert fat_covering(n, d) == pytest.approx(written_out(n, d), rel=1e-8)
    assert fat_covering(n, d) >= written_out(n, d) * (1 - 1e-12)


def test_the_bounds_written_out():
    nats = written_out(20_000, 5) + math.log(2 / 0.05)
    loose = fat_shattering_bound(0.1, 10_000, 5, 0.05)
    assert loose.gap == pytest.approx(math.sqrt(8 * nats / 10_000), rel=1e-7)
    assert loose.bound == pytest.approx(0.1 + loose.gap)
    tight = fat_shattering_bound(0.0, 10_000, 5, 0.05, consistent=True)
    assert tight.gap == pytest.approx(2 / 10_000 * nats / math.log(2), rel=1e-7)
    assert tight.gap < loose.gap


def test_it_behaves_like_a_bound():
    by_m = [fat_shattering_bound(0.0, m, 10, 0.05).gap for m in (10**6, 10**7, 10**8, 10**9)]
    assert sorted(by_m, reverse=True) == by_m
    assert by_m[-1] < 0.02
    by_d = [fat_shattering_bound(0.0, 10**8, d, 0.05).gap for d in (0, 1, 10, 100, 2_000_000)]
    assert sorted(by_d) == by_d
    assert fat_shattering_bound(0.0, 10**6, 10, 1e-6).gap > by_m[0]


def test_a_class_that_shatters_nothing_is_one_function():
    found = fat_shattering_bound(0.0, 1000, 0, 0.05)
    assert found.gap == pytest.approx(math.sqrt(8 * math.log(40) / 1000), rel=1e-6)


def test_a_large_delta_cannot_undercut_the_ghost_sample():
    assert fat_shattering_bound(0.0, 1000, 0, 0.9, consistent=True).gap >= 8 * math.log(2) / 1000


def test_the_dimension_of_the_data_plays_no_part_for_linear_functions():
    d = fat_shattering(1.0, 1.0, 0.5 / 4)
    assert d == 64
    assert not fat_shattering_bound(0.0, 10**6, d, 0.05, consistent=True).vacuous


@pytest.mark.parametrize(
    ("given", "more", "said"),
    [
        ((1.5, 10, 1, 0.05), {}, "margin_error must lie between 0 and 1"),
        ((0.1, 0, 1, 0.05), {}, "m must be at least 1"),
        ((0.1, 10, -1, 0.05), {}, "dimension must be at least 0"),
        ((0.1, 10, 1, 0.0), {}, "delta must lie strictly between"),
        ((0.1, 10, 1, 0.05), {"consistent": True}, "needs a margin error of 0"),
    ],
)
def test_what_it_refuses(given, more, said):
    with pytest.raises(ValueError, match=said):
        fat_shattering_bound(*given, **more)


@pytest.mark.parametrize(("points", "dimension"), [(5000, 20), (100_000, 300), (40_000, 2)])
def test_sums_that_are_too_long_are_bounded_from_above(monkeypatch, points, dimension):
    exact = fat_covering(points, dimension)
    monkeypatch.setattr(_fat_risk, "_TERMS", 1)
    assert exact <= fat_covering(points, dimension) < 1.25 * exact
