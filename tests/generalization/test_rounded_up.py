"""Every bound is rounded upwards: at least the number that the formula has in 60 digits, and hardly more."""

import mpmath as mp
import numpy as np
import pytest

import theorylens.generalization as g

mp.mp.dps = 60
F = mp.mpf


def relaxed(m, d):
    return d * (mp.log(F(m)) + 1 - mp.log(F(d)))


def pair(m, d):
    return mp.log(F(2 * m) ** d + 1)


def budget(kl, n, delta):
    return (F(kl) + mp.log(2 * mp.sqrt(F(n)) / F(delta))) / n


def bernstein(n, v, delta):
    """Of the sub-gamma tail (Boucheron, Lugosi, Massart 2013, theorem 2.10)."""
    a = mp.log(1 / F(delta)) / n
    return mp.sqrt(2 * F(v) * a) + a / 3


def variance(v, kl, n, delta):
    c = F(1.15)
    grid = max(1, mp.ceil(mp.log(mp.sqrt((n - 1) / mp.log(1 / F(delta)) + 1) / 2 + F(0.5)) / mp.log(c)))
    nats = (F(kl) + mp.log(grid / F(delta))) / (n - 1)
    return F(v) + (1 + c) * mp.sqrt(F(v) * nats / 2) + 2 * c * nats


def squares(*each):
    return sum(F(x) ** 2 for x in each)


def robbins(m, delta):
    a = 2 * mp.log(1 / F(delta))
    r = 500 / (a + mp.log(a + 1) + 1)
    return mp.sqrt((m + r) * mp.log((m + r) / (r * F(delta) ** 2))) / (2 * m)


def margin(r, m, delta):
    return 2 / F(0.3) * F(r) + mp.sqrt(mp.log(1 / F(delta)) / (2 * m))


def any_margin(r, m, delta):
    return (
        4 / F(0.3) * F(r) + mp.sqrt(mp.log(mp.log(2 / F(0.3), 2)) / m) + mp.sqrt(mp.log(2 / F(delta)) / (2 * m))
    )  # fmt: skip


