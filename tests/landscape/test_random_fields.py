"""Spherical p-spin: golden values, ground state, layers by index, index against height, refusals."""

import math

import numpy as np
import pytest

from theorylens.landscape import p_spin_complexity, p_spin_count, p_spin_index_share, p_spin_threshold


def test_golden_total_complexity_and_threshold(golden):
    assert [p_spin_complexity(3), p_spin_threshold(3)] == pytest.approx(golden("G3.1-1"), rel=1e-9)


def test_complexity_is_continuous_and_grows_with_height():
    levels = np.linspace(-1.9, 0.5, 200)
    values = [p_spin_complexity(3, e) for e in levels]
    assert (np.diff(values) >= -1e-12).all()
    assert np.abs(np.diff(values)).max() < 0.06
    assert p_spin_complexity(3, 0.0) == p_spin_complexity(3) == p_spin_complexity(3, 5.0)


def test_at_low_energy_minima_dominate_and_each_index_has_its_own_threshold():
    """Energies below which there is no critical point of index k: E_0 = 1.657 for p = 3, and rising with k."""
    starts = []
    for k in range(4):
        levels = np.linspace(-1.8, -p_spin_threshold(3), 20_000)
        found = np.array([p_spin_complexity(3, e, k) for e in levels])
        starts.append(levels[np.argmax(found > 0)])
    assert starts[0] == pytest.approx(-1.6570, abs=1e-4)
    assert starts == sorted(starts)
    assert starts[-1] < -p_spin_threshold(3)
    # With index k, minima above the threshold are not more numerous than at it: log(p-1)/2 - (p-2)/p.
    assert p_spin_complexity(3, 0.0, 2) == pytest.approx(math.log(2) / 2 - 1 / 3, rel=1e-12)


def test_kac_rice_for_two_dimensions_by_counting():
    """p = 2 on the sphere in N dimensions has exactly 2 N critical points: the complexity is 0."""
    assert p_spin_complexity(2) == 0
    assert p_spin_threshold(2) == pytest.approx(math.sqrt(2))
    # They are the eigenvectors of a GOE matrix: index share below a height is the semicircle's.
    rng = np.random.default_rng(0)
    a = rng.standard_normal((600, 600))
    heights = np.linalg.eigvalsh((a + a.T) / 2) / math.sqrt(600)
    at = int(0.3 * 600)
    assert p_spin_index_share(2, heights[at]) == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("p", [2, 3, 4, 7])
def test_on_a_circle_the_count_is_the_formula_of_rice(p):
    """The covariance is cos^p; by its derivatives at 0 the slope has 2 sqrt(-R4 / R2) = 2 sqrt(3p - 2) zeros."""
    assert p_spin_count(p, 2) == pytest.approx(2 * math.sqrt(3 * p - 2), rel=1e-9)


@pytest.mark.parametrize("n", [2, 3, 4, 11, 50])
def test_quadratic_forms_have_two_critical_points_for_each_eigenvector(n):
    assert p_spin_count(2, n) == pytest.approx(2 * n, rel=1e-9)
    assert p_spin_count(2, n, 0.0) == pytest.approx(n, rel=1e-6)
    assert p_spin_count(2, n, -10.0) == pytest.approx(0, abs=1e-12)


def test_counts_below_a_height_are_those_of_drawn_functions_on_a_circle():
    rng = np.random.default_rng(0)
    t = np.linspace(0, 2 * np.pi, 1025)[:-1]
    x, y = math.sqrt(2) * np.cos(t), math.sqrt(2) * np.sin(t)
    shapes = np.stack([math.sqrt(math.comb(3, k)) * x**k * y ** (3 - k) for k in range(4)]) / 2
    h = rng.standard_normal((4000, 4)) @ shapes
    turns = np.sign(np.roll(h, -1, 1) - h) != np.sign(h - np.roll(h, 1, 1))
    for energy in (-0.3, -0.8, 0.4):
        counted = (turns & (h / 2 <= energy)).sum(1)
        spread = counted.std() / math.sqrt(4000)
        assert p_spin_count(3, 2, energy) == pytest.approx(counted.mean(), abs=4 * spread)


def test_the_logarithm_of_the_count_tends_to_the_complexity():
    for energy in (math.inf, -1.5, -1.64):
        gaps = [math.log(p_spin_count(3, n, energy)) / n - p_spin_complexity(3, energy) for n in (25, 50, 100)]
        assert abs(gaps[2]) < 0.6 * abs(gaps[0])
        assert abs(gaps[2]) < 0.04


def test_index_share_depends_on_height():
    shares = [p_spin_index_share(3, e) for e in (-2.0, -1.0, -0.5, 0.0, 0.5, 2.0)]
    assert shares[0] == 0
    assert shares[3] == 0.5
    assert shares[-1] == 1
    assert shares == sorted(shares)


def test_refusals():
    with pytest.raises(ValueError, match="n must lie between 2 and 100, got 1"):
        p_spin_count(3, 1)
    with pytest.raises(ValueError, match="p must be at least 2, got 1"):
        p_spin_count(1, 3)
    with pytest.raises(ValueError, match="energy must be a number"):
        p_spin_count(3, 3, math.nan)
    with pytest.raises(ValueError, match="p must be at least 2, got 1"):
        p_spin_complexity(1)
    with pytest.raises(ValueError, match="p must be at least 2, got 1"):
        p_spin_threshold(1)
    with pytest.raises(ValueError, match="energy must be a number"):
        p_spin_complexity(3, math.nan)
    with pytest.raises(ValueError, match="need p >= 3 and index >= 0, got p=3 and index=-1"):
        p_spin_complexity(3, -1.7, -1)
