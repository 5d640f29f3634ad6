"""The cubic step: golden values, the hard case, brute force, Krylov against dense, refusals."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from theorylens.landscape import cubic_step
from theorylens.landscape._cubic_step import krylov
from theorylens.numerics.operator import DenseOperator

SADDLE = torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_golden_step(golden):
    found = cubic_step(vector(1, 0.5), SADDLE, 1.0)
    assert [*found.step.tolist(), found.norm, found.model] == pytest.approx(golden("G3.2-4"), rel=1e-9)
    assert not found.hard_case


def test_golden_hard_case(golden):
    found = cubic_step(vector(1, 0), SADDLE, 1.0)
    h = found.step.tolist()
    assert [h[0], abs(h[1]), found.norm, found.model] == pytest.approx(golden("G3.2-5"), rel=1e-9)
    assert found.hard_case


def test_golden_at_a_saddle_with_zero_gradient(golden):
    found = cubic_step(vector(0), -torch.ones(1, 1, dtype=torch.float64), 1.0)
    assert [found.norm, found.model] == pytest.approx(golden("G3.2-6"), rel=1e-9)


@pytest.mark.parametrize("small", [1e-3, 1e-8, 1e-13, 1e-17, 1e-300])
def test_near_the_hard_case_nothing_jumps(small):
    found = cubic_step(vector(1, small), SADDLE, 1.0)
    assert found.step[0] == pytest.approx(-0.5, abs=2 * small + 1e-12)
    assert found.step[1] == pytest.approx(-(3.75**0.5), abs=2 * small + 1e-12)
    assert found.residual < 1e-12


def random_problem(rng):
    n = int(rng.integers(1, 6))
    a = rng.standard_normal((n, n))
    a = (a + a.T) / 2
    g = rng.standard_normal(n) * rng.choice([1, 1e-3, 0])
    if n > 1 and rng.random() < 0.3:  # hard case
        g = np.linalg.eigh(a)[1][:, 1:] @ rng.standard_normal(n - 1)
    return g, a, math.exp(rng.standard_normal())


def test_no_start_of_a_general_minimiser_finds_a_lower_point():
    rng = np.random.default_rng(0)
    for _ in range(60):
        g, a, m = random_problem(rng)

        def model(h, g=g, a=a, m=m):
            return g @ h + h @ a @ h / 2 + m / 6 * np.linalg.norm(h) ** 3

        found = cubic_step(torch.from_numpy(g), torch.from_numpy(a), m)
        best = min(minimize(model, 3 * rng.standard_normal(len(g)), method="BFGS").fun for _ in range(4))
        assert found.model <= best + 1e-8 * (1 + abs(best))
        assert found.model == pytest.approx(model(found.step.numpy()), abs=1e-12)
        assert found.residual < 1e-9
        # (H + M|h|/2) is positive semidefinite: the certificate of a global minimum
        assert np.linalg.eigvalsh(a)[0] + m * found.norm / 2 >= -1e-9
        whole = cubic_step(torch.from_numpy(g), DenseOperator(torch.from_numpy(a)), m)
        assert whole.model == pytest.approx(found.model, rel=1e-8, abs=1e-12)


def test_a_krylov_space_of_forty_does_what_the_whole_space_does():
    rng = torch.Generator().manual_seed(0)
    n = 300
    a = torch.randn(n, n, dtype=torch.float64, generator=rng)
    a = (a + a.T) / 2 / n**0.5 + torch.eye(n, dtype=torch.float64)
    g = torch.randn(n, dtype=torch.float64, generator=rng)
    exact, near = cubic_step(g, a, 1.0), cubic_step(g, DenseOperator(a), 1.0, subspace=40, generator=rng)
    assert near.model == pytest.approx(exact.model, rel=1e-4)
    assert near.model >= exact.model - 1e-9
    assert near.products <= 42
    assert near.residual > exact.residual
    at_rest = cubic_step(0 * g, DenseOperator(a), 1.0, subspace=40, generator=rng)
    assert at_rest.model < 0.8 * cubic_step(0 * g, a, 1.0).model


def test_the_krylov_basis_is_orthonormal_and_its_images_are_right():
    rng = torch.Generator().manual_seed(0)
    a = torch.randn(30, 30, dtype=torch.float64, generator=rng)
    a = a + a.T
    basis, images = krylov(DenseOperator(a), torch.randn(30, dtype=torch.float64, generator=rng), 12, rng)
    assert torch.allclose(basis @ basis.T, torch.eye(12, dtype=torch.float64), atol=1e-10)
    assert torch.allclose(images, basis @ a, atol=1e-10)


def test_refusals():
    for m in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="regularisation M must be a positive number"):
            cubic_step(vector(1, 0), SADDLE, m)
    with pytest.raises(ValueError, match="needs a symmetric matrix"):
        cubic_step(vector(1, 0), torch.tensor([[1.0, 2.0], [0.0, 1.0]], dtype=torch.float64), 1.0)
    with pytest.raises(ValueError, match="the gradient is not finite"):
        cubic_step(vector(1, math.nan), SADDLE, 1.0)
    with pytest.raises(ValueError, match=r"gradient of shape \(1,\) does not match a Hessian of 2"):
        cubic_step(vector(1), SADDLE, 1.0)
    with pytest.raises(ValueError, match="subspace must be at least 1"):
        cubic_step(vector(1, 0), DenseOperator(SADDLE), 1.0, subspace=0)
