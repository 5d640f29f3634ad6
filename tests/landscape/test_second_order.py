"""The second-order test on whole spectra, strict saddles, second-order points, refusals."""

import math

import pytest
import torch

from theorylens.landscape import (
    Place,
    eigenvalues,
    is_second_order_stationary,
    is_strict_saddle,
    second_order_test,
)


def test_golden_the_four_cases_of_the_tutorial():
    """Identifier S3.1-1: the fourth spectrum, half positive and half negative with a zero, is a strict saddle."""
    cases = {"S3.1-1": ([1.0, 2.0], [-1.0, -2.0], [1.0, -1.0], [1.0, -1.0, 1.0, -1.0, 0.0])}
    places = [second_order_test(c).place for c in cases["S3.1-1"]]
    assert places == [Place.MINIMUM, Place.MAXIMUM, Place.SADDLE, Place.SADDLE]


def test_golden_strict_saddles_of_the_tutorial():
    """Identifier S3.2-1: minimum no; a saddle, a maximum and a degenerate spectrum with one negative value yes."""
    cases = {"S3.2-1": ([1.0, 2.0], [1.0, -1.0], [-1.0, -2.0], [1.0, -1.0, 1.0, -1.0, 0.0])}
    assert [is_strict_saddle(c) for c in cases["S3.2-1"]] == [False, True, True, True]


@pytest.mark.parametrize(
    ("spectrum", "place", "index", "nullity"),
    [
        ([1.0] * 9 + [0.0], Place.DEGENERATE, 0, 1),
        ([-1.0] * 9 + [0.0], Place.SADDLE, 9, 1),
        ([0.0, 0.0], Place.DEGENERATE, 0, 2),
        ([1e-9, 2e-9], Place.MINIMUM, 0, 0),
        ([1e9, -1e-3], Place.DEGENERATE, 0, 1),
        ([1e9, -1e4], Place.SADDLE, 1, 0),
    ],
)
def test_index_and_nullity(spectrum, place, index, nullity):
    found = second_order_test(spectrum)
    assert (found.place, found.index, found.nullity) == (place, index, nullity)
    scaled = second_order_test(torch.tensor([1e-7 * s for s in spectrum], dtype=torch.float64))
    assert (scaled.place, scaled.index) == (place, index)  # tolerances are relative


def test_the_margin_says_what_would_change_the_answer():
    found = second_order_test([3.0, 1.0, -0.5], tolerance=0.01)
    assert found.margin == pytest.approx(0.5 - 0.03)
    assert second_order_test([3.0, 1.0, -0.5], tolerance=0.01, residual=found.margin - 1e-9).place is Place.SADDLE
    assert second_order_test([3.0, 1.0, -0.5], tolerance=0.01, residual=found.margin + 1e-9).place is Place.DEGENERATE
    assert second_order_test([3.0, 1.0]).margin == pytest.approx(1.0, rel=1e-5)
    assert second_order_test([-3.0, -1.0]).margin == pytest.approx(1.0, rel=1e-5)
    for sign in (1, -1):  # a minimum and a maximum give way to an error of the margin, and to no smaller one
        margin = second_order_test([sign * 3.0, sign * 1.0], tolerance=0.1).margin
        assert margin == pytest.approx(1.0 - 0.3)
        assert second_order_test([sign * 3.0, sign * (1.0 - margin + 1e-9)], tolerance=0.1).nullity == 0
        assert second_order_test([sign * 3.0, sign * (1.0 - margin - 1e-9)], tolerance=0.1).nullity == 1
    zero = second_order_test([3.0, 0.1], tolerance=0.1)
    assert (zero.place, zero.margin) == (Place.DEGENERATE, pytest.approx(0.3 - 0.1))
    assert second_order_test([1.0], gradient_norm=0.5, at_rest=0.2).margin == pytest.approx(0.3)


def test_a_gradient_that_is_not_small_is_no_critical_point():
    found = second_order_test([1.0, 2.0], gradient_norm=0.3, at_rest=0.1)
    assert found.place is Place.SLOPE
    assert found.margin == pytest.approx(0.2)
    assert second_order_test([1.0, 2.0], gradient_norm=0.1, at_rest=0.1).place is Place.MINIMUM


def test_second_order_points():
    assert is_second_order_stationary(0.01, -0.1, epsilon=0.01, lipschitz=1.0)
    assert not is_second_order_stationary(0.01, -0.1001, epsilon=0.01, lipschitz=1.0)
    assert not is_second_order_stationary(0.02, 1.0, epsilon=0.01, lipschitz=1.0)
    assert is_second_order_stationary(0.01, -0.1001, epsilon=0.01, lipschitz=1.1)


def test_golden_largest_smallest_and_norm_of_a_saddle(golden, quadratic):
    parts = quadratic([[1.0, 0.0], [0.0, -3.0]])
    top = eigenvalues(*parts, k=1).values[0]
    low = eigenvalues(*parts, k=1, which="SA").values[0]
    assert [top, low, max(abs(top), abs(low))] == pytest.approx(golden("G3.1-5"), rel=1e-9)


def test_refusals():
    with pytest.raises(ValueError, match="there are no eigenvalues"):
        second_order_test([])
    with pytest.raises(ValueError, match="2 of 3 eigenvalues are not finite"):
        second_order_test([math.nan, 1.0, math.inf])
    with pytest.raises(ValueError, match="there are no eigenvalues"):
        is_strict_saddle([])
    with pytest.raises(ValueError, match="1 of 1 eigenvalues are not finite"):
        is_strict_saddle([math.nan])
    with pytest.raises(ValueError, match="tolerance must be at least 0, got -1"):
        second_order_test([1.0], tolerance=-1)
    with pytest.raises(ValueError, match="gradient_norm must be at least 0, got nan"):
        second_order_test([1.0], gradient_norm=math.nan)
    with pytest.raises(ValueError, match="gamma must be a positive number, got 0"):
        is_strict_saddle([1.0], 0.0)
    with pytest.raises(ValueError, match="a gradient norm and an eigenvalue are needed"):
        is_second_order_stationary(math.nan, 1.0, epsilon=1, lipschitz=1)
    with pytest.raises(ValueError, match="epsilon and lipschitz must be positive"):
        is_second_order_stationary(1.0, 1.0, epsilon=0, lipschitz=1)
