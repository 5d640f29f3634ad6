"""Local complexities: exact suprema against a general solver, and the laws between levels."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from theorylens.generalization import KernelBall, LocalKernelBall, fixed_point, rademacher

RNG = np.random.default_rng(0)
POINTS = RNG.standard_normal((7, 4)) * [3.0, 1.0, 0.3, 0.1]
GRAM = POINTS @ POINTS.T


@pytest.mark.parametrize(("level", "radius"), [(0.05, 1.0), (0.5, 1.0), (0.5, 3.0), (50.0, 1.0)])
def test_suprema_agree_with_a_general_solver(level, radius):
    signs = 1.0 - 2.0 * RNG.integers(0, 2, (6, 7))
    found = LocalKernelBall(gram=GRAM, level=level, radius=radius).suprema(signs)
    for row, value in zip(signs, found, strict=True):
        constraints = [
            {"type": "ineq", "fun": lambda w: radius**2 - w @ w, "jac": lambda w: -2 * w},
            {"type": "ineq", "fun": lambda w: level - np.mean((POINTS @ w) ** 2),
             "jac": lambda w: -2 * POINTS.T @ (POINTS @ w) / 7},
        ]  # fmt: skip
        goal = POINTS.T @ row
        best = minimize(lambda w, g=goal: -(g @ w), np.full(4, 1e-3), jac=lambda w, g=goal: -g, constraints=constraints,
                        method="SLSQP", options={"maxiter": 500, "ftol": 1e-14})  # fmt: skip
        assert value == pytest.approx(-best.fun, rel=1e-5)


def test_it_grows_from_nothing_to_the_whole_ball():
    levels = (1e-6, 1e-3, 0.1, 1.0, 100.0)
    values = [rademacher(LocalKernelBall(gram=GRAM, level=r)).value for r in levels]
    assert values == sorted(values)
    assert values[0] < 1e-2
    assert values[-1] == pytest.approx(rademacher(KernelBall(gram=GRAM)).value, rel=1e-9)
    for r, value in zip(levels, values, strict=True):
        assert value <= LocalKernelBall(gram=GRAM, level=r).bound * (1 + 1e-12)
        assert value <= math.sqrt(r) * (1 + 1e-12)  # Cauchy-Schwarz


def test_one_level_is_its_own_bound():
    r = fixed_point(GRAM, radius=2.0)
    assert LocalKernelBall(gram=GRAM, level=r, radius=2.0).bound == pytest.approx(r, rel=1e-9)
    assert fixed_point(np.zeros((3, 3))) == 0
    assert fixed_point(GRAM[:4, :4]) > 0


def test_it_can_be_drawn_for_many_points():
    points = RNG.standard_normal((40, 3))
    ball = LocalKernelBall(gram=points @ points.T, level=0.1)
    found = rademacher(ball, draws=300, generator=torch.Generator().manual_seed(0))
    assert found.value <= ball.bound
    assert found.lower < found.value < found.upper


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: LocalKernelBall(gram=GRAM, level=0.0), "level must be a finite number above 0"),
        (lambda: LocalKernelBall(gram=GRAM, level=1.0, radius=-1.0), "radius must be a finite number above 0"),
        (lambda: LocalKernelBall(gram=[[0.0, 1.0], [1.0, 0.0]], level=1.0), "no negative eigenvalue"),
    ],
)
def test_what_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
