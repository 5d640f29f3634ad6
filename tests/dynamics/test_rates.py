"""Rates against closed forms, worst cases that attain them, and real runs that must obey them."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.dynamics import (
    ALGORITHMS,
    Problem,
    convergence_bound,
    gradient_bound_from_decrease,
    measured_problem,
    observed_rate,
    sgd_step,
)


def value(algorithm, setting, t, form="classic", **constants):
    return convergence_bound(algorithm, setting, t, Problem(**constants), form=form).value


def test_strongly_convex_factors(golden):
    classic = {"smoothness": 100.0, "strong_convexity": 1.0, "gap": 1.0}
    start = 1.0 + 0.5 * 1.0 * 2.0**2
    found = [
        value("gd", "strongly convex", 100, **classic),
        value("gd_optimal", "strongly convex", 100, distance=1.0, **classic) / (100 * 1.0**2 / 2),
        value("nag", "strongly convex", 100, distance=2.0, **classic) / start,
    ]
    assert found == pytest.approx(golden("G6.3-1"), rel=1e-9)


def test_smooth_convex_constants(golden):
    unit = {"smoothness": 1.0, "distance": 1.0}
    found = [
        value("gd", "convex", 10, **unit),
        value("gd", "convex", 10, "tight", **unit),
        value("nag", "convex", 10, **unit),
    ]
    assert found == pytest.approx(golden("G6.3-2"), rel=1e-9)


def test_stochastic_constants(golden):
    found = [
        value("sgd", "convex", 100, distance=1.0, gradient_bound=1.0),
        value("sgd", "strongly convex", 100, gradient_bound=1.0, strong_convexity=1.0),
    ]
    assert found == pytest.approx(golden("G6.3-3"), rel=1e-9)


def test_nonconvex_constants(golden):
    classic, tight, decrease = golden("G6.3-4")  # the last two stand there rounded
    assert value("gd", "nonconvex", 100, smoothness=4.0, gap=0.5) == pytest.approx(classic, rel=1e-9)
    assert value("gd", "nonconvex", 100, "tight", smoothness=4.0, gap=0.5) == pytest.approx(tight, abs=5e-9)
    assert gradient_bound_from_decrease(4.0, 0.5, 100) == pytest.approx(decrease, abs=5e-11)


def test_the_bare_factors_of_the_tutorial_lie_above_those_with_constants():
    """S6.3-1: e^{-t/κ} and 1/t, the factors without constants."""
    for t, gd, sgd in ((10, 0.9048374, 0.1), (100, 0.3678794, 0.01), (1000, 4.53999e-05, 0.001)):
        assert math.exp(-t / 100) == pytest.approx(gd, rel=1e-6)
        assert 1 / t == pytest.approx(sgd)
        ours = value("gd", "strongly convex", t, smoothness=100.0, strong_convexity=1.0, gap=1.0)
        assert ours <= gd
    for t, nesterov in ((10, 0.3678794), (100, 4.53999e-05), (1000, 3.72008e-44)):
        assert math.exp(-t / 10) == pytest.approx(nesterov, rel=1e-5)
        ours = value("nag", "strongly convex", t, smoothness=100.0, strong_convexity=1.0, gap=0.5, distance=1.0)
        assert ours / (0.5 + 0.5) <= nesterov


def descend(gradient, x, step, t):
    path = [x]
    for _ in range(t):
        path.append(path[-1] - step * gradient(path[-1]))
    return path


def test_the_tight_convex_constant_is_attained_by_a_huber_function():
    """Drori and Teboulle's worst case: linear beyond 1 / (2t + 1), quadratic inside."""
    t = 7
    kink = 1 / (2 * t + 1)
    huber = lambda x: kink * abs(x) - kink**2 / 2 if abs(x) >= kink else x**2 / 2  # noqa: E731
    path = descend(lambda x: max(-kink, min(kink, x)), 1.0, 1.0, t)
    tight = value("gd", "convex", t, "tight", smoothness=1.0, distance=1.0)
    assert huber(path[-1]) == pytest.approx(tight, rel=1e-12)
    assert huber(path[-1]) < value("gd", "convex", t, smoothness=1.0, distance=1.0)


def test_the_tight_strongly_convex_constants_are_attained_by_quadratics():
    kappa, t = 20.0, 6
    path = descend(lambda x: x, 1.0, 1 / kappa, t)  # µ = 1 along this direction
    tight = value("gd", "strongly convex", t, "tight", smoothness=kappa, strong_convexity=1.0, gap=0.5)
    assert path[-1] ** 2 / 2 == pytest.approx(tight, rel=1e-12)
    path = descend(lambda x: kappa * x, 1.0, 2 / (kappa + 1), t)
    tight = value("gd_optimal", "strongly convex", t, "tight", smoothness=kappa, strong_convexity=1.0, gap=kappa / 2)
    assert kappa * path[-1] ** 2 / 2 == pytest.approx(tight, rel=1e-12)


