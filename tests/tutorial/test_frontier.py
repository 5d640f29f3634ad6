"""Frontier: what the tutorial only names is a number here."""

import pytest

from theorylens.frontier import mean_field


def test_mean_field_theory_has_its_fixed_points_and_slopes(golden):
    found = [mean_field("tanh", sw2, sb2) for sw2, sb2 in ((1.5, 0.05), (2.25, 0.0), (0.5, 0.1))]
    for theory, (q, chi) in zip(found, golden("G7.2-1"), strict=True):
        assert theory.q == pytest.approx(q, rel=1e-9)
        assert theory.chi == pytest.approx(chi, rel=1e-9)


def test_the_critical_initialisation_of_relu_networks(golden):
    assert mean_field("relu", 2.0, 0.0).chi == pytest.approx(golden("G7.2-2"), rel=1e-9)
