"""Eigenvalues of Hessians with known spectra, of linear regression, and of a network against its dense Hessian."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn

from theorylens import core
from theorylens.core import RefusedError
from theorylens.landscape import both_ends, eigenvalues, hessian_eigenvalues
from theorylens.results import Enclosure


def dense(goal):
    hessian = goal.hessian()
    return torch.stack([hessian @ e for e in torch.eye(goal.size, dtype=goal.dtype)])


@pytest.fixture(scope="module")
def small():
    """A float64 tanh network of 99 parameters with 40 rows."""
    with core.global_randomness_kept(5):
        net = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4), nn.Tanh()).double().eval()
        return net, (torch.randn(40, 6).double(), torch.randint(4, (40,)))


def test_golden_the_largest_eigenvalue_is_not_the_one_of_largest_size(quadratic):
    largest = eigenvalues(*quadratic([[1.0, 0.0], [0.0, -3.0]]), k=1)
    smallest = eigenvalues(*quadratic([[1.0, 0.0], [0.0, -3.0]]), k=1, which="SA")
    both = eigenvalues(*quadratic([[1.0, 0.0], [0.0, -3.0]]), k=2, which="BE")
    assert largest.values == pytest.approx([1.0], rel=1e-9)
    assert smallest.values == pytest.approx([-3.0], rel=1e-9)
    assert both.values == pytest.approx([1.0, -3.0], rel=1e-9)


def test_the_hessian_of_linear_regression_is_twice_the_gram_matrix_over_n():
    rng = torch.Generator().manual_seed(0)
    x, y = (torch.randn(50, d, generator=rng, dtype=torch.float64) for d in (7, 1))
    net = nn.Linear(7, 1, bias=False).double()
    truth = np.linalg.eigvalsh((2 * x.T @ x / 50).numpy())
    for size in (50, 16, 1):  # full batch, ragged, single rows
        top = eigenvalues(net, (x, y), "mse", k=3, tolerance=1e-10, batch_size=size)
        low = eigenvalues(net, (x, y), "mse", k=2, which="SA", tolerance=1e-10, batch_size=size)
        assert top.values == pytest.approx(truth[::-1][:3], rel=1e-9)
        assert low.values == pytest.approx(truth[:2], rel=1e-9)
        assert (top.parameters, len(top)) == (7, 3)


def test_a_quadratic_with_a_known_spectrum_and_repeated_values(quadratic):
    rng = torch.Generator().manual_seed(1)
    rotation = torch.linalg.qr(torch.randn(60, 60, generator=rng, dtype=torch.float64)).Q
    spectrum = torch.cat([torch.tensor([9.0, 9.0, 5.0, -2.0]), torch.linspace(-0.1, 0.1, 56)]).double()
    matrix = rotation @ torch.diag(spectrum) @ rotation.T
    found = eigenvalues(*quadratic(matrix), k=1, tolerance=1e-8)
    assert found.values == pytest.approx([9.0], rel=1e-8)
    assert eigenvalues(*quadratic(matrix), k=1, which="SA").values == pytest.approx([-2.0], rel=1e-3)
    assert found.products < 60


@pytest.mark.parametrize("which", ["LA", "SA", "BE"])
def test_values_agree_with_the_dense_hessian_and_with_arpack_and_lie_within_their_residuals(small, which):
    goal = core.objective(*small, "cross_entropy")
    matrix = dense(goal).numpy()
    truth = np.linalg.eigvalsh(matrix)
    wanted = {"LA": truth[::-1][:4], "SA": truth[:4], "BE": np.array([truth[-1], truth[-2], truth[1], truth[0]])}[which]
    found = eigenvalues(*small, "cross_entropy", k=4, which=which, tolerance=1e-3)
    assert found.converged.all()
    assert found.trouble is None
    assert np.abs(found.values - wanted) == pytest.approx(0, abs=1e-3 * np.abs(wanted).max())
    assert (np.abs(found.values[:, None] - truth).min(1) <= found.residuals + 1e-12).all()
    assert (np.abs(found.values - wanted) <= found.errors + 1e-12).all()
    hessian = goal.hessian()
    product = LinearOperator(matrix.shape, lambda v: (hessian @ torch.as_tensor(v.reshape(-1)).double()).numpy())
    arpack = np.sort(eigsh(product, k=4, which=which, tol=1e-10, return_eigenvectors=False))
    assert np.sort(found.values) == pytest.approx(arpack, abs=1e-3 * np.abs(wanted).max())


def test_seeds_and_batches_do_not_matter_beyond_the_tolerance(small):
    kept = eigenvalues(*small, "cross_entropy", k=3, seed=0)
    assert np.array_equal(eigenvalues(*small, "cross_entropy", k=3, seed=0).values, kept.values)
    assert eigenvalues(*small, "cross_entropy", k=3, seed=1).values == pytest.approx(kept.values, rel=2e-3)
    assert eigenvalues(*small, "cross_entropy", k=3, batch_size=7).values == pytest.approx(kept.values, rel=1e-9)


def test_both_ends_of_a_semidefinite_hessian(small):
    """With fewer rows than parameters the smallest eigenvalues are zero: found to a share of the largest."""
    rng = torch.Generator().manual_seed(2)
    x, y = (torch.randn(20, d, generator=rng, dtype=torch.float64) for d in (80, 1))
    net = nn.Linear(80, 1, bias=False).double()
    goal = core.objective(net, (x, y), "mse")
    top, low = both_ends(goal, k=3, tolerance=1e-3, generator=torch.Generator().manual_seed(0))
    truth = np.linalg.eigvalsh((2 * x.T @ x / 20).numpy())
    assert top.values == pytest.approx(truth[::-1][:3], rel=1e-3)
    assert np.abs(low.values) == pytest.approx(0, abs=1e-3 * truth[-1])
    assert low.trouble is None
    assert (low.values - low.residuals <= 1e-12).all()


def test_both_ends_of_an_indefinite_hessian(small):
    goal = core.objective(*small, "cross_entropy")
    truth = np.linalg.eigvalsh(dense(goal).numpy())
    top, low = both_ends(goal, k=3, tolerance=1e-4, generator=torch.Generator().manual_seed(0))
    assert top.values == pytest.approx(truth[::-1][:3], rel=1e-4)
    assert low.values == pytest.approx(truth[:1], abs=1e-4 * (truth[-1] - truth[0]))
    assert (np.abs(low.values[:, None] - truth).min(1) <= low.residuals + 1e-12).all()


def test_the_estimate_encloses_an_eigenvalue(quadratic):
    found = eigenvalues(*quadratic([[2.0, 1.0], [1.0, 3.0]]), k=1)
    estimate = found.estimate()
    assert isinstance(estimate.uncertainty, Enclosure)
    assert estimate.lower <= (5 + 5**0.5) / 2 <= estimate.upper
    assert estimate.upper - estimate.lower == pytest.approx(2 * found.residuals[0])
    assert estimate.trouble is None


def test_too_few_steps_are_trouble_and_say_what_to_change():
    # A Hilbert-like cluster: nothing at the lower end converges in 4 steps.
    net = nn.Linear(200, 1, bias=False).double()
    x = torch.diag(torch.linspace(1, 2, 200)).double()
    found = eigenvalues(net, (x, torch.zeros(200, 1).double()), "mse", k=3, max_steps=4, tolerance=1e-6)
    assert not found.converged.all()
    assert "did not converge in 4 steps; allow more steps (max_steps)" in found.trouble.render()
    assert found.estimate(2).trouble is found.trouble
    truth = np.linspace(1, 2, 200) ** 2 * 2 / 200
    assert (np.abs(found.values[:, None] - truth).min(1) <= found.residuals + 1e-12).all()  # still true


def test_the_trace_of_a_relu_network_is_that_of_its_gauss_newton_matrix():
    """Linear in each single parameter, so that only outputs are curved: tr H = tr J' (diag p - pp') J / n."""
    with core.global_randomness_kept(3):
        net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).double().eval()
        x, y = torch.randn(12, 5).double(), torch.randint(3, (12,))
    total = 0.0
    for row in x:
        outputs = net(row[None])[0]
        slopes = [torch.autograd.grad(o, net.parameters(), retain_graph=True) for o in outputs]
        jacobian = torch.stack([torch.cat([g.reshape(-1) for g in each]) for each in slopes])
        p = F.softmax(outputs.detach(), 0)
        total += float(torch.trace(jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian)) / len(x)
    trace = float(torch.trace(dense(core.objective(net, (x, y), "cross_entropy"))))
    assert trace == pytest.approx(total, rel=1e-10)


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_more_eigenvalues_than_parameters_are_refused(quadratic):
    with pytest.raises(ValueError, match="k must be between 1 and the number of parameters 2, got 3"):
        eigenvalues(*quadratic([[1.0, 0.0], [0.0, 2.0]]), k=3)
    with pytest.raises(ValueError, match="got 0"):
        eigenvalues(*quadratic([[1.0, 0.0], [0.0, 2.0]]), k=0)


def test_a_ceiling_serves_the_smallest_only(quadratic):
    goal = core.objective(*quadratic([[1.0]]))
    with pytest.raises(ValueError, match="below= serves which='SA' only, got which='LA'"):
        hessian_eigenvalues(goal, k=1, below=1.0, generator=torch.Generator())


@pytest.mark.filterwarnings("ignore")
def test_training_mode_and_numbers_that_are_not_finite_are_refused(quadratic):
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Linear(2, 2))
    data = torch.ones(3, 2), torch.zeros(3, dtype=torch.long)
    with pytest.raises(RefusedError, match=r"1 \(Dropout\) is in training mode"):
        eigenvalues(net.train(), data, "cross_entropy")
    with pytest.raises(RefusedError, match="the loss is nan, so it has no curvature"):
        eigenvalues(*quadratic([[1.0]], constant=float("nan")), k=1)
    with torch.no_grad():
        net[0].weight[0, 0] = float("nan")
    with pytest.raises(RefusedError, match=r"parameter 0\.weight has 1 values of 4 that are not finite"):
        eigenvalues(net.eval(), data, "cross_entropy")