# name: (what the library says, the formula) of r in [0, 1/2], k in [0, 40], m up to 1e6, d in 1..20 and delta
CASES = {
    "vc mohri": (
        lambda r, k, m, d, e: g.vc_gap(m, d, e),
        lambda r, k, m, d, e: mp.sqrt(2 * relaxed(m, d) / m) + mp.sqrt(mp.log(1 / F(e)) / (2 * m)),
    ),
    "vc mohri, both sides": (
        lambda r, k, m, d, e: g.vc_gap(m, d, e, two_sided=True),
        lambda r, k, m, d, e: mp.sqrt(2 * relaxed(m, d) / m) + mp.sqrt(mp.log(2 / F(e)) / (2 * m)),
    ),
    "vc vapnik": (
        lambda r, k, m, d, e: g.vc_gap(m, d, e, "vapnik"),
        lambda r, k, m, d, e: mp.sqrt((relaxed(2 * m, d) + mp.log(4 / F(e))) / m) + F(1) / m,
    ),
    "vc bousquet": (
        lambda r, k, m, d, e: g.vc_gap(m, d, e, "bousquet"),
        lambda r, k, m, d, e: 2 * mp.sqrt(2 * (relaxed(2 * m, d) + mp.log(2 / F(e))) / m),
    ),
    "vc abu-mostafa": (
        lambda r, k, m, d, e: g.vc_gap(m, d, e, "abu-mostafa"),
        lambda r, k, m, d, e: mp.sqrt(8 * (pair(m, d) + mp.log(4 / F(e))) / m),
    ),
    "vc relative": (
        lambda r, k, m, d, e: g.relative_vc_bound(r, m, d, e).gap,
        lambda r, k, m, d, e: (
            2 * mp.sqrt(F(r) * (relaxed(2 * m, d) + mp.log(4 / F(e))) / m)
            + 4 * (relaxed(2 * m, d) + mp.log(4 / F(e))) / m
        ),
    ),
    "finite class": (
        lambda r, k, m, d, e: g.pac_certificate(0.0, m, e, log_class_size=k).gap,
        lambda r, k, m, d, e: mp.sqrt((F(k) + mp.log(2 / F(e))) / (2 * m)),
    ),
    "uniform": (
        lambda r, k, m, d, e: g.uniform_convergence(r / 10, m, e),
        lambda r, k, m, d, e: 2 * F(r / 10) + mp.sqrt(mp.log(1 / F(e)) / (2 * m)),
    ),
    "uniform, empirical": (
        lambda r, k, m, d, e: g.uniform_convergence(r / 10, m, e, empirical=True),
        lambda r, k, m, d, e: 2 * F(r / 10) + 3 * mp.sqrt(mp.log(2 / F(e)) / (2 * m)),
    ),
    "margin": (
        lambda r, k, m, d, e: g.margin_gap(r / 10, 0.3, m, e),
        lambda r, k, m, d, e: margin(r / 10, m, e),
    ),
    "any margin": (
        lambda r, k, m, d, e: g.margin_gap(r / 20, 0.3, m, e, largest=1.0),
        lambda r, k, m, d, e: any_margin(r / 20, m, e),
    ),
    "cover": (
        lambda r, k, m, d, e: g.covering_tail(0.3 + r, k, m),
        lambda r, k, m, d, e: 4 * mp.exp(F(k) - m * F(0.3 + r) ** 2 / 32),
    ),
    "hoeffding": (lambda r, k, m, d, e: g.hoeffding(m, e), lambda r, k, m, d, e: mp.sqrt(mp.log(1 / F(e)) / (2 * m))),
    "bernstein": (lambda r, k, m, d, e: g.bernstein(m, r / 2, e), lambda r, k, m, d, e: bernstein(m, r / 2, e)),
    "maurer-pontil": (
        lambda r, k, m, d, e: g.empirical_bernstein(m, r / 2, e),
        lambda r, k, m, d, e: (
            mp.sqrt(2 * F(r / 2) * mp.log(2 / F(e)) / m) + 7 * mp.log(2 / F(e)) / (3 * (F(m) - 1))
        ),
    ),
    "mcallester": (
        lambda r, k, m, d, e: g.pac_bayes_mcallester(r, k, m, e, form="maurer"),
        lambda r, k, m, d, e: F(r) + mp.sqrt(budget(k, m, e) / 2),
    ),
    "quadratic": (
        lambda r, k, m, d, e: g.pac_bayes_quadratic(r, k, m, e, form="maurer"),
        lambda r, k, m, d, e: (mp.sqrt(F(r) + budget(k, m, e) / 2) + mp.sqrt(budget(k, m, e) / 2)) ** 2,
    ),
    "lambda": (
        lambda r, k, m, d, e: g.pac_bayes_lambda(r, k, m, e, form="maurer", trade_off=0.4),
        lambda r, k, m, d, e: F(r) / (1 - F(0.4) / 2) + budget(k, m, e) / (F(0.4) * (1 - F(0.4) / 2)),
    ),
    "catoni": (
        lambda r, k, m, d, e: g.pac_bayes_catoni(r, k, m, e, beta=1.5),
        lambda r, k, m, d, e: (
            (1 - mp.exp(-F(1.5) * F(r) - (F(k) + mp.log(1 / F(e))) / m)) / (1 - mp.exp(-F(1.5)))
        ),
    ),
    "mcdiarmid": (
        lambda r, k, m, d, e: g.mcdiarmid_deviation([r / 20, r / 30, 0.01], e, sides=1),
        lambda r, k, m, d, e: mp.sqrt(squares(r / 20, r / 30, 0.01) * mp.log(1 / F(e)) / 2),
    ),
    "azuma": (
        lambda r, k, m, d, e: g.azuma_deviation([r / 50, r / 60, 0.01], e),
        lambda r, k, m, d, e: mp.sqrt(2 * squares(r / 50, r / 60, 0.01) * mp.log(2 / F(e))),
    ),
    "stitched": (
        lambda r, k, m, d, e: float(g.stitched_radius(m, e)),
        lambda r, k, m, d, e: F(0.85) * mp.sqrt((mp.log(mp.log(2 * F(m))) + F(0.72) * mp.log(10.4 / F(e))) / m),
    ),
    "mixture": (lambda r, k, m, d, e: float(g.mixture_radius(m, e)), lambda r, k, m, d, e: robbins(m, e)),
    "dkw": (lambda r, k, m, d, e: g.dkw(m, e), lambda r, k, m, d, e: mp.sqrt(mp.log(2 / F(e)) / (2 * m))),
    "variance": (
        lambda r, k, m, d, e: g.variance_bound(r / 10, k, m, e), lambda r, k, m, d, e: variance(r / 10, k, m, e)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_no_bound_is_below_its_formula(name):
    said, exact = CASES[name]
    rng = np.random.default_rng(len(name))
    counted = 0
    for _ in range(60):
        m = int(10 ** rng.uniform(2.5, 6))
        given = (
            rng.uniform(0, 0.5),
            rng.uniform(0, 40),
            m,
            int(rng.integers(1, 21)),
            float(10 ** rng.uniform(-4, -0.4)),
        )
        value, formula = said(*given), exact(*given)
        if value < 0.2:  # not clipped to what is trivial
            counted += 1
            assert F(value) >= formula, given
            assert F(value) <= formula * (1 + F(10) ** -6) + F(10) ** -300, given
    assert counted >= 10
