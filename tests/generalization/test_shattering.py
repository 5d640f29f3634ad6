"""Shattering by linear programme and by learner, with its witnesses."""

import math

import numpy as np
import pytest
import torch
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from theorylens.generalization import (
    Halfspaces,
    LearnerOracle,
    Stumps,
    cover_count,
    find_shattered,
    sauer_shelah,
    shatters,
    vc_linear,
    vc_of_labellings,
    vc_stump,
)
from theorylens.generalization._separable import strictly_separable
from theorylens.generalization._shattering import _labellings, _roomy

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("d", "bias"), [(1, True), (2, True), (3, True), (2, False), (4, False)])
def test_halfspaces_shatter_their_dimension_and_no_more(d, bias):
    points = RNG.standard_normal((d + 2, d))
    value = vc_linear(d, bias=bias).upper
    oracle = Halfspaces(bias=bias)
    assert shatters(points[:value], oracle).shattered
    found = shatters(points[: value + 1], oracle)
    assert not found.shattered
    assert found.certain
    assert not oracle(points[: value + 1], found.missing)


def test_labellings_made_by_halfspaces_are_covers_count():
    points = RNG.standard_normal((6, 2))
    for bias in (True, False):
        made = sum(Halfspaces(bias=bias)(points, labels) for labels in _labellings(6))
        assert made == cover_count(6, 2, affine=bias)


@pytest.mark.parametrize(
    "points",
    [
        [[0, 0], [1, 0], [0.5, 1e-12]], [[0, 0], [1, 0], [0.5, 1e-300]], 1e-9 * RNG.standard_normal((3, 2)),
        RNG.standard_normal((3, 2)).round(3) + 1e9, RNG.standard_normal((3, 2)) * [1e-200, 1e200],
    ],
)  # fmt: skip
def test_units_and_small_angles_do_not_matter(points):
    """Three points not on a line are shattered; a solver's tolerance said certainly not."""
    found = shatters(points, Halfspaces())
    assert (found.shattered, found.certain) == (True, True)
    assert shatters(np.c_[np.asarray(points, float), np.ones(3)], Halfspaces(bias=False)).shattered
    fourth = [*np.asarray(points, float).tolist(), np.asarray(points, float)[0].tolist()]
    assert not shatters(fourth, Halfspaces()).shattered  # a point twice


def test_whole_numbers_near_a_line_are_told_from_those_on_it():
    rng = np.random.default_rng(0)
    for _ in range(40):
        a, b = rng.integers(-(10**7), 10**7, (2, 2))
        for off in (0, 1):
            points = np.array([a, b, 3 * b - 2 * a + [0, off]], dtype=np.float64)
            u, v = (points[1:] - points[0]).astype(object)
            assert shatters(points, Halfspaces()).shattered == (int(u[0]) * int(v[1]) != int(u[1]) * int(v[0]))


@pytest.mark.parametrize("dimension", [1, 2, 3, 5])
def test_rational_and_floating_answers_agree_on_points_in_general_position(dimension):
    rng = np.random.default_rng(dimension)
    for count in (2, dimension + 1, dimension + 3):
        for _ in range(20):
            rows = rng.standard_normal((count, dimension))
            assert strictly_separable(rows.tolist()) == _roomy(rows / np.abs(rows).max(0))


def test_points_on_a_line_are_worse():
    found = shatters(np.c_[np.arange(3.0), np.arange(3.0)], Halfspaces())
    assert found.missing.tolist() in ([-1, 1, -1], [1, -1, 1])


def test_a_gaussian_kernel_shatters_any_points():
    """Its Gram matrix on distinct points is positive definite, so the VC dimension is infinite."""
    points = RNG.standard_normal((7, 2))
    found = shatters(points, LearnerOracle(make=lambda: SVC(kernel="rbf", gamma=50.0, C=1e6)))
    assert (found.shattered, found.certain, found.tried) == (True, True, 128)


def test_a_learner_that_fails_proves_nothing():
    points = RNG.standard_normal((8, 2))
    found = shatters(points, LearnerOracle(make=lambda: DecisionTreeClassifier(max_depth=1)))
    assert not found.shattered
    assert not found.certain
    assert len(np.unique(found.missing)) == 2


def test_a_search_proves_a_dimension():
    points = RNG.standard_normal((40, 3))
    stump = LearnerOracle(make=lambda: DecisionTreeClassifier(max_depth=1, splitter="best"))
    found = find_shattered(points, stump, vc_stump(3).upper, tries=400, generator=torch.Generator().manual_seed(0))
    assert len(found.indices) == 4
    assert shatters(points[list(found.indices)], stump).shattered
    none = find_shattered(points, Halfspaces(), 5, tries=20, generator=torch.Generator().manual_seed(0))
    assert (none.indices, none.tried) == (None, 20)


@pytest.mark.parametrize(("m", "sided", "dimension"), [(6, False, 1), (6, True, 2), (2, True, 2)])
def test_thresholds_exactly(m, sided, dimension):
    cuts = Stumps(points=np.arange(float(m)), two_sided=sided)._cuts
    rows = np.r_[cuts, 1 - cuts] if sided else cuts
    assert vc_of_labellings(rows) == dimension
    assert len(np.unique(rows, axis=0)) <= sauer_shelah(m, dimension)


def test_sauers_lemma_on_random_classes():
    for seed in range(30):
        table = np.random.default_rng(seed).integers(0, 2, (2 + seed, 6))
        d = vc_of_labellings(table)
        assert len(np.unique(table, axis=0)) <= sauer_shelah(6, d)
        assert 2**d <= len(table)


def test_all_labellings_have_the_dimension_of_their_points():
    assert vc_of_labellings([list(map(int, f"{i:05b}")) for i in range(32)]) == 5
    assert vc_of_labellings([[1, 1, 1]]) == 0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: shatters(np.zeros((0, 2)), Halfspaces()), "points must be a matrix of finite numbers"),
        (lambda: shatters([[math.nan]], Halfspaces()), "points must be a matrix of finite numbers"),
        (lambda: shatters(np.zeros((21, 2)), Halfspaces()), "21 points have too many labellings to try; at most 20"),
        (lambda: find_shattered(np.zeros((3, 2)), Halfspaces(), 4, generator=torch.Generator()), "at most 3 for 3"),
        (lambda: find_shattered(np.zeros((3, 2)), Halfspaces(), 0, generator=torch.Generator()), "size must be at"),
        (lambda: vc_of_labellings([[0, 1, 2]]), "labels are of two kinds, got 3"),
        (lambda: vc_of_labellings([]), "labellings must be a matrix"),
    ],
)
def test_what_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
