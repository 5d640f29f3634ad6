"""Escape directions and strict saddles: known eigenvectors, signs, none at a minimum, real networks, refusals."""

import pytest
import torch
from torch import nn

from theorylens import core
from theorylens.landscape import downward_direction, escape_direction, strict_saddle
from theorylens.numerics.operator import DenseOperator

D = [[2.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, -0.5, 0], [0, 0, 0, -1.5]]


def rng():
    return torch.Generator().manual_seed(0)


def test_golden_the_direction_of_the_tutorial(quadratic):
    """Identifier S3.2-2."""
    wanted = {"S3.2-2": [0.0, 0.0, 0.0, 1.0]}["S3.2-2"]
    found = escape_direction(*quadratic(D))
    assert found.vector.abs().tolist() == pytest.approx(wanted, abs=1e-7)
    assert found.curvature == pytest.approx(-1.5, rel=1e-9)
    assert float(found.vector.norm()) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("slope", [0.3, -0.3])
def test_the_sign_goes_downhill(quadratic, slope):
    found = escape_direction(*quadratic(D, linear=[0, 0, 0, slope]))
    assert found.slope == pytest.approx(-0.3, rel=1e-6)
    assert float(found.vector[3]) == pytest.approx(-1 if slope > 0 else 1, rel=1e-6)


def test_moving_along_it_lowers_the_loss_as_the_theory_says(quadratic):
    net, data, loss = quadratic(D, linear=[0, 0, 0, 0.1])
    before = core.objective(net, data, loss).value
    found = escape_direction(net, data, loss)
    step = found.step_length(10.0)
    assert step == pytest.approx(2 * 1.5 / 10)
    with torch.no_grad():
        net.w += step * found.vector
    drop = before - core.objective(net, data, loss).value
    assert drop == pytest.approx(0.1 * step + 1.5 * step**2 / 2, rel=1e-6)
    assert drop >= 2 * 1.5**3 / (3 * 10**2)


@pytest.mark.parametrize("matrix", [[[1.0, 0], [0, 2.0]], [[1.0, 0], [0, 0.0]], [[1.0, 0], [0, -1e-6]]])
def test_at_a_minimum_there_is_none(quadratic, matrix):
    assert escape_direction(*quadratic(matrix)) is None


def test_a_network_against_its_dense_hessian(digits):
    data = digits.split("train").take(range(120))
    goal = core.objective(digits.net, data, "cross_entropy")
    dense = torch.stack([goal.hessian() @ e for e in torch.eye(goal.size)]).double()
    values, _axes = torch.linalg.eigh((dense + dense.T) / 2)
    found = escape_direction(digits.net, data, "cross_entropy", tolerance=1e-3)
    assert float(values[0]) < 0
    assert found.curvature == pytest.approx(float(values[0]), rel=0.02)
    assert found.curvature >= float(values[0]) - 1e-5  # a Rayleigh quotient
    assert abs(float(found.vector.double() @ dense @ found.vector.double()) - found.curvature) < 1e-4
    assert found.slope <= 0
    named = found.by_parameter(digits.net)
    assert [tuple(t.shape) for t in named.values()] == [tuple(p.shape) for p in digits.net.parameters()]
    again = escape_direction(digits.net, data, "cross_entropy", tolerance=1e-3)
    assert torch.equal(again.vector, found.vector)
    with pytest.raises(ValueError, match="are not the 910 of this direction"):
        found.by_parameter(nn.Linear(2, 2))


def test_it_is_matrix_free():
    class Big:
        size, dtype, device = 300_000, torch.float32, torch.device("cpu")

        def matvec(self, v):
            out = v.clone()
            out[7] = -3 * v[7]
            return out

        __matmul__ = matvec

    found = downward_direction(Big(), torch.zeros(300_000), generator=rng())
    assert found.curvature == pytest.approx(-3, rel=1e-3)
    assert abs(float(found.vector[7])) > 0.99


def test_strict_saddles_of_networks(quadratic):
    assert strict_saddle(*quadratic(D)).holds
    assert not strict_saddle(*quadratic(D), gamma=2.0).holds
    sloped = strict_saddle(*quadratic(D, linear=[0.5, 0, 0, 0]))
    assert not sloped.holds
    assert sloped.gradient_norm == pytest.approx(0.5)
    assert sloped.smallest == pytest.approx(-1.5)
    bowl = strict_saddle(*quadratic([[1.0]]))
    assert not bowl.holds
    assert bowl.direction is None


def test_refusals(quadratic):
    operator = DenseOperator(torch.eye(2))
    with pytest.raises(ValueError, match=r"gradient of shape \(3,\) does not match an operator of 2"):
        downward_direction(operator, torch.zeros(3), generator=rng())
    with pytest.raises(ValueError, match="the gradient is not finite"):
        downward_direction(operator, torch.tensor([1.0, float("nan")]), generator=rng())
    with pytest.raises(ValueError, match="Lipschitz constant of the Hessian must be a positive number, got 0"):
        escape_direction(*quadratic(D)).step_length(0)
    with pytest.raises(ValueError, match="gamma and epsilon must be positive"):
        strict_saddle(*quadratic(D), gamma=0)


@pytest.mark.parametrize("scale", [3.0, -3.0, 0.0])
def test_a_multiple_of_the_identity_is_a_bowl_a_hill_or_flat(scale):
    """All eigenvalues alike: the difference from the largest is rounding, which must not pass for curvature."""
    for dtype in (torch.float32, torch.float64):
        operator = DenseOperator(scale * torch.eye(6, dtype=dtype))
        found = downward_direction(operator, torch.zeros(6, dtype=dtype), generator=torch.Generator().manual_seed(0))
        assert (found is not None) is (scale < 0)
        assert found is None or found.curvature == pytest.approx(scale, rel=1e-5)
