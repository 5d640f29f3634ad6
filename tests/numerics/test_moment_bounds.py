"""What moments leave open: against measures that are known, and against the extremal ones."""

import itertools

import numpy as np
import pytest
from scipy.linalg import eigh_tridiagonal
from scipy.optimize import linprog

from theorylens.numerics.moment_bounds import jacobi, mass_below


def lanczos_rule(x, mass, steps):
    """Gauss rule of a discrete measure, by Lanczos written out."""
    basis, diagonal, off = [np.sqrt(mass)], [], []
    for _ in range(steps):
        rest = x * basis[-1]
        diagonal.append(rest @ basis[-1])
        for _ in range(2):
            rest = rest - np.array(basis).T @ (np.array(basis) @ rest)
        off.append(np.linalg.norm(rest))
        basis.append(rest / off[-1])
    values, columns = eigh_tridiagonal(np.array(diagonal), np.array(off[:-1]))
    return values, columns[0] ** 2


def measure(rng):
    """A bulk of many scales around zero, some outliers, random weights: as a start sees a Hessian."""
    x = np.sort(np.concatenate([rng.normal(size=150) * 10.0 ** rng.uniform(-3, 0, 150), rng.uniform(1, 30, 12)]))
    mass = rng.normal(size=len(x)) ** 2
    return x, mass / mass.sum()


@pytest.mark.parametrize("steps", [2, 8, 25])
def test_bounds_hold_for_every_measure_and_point(steps):
    rng = np.random.default_rng(0)
    for _ in range(40):
        x, mass = measure(rng)
        nodes, weights = lanczos_rule(x, mass, steps)
        for at in [*rng.uniform(-2, 31, 8), 0.0, 1e-3, -1e-3, x[3], nodes[1], -50.0, 60.0]:
            lower, upper = mass_below(nodes, weights, float(at))
            assert lower <= mass[x < at].sum() + 1e-10
            assert mass[x <= at].sum() <= upper + 1e-10


def test_no_bounds_are_better():
    """The largest and smallest mass over all measures on a fine grid with the same moments: a linear programme."""
    rng = np.random.default_rng(1)
    x = np.sort(rng.uniform(-1, 1, 30))
    mass = np.full(30, 1 / 30)
    nodes, weights = lanczos_rule(x, mass, 4)
    at = 0.2
    grid = np.append(np.linspace(-4, 4, 4001), at)
    moments = np.stack([grid**k for k in range(7)])  # 0 to 2 m - 2
    wanted = [float(mass @ x**k) for k in range(7)]
    lower, upper = mass_below(nodes, weights, at)
    most = linprog(-(grid <= at).astype(float), A_eq=moments, b_eq=wanted, bounds=(0, None))
    least = linprog((grid < at).astype(float), A_eq=moments, b_eq=wanted, bounds=(0, None))
    assert -most.fun == pytest.approx(upper, abs=2e-3)
    assert least.fun == pytest.approx(lower, abs=2e-3)


def test_more_moments_leave_less_open():
    x, mass = measure(np.random.default_rng(2))
    gaps = [np.diff(mass_below(*lanczos_rule(x, mass, steps), -1e-3))[0] for steps in (2, 4, 8, 16, 32)]
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(gaps))
    assert gaps[-1] < 0.6 * gaps[0]


def test_the_tridiagonal_matrix_has_the_rule():
    x, mass = measure(np.random.default_rng(3))
    nodes, weights = lanczos_rule(x, mass, 12)
    order = np.random.default_rng(4).permutation(12)
    values, columns = eigh_tridiagonal(*jacobi(nodes[order], weights[order]))
    np.testing.assert_allclose(values, nodes, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(columns[0] ** 2, weights, rtol=1e-7, atol=1e-14)


def test_a_single_node_says_nothing():
    assert mass_below(np.array([2.0]), np.array([1.0]), 5.0) == (0.0, 1.0)
