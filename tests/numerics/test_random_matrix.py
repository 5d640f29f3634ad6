"""Random matrices: golden values, closed forms, simulation, refusals."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate

from theorylens.numerics.random_matrix import (
    goe_all_positive,
    goe_exponent,
    marchenko_pastur_density,
    marchenko_pastur_edges,
    semicircle_share,
)


def test_golden_edges_of_marchenko_pastur(golden):
    assert marchenko_pastur_edges(0.25) == pytest.approx(golden("G3.1-4"), rel=1e-9)
    assert marchenko_pastur_edges(0.25, 3.0) == pytest.approx([3 * e for e in golden("G3.1-4")], rel=1e-9)


@pytest.mark.parametrize(("ratio", "variance"), [(0.25, 1.0), (0.9, 2.0), (4.0, 0.5)])
def test_the_density_integrates_to_the_continuous_part_with_the_right_mean(ratio, variance):
    low, high = marchenko_pastur_edges(ratio, variance)
    mass, mean = (
        integrate.quad(lambda x, k=k: x**k * marchenko_pastur_density(np.array([x]), ratio, variance)[0], low, high)[0]
        for k in (0, 1)
    )
    assert mass == pytest.approx(min(1, 1 / ratio), rel=1e-6)
    assert mean == pytest.approx(variance, rel=1e-6)  # the zeros carry none of the trace


def test_a_wishart_spectrum_lies_between_the_edges():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 500))
    values = np.linalg.eigvalsh(x.T @ x / 2000)
    low, high = marchenko_pastur_edges(0.25)
    assert values.min() == pytest.approx(low, rel=0.05)
    assert values.max() == pytest.approx(high, rel=0.05)
    below = (values < 1.0).mean()
    assert below == pytest.approx(
        integrate.quad(lambda t: marchenko_pastur_density(np.array([t]), 0.25)[0], low, 1.0)[0], abs=0.01
    )


def test_golden_goe_probability_and_exponent(golden):
    assert [goe_all_positive(2), goe_exponent()] == pytest.approx(golden("G3.1-2"), rel=1e-9)


def test_goe_probabilities_have_their_closed_forms_and_go_the_way_of_the_exponent():
    assert goe_all_positive(1) == pytest.approx(0.5, rel=1e-12)
    assert goe_all_positive(3) == pytest.approx((math.pi - 2 * math.sqrt(2)) / (4 * math.pi), rel=1e-10)
    rates = [-math.log(goe_all_positive(n)) / n**2 for n in range(1, 11)]
    assert all(a > b > goe_exponent() for a, b in itertools.pairwise(rates))
    # The second difference of n² rate tends to 2 (ln 3)/4.
    logs = [-math.log(goe_all_positive(n)) for n in range(1, 11)]
    assert np.diff(logs, 2)[-1] == pytest.approx(2 * goe_exponent(), rel=0.02)


def test_goe_probability_of_four_dimensions_by_simulation():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((200_000, 4, 4))
    hits = (np.linalg.eigvalsh((a + a.transpose(0, 2, 1)) / 2)[:, 0] > 0).mean()
    p = goe_all_positive(4)
    assert hits == pytest.approx(p, abs=4 * math.sqrt(p / 200_000))


def test_semicircle():
    assert [semicircle_share(x) for x in (-2, -1, 0, 1, 2)] == [0, 0, 0.5, 1, 1]
    area = integrate.quad(lambda x: 2 / math.pi * math.sqrt(1 - x * x), -1, 0.3)[0]
    assert semicircle_share(0.3) == pytest.approx(area, rel=1e-8)


def test_refusals():
    with pytest.raises(ValueError, match="ratio must be a positive number, got 0"):
        marchenko_pastur_edges(0)
    with pytest.raises(ValueError, match="variance must be a positive number, got nan"):
        marchenko_pastur_edges(1, math.nan)
    with pytest.raises(ValueError, match="n must be between 1 and 10, got 11"):
        goe_all_positive(11)
    with pytest.raises(ValueError, match="below must be a number"):
        semicircle_share(math.nan)
