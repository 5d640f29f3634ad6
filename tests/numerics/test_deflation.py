"""Deflated traces: exact where nothing is left, unbiased where vectors did not converge, narrower, covering."""

import math

import numpy as np
import pytest
import torch

from theorylens.numerics import DenseOperator, deflated_trace, eigenvalues, hutchinson
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


@pytest.mark.slow
@pytest.mark.parametrize("draws", [4, 16])
def test_the_interval_covers_as_often_as_it_says(draws):
    matrix, hits = operator(SPECTRUM), 0
    ritz = eigenvalues(matrix, 9, vectors=True, generator=rng(1))
    for seed in range(2000):
        found = deflated_trace(matrix, ritz, draws, generator=rng(seed))
        hits += found.lower <= TRACE <= found.upper
    assert hits / 2000 >= 0.95 - 4 * math.sqrt(0.05 * 0.95 / 2000)
