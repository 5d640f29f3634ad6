"""Spherical p-spin: golden values, ground state, layers by index, index against height, refusals."""

import math

import numpy as np
import pytest

from theorylens.landscape import p_spin_complexity, p_spin_index_share, p_spin_threshold


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


def test_index_share_depends_on_height():
    shares = [p_spin_index_share(3, e) for e in (-2.0, -1.0, -0.5, 0.0, 0.5, 2.0)]
    assert shares[0] == 0
    assert shares[3] == 0.5
    assert shares[-1] == 1
    assert shares == sorted(shares)


def test_refusals():
    with pytest.raises(ValueError, match="p must be at least 2, got 1"):
        p_spin_complexity(1)
    with pytest.raises(ValueError, match="p must be at least 2, got 1"):
        p_spin_threshold(1)
    with pytest.raises(ValueError, match="energy must be a number"):
        p_spin_complexity(3, math.nan)
    with pytest.raises(ValueError, match="need p >= 3 and index >= 0, got p=3 and index=-1"):
        p_spin_complexity(3, -1.7, -1)