def ogm(gradient, x, smoothness, t):
    """Kim and Fessler (2016), algorithm OGM1."""
    y, theta = x, 1.0
    for i in range(t):
        following = x - gradient(x) / smoothness
        grown = (1 + math.sqrt(1 + (8 if i == t - 1 else 4) * theta**2)) / 2
        x = following + (theta - 1) / grown * (following - y) + theta / grown * (following - x)
        y, theta = following, grown
    return x


def test_the_optimised_gradient_method_attains_its_bound_on_a_quadratic_and_beats_nesterov():
    for t in (1, 4, 9):
        bound = value("ogm", "convex", t, smoothness=3.0, distance=2.0)
        end = ogm(lambda x: 3.0 * x, 2.0, 3.0, t)
        assert 1.5 * end**2 == pytest.approx(bound, rel=1e-10)
        assert bound < value("nag", "convex", t, smoothness=3.0, distance=2.0)
    many = [value(name, "convex", 10_000, smoothness=1.0, distance=1.0) for name in ("ogm", "nag")]
    assert many[0] / many[1] == pytest.approx(0.5, abs=1e-3)  # it halves the constant


def test_the_stochastic_nonconvex_step_minimises_its_bound():
    problem = Problem(smoothness=4.0, gap=0.5, noise=3.0, batch=2)
    best = convergence_bound("sgd", "nonconvex", 1000, problem)
    assert "E|∇f|²" in best.quantity
    for step in np.geomspace(1e-4, 1 / 4.0, 50):
        assert 2 * 0.5 / (step * 1000) + 4.0 * step * 3.0**2 / 2 >= best.value * (1 - 1e-12)
    assert sgd_step(Problem(smoothness=4.0, gap=0.5, noise=0.0), 10) == 0.25
    quiet = value("sgd", "nonconvex", 10, smoothness=4.0, gap=0.5, noise=0.0)
    assert quiet == pytest.approx(value("gd", "nonconvex", 10, smoothness=4.0, gap=0.5) ** 2)


def test_stochastic_runs_obey_their_bounds_on_average():
    """f = |x| with unit subgradients plus noise; and a noisy quadratic with its averaged iterate."""
    rng, t, runs = np.random.default_rng(0), 200, 400
    x = np.full(runs, 2.0)
    bound = math.sqrt(1 + 1.0)  # E|g|² = 1 + noise variance
    total = np.zeros(runs)
    for _ in range(t):
        total += x
        x = x - 2.0 / (bound * math.sqrt(t)) * (np.sign(x) + rng.standard_normal(runs))
    reached = np.abs(total / t).mean()
    assert reached <= value("sgd", "convex", t, distance=2.0, gradient_bound=bound)
    x, total, largest = np.full(runs, 1.0), np.zeros(runs), 0.0
    for k in range(t):
        g = x + rng.standard_normal(runs)
        largest = max(largest, float((g**2).mean()))
        total += (k + 1) * x
        x = x - 2 / (k + 2) * g
    mean = total / (t * (t + 1) / 2)
    reached = (mean**2 / 2).mean()
    limit = value("sgd", "strongly convex", t, strong_convexity=1.0, gradient_bound=math.sqrt(largest))
    assert 0.05 * limit < reached <= limit


def linear_run(steps, momentum=None):
    """Gradient descent on a real least-squares problem in float64, with its exact minimiser."""
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.standard_normal((60, 5)) * [1, 1, 0.7, 0.5, 0.3])
    y = torch.tensor(rng.standard_normal((60, 1)))
    model = nn.Linear(5, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0, 0.5, 3.0, -1.0]]))
    best = torch.linalg.lstsq(x, y).solution.T
    problem = measured_problem(model, (x, y), "mse", solution={"weight": best})
    hessian = 2 * x.T @ x / 60
    loss = lambda w: float(((x @ w.T - y) ** 2).mean())  # noqa: E731
    w = v = model.weight.detach().clone()
    gaps = [loss(w) - loss(best)]
    for _ in range(steps):
        following = v - (v @ hessian - 2 * (y.T @ x) / 60) / problem.smoothness
        v = following if momentum is None else following + momentum(problem) * (following - w)
        w = following
        gaps.append(max(loss(w) - loss(best), 0.0))
    return problem, gaps, torch.linalg.eigvalsh(hessian), (model.weight - best).norm()


