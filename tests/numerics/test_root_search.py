"""Crossings where they are known, and the two ways of finding none."""

import math

import pytest

from theorylens.numerics.root_search import level_crossing


@pytest.mark.parametrize("start", [1e-6, 0.1, 3.0, 1e6])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 6.0])
def test_powers_cross_where_they_must(power, start):
    assert level_crossing(lambda x: x**power, 0.3, start) == pytest.approx(0.3 ** (1 / power), rel=2e-3)


def test_steps_and_infinities_are_crossed():
    assert level_crossing(lambda x: float(x >= 0.7), 0.5, 0.1) == pytest.approx(0.7, rel=2e-3)
    assert level_crossing(lambda x: math.inf if x > 0.7 else -1.0, 0.5, 5.0) == pytest.approx(0.7, rel=2e-3)


def test_a_rise_that_comes_back_is_not_leapt_over():
    assert level_crossing(lambda x: 1.0 if 1 < x < 3 else 0.0, 0.5, 0.1) == pytest.approx(1.0, rel=2e-3)


def test_nothing_to_cross():
    assert level_crossing(lambda x: 0.0, 0.5, 1.0) is None
    assert level_crossing(lambda x: 1.0, 0.5, 1.0) == 0.0
