"""Critical points of quadratics with known answers, classification on bare numbers, refusals."""

import math

import pytest
import torch
from torch import nn

from theorylens.landscape import Place, classify, critical_point
from theorylens.landscape._critical import read
from theorylens.results import Enclosure, Estimate, Message

WHY = Message("test.why", "for a test")


def number(value, error=0.0):
    return Estimate(value=value, uncertainty=Enclosure(lower=value - error, upper=value + error, why=WHY))


@pytest.mark.parametrize(
    ("spectrum", "place"),
    [
        ([1.0, 2.0, 3.0], Place.MINIMUM),
        ([-1.0, -2.0, -3.0], Place.MAXIMUM),
        ([1.0, -1.0, 2.0], Place.SADDLE),
        ([1.0, -1.0, 1.0, -1.0, 0.0], Place.SADDLE),  # a zero among them does not make a strict saddle degenerate
        ([1.0] * 9 + [0.0], Place.DEGENERATE),
        ([-1.0] * 9 + [0.0], Place.SADDLE),
        ([0.0, 0.0], Place.DEGENERATE),
        ([1e-9, 2e-9, 3e-9], Place.MINIMUM),  # tolerances are relative
    ],
)
def test_golden_cases_of_the_second_order_test(spectrum, place, quadratic):
    assert classify(0.0, number(min(spectrum)), number(max(spectrum))) is place
    point = critical_point(*quadratic(torch.diag(torch.tensor(spectrum))))
    assert point.gradient_norm == 0
    assert point.relative == 0
    assert point.place is place


def test_a_sign_counts_only_when_it_is_certain_and_large_enough():
    assert classify(0.0, number(-0.1, 0.05), number(1.0)) is Place.SADDLE
    assert classify(0.0, number(-0.1, 0.2), number(1.0)) is Place.DEGENERATE
    assert classify(0.0, number(0.1, 0.2), number(1.0)) is Place.DEGENERATE
    assert classify(0.0, number(-5e-5), number(1.0)) is Place.DEGENERATE
    assert classify(0.0, number(-2e-4), number(1.0)) is Place.SADDLE
    assert classify(0.0101, number(1.0), number(2.0)) is Place.SLOPE
    assert classify(0.0099, number(1.0), number(2.0)) is Place.MINIMUM


def test_what_is_no_number_is_refused():
    trouble = Estimate(value=math.nan, uncertainty=number(0).uncertainty, trouble=WHY)
    with pytest.raises(ValueError, match="the smallest eigenvalue is not a number"):
        classify(0.0, trouble, number(1.0))
    with pytest.raises(ValueError, match="the relative gradient is not a number"):
        classify(math.nan, number(1.0), number(1.0))
    with pytest.raises(ValueError, match="lies above the largest"):
        classify(0.0, number(2.0), number(1.0))


def test_gradient_scales_and_tolerances_have_their_closed_forms(quadratic):
    # f = 2 + 3 w1 + (w1² - 4 w2²) / 2 at (1, 2): value 2 + 3 + 0.5 - 8 = -2.5, gradient (4, -8).
    parts = quadratic([[1.0, 0.0], [0.0, -4.0]], linear=[3.0, 0.0], at=[1.0, 2.0], constant=2.0)
    initial = quadratic([[1.0, 0.0], [0.0, -4.0]], linear=[3.0, 0.0], at=[0.0, 0.0])[0]
    point = critical_point(*parts, initial=initial)
    assert point.loss == pytest.approx(-2.5)
    assert point.gradient_norm == pytest.approx(80**0.5)
    assert point.parameter_norm == pytest.approx(5**0.5)
    assert point.relative == pytest.approx(20 / 2.5)
    assert point.initial_gradient_norm == pytest.approx(3.0)
    assert point.place is Place.SLOPE
    # epsilon-second-order: |g| <= e and -4 >= -sqrt(rho e), so rho >= 16 / |g|, and with rho = 1: e = 16.
    assert point.lipschitz_needed == pytest.approx(16 / 80**0.5)
    assert point.epsilon(1.0) == pytest.approx(16)
    assert point.epsilon(100.0) == pytest.approx(80**0.5)
    e = point.epsilon(1.0)
    assert point.gradient_norm <= e
    assert -((1.0 * e) ** 0.5) - 1e-9 <= -4
    with pytest.raises(ValueError, match="Lipschitz constant of the Hessian must be a positive number, got 0"):
        point.epsilon(0.0)


def test_zero_loss_and_zero_gradient_have_no_scale(quadratic):
    assert critical_point(*quadratic([[-2.0]], constant=0.0)).lipschitz_needed == math.inf
    assert critical_point(*quadratic([[2.0]], constant=0.0)).lipschitz_needed == 0
    sloped = critical_point(*quadratic([[2.0]], linear=[1.0], constant=0.0))
    assert sloped.relative == math.inf
    assert sloped.place is Place.SLOPE


def test_a_fitted_regression_is_at_its_minimum_and_an_unfitted_one_is_not():
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 4, generator=rng), torch.randn(30, 1, generator=rng)
    net = nn.Linear(4, 1, bias=False)
    assert critical_point(net, (x, y), "mse").place is Place.SLOPE
    with torch.no_grad():
        net.weight.copy_(torch.linalg.lstsq(x.double(), y.double()).solution.T)
    point = critical_point(net, (x, y), "mse")
    assert point.place is Place.MINIMUM
    assert point.relative < 1e-5
    assert point.lipschitz_needed == 0


def test_where_the_loss_vanishes_the_newton_step_is_the_scale():
    """At weights 1e-9 off an exact fit |g| |θ| / L is 1e9; the zero of the gradient is next door all the same."""
    rng = torch.Generator().manual_seed(0)
    x, w = torch.randn(30, 4, generator=rng).double(), torch.randn(1, 4, generator=rng).double()
    net = nn.Linear(4, 1, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(w + 1e-9 * torch.randn(1, 4, generator=rng))
    point = critical_point(net, (x, x @ w.T), "mse")
    assert point.relative > 1e6
    curvature = 2 * torch.linalg.eigvalsh(x.T @ x / 30)[-1]
    assert point.shift == pytest.approx(
        point.gradient_norm / (1e-4 * float(curvature) * point.parameter_norm), rel=1e-3
    )
    assert point.place is Place.MINIMUM
    assert "too small to be its scale" in read(point).render()
    with torch.no_grad():
        net.weight.add_(0.1)
    away = critical_point(net, (x, x @ w.T), "mse")
    assert away.place is Place.SLOPE
    assert "Yes" not in read(away).render()
