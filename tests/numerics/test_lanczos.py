"""Lanczos against LAPACK and ARPACK, on spectra that are known to defeat it, and the honesty of its bounds."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from theorylens.numerics.lanczos import both_ends, eigenvalues
from theorylens.numerics.operator import DenseOperator


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rotated(spectrum, seed=0, dtype=torch.float64):
    """A dense matrix with this spectrum in a random basis."""
    spectrum = torch.as_tensor(spectrum, dtype=torch.float64)
    basis, _ = torch.linalg.qr(torch.randn(len(spectrum), len(spectrum), generator=seeded(seed), dtype=torch.float64))
    matrix = (basis * spectrum) @ basis.T
    return ((matrix + matrix.T) / 2).to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@pytest.mark.parametrize("which", ["LA", "SA", "BE"])
def test_agrees_with_arpack_on_random_matrices(dtype, tolerance, which):
    matrix = torch.randn(250, 250, generator=seeded(1), dtype=dtype)
    matrix = (matrix + matrix.T) / 2
    ritz = eigenvalues(DenseOperator(matrix), 5, which=which, tolerance=tolerance, vectors=True, generator=seeded())
    wanted = eigsh(matrix.double().numpy(), 5, which=which, return_eigenvectors=False)
    wanted = np.sort(wanted) if which == "SA" else np.sort(wanted)[::-1]
    assert ritz.converged.all()
    assert ritz.restarts == 0
    np.testing.assert_allclose(ritz.values, wanted, rtol=tolerance)
    exact = matrix.double()
    vectors = ritz.vectors.double()
    assert ritz.vectors.dtype == dtype
    np.testing.assert_allclose((vectors @ vectors.T).numpy(), np.eye(5), atol=20 * torch.finfo(dtype).eps)
    residuals = (vectors @ exact - torch.from_numpy(ritz.values)[:, None] * vectors).norm(dim=1).numpy()
    assert (residuals <= ritz.residuals + 1e-13).all()
    assert ritz.asymmetry < 30 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("diagonal", "k", "which", "wanted"),
    [
        ([1.0, -3.0], 1, "LA", [1]),
        ([1.0, -3.0], 1, "SA", [-3]),
        ([1.0, -3.0], 2, "BE", [1, -3]),
        ([2.0, 2.0, 0.0, 0.0], 2, "LA", [2, 2]),
        ([2.0, 2.0, 1.0, 1.0, 0.0, 0.0, 0.0], 3, "LA", [2, 2, 1]),
        ([2.0, 2.0, 1.0, 1.0, 0.0, 0.0, 0.0], 5, "SA", [0, 0, 0, 1, 1]),
        ([2.0, 2.0, 1.0, 1.0, 0.0, 0.0, 0.0], 5, "BE", [2, 2, 1, 0, 0]),
        ([1.0] * 50, 3, "LA", [1, 1, 1]),
        ([0.0] * 5, 2, "LA", [0, 0]),
        ([4.0], 1, "LA", [4]),
    ],
)
def test_repeated_eigenvalues_are_found_after_a_breakdown(dtype, diagonal, k, which, wanted):
    matrix = rotated(diagonal, dtype=dtype)
    ritz = eigenvalues(DenseOperator(matrix), k, which=which, generator=seeded(3))
    np.testing.assert_allclose(ritz.values, wanted, atol=20 * torch.finfo(dtype).eps)
    assert ritz.converged.all()
    assert ritz.complete


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("seed", range(10))
def test_a_rank_one_matrix_has_one_eigenvalue_and_not_a_copy_of_it(dtype, seed):
    matrix = torch.full((4, 4), 0.5, dtype=dtype)
    ritz = eigenvalues(DenseOperator(matrix), 3, generator=seeded(seed))
    np.testing.assert_allclose(ritz.values, [2, 0, 0], atol=10 * torch.finfo(dtype).eps)
    assert ritz.restarts >= 1
    assert ritz.products <= 4


def test_the_space_is_exhausted_when_all_values_are_asked_for():
    matrix = torch.randn(30, 30, generator=seeded(2), dtype=torch.float64)
    matrix = matrix + matrix.T
    ritz = eigenvalues(DenseOperator(matrix), 30, vectors=True, generator=seeded())
    assert ritz.exhausted
    assert ritz.steps == ritz.products == 30
    np.testing.assert_allclose(ritz.values, np.linalg.eigvalsh(matrix)[::-1], atol=1e-12)
    rebuilt = (ritz.vectors.T * torch.from_numpy(ritz.values)) @ ritz.vectors
    torch.testing.assert_close(rebuilt, matrix, rtol=0, atol=1e-12)


def test_a_cluster_is_resolved_when_the_tolerance_asks_for_it():
    spectrum = torch.linspace(0, 1, 200, dtype=torch.float64)
    spectrum[-5:] = torch.tensor([3, 3 + 1e-6, 3 + 2e-6, 3.1, 5], dtype=torch.float64)
    ritz = eigenvalues(DenseOperator(rotated(spectrum)), 5, tolerance=1e-9, generator=seeded())
    np.testing.assert_allclose(ritz.values, spectrum.numpy()[::-1][:5], rtol=1e-9)
    assert ritz.converged.all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_two_hundred_steps_keep_the_basis_orthogonal_and_make_no_copies(dtype):
    """Without full reorthogonalisation outliers come back as copies of themselves after some 50 steps."""
    spectrum = np.concatenate([np.linspace(-1, 1, 395), [10, 20, 40, 80, 100]])
    matrix = rotated(spectrum, dtype=dtype)
    ritz = eigenvalues(DenseOperator(matrix), 200, max_steps=200, vectors=True, generator=seeded())
    assert ritz.steps == 200
    np.testing.assert_allclose(ritz.values[:5], [100, 80, 40, 20, 10], rtol=30 * torch.finfo(dtype).eps)
    assert ritz.values[5] < 1.001
    gram = ritz.vectors.double() @ ritz.vectors.double().T
    assert float((gram - torch.eye(200, dtype=torch.float64)).abs().max()) < 50 * torch.finfo(dtype).eps


@pytest.mark.parametrize("seed", range(60))
def test_residuals_and_errors_bound_the_truth(seed):
    """Bulk and outliers; half the runs are cut short, so that the bounds are tried where they are large."""
    rng = np.random.default_rng(seed)
    dtype = (torch.float64, torch.float32)[seed % 2]
    spectrum = np.concatenate([rng.uniform(-0.05, 0.3, 150), 0.3 + rng.exponential(1.5, 15)])
    matrix = rotated(spectrum, seed=seed, dtype=dtype)
    truth = np.linalg.eigvalsh(matrix.double().numpy())
    ritz = eigenvalues(
        DenseOperator(matrix), 4, max_steps=12 if seed % 3 == 0 else None, vectors=True, generator=seeded(seed)
    )
    rounding = 30 * np.finfo(np.float64).eps * truth.max()
    distance = np.abs(ritz.values[:, None] - truth).min(1)
    assert (distance <= ritz.residuals + rounding).all()
    vectors = ritz.vectors.double()
    true_residuals = (vectors @ matrix.double() - torch.from_numpy(ritz.values)[:, None] * vectors).norm(dim=1)
    assert (true_residuals.numpy() <= ritz.residuals + rounding).all()
    assert (ritz.errors <= ritz.residuals).all()
    if ritz.converged.all():
        assert (np.abs(ritz.values - truth[::-1][:4]) <= ritz.errors + rounding).all()
        assert (np.abs(ritz.values / truth[::-1][:4] - 1) <= 1e-3).all()
    else:
        assert ritz.steps == 12


def test_fewer_products_than_arpack_for_outliers():
    spectrum = np.concatenate([np.linspace(0, 0.3, 990), np.linspace(1, 3, 10)])
    matrix = rotated(spectrum)
    ritz = eigenvalues(DenseOperator(matrix), 5, generator=seeded())
    count = 0

    def product(vector):
        nonlocal count
        count += 1
        return matrix.numpy() @ vector

    operator = LinearOperator((1000, 1000), matvec=product, dtype=np.float64)
    eigsh(operator, 5, which="LA", tol=1e-3, rng=np.random.default_rng(0))
    assert ritz.converged.all()
    assert ritz.products < count


def test_one_value_needs_one_extra_step_at_most_when_the_start_is_an_eigenvector():
    ritz = eigenvalues(DenseOperator(torch.eye(100) * 3), 1, generator=seeded())
    assert ritz.products == 1
    assert ritz.values[0] == pytest.approx(3, rel=1e-6)


def test_copies_that_one_start_cannot_see_are_not_claimed_to_be_counted():
    """Softmax regression at uniform predictions: every curvature occurs C - 1 = 9 times."""
    inputs = torch.randn(500, 20, generator=seeded(), dtype=torch.float64) * torch.linspace(0.2, 2, 20)
    hessian = torch.kron(torch.eye(10, dtype=torch.float64) / 10 - 0.01, inputs.T @ inputs / 500)
    truth = np.linalg.eigvalsh(hessian)[::-1]
    several = eigenvalues(DenseOperator(hessian), 5, generator=seeded(1))
    assert several.converged.all()
    assert not several.complete
    assert np.abs(several.values[:, None] - truth).min(1).max() < 1e-3 * truth[0]
    outermost = eigenvalues(DenseOperator(hessian), 1, generator=seeded(1))
    assert outermost.complete
    assert outermost.values[0] == pytest.approx(truth[0], rel=1e-3)


def test_running_out_of_steps_is_said():
    matrix = rotated(np.linspace(0, 1, 300))
    ritz = eigenvalues(DenseOperator(matrix), 3, tolerance=1e-10, max_steps=8, generator=seeded())
    assert ritz.steps == 8
    assert not ritz.converged.any()
    assert not ritz.exhausted
    assert not ritz.complete


def test_the_same_seed_gives_the_same_bits_and_another_seed_the_same_answer():
    matrix = rotated(np.random.default_rng(0).normal(size=120), dtype=torch.float32)
    runs = [eigenvalues(DenseOperator(matrix), 3, vectors=True, tolerance=1e-4, generator=seeded(s)) for s in (5, 5, 6)]
    assert (runs[0].values == runs[1].values).all()
    assert torch.equal(runs[0].vectors, runs[1].vectors)
    assert (runs[0].values != runs[2].values).any()
    np.testing.assert_allclose(runs[0].values, runs[2].values, rtol=1e-4)


def test_global_randomness_is_left_alone():
    before = torch.get_rng_state()
    eigenvalues(DenseOperator(torch.eye(10)), 2, generator=seeded())
    assert torch.equal(before, torch.get_rng_state())


def test_scaling_and_shifting_the_operator_do_the_same_to_the_values():
    matrix = rotated(np.random.default_rng(1).normal(size=80))
    plain = eigenvalues(DenseOperator(matrix), 3, tolerance=1e-8, generator=seeded())
    for scale in (1e-30, 1e30):
        scaled = eigenvalues(DenseOperator(matrix * scale), 3, tolerance=1e-8, generator=seeded())
        np.testing.assert_allclose(scaled.values, plain.values * scale, rtol=1e-8)
    shifted = eigenvalues(DenseOperator(matrix + 5 * torch.eye(80)), 3, tolerance=1e-8, generator=seeded())
    np.testing.assert_allclose(shifted.values, plain.values + 5, rtol=1e-8)
    mirrored = eigenvalues(DenseOperator(-matrix), 3, which="SA", tolerance=1e-8, generator=seeded())
    np.testing.assert_allclose(mirrored.values, -plain.values, rtol=1e-8)


class _Function:
    """An operator from a function, without any check."""

    def __init__(self, size, function, dtype=torch.float64):
        self.size, self.dtype, self.device, self._function = size, dtype, torch.device("cpu"), function

    def matvec(self, vector):
        return self._function(vector)

    def __matmul__(self, vector):
        return self._function(vector)


def test_an_operator_that_returns_its_argument_does_not_spoil_the_basis():
    ritz = eigenvalues(_Function(20, lambda v: v), 3, vectors=True, generator=seeded())
    np.testing.assert_allclose(ritz.values, [1, 1, 1], atol=1e-14)
    torch.testing.assert_close(ritz.vectors @ ritz.vectors.T, torch.eye(3, dtype=torch.float64))


def test_products_that_differ_from_call_to_call_do_not_pass_for_converged():
    matrix, noise = rotated(np.linspace(0, 1, 60)), seeded(9)

    def product(vector):
        return matrix @ vector + 2e-5 * torch.randn(60, generator=noise, dtype=torch.float64)

    ritz = eigenvalues(_Function(60, product), 3, tolerance=1e-6, max_steps=40, generator=seeded())
    assert not ritz.converged.any()
    assert ritz.asymmetry > 1e-5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_an_operator_that_is_not_symmetric_is_refused(dtype):
    matrix = torch.randn(40, 40, generator=seeded(), dtype=dtype)
    with pytest.raises(ValueError, match=r"the operator is not symmetric: a product has a part of .* Give a symmetric"):
        eigenvalues(_Function(40, lambda v: matrix @ v, dtype), 3, symmetric=False, generator=seeded())
    noise = seeded(1)
    with pytest.raises(ValueError, match="whose products do not differ from call to call"):
        eigenvalues(
            _Function(9, lambda v: torch.randn(9, generator=noise, dtype=dtype), dtype), 1, symmetric=False,
            generator=seeded(),
        )  # fmt: skip
    trusted = eigenvalues(_Function(40, lambda v: matrix @ v, dtype), 3, max_steps=30, generator=seeded())
    assert not trusted.converged.any()


def test_an_operator_that_is_zero_but_for_rounding_is_no_error():
    noise = seeded(1)
    product = _Function(50, lambda v: 1e-9 * torch.randn(50, generator=noise, dtype=torch.float64))
    ritz = eigenvalues(product, 2, generator=seeded())
    assert np.abs(ritz.values).max() < 1e-7


def many_copies(dtype=torch.float64):
    return rotated([*[5.0] * 5, 3.0, 3.0, *np.linspace(0, 0.8, 92), 1.0], dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("seed", range(3))
def test_an_eigenvalue_of_multiplicity_five_is_returned_five_times(dtype, seed):
    """One start cannot see it; blocks are doubled until they show fewer copies than they could."""
    operator, wanted = DenseOperator(many_copies(dtype)), [5, 5, 5, 5, 5, 3, 3, 1]
    ritz = eigenvalues(operator, 8, copies=True, vectors=True, generator=seeded(seed))
    np.testing.assert_allclose(ritz.values, wanted, rtol=1e-3)
    assert ritz.complete
    assert ritz.converged.all()
    torch.testing.assert_close(ritz.vectors @ ritz.vectors.T, torch.eye(8, dtype=dtype), rtol=0, atol=1e-4)
    turned = torch.from_numpy(ritz.values).to(dtype)[:, None] * ritz.vectors
    assert float((ritz.vectors @ many_copies(dtype) - turned).norm(dim=1).max()) < 1e-3
    single = eigenvalues(operator, 8, tolerance=1e-3, generator=seeded(seed))
    assert not (single.complete and np.abs(single.values - wanted).max() < 0.1)  # and says so
    mirrored = eigenvalues(DenseOperator(-many_copies(dtype)), 6, which="SA", copies=True, generator=seeded(seed))
    np.testing.assert_allclose(mirrored.values, [-5] * 5 + [-3], rtol=1e-3)


def test_copies_cost_little_where_there_are_none():
    matrix = rotated(np.concatenate([np.linspace(0, 0.3, 190), np.linspace(1, 3, 10)]))
    plain = eigenvalues(DenseOperator(matrix), 5, generator=seeded())
    sure = eigenvalues(DenseOperator(matrix), 5, copies=True, generator=seeded())
    assert sure.complete
    assert not plain.complete
    np.testing.assert_allclose(sure.values, plain.values, rtol=1e-3)
    assert sure.products <= 2 * plain.products


@pytest.mark.parametrize("which", ["LA", "SA", "BE"])
def test_where_memory_is_short_a_restart_gives_the_same_answer(which):
    matrix = rotated(np.concatenate([np.linspace(-1, 1, 290), np.linspace(1.05, 3, 10), [-1.5, -1.2]]))
    plain = eigenvalues(DenseOperator(matrix), 4, which=which, tolerance=1e-6, generator=seeded())
    short = eigenvalues(
        DenseOperator(matrix), 4, which=which, tolerance=1e-6, memory=14 * 302 * 8, vectors=True, max_steps=300,
        generator=seeded(),
    )  # fmt: skip
    assert short.converged.all()
    assert short.steps <= 14
    assert plain.products <= short.products < 300
    np.testing.assert_allclose(short.values, plain.values, rtol=1e-6)
    residuals = (short.vectors @ matrix - torch.from_numpy(short.values)[:, None] * short.vectors).norm(dim=1)
    assert (residuals.numpy() <= short.residuals + 1e-12).all()
    torch.testing.assert_close(short.vectors @ short.vectors.T, torch.eye(4, dtype=torch.float64))


def test_restarts_and_breakdowns_get_on():
    matrix = rotated([4.0] * 3 + [2.0] * 30 + [1.0] * 30)
    ritz = eigenvalues(DenseOperator(matrix), 4, memory=1, max_steps=200, generator=seeded())
    np.testing.assert_allclose(ritz.values, [4, 4, 4, 2], rtol=1e-9)
    assert ritz.complete
    several = eigenvalues(
        DenseOperator(many_copies()), 7, copies=True, memory=1, max_steps=400, tolerance=1e-4, generator=seeded()
    )
    np.testing.assert_allclose(several.values, [5, 5, 5, 5, 5, 3, 3], rtol=1e-4)
    assert several.complete


@pytest.mark.parametrize("spectrum", [np.linspace(-1, 4, 200), np.maximum(np.linspace(-40, 4, 200), 0)])
def test_both_ends_from_one_search(spectrum):
    operator = DenseOperator(rotated(spectrum))
    top, low = both_ends(operator, 3, tolerance=1e-3, generator=seeded())
    np.testing.assert_allclose(top.values, np.sort(spectrum)[::-1][:3], rtol=1e-3)
    np.testing.assert_allclose(low.values, [spectrum.min()], atol=1e-3 * (spectrum.max() - spectrum.min()))
    assert low.residuals[0] <= 1e-4 * (spectrum.max() - spectrum.min())
    assert top.products == low.products
    alone = eigenvalues(operator, 3, generator=seeded())
    assert top.products <= alone.products + 10


def test_both_ends_of_a_space_as_small_as_the_question():
    top, low = both_ends(DenseOperator(torch.diag(torch.tensor([1.0, -3.0]))), 2, generator=seeded())
    np.testing.assert_allclose(top.values, [1, -3], rtol=1e-6)
    np.testing.assert_allclose(low.values, [-3], rtol=1e-6)


def test_a_product_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="product 1 of the operator is not finite"):
        eigenvalues(_Function(5, lambda v: v * float("nan")), 1, generator=seeded())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": 0}, "k must be between 1 and the operator's size 4, got 0"),
        ({"k": 5}, "k must be between 1 and the operator's size 4, got 5"),
        ({"k": 1, "which": "LM"}, "which must be 'LA'"),
        ({"k": 1, "tolerance": 0.0}, r"tolerance must be positive and finite, got 0\.0"),
        ({"k": 1, "tolerance": float("nan")}, "tolerance must be positive"),
        ({"k": 3, "max_steps": 2}, "max_steps must be at least k = 3, got 2"),
    ],
)
def test_refusals(options, said, unchecked_shapes):
    with pytest.raises(ValueError, match=said):
        eigenvalues(DenseOperator(torch.eye(4)), **options, generator=seeded())
