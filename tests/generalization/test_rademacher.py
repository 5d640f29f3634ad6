"""Rademacher complexities: closed forms, enumeration by the definition, intervals that cover, each refusal."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from theorylens.generalization import (
    FiniteClass,
    KernelBall,
    L1Ball,
    L2Ball,
    Searched,
    Stumps,
    gaussian_complexity,
    massart,
    rademacher,
    rademacher_bound,
)

RNG = np.random.default_rng(0)
POINTS = RNG.standard_normal((6, 3))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def by_definition(values):
    """Mean over all signs of the best function's correlation, in plain loops."""
    m = values.shape[1]
    total = 0.0
    for signs in itertools.product((-1, 1), repeat=m):
        total += max(sum(s * v for s, v in zip(signs, row, strict=True)) for row in values)
    return total / 2**m / m


def test_unit_ball_of_linear_functions(golden):
    square, triangle, upper = golden("G1.2-3")
    three = L2Ball(points=[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert rademacher(L2Ball(points=np.eye(2))).value == pytest.approx(square, rel=1e-9)
    assert rademacher(three).value == pytest.approx(triangle, rel=1e-9)
    assert three.bound == pytest.approx(upper, rel=1e-9)
    four = L2Ball(points=[[1.0, 0.0], [0.0, 2.0], [2.0, 1.0], [-1.0, 1.0]])
    assert rademacher(four).value == pytest.approx(0.78353944107785, rel=1e-12)


def test_thresholds(golden):
    one, two, bound = golden("G1.2-4"), golden("G1.2-5"), golden("G1.2-6")
    for i, m in enumerate((2, 3, 4, 8)):
        points = RNG.permutation(m).astype(float)
        assert rademacher(Stumps(points=points, two_sided=False)).value == pytest.approx(one[i], rel=1e-9)
        assert rademacher(Stumps(points=points)).value == pytest.approx(two[i], rel=1e-9)
        assert Stumps(points=points, two_sided=False).bound == pytest.approx(bound[i], rel=1e-9)
        assert massart(m + 1, m, math.sqrt(m)) == pytest.approx(bound[i], rel=1e-9)


def test_a_single_function_has_none(golden):
    exact, wrong = golden("G1.2-7")
    one = FiniteClass(values=RNG.choice([-1.0, 1.0], (1, 10)))
    assert rademacher(one).value == pytest.approx(exact, abs=1e-15)
    assert one.bound == 0
    with_zero = FiniteClass(values=np.r_[np.ones((1, 10)), np.zeros((1, 10))])  # the maximum started at 0
    assert rademacher(with_zero).value == pytest.approx(wrong, rel=1e-9)


def test_the_bound_from_the_vc_dimension(golden):
    assert rademacher_bound(1000, 100) == pytest.approx(golden("G1.2-8"), rel=1e-9)
    for m, value in ((1000, 0.8127219811), (10**4, 0.3348184638), (10**5, 0.1257597335)):  # S1.2-3
        assert rademacher_bound(m, 100) == pytest.approx(value, rel=1e-9)
        assert rademacher_bound(m, 100, growth="exact") < value
    assert rademacher_bound(101, 100) == rademacher_bound(5, 100) == 1.0


@pytest.mark.parametrize("m", [3, 5, 8])
def test_thresholds_lie_below_the_bound_of_their_dimension(m):
    points = np.arange(float(m))
    assert rademacher(Stumps(points=points, two_sided=False)).value <= rademacher_bound(m, 1)
    assert rademacher(Stumps(points=points)).value <= rademacher_bound(m, 2)


def functions_of(kind):
    """The class, and values of so many of its functions that their best is nearly the supremum."""
    if kind == "finite":
        values = RNG.standard_normal((5, 6))
        return FiniteClass(values=values), values
    if kind == "l1":
        corners = np.r_[np.eye(3), -np.eye(3)]
        return L1Ball(points=POINTS, radius=2.0), 2.0 * corners @ POINTS.T
    if kind == "stumps":
        rows = [s * np.where(POINTS[:, j] >= t, 1.0, -1.0) for j in range(3) for t in [*POINTS[:, j], 9.0]
                for s in (1, -1)]  # fmt: skip
        return Stumps(points=POINTS), np.array(rows)
    directions = RNG.standard_normal((200_000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    ball = L2Ball(points=POINTS) if kind == "l2" else KernelBall(gram=POINTS @ POINTS.T)
    return ball, directions @ POINTS.T


@pytest.mark.parametrize(("kind", "tolerance"), [("finite", 1e-12), ("l1", 1e-12), ("stumps", 1e-12), ("l2", 1e-3)])
def test_suprema_agree_with_the_definition(kind, tolerance):
    functions, values = functions_of(kind)
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=6)))
    assert functions.suprema(signs) == pytest.approx((signs @ values.T).max(1), rel=tolerance)
    if len(values) < 100:
        assert rademacher(functions).value == pytest.approx(by_definition(values), rel=1e-12)


def test_a_kernel_ball_is_the_ball_of_its_features():
    kernel, plain = KernelBall(gram=POINTS @ POINTS.T, radius=3.0), L2Ball(points=POINTS, radius=3.0)
    assert rademacher(kernel).value == pytest.approx(rademacher(plain).value, rel=1e-12)
    assert kernel.bound == pytest.approx(plain.bound)
    assert kernel.reach == pytest.approx(plain.reach)


@pytest.mark.parametrize("kind", ["finite", "l1", "stumps", "l2", "kernel"])
def test_every_closed_form_bounds_the_exact_value_and_reach_the_functions(kind):
    functions, values = functions_of(kind)
    assert rademacher(functions).value <= functions.bound * (1 + 1e-12)
    assert (np.abs(values).max(0) <= functions.reach * (1 + 1e-12)).all()


@given(st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_it_scales_and_does_not_shift(m, seed):
    values = np.random.default_rng(seed).standard_normal((4, m))
    value = rademacher(FiniteClass(values=values)).value
    shift = np.random.default_rng(seed + 1).standard_normal(m)
    assert rademacher(FiniteClass(values=values + shift)).value == pytest.approx(value, abs=1e-12)
    assert rademacher(FiniteClass(values=-3 * values)).value == pytest.approx(3 * value, abs=1e-12)
    assert value >= -1e-15


def test_equal_points_are_not_parted():
    tied = Stumps(points=[1.0, 1.0, 2.0], two_sided=False)
    assert tied.count == 3
    assert rademacher(tied).value == pytest.approx(by_definition(np.array([[1, 1, 1], [-1, -1, 1], [-1, -1, -1.0]])))


def test_drawn_signs_agree_with_all_signs():
    points = RNG.standard_normal((20, 4))
    exact = np.mean(
        [np.linalg.norm(s @ points[:16]) for s in 1.0 - 2.0 * (np.arange(2**16)[:, None] >> np.arange(16) & 1)]
    )
    assert rademacher(L2Ball(points=points[:16])).value == pytest.approx(exact / 16, rel=1e-12)
    found = rademacher(L2Ball(points=points), draws=20_000, generator=rng())
    assert found.upper - found.lower < 0.12
    assert found.value < L2Ball(points=points).bound
    again = rademacher(L2Ball(points=points), draws=20_000, generator=rng())
    assert again == found


def test_the_radius_is_mcdiarmids():
    """One sign moves the mean over T draws by at most 2 reach_i / (m T)."""
    points = RNG.standard_normal((18, 2))
    found = rademacher(L2Ball(points=points, radius=2.0), draws=100, generator=rng(), delta=0.1)
    radius = math.sqrt(2 * math.log(2 / 0.1) * 4 * np.sum(points**2) / 100) / 18
    assert found.upper - found.value == pytest.approx(radius, rel=1e-9)
    assert found.value - found.lower == pytest.approx(radius, rel=1e-9)


@pytest.mark.slow
def test_the_interval_of_drawn_signs_covers():
    points = RNG.standard_normal((17, 2))
    codes = 1.0 - 2.0 * (np.arange(2**17)[:, None] >> np.arange(17) & 1)
    truth = float(np.linalg.norm(codes @ points, axis=1).mean() / 17)
    generator, covered = rng(1), 0
    for _ in range(2000):
        found = rademacher(L2Ball(points=points), draws=20, generator=generator, delta=0.1)
        covered += found.lower <= truth <= found.upper
    assert stats.binom.cdf(covered, 2000, 0.9) >= 1e-4


def test_normal_weights_bound_signs():
    for functions in (L2Ball(points=POINTS), Stumps(points=POINTS), L1Ball(points=POINTS)):
        gaussian = gaussian_complexity(functions, draws=20_000, generator=rng())
        assert rademacher(functions).value <= math.sqrt(math.pi / 2) * gaussian.upper
    ball = gaussian_complexity(L2Ball(points=np.eye(4)), draws=50_000, generator=rng())
    assert ball.lower <= stats.chi(4).mean() / 4 <= ball.upper


def test_a_search_is_a_lower_estimate():
    stumps = Stumps(points=POINTS)
    searched = rademacher(Searched(fit=lambda s: np.sign(s.sum() + 0.5) * np.ones(6), m=6), draws=500, generator=rng())
    assert searched.upper == math.inf
    assert searched.lower == pytest.approx(searched.value - 2 * math.sqrt(math.log(20) / 1000), abs=1e-12)
    assert "lower estimate" in searched.uncertainty.method.render()
    assert searched.value < rademacher(stumps).value


def test_a_network_that_can_learn_all_signs_reaches_one():
    x = torch.randn(12, 4, generator=rng())

    def fit(signs):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
        step = torch.optim.Adam(net.parameters(), 0.02)
        target = torch.as_tensor(signs, dtype=torch.float32)
        for _ in range(150):
            step.zero_grad()
            torch.nn.functional.soft_margin_loss(net(x)[:, 0], target).backward()
            step.step()
        return net(x)[:, 0].detach().sign().numpy()

    found = rademacher(Searched(fit=fit, m=12), draws=3, generator=rng())
    assert found.value == 1.0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: L2Ball(points=np.zeros((0, 2))), "points must be a matrix with at least one row"),
        (lambda: L2Ball(points=[[math.nan]]), "points must be finite, got 1 values that are not"),
        (lambda: L2Ball(points=POINTS, radius=0.0), "radius must be a finite number above 0, got 0"),
        (lambda: L1Ball(points=POINTS, radius=-1.0), "radius must be a finite number above 0"),
        (lambda: FiniteClass(values=[1.0, 2.0]), "values must be a matrix"),
        (lambda: KernelBall(gram=[[1.0, 0.0], [0.5, 1.0]]), "square and symmetric"),
        (lambda: KernelBall(gram=[[0.0, 1.0], [1.0, 0.0]]), "no negative eigenvalue, got -1"),
        (lambda: rademacher(L2Ball(points=np.eye(20))), "20 points have too many signs to try all; give generator="),
        (lambda: rademacher(L2Ball(points=np.eye(20)), draws=0, generator=rng()), "draws must be at least 1"),
        (lambda: rademacher(Searched(fit=lambda s: 2 * s, m=4), generator=rng()), "values beyond largest = 1"),
        (lambda: rademacher(Searched(fit=lambda s: s[:2], m=4), generator=rng()), "one value per point"),
        (lambda: gaussian_complexity(Searched(fit=lambda s: s, m=4), generator=rng()), "a search gives none"),
        (lambda: massart(0, 10, 1.0), "count must be at least 1"),
        (lambda: massart(4, 10, -1.0), "max_norm must be finite and at least 0"),
        (lambda: rademacher_bound(0, 1), "m must be at least 1"),
        (lambda: rademacher_bound(10, 0), "d must be at least 1"),
    ],
)
def test_what_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_massart_of_the_research_notes():
    assert massart(64, 50, math.sqrt(50)) == pytest.approx(0.40786679606752, rel=1e-12)
