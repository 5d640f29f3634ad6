"""The 22 golden values of research/generalization.md, section 4, through the public names and argument orders."""

import math

import numpy as np
import pytest

import theorylens.generalization as g
from theorylens.numerics.concentration import empirical_bernstein

SQUARE = [[1.0, 0.0], [0.0, 2.0], [2.0, 1.0], [-1.0, 1.0]]


def two_stage():
    """The Gibbs risk is sampled with 2000 draws, then bounded: two inverses, the first at ln(2/delta')/m."""
    sampled = g.kl_inverse(0.05, math.log(2 / 0.01) / 2000)
    return g.pac_bayes_kl(sampled, 20.0, 5000, 0.025, form="maurer")


VALUES = [
    (1, lambda: g.kl(0.05, 0.1), 0.016706501178765),
    (2, lambda: g.kl_inverse(0.03, 0.02), 0.077153236068491),
    (3, lambda: g.kl_inverse(0.0, 0.01), 0.0099501662508319),
    (4, lambda: g.kl_inverse(0.2, 0.03, side="lower"), 0.11487599969374),
    (5, lambda: g.clopper_pearson(3, 100, 0.05), 0.07571079374983),
    (6, lambda: g.clopper_pearson(0, 59, 0.05, side="upper"), 0.049507609888227),
    (7, lambda: g.hoeffding(2000, 0.01), 0.033930702122076),
    (8, lambda: empirical_bernstein(500, 0.02, 0.05), 0.034428045658384),
    (9, lambda: g.sauer_shelah(12, 4), 794),
    (10, lambda: g.cover_count(8, 3), 58),
    (11, lambda: g.massart(64, 50, math.sqrt(50)), 0.40786679606752),
    (12, lambda: g.rademacher(g.L2Ball(points=SQUARE)).value, 0.78353944107785),
    (13, lambda: g.xi(20), 6.2935845860009),
    (14, lambda: g.pac_bayes_kl(0.1, 20.0, 5000, 0.05, form="maurer"), 0.13466921725227),
    (15, lambda: g.pac_bayes_mcallester(0.1, 20.0, 5000, 0.05, form="maurer"), 0.15286537245667),
    (16, lambda: g.pac_bayes_quadratic(0.1, 20.0, 5000, 0.05, form="maurer"), 0.13948848485118),
    (17, lambda: g.pac_bayes_lambda(0.1, 20.0, 5000, 0.05, form="maurer"), 0.13948848485118),
    (17, lambda: g.best_trade_off(0.1, 20.0, 5000, 0.05, form="maurer"), 0.283094944312),
    (18, lambda: g.pac_bayes_catoni(0.1, 20.0, 5000, 0.05, beta=2.0), 0.21398590722803),
    (19, two_stage, 0.09762776273362),
    (20, lambda: g.ridgeless_risk(3.0, noise=0.1, signal=1.0), 0.71666666666667),
    (21, lambda: g.ridge_risk(1.5, 0.2, noise=0.1, signal=1.0), 0.45564026560203),
    (22, lambda: g.entropy_integral(lambda e: 3 * math.log(1 + 2 / e), 0.0, 1.0), 2.3427396338679),
]


@pytest.mark.parametrize(
    ("number", "computed", "value"), VALUES, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(VALUES)]
)
def test_the_value_is_reproduced_to_nine_digits(number, computed, value):
    assert np.shape(computed()) == ()
    assert computed() == pytest.approx(value, rel=1e-9)


def test_all_twenty_two_are_there():
    assert {number for number, _, _ in VALUES} == set(range(1, 23))
