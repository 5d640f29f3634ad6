"""Deflated traces: exact where nothing is left, unbiased where vectors did not converge, narrower, covering."""

import math

import numpy as np
import pytest
import torch

from theorylens.numerics import Counted, DenseOperator, deflated_trace, eigenvalues, hutchinson, hutchpp, lanczos_trace
from theorylens.results import Exact


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def operator(spectrum, seed=0, dtype=torch.float64):
    q = torch.linalg.qr(torch.randn(len(spectrum), len(spectrum), generator=rng(seed), dtype=torch.float64)).Q
    matrix = (q * torch.tensor(spectrum, dtype=torch.float64)) @ q.T
    return DenseOperator(((matrix + matrix.T) / 2).to(dtype))


SPECTRUM = [*np.linspace(20, 40, 9), *np.linspace(-0.5, 1.5, 191)]
TRACE = math.fsum(SPECTRUM)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_deflation_narrows_the_interval_at_the_same_number_of_draws(dtype):
    matrix = operator(SPECTRUM, dtype=dtype)
    ritz = eigenvalues(matrix, 9, vectors=True, generator=rng(1))
    plain = hutchinson(matrix, 40, generator=rng(2))
    found = deflated_trace(matrix, ritz, 40, generator=rng(2))
    assert found.lower <= TRACE <= found.upper
    assert found.upper - found.lower < 0.25 * (plain.upper - plain.lower)


def test_vectors_that_did_not_converge_do_not_bias():
    matrix = operator(SPECTRUM)
    ritz = eigenvalues(matrix, 4, vectors=True, max_steps=5, generator=rng(1))
    assert not ritz.converged.any()
    values = [deflated_trace(matrix, ritz, 2, generator=rng(s)).value for s in range(600)]
    assert abs(np.mean(values) - TRACE) < 4 * np.std(values) / math.sqrt(600)
    naive = TRACE - math.fsum(ritz.values)  # what is left beside them, which is not small
    assert abs(naive) > 20


def test_a_space_that_is_known_is_exact():
    matrix = operator([3.0, -1.0, 0.5])
    ritz = eigenvalues(matrix, 3, vectors=True, generator=rng())
    found = deflated_trace(matrix, ritz, 0, generator=rng())
    assert found.value == pytest.approx(2.5, rel=1e-12)
    assert isinstance(found.uncertainty, Exact)


def test_refusals():
    matrix = operator(SPECTRUM)
    ritz = eigenvalues(matrix, 2, generator=rng())
    with pytest.raises(ValueError, match="no Ritz vectors to deflate; ask"):
        deflated_trace(matrix, ritz, 4, generator=rng())
    ritz = eigenvalues(matrix, 2, vectors=True, generator=rng())
    with pytest.raises(ValueError, match="the Ritz vectors have 200 entries, the operator's 3"):
        deflated_trace(operator([1.0, 2.0, 3.0]), ritz, 4, generator=rng())
    with pytest.raises(ValueError, match="draws must be at least 2"):
        deflated_trace(matrix, ritz, 1, generator=rng())
    with pytest.raises(ValueError, match="level must lie strictly"):
        deflated_trace(matrix, ritz, 4, level=1.0, generator=rng())


def test_a_lanczos_run_of_a_third_of_the_products_narrows_the_interval_most():
    matrix = operator(SPECTRUM)

    def width(estimator):
        found = [estimator(matrix, 60, generator=rng(s)) for s in range(20)]
        assert sum(f.lower <= TRACE <= f.upper for f in found) >= 16
        return np.mean([f.upper - f.lower for f in found])

    assert width(lanczos_trace) < 0.9 * width(hutchpp) < 0.9 * width(hutchinson)


def test_products_of_the_lanczos_run_and_the_draws_are_those_asked_for():
    for products in (6, 7, 40):
        counted = Counted(operator(SPECTRUM))
        found = lanczos_trace(counted, products, generator=rng())
        assert counted.products == products
        assert found.uncertainty.method.values == {"draws": products - products // 3, "k": products // 3}
    found = lanczos_trace(operator([3.0, -1.0, 0.5]), 9, generator=rng())
    assert found.value == pytest.approx(2.5, rel=1e-12)
    assert isinstance(found.uncertainty, Exact)
    with pytest.raises(ValueError, match="products must be at least 6"):
        lanczos_trace(counted, 5, generator=rng())


def test_the_basis_stays_within_its_memory():
    matrix, row = operator(SPECTRUM), 8 * len(SPECTRUM)
    some = lanczos_trace(matrix, 60, memory=2 * 5 * row, generator=rng())
    assert some.uncertainty.method.values["k"] == 5
    none = lanczos_trace(matrix, 60, memory=2 * 2 * row, generator=rng())
    assert none == hutchinson(matrix, 60, generator=rng())


def test_half_precision_is_projected_in_single():
    matrix = operator(SPECTRUM, dtype=torch.bfloat16)
    truth = float(matrix._matrix.double().trace())
    found = [lanczos_trace(matrix, 60, generator=rng(s)).value for s in range(10)]
    assert np.mean(found) == pytest.approx(truth, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("products", "covered"), [(6, 0.92), (24, 0.92), (64, 0.95)])
def test_the_interval_beside_a_lanczos_run_covers_as_documented(products, covered):
    """Of nine outliers a run of two or eight steps misses some, and one eigenvalue may carry what is left."""
    matrix, hits = operator(SPECTRUM), 0
    for seed in range(800):
        found = lanczos_trace(matrix, products, generator=rng(seed))
        hits += found.lower <= TRACE <= found.upper
    assert hits / 800 >= covered - 3 * math.sqrt(covered * (1 - covered) / 800)


@pytest.mark.slow
@pytest.mark.parametrize("draws", [4, 16])
def test_the_interval_covers_as_often_as_it_says(draws):
    matrix, hits = operator(SPECTRUM), 0
    ritz = eigenvalues(matrix, 9, vectors=True, generator=rng(1))
    for seed in range(2000):
        found = deflated_trace(matrix, ritz, draws, generator=rng(seed))
        hits += found.lower <= TRACE <= found.upper
    assert hits / 2000 >= 0.95 - 4 * math.sqrt(0.05 * 0.95 / 2000)
