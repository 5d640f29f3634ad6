"""xi(n) against exact fractions, PAC-Bayes-kl against published values, its ingredients against their laws."""

import math
from fractions import Fraction

import pytest

from theorylens.generalization import kl, kl_inverse, pac_bayes_kl, xi


def _exact_xi(n):
    return sum(math.comb(n, k) * Fraction(k, n) ** k * Fraction(n - k, n) ** (n - k) for k in range(n + 1))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 15, 16, 17, 20, 33, 100, 250])
def test_xi_agrees_with_exact_fractions(n):
    assert xi(n) == pytest.approx(float(_exact_xi(n)), rel=1e-13)


def test_xi_lies_below_two_roots_from_eight_on_and_grows_like_its_limit():
    assert xi(7) < 2 * math.sqrt(7) + 1
    for n in (8, 9, 20, 1000, 10**6):
        assert math.sqrt(n) < xi(n) < 2 * math.sqrt(n)
    assert xi(3 * 10**6) == pytest.approx(math.sqrt(math.pi * 1.5e6) + 2 / 3, rel=1e-6)
    assert xi(1000) == pytest.approx(40.3, abs=0.05)


@pytest.mark.parametrize(
    ("empirical", "divergence", "n", "value"),
    [
        (0.05, 1, 1000, 0.0827615457), (0.05, 10, 1000, 0.1007818782), (0.05, 100, 1000, 0.2138055657),
        (0.05, 1000, 1000, 0.7138889849), (0.1, 20, 5000, 0.13466921725227),
    ],
)  # fmt: skip
def test_golden_values(empirical, divergence, n, value):
    assert pac_bayes_kl(empirical, divergence, n, 0.05, form="maurer") == pytest.approx(value, abs=1e-10)


def test_the_exact_constant_is_tighter_and_solves_its_equation():
    exact = pac_bayes_kl(0.05, 10.0, 1000, 0.05)
    assert exact < pac_bayes_kl(0.05, 10.0, 1000, 0.05, form="maurer")
    budget = (10 + math.log(float(_exact_xi(100)) / 0.05)) / 100
    assert kl(0.05, pac_bayes_kl(0.05, 10.0, 100, 0.05)) == pytest.approx(budget, rel=1e-12)
    assert pac_bayes_kl(0.05, 10.0, 100, 0.05) >= kl_inverse(0.05, budget)


def test_the_mean_that_xi_bounds_is_xi_for_every_rate():
    """E exp(n kl(k/n || p)) over the binomial is the sum without p: the identity behind the bound."""
    n = 12
    for p in (0.1, 0.5, 0.83):
        mean = sum(
            math.comb(n, k) * p**k * (1 - p) ** (n - k) * math.exp(n * kl(k / n, p)) for k in range(n + 1)
        )  # fmt: skip
        assert mean == pytest.approx(xi(n), rel=1e-10)


def test_more_divergence_or_fewer_examples_never_help():
    assert pac_bayes_kl(0.1, 5.0, 100, 0.05) < pac_bayes_kl(0.1, 6.0, 100, 0.05) < pac_bayes_kl(0.1, 6.0, 50, 0.05)
    assert pac_bayes_kl(0.1, math.inf, 100, 0.05) == 1.0
    assert pac_bayes_kl(1.0, 0.0, 100, 0.05) == 1.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((1.2, 1.0, 100, 0.05), r"must lie in \[0, 1\]"),
        ((0.1, -1.0, 100, 0.05), "order of posterior and prior"),
        ((0.1, math.nan, 100, 0.05), "at least 0"),
        ((0.1, 1.0, 100, 1.0), "strictly between"),
        ((0.1, 1.0, 0, 0.05), "whole number"),
    ],
)
def test_refusals(arguments, said):
    with pytest.raises(ValueError, match=said):
        pac_bayes_kl(*arguments)


def test_the_printed_form_is_refused_where_it_is_not_proved():
    with pytest.raises(ValueError, match="proved from n = 8"):
        pac_bayes_kl(0.1, 1.0, 7, 0.05, form="maurer")
    assert pac_bayes_kl(0.1, 1.0, 7, 0.05) < 1
