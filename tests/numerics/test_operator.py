"""Products of a dense operator, counting, and refusals."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import eigsh

from theorylens.numerics.operator import Counted, DenseOperator, Operator, as_linear_operator


def test_a_dense_operator_multiplies_as_its_matrix_does():
    matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    operator = DenseOperator(matrix)
    assert isinstance(operator, Operator)
    assert (operator.size, operator.dtype, operator.device) == (2, torch.float64, torch.device("cpu"))
    vector = torch.tensor([1.0, -2.0], dtype=torch.float64)
    assert torch.equal(operator @ vector, torch.tensor([0.0, -5.0], dtype=torch.float64))
    assert torch.equal(operator.matvec(vector), operator @ vector)


def test_counting_counts_each_product_once():
    counted = Counted(DenseOperator(torch.eye(4)))
    assert isinstance(counted, Operator)
    for _ in range(3):
        assert torch.equal(counted @ torch.arange(4.0), torch.arange(4.0))
    assert counted.products == 3
    assert (counted.size, counted.dtype, counted.device.type) == (4, torch.float32, "cpu")


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        (torch.zeros(2, 3), "square"),
        (torch.zeros(0, 0), "square"),
        (torch.zeros(3), "square"),
        (torch.eye(2, dtype=torch.int64), "floating-point"),
        (torch.tensor([[1.0, float("nan")], [float("nan"), 1.0]]), "finite"),
        (torch.tensor([[1.0, 2.0], [2.1, 1.0]]), "symmetric"),
    ],
)
def test_a_matrix_that_is_no_symmetric_operator_is_refused(matrix, said, unchecked_shapes):
    with pytest.raises(ValueError, match=said):
        DenseOperator(matrix)


def test_rounding_does_not_make_a_matrix_asymmetric():
    factor = torch.randn(30, 50, generator=torch.Generator().manual_seed(0))
    matrix = factor @ torch.diag(torch.arange(50.0)) @ factor.T
    assert DenseOperator(matrix).size == 30


class _Broken:
    size, dtype, device = 3, torch.float32, torch.device("cpu")

    def __init__(self, product):
        self._product = product

    def matvec(self, vector):
        return self._product

    def __matmul__(self, vector):
        return self._product


def test_a_product_that_is_not_finite_is_refused_with_its_place():
    counted = Counted(_Broken(torch.tensor([0.0, float("inf"), float("nan")])))
    with pytest.raises(ValueError, match=r"product 1 .* 2 of 3 entries, the first at index 1"):
        counted @ torch.ones(3)


def test_a_product_of_the_wrong_shape_is_refused(unchecked_shapes):
    with pytest.raises(ValueError, match=r"shape \(2,\), its vectors \(3,\)"):
        Counted(_Broken(torch.zeros(2))) @ torch.ones(3)


def test_an_operator_without_dimensions_is_refused():
    empty = _Broken(torch.zeros(0))
    empty.size = 0
    with pytest.raises(ValueError, match="size 0"):
        Counted(empty)


def test_scipy_finds_the_eigenvalues_of_an_operator(unchecked_shapes):
    factor = torch.randn(40, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix = factor + factor.T
    truth = torch.linalg.eigvalsh(matrix).numpy()
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-4)):
        linear = as_linear_operator(DenseOperator(matrix.to(dtype)))
        assert linear.shape == (40, 40)
        assert linear.dtype == (np.float64 if dtype is torch.float64 else np.float32)
        found, vectors = eigsh(linear, k=3, which="LA")
        assert np.allclose(found, truth[-3:], rtol=tolerance)
        assert np.allclose(linear @ vectors, vectors * found, atol=10 * tolerance * truth[-1])  # a matrix, by columns
        assert np.allclose(linear.T @ vectors[:, 0], linear @ vectors[:, 0], atol=10 * tolerance)


def test_scipy_is_told_float32_for_half_precision():
    linear = as_linear_operator(DenseOperator(torch.eye(3, dtype=torch.bfloat16)))
    assert linear.dtype == np.float32
    assert np.array_equal(linear @ np.arange(3), [0.0, 1.0, 2.0])
