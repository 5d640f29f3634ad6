"""Bernoulli kl and its inverse: golden values, many digits, and bounds that stay on the safe side."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import special

from theorylens.numerics.binomial import clopper_pearson
from theorylens.numerics.relative_entropy import kl, kl_inverse

RATES = [0.0, 1e-300, 1e-12, 1e-3, 0.03, 0.2, 0.5, 0.75, 0.999, 1 - 1e-12, 1.0]
BUDGETS = [1e-300, 1e-30, 1e-12, 1e-3, 0.02, 0.5, 3.0, 40.0, 700.0]


def exact_kl(q, p):
    """The textbook formula in so many digits that its cancellation does not matter."""
    with mpmath.workdps(1000):
        q, p = mpmath.mpf(q), mpmath.mpf(p)
        parts = [(q, p), (1 - q, 1 - p)]
        if any(a > 0 and b == 0 for a, b in parts):
            return mpmath.inf
        return sum(a * mpmath.log(a / b) for a, b in parts if a > 0)


@pytest.mark.parametrize("q", RATES)
@pytest.mark.parametrize("p", [*RATES, 0.2 + 1e-9, 0.5 * (1 + 1e-15), 3e-12, 0.031, 5e-324])
def test_kl_has_nearly_all_its_digits(q, p):
    exact = exact_kl(q, p)
    if exact == 0 or exact == mpmath.inf:
        assert kl(q, p) == exact
    else:
        assert abs(kl(q, p) / exact - 1) < 4e-15


@given(st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=300, deadline=None)
def test_kl_agrees_with_scipy_and_with_pinsker(q, p):
    value = kl(q, p)
    assert value >= 2 * (p - q) ** 2 * (1 - 1e-14)
    assert value == pytest.approx(special.rel_entr(q, p) + special.rel_entr(1 - q, 1 - p), rel=1e-9, abs=1e-15)
    assert kl(q, q) == 0


@pytest.mark.parametrize("q", RATES)
@pytest.mark.parametrize("c", BUDGETS)
def test_upper_inverse_is_outside_the_root_and_close_to_it(q, c):
    root = kl_inverse(q, c)
    assert q <= root <= 1
    if q == 1:
        assert root == 1
        return
    assert root == 1 or exact_kl(q, root) >= c
    inside = root * (1 - 1e-12)
    if inside > q:
        assert exact_kl(q, inside) < c
    elif root > np.nextafter(q, 1):  # closer to q than that: one double too far at most shows as four
        assert exact_kl(q, q + (root - q) * (1 - 1e-12) - 2 * np.spacing(root)) < c


@pytest.mark.parametrize("q", RATES)
@pytest.mark.parametrize("c", BUDGETS)
def test_lower_inverse_is_outside_the_root_and_close_to_it(q, c):
    root = kl_inverse(q, c, side="lower")
    assert 0 <= root <= q
    if q == 0:
        assert root == 0
        return
    assert root == 0 or exact_kl(q, root) >= c
    inside = max(root * (1 + (1 + c / q) * 1e-12), np.nextafter(0, 1))
    if inside < q:
        assert exact_kl(q, inside) < c
    elif root < np.nextafter(q, 0):
        assert exact_kl(q, q - (q - root) * (1 - 1e-12) + 2 * np.spacing(q)) < c


def test_golden_inverses():
    assert kl(0.05, 0.1) == pytest.approx(0.016706501178765, rel=1e-12)
    assert kl_inverse(0.03, 0.02) == pytest.approx(0.077153236068491, rel=1e-12)
    assert kl_inverse(0.0, 0.01) == pytest.approx(0.0099501662508319, rel=1e-12)
    assert kl_inverse(0.2, 0.03, "lower") == pytest.approx(0.11487599969374, rel=1e-12)


@pytest.mark.parametrize(
    ("emp", "complexity", "m", "delta", "bound"),
    [
        (0.05, 1, 1000, 0.05, 0.0827615457),
        (0.05, 10, 1000, 0.05, 0.1007818782),
        (0.05, 100, 1000, 0.05, 0.2138055657),
        (0.05, 1000, 1000, 0.05, 0.7138889849),
        (0.1, 20, 5000, 0.05, 0.13466921725227),
    ],
)
def test_golden_pac_bayes_kl_bounds(emp, complexity, m, delta, bound):
    budget = (complexity + math.log(2 * math.sqrt(m) / delta)) / m
    assert kl_inverse(emp, budget) == pytest.approx(bound, rel=1e-9)


@pytest.mark.parametrize("c", [0.0, 5e-324, 1e-300, 1e-12, 0.3, 30.0])
def test_closed_forms_at_the_ends(c):
    assert kl_inverse(0.0, c) == pytest.approx(-math.expm1(-c), rel=2e-13, abs=1e-318)
    assert kl_inverse(0.0, c) >= -math.expm1(-c)
    assert kl_inverse(1.0, c, "lower") == pytest.approx(math.exp(-c), rel=1e-11)
    assert kl_inverse(1.0, c, "lower") <= math.exp(-c)
    assert kl_inverse(0.0, c, "lower") == 0
    assert kl_inverse(1.0, c) == 1


def test_no_budget_moves_nothing_and_endless_budget_excludes_nothing():
    for q in RATES:
        assert kl_inverse(q, 0.0) == q == kl_inverse(q, 0.0, "lower")
        assert kl_inverse(q, math.inf) == 1
        assert kl_inverse(q, math.inf, "lower") == 0
    assert kl_inverse(0.5, 1e-300) == np.nextafter(0.5, 1)
    assert kl_inverse(0.5, 1e-300, "lower") == np.nextafter(0.5, 0)


@given(st.floats(0, 1), st.floats(0, 1e3), st.floats(0, 1e3))
@settings(max_examples=100, deadline=None)
def test_inverse_bounds_kl_and_grows(q, c, more):
    for side in ("upper", "lower"):
        root = kl_inverse(q, c, side)
        assert kl(q, root) >= c or root in (0, 1)
        assert abs(kl_inverse(q, c + more, side) - q) >= abs(root - q) * (1 - 1e-11)
    assert kl_inverse(q, c) <= min(1, q + math.sqrt(c / 2)) * (1 + 1e-12)


@given(st.integers(0, 200), st.floats(1e-6, 0.9))
@settings(max_examples=100, deadline=None)
def test_the_exact_binomial_bound_is_no_worse_than_chernoffs(errors, delta):
    chernoff = kl_inverse(errors / 200, math.log(1 / delta) / 200)
    assert clopper_pearson(errors, 200, delta) <= chernoff * (1 + 1e-10)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(1e-8, 10))
@settings(max_examples=100, deadline=None)
def test_inverse_grows_with_the_observed_rate(q, other, c):
    low, high = sorted((q, other))
    assume(low < high)
    for side in ("upper", "lower"):
        assert kl_inverse(low, c, side) <= kl_inverse(high, c, side) * (1 + 1e-11) + 1e-300


@pytest.mark.parametrize("side", ["upper", "lower"])
def test_a_number_alone_gives_the_bits_that_an_array_gives(side):
    """Numbers take a path of their own, without the price of arrays; nothing about it may differ."""
    rng = np.random.default_rng(0)
    q = np.concatenate([RATES, [5e-324, 1 - 2**-53], rng.uniform(0, 1, 150), np.exp(-rng.uniform(0, 700, 150))])
    c = np.exp(np.concatenate([rng.uniform(-700, 7, 150), rng.uniform(-12, 2, len(q) - 150)]))
    c[:3] = 0.0, math.inf, 5e-324
    assert kl_inverse(q, c, side).tolist() == [kl_inverse(a, b, side) for a, b in zip(q, c, strict=True)]


def test_arrays_broadcast_and_numbers_stay_numbers():
    assert type(kl_inverse(0.1, 0.2)) is float
    assert type(kl(np.float64(0.1), 1)) is float
    table = kl_inverse(np.array([[0.1], [0.4]]), [0.0, 0.2, 0.3])
    assert table.shape == (2, 3)
    assert table[1, 2] == kl_inverse(0.4, 0.3)
    assert kl(np.zeros((2, 1)), np.full(3, 0.5)).shape == (2, 3)


@pytest.mark.parametrize(
    ("q", "c", "said"),
    [
        (-0.1, 0.1, "q must lie between 0 and 1, got -0.1"),
        (1.1, 0.1, "q must lie between 0 and 1"),
        (math.nan, 0.1, "q must lie between 0 and 1, got nan"),
        (0.1, -1e-9, "c must be at least 0"),
        (0.1, math.nan, "c must be at least 0"),
        ([0.1, math.nan], 0.1, "q must lie"),
    ],
)
def test_refusals(q, c, said):
    with pytest.raises(ValueError, match=said):
        kl_inverse(q, c)


def test_kl_refuses_what_is_no_rate():
    with pytest.raises(ValueError, match=r"p must lie between 0 and 1, got 1\.5"):
        kl(0.5, 1.5)


def test_an_unknown_side_is_refused(unchecked_shapes):
    with pytest.raises(ValueError, match="side must be 'upper' or 'lower', got 'left'"):
        kl_inverse(0.1, 0.1, side="left")