def test_constants_measured_on_a_network_are_those_of_its_hessian_and_its_run_obeys_them():
    problem, gaps, eigenvalues, distance = linear_run(60)
    assert problem.smoothness == pytest.approx(float(eigenvalues[-1]), rel=1e-5)
    assert problem.strong_convexity == pytest.approx(float(eigenvalues[0]), rel=1e-4)
    assert problem.distance == pytest.approx(float(distance.detach()), rel=1e-9)
    assert problem.gap == pytest.approx(gaps[0], rel=1e-9)
    for setting in ("convex", "strongly convex"):
        for form in ("classic", "tight"):
            found = observed_rate(gaps, "gd", setting, problem, form=form)
            assert found.violated_at is None
            assert 0 < found.largest_share <= 1
    curve = found.curve()
    assert [line.role for line in curve.lines] == ["network", "theory"]
    assert curve.y_name.render() == "f(x_t) - f*"


def test_accelerated_runs_obey_their_guarantee():
    def momentum(problem):
        q = math.sqrt(1 / problem.condition)
        return (1 - q) / (1 + q)

    problem, gaps, _, _ = linear_run(60, momentum)
    assert observed_rate(gaps, "nag", "strongly convex", problem).violated_at is None
    assert gaps[-1] < linear_run(60)[1][-1]


def test_a_violated_bound_is_seen():
    problem = Problem(smoothness=1.0, distance=1.0)
    found = observed_rate([1.0, 0.2, 0.2, 0.01], "gd", "convex", problem, form="tight")
    assert found.violated_at == 1
    assert found.largest_share == pytest.approx(0.2 / 0.1)  # after 2 steps


def test_gradient_norms_are_compared_by_their_running_minimum():
    problem = Problem(smoothness=1.0, gap=1.0)
    norms = [1.0, 0.5, 0.8, 0.1]
    assert observed_rate(norms, "gd", "nonconvex", problem).measured.tolist() == [1.0, 0.5, 0.5]
    assert observed_rate(norms, "gd", "nonconvex", problem, form="tight").measured.tolist() == [0.5, 0.5, 0.1]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: value("adam", "convex", 1), "no guarantee is known here for algorithm 'adam'"),
        (lambda: value("ogm", "nonconvex", 1), "no 'nonconvex' guarantee for 'ogm' here; there are 'convex'"),
        (lambda: value("nag", "convex", 1, "tight"), "no tight convex constant for 'nag'"),
        (lambda: value("gd", "convex", 0, smoothness=1.0, distance=1.0), "at least 1 step, got t=0"),
        (lambda: value("gd", "convex", 1, smoothness=1.0), r"this bound needs distance; give Problem\(distance=...\)"),
        (lambda: Problem(smoothness=1.0, strong_convexity=2.0), r"the condition number 0\.5 lies below 1"),
        (lambda: Problem(smoothness=0.0), "smoothness must be a positive number, got 0.0"),
        (lambda: Problem(gap=-1.0), "gap must be a positive number, got -1.0"),
        (lambda: Problem(noise=-1.0), "noise must be a finite number, zero or more, got -1.0"),
        (lambda: Problem(batch=0), "batch must be at least 1, got 0"),
        (lambda: gradient_bound_from_decrease(1.0, 1.0, 0), "at least 1 step, got t=0"),
        (lambda: gradient_bound_from_decrease(0.0, 1.0, 1), "smoothness must be a positive number, got 0.0"),
        (lambda: gradient_bound_from_decrease(1.0, -1.0, 1), "must be zero or more, got -1.0"),
        (lambda: observed_rate([1.0], "gd", "convex", Problem()), "after at least 1 step"),
        (lambda: observed_rate([1.0, math.nan], "gd", "convex", Problem()), "at step 1 it is nan"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_unknown_words_are_refused(unchecked_shapes):
    with pytest.raises(ValueError, match="form must be 'classic' or 'tight', got 'loose'"):
        value("gd", "convex", 1, "loose", smoothness=1.0, distance=1.0)
    with pytest.raises(ValueError, match="no 'flat' guarantee for 'gd' here"):
        value("gd", "flat", 1)


def test_a_solution_that_is_no_solution_is_refused():
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.zero_()
    data = torch.eye(2), torch.zeros(2, 1)
    with pytest.raises(ValueError, match="above that of the start; give a minimiser"):
        measured_problem(model, data, "mse", solution={"weight": torch.ones(1, 2)})
    assert measured_problem(model, data, "mse").distance is None
    assert "gd" in ALGORITHMS
