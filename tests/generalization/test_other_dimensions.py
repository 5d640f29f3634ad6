"""Natarajan and pseudo-dimension against definitions, VC dimensions and, for linear classes, linear programmes."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from theorylens.generalization import (
    natarajan_linear,
    natarajan_of_labellings,
    pseudo_dimension,
    vc_linear,
    vc_of_labellings,
)


def natarajan_by_definition(table):
    m = table.shape[1]
    for d in range(m, 0, -1):
        for points in itertools.combinations(range(m), d):
            rows = {tuple(row) for row in table[:, points]}
            for f in rows:
                for g in rows:
                    if all(a != b for a, b in zip(f, g, strict=True)) and all(
                        tuple(np.where(choice, f, g)) in rows for choice in itertools.product((0, 1), repeat=d)
                    ):
                        return d
    return 0


def pseudo_by_definition(values):
    m = values.shape[1]
    for d in range(m, 0, -1):
        for points in itertools.combinations(range(m), d):
            for levels in itertools.product(*(np.unique(values[:, j]) for j in points)):
                if len({tuple(row) for row in values[:, points] >= np.array(levels)}) == 2**d:
                    return d
    return 0


def test_both_agree_with_their_definitions_on_random_classes():
    rng = np.random.default_rng(0)
    seen_natarajan, seen_pseudo = set(), set()
    for count in (1, 2, 5, 9, 20):
        for m in (1, 3, 4):
            labels = rng.integers(0, 3, (count, m))
            values = rng.integers(0, 4, (count, m)) / 3
            assert natarajan_of_labellings(labels) == natarajan_by_definition(labels)
            assert pseudo_dimension(values) == pseudo_by_definition(values)
            seen_natarajan.add(natarajan_of_labellings(labels))
            seen_pseudo.add(pseudo_dimension(values))
    assert {0, 1, 2} <= seen_natarajan
    assert {0, 1, 2} <= seen_pseudo


def test_with_two_answers_both_are_the_vc_dimension():
    rng = np.random.default_rng(1)
    for count in (2, 6, 15, 40):
        table = rng.integers(0, 2, (count, 6))
        assert natarajan_of_labellings(table) == pseudo_dimension(table) == vc_of_labellings(table)
    assert natarajan_of_labellings([["a", "b"], ["b", "a"]]) == 1


def answers(points, labels, classes):
    """Whether some affine scores give every point its label, strictly: a linear programme."""
    m, d = points.shape
    rows = []
    for x, y in zip(np.c_[points, np.ones(m)], labels, strict=True):
        for other in set(range(classes)) - {int(y)}:
            row = np.zeros((classes, d + 1))
            row[other], row[y] = x, -x
            rows.append(row.ravel())
    found = linprog(np.zeros(classes * (d + 1)), np.array(rows), -np.ones(len(rows)), bounds=(None, None))
    return found.status == 0


@pytest.mark.parametrize(("d", "classes"), [(1, 3), (2, 3)])
def test_linear_classes_lie_between_their_limits(d, classes):
    """All labellings of random points that affine scores give, by programme: the dimension there is within limits."""
    limits = natarajan_linear(d, classes)
    points = np.random.default_rng(2).standard_normal((limits.lower + 1, d))
    every = itertools.product(range(classes), repeat=len(points))
    made = [labels for labels in every if answers(points, np.array(labels), classes)]
    assert limits.lower <= natarajan_of_labellings(made) <= limits.upper
    assert limits.upper == (classes - 1) * (d + 1)


def test_two_classes_are_halfspaces():
    for d in (1, 2, 7):
        for bias in (True, False):
            found = natarajan_linear(d, 2, bias=bias)
            assert found.lower == found.upper == vc_linear(d, bias=bias).upper


def test_affine_functions_have_their_number_of_weights_as_pseudo_dimension():
    rng = np.random.default_rng(3)
    x = np.linspace(-1, 1, 4)
    many = np.clip(np.round(3 * rng.standard_normal((300, 2)) @ np.stack([x, np.ones(4)])), -4, 4)
    assert pseudo_dimension(many[:3]) < pseudo_dimension(many) == vc_linear(1).upper == 2


def test_refusals():
    for call in (natarajan_of_labellings, pseudo_dimension):
        with pytest.raises(ValueError, match="must be a matrix with a row per function"):
            call([1, 2])
    with pytest.raises(ValueError, match="values must be finite"):
        pseudo_dimension([[np.nan]])
    with pytest.raises(ValueError, match="classes must be at least 2"):
        natarajan_linear(3, 1)
    with pytest.raises(ValueError, match="features must be at least 1"):
        natarajan_linear(0, 3)
