"""Rates: what the tutorial calls an upper bound and is not one, on the runs that show it."""

import math

import numpy as np
import pytest

from theorylens.dynamics import Problem, State, convergence_bound, convergence_diagnostic, observed_rate


def test_nonconvex_rate_is_not_violated_by_the_square_root_of_one_plus_x_squared(golden):
    """L/sqrt(t) leaves the distance to the minimum out: at x0 = 1000 the run stays ten times above it."""
    observed, tutorial, valid = golden("G6.3-5")
    x, norms = 1000.0, []
    for _ in range(100):
        norms.append(abs(x / math.sqrt(1 + x**2)))
        x -= x / math.sqrt(1 + x**2)
    problem = Problem(smoothness=1.0, gap=math.sqrt(1 + 1000.0**2) - 1)
    bound = convergence_bound("gd", "nonconvex", 100, problem)
    assert min(norms) == pytest.approx(observed, rel=1e-9)
    assert tutorial == 1 / math.sqrt(100) < observed  # theirs is violated
    assert bound.value == pytest.approx(valid, rel=1e-9)
    norms.append(abs(x / math.sqrt(1 + x**2)))
    for form in ("classic", "tight"):
        assert observed_rate(norms, "gd", "nonconvex", problem, form=form).violated_at is None


def accelerated(t):
    """Nesterov's method on x²/2 with L = 100 and constant momentum: f(x_t) - f*."""
    q = math.sqrt(1 / 100)
    x = y = 1.0
    gaps = [0.5]
    for _ in range(t):
        following = y - y / 100
        y = following + (1 - q) / (1 + q) * (following - x)
        x = following
        gaps.append(x**2 / 2)
    return gaps


def test_accelerated_rate_keeps_the_factor_that_its_proof_needs(golden):
    observed, tutorial, valid = golden("G6.3-7")
    gaps = accelerated(4)
    assert gaps[4] / gaps[0] == pytest.approx(observed, rel=1e-9)
    assert math.exp(-4 / 10) == pytest.approx(tutorial, rel=1e-9)
    assert observed > tutorial  # a "bound" that a run exceeds
    problem = Problem(smoothness=100.0, strong_convexity=1.0, gap=0.5, distance=1.0)
    assert convergence_bound("nag", "strongly convex", 4, problem).value / 0.5 == pytest.approx(valid, rel=1e-9)
    assert observed_rate(accelerated(200), "nag", "strongly convex", problem).violated_at is None


def test_an_unknown_algorithm_is_no_silent_rate():
    with pytest.raises(ValueError, match="no guarantee is known here for algorithm 'adam'"):
        convergence_bound("adam", "convex", 10, Problem(smoothness=1.0, distance=1.0))


def test_a_condition_number_below_one_and_no_steps_are_refused():
    with pytest.raises(ValueError, match=r"condition number 0\.1 lies below 1"):
        Problem(smoothness=0.1, strong_convexity=1.0)
    with pytest.raises(ValueError, match="at least 1 step, got t=0"):
        convergence_bound("gd", "convex", 0, Problem(smoothness=1.0, distance=1.0))


def test_a_rate_without_its_constants_is_refused():
    with pytest.raises(ValueError, match="needs distance"):
        convergence_bound("gd", "convex", 10, Problem(smoothness=1.0))


def test_the_stochastic_rate_depends_on_the_gradients_and_on_strong_convexity():
    values = [
        convergence_bound("sgd", "strongly convex", 100, Problem(strong_convexity=mu, gradient_bound=g)).value
        for mu, g in ((1.0, 1.0), (0.1, 1.0), (1.0, 10.0))
    ]
    assert values[1:] == pytest.approx([10 * values[0], 100 * values[0]])


def test_the_convex_column_of_the_table_is_implemented():
    problem = Problem(smoothness=2.0, distance=3.0, gradient_bound=1.0)
    found = [convergence_bound(name, "convex", 16, problem).value for name in ("gd", "nag", "ogm", "sgd")]
    assert found[2] < found[1] < found[0] < found[3]


def test_the_gradient_norm_of_sgd_and_of_gradient_descent_are_not_the_same_quantity():
    """One falls as t^(-1/2), the other as t^(-1/4): only their squares compare."""
    problem = Problem(smoothness=1.0, gap=1.0, noise=100.0)
    gd, sgd = ([convergence_bound(name, "nonconvex", t, problem) for t in (10**6, 10**8)] for name in ("gd", "sgd"))
    assert "|∇f|" in gd[0].quantity
    assert "²" not in gd[0].quantity
    assert "|∇f|²" in sgd[0].quantity
    assert gd[0].value / gd[1].value == pytest.approx(10)
    assert np.sqrt(sgd[0].value / sgd[1].value) == pytest.approx(math.sqrt(10), rel=1e-3)


def test_convergence_is_not_an_absolute_threshold_on_the_gradient():
    """There: converged when |g| < 1e-6, which noise never allows and a plateau does."""
    rng = np.random.default_rng(0)
    t = np.arange(400)
    noisy = 1.0 + 0.01 * rng.standard_normal(400)  # at rest, with gradients of order one
    products = -0.2 + rng.standard_normal(2000)
    assert convergence_diagnostic(noisy, products=products).state is State.OSCILLATING
    plateau = np.exp(-1e-7 * t)  # gradients below any threshold, and still descending
    assert convergence_diagnostic(plateau).state is State.DESCENDING


def test_a_record_of_one_loss_has_no_convergence_to_speak_of():
    with pytest.raises(ValueError, match="needed are 8 records in the last half"):
        convergence_diagnostic([1.0])
