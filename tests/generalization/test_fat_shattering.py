"""Fat-shattering by theorem and by programme: golden value, a twin by another solver, laws, what is refused."""

import itertools
import math

import numpy as np
import pytest
from scipy import optimize

from theorylens.generalization import fat_shattered, fat_shattering, largest_shattered


def test_golden_value(golden):
    assert fat_shattering(1.0, 1.0, 0.5) == golden("G1.3-6")
    assert fat_shattered(np.eye(6)[:4], 1.0, 0.5).shattered  # orthonormal points attain it
    assert not fat_shattered(np.eye(6)[:4], 1.0, 0.501).shattered
    assert not fat_shattered(np.eye(6)[:5], 1.0, 0.5).shattered


def test_scale_moves_the_answer_and_dimension_only_caps_it():
    assert fat_shattering(100.0, 1.0, 50.0) == fat_shattering(1.0, 1.0, 0.5) == 4
    assert fat_shattering(10.0, 1.0, 0.5) == 400
    assert fat_shattering(10.0, 1.0, 0.5, dimension=7) == 7
    assert fat_shattering(1.0, 1.0, 1.5) == 0


def test_no_set_of_points_beats_the_theorem_and_some_attain_it():
    rng = np.random.default_rng(0)
    for _ in range(20):
        x = rng.normal(size=(7, 5))
        radius = float(np.linalg.norm(x, axis=1).max())
        for margin in (0.3, 0.8):
            assert len(largest_shattered(x, 1.0, margin)) <= fat_shattering(radius, 1.0, margin, dimension=5)
    assert largest_shattered(3 * np.eye(9), 1.0, 1.0) == tuple(range(9))


def least_norm_by_another_solver(rows, least=1.0):
    """min |w| with rows @ w >= least as a general constrained programme."""
    feasible = optimize.linprog(
        np.zeros(rows.shape[1]), A_ub=-rows, b_ub=-np.ones(len(rows)) * least, bounds=(None, None)
    )
    if not feasible.success:
        return math.inf
    found = optimize.minimize(
        lambda w: w @ w, feasible.x, jac=lambda w: 2 * w, method="SLSQP",
        constraints={"type": "ineq", "fun": lambda w: rows @ w - least, "jac": lambda w: rows},
        options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    return math.sqrt(found.fun)


def test_the_hardest_pattern_agrees_with_another_solver():
    rng = np.random.default_rng(1)
    for m, d in ((3, 5), (4, 4), (5, 3)):
        x = rng.normal(size=(m, d))
        norms = [
            least_norm_by_another_solver(np.array(s)[:, None] * x) for s in itertools.product((-1.0, 1.0), repeat=m)
        ]
        found = fat_shattered(x, 1.0, 1.0)
        assert found.norm == pytest.approx(max(norms), rel=1e-6)
        assert least_norm_by_another_solver(found.pattern[:, None] * x) == pytest.approx(found.norm, rel=1e-6)


def test_levels_other_than_zero_do_not_help():
    x, rng = np.random.default_rng(4).normal(size=(3, 4)), np.random.default_rng(5)
    at_zero = fat_shattered(x, 1.0, 1.0).norm
    for _ in range(10):
        levels = rng.normal(size=3) * 0.5
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
        hardest = max(least_norm_by_another_solver(s[:, None] * x, 1 + s * levels) for s in signs)
        assert hardest >= at_zero * (1 - 1e-6)


def test_rotating_the_points_changes_nothing():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(5, 6))
    q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert fat_shattered(x @ q, 1.0, 0.3).norm == pytest.approx(fat_shattered(x, 1.0, 0.3).norm, rel=1e-9)
    assert fat_shattered(100 * x, 1.0, 30.0).norm == pytest.approx(fat_shattered(x, 1.0, 0.3).norm, rel=1e-9)
    assert math.isinf(fat_shattered(np.zeros((1, 3)), 1.0, 0.1).norm)


def test_largest_agrees_with_trying_every_subset():
    x = np.random.default_rng(3).normal(size=(6, 3))
    every = [
        s
        for size in range(1, 7)
        for s in itertools.combinations(range(6), size)
        if fat_shattered(x[list(s)], 1.0, 0.4).shattered
    ]
    assert largest_shattered(x, 1.0, 0.4) == min(s for s in every if len(s) == max(map(len, every)))
    assert largest_shattered(x, 1.0, 100.0) == ()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: fat_shattering(1.0, 1.0, 0.0), "margin must be positive, got 0.0"),
        (lambda: fat_shattering(1.0, 1.0, -0.5), "margin must be positive"),
        (lambda: fat_shattering(-1.0, 1.0, 0.5), "radius must be finite and at least 0"),
        (lambda: fat_shattering(1.0, float("nan"), 0.5), "norm must be finite"),
        (lambda: fat_shattering(1.0, 1.0, 0.5, dimension=0), "dimension must be"),
        (lambda: fat_shattered(np.eye(13), 1.0, 0.5), r"13 points have 2\^12 sign patterns"),
        (lambda: fat_shattered(np.eye(2), 0.0, 0.5), "must be positive and finite"),
        (lambda: fat_shattered(np.zeros(3), 1.0, 0.5), "finite matrix"),
        (lambda: largest_shattered(np.eye(13), 1.0, 0.5), "at most 12 points, got 13"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()
