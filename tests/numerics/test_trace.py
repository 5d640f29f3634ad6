"""Hutchinson's trace: the enumerated golden case, unbiasedness by enumeration, and the coverage of its interval."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from theorylens.numerics.operator import DenseOperator
from theorylens.numerics.trace import frobenius, hutchinson, hutchinson_diagonal, quadratic
from theorylens.results import Statistical, Unknown


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


GOLDEN = DenseOperator(torch.tensor([[2.0, 1.0], [1.0, 3.0]]))


def test_golden_draws_on_two_by_two():
    assert quadratic(GOLDEN, torch.tensor([1.0, 1.0])) == 7
    assert quadratic(GOLDEN, torch.tensor([1.0, -1.0])) == 3
    every = [quadratic(GOLDEN, torch.tensor(signs)) for signs in itertools.product([-1.0, 1.0], repeat=2)]
    assert np.mean(every) == 5


def test_two_draws_of_the_golden_case_are_one_of_three_answers_as_often_as_they_should():
    estimates = [hutchinson(GOLDEN, 2, generator=seeded(seed)) for seed in range(400)]
    values = np.array([estimate.value for estimate in estimates])
    assert set(values) == {3, 5, 7}
    for value, chance in ((3, 0.25), (5, 0.5), (7, 0.25)):
        assert stats.binomtest(int((values == value).sum()), 400, chance).pvalue > 1e-4
    for estimate in estimates:
        if estimate.value == 5:  # one 7 and one 3: half width t(1) * sqrt(8) / sqrt(2)
            assert isinstance(estimate.uncertainty, Statistical)
            assert estimate.upper - 5 == pytest.approx(2 * stats.t.ppf(0.975, 1))
        else:  # two equal draws must not pass for an exact answer
            assert isinstance(estimate.uncertainty, Unknown)


def test_the_mean_over_all_sign_vectors_is_the_trace():
    matrix = torch.randn(8, 8, generator=seeded(1), dtype=torch.float64)
    operator = DenseOperator(matrix + matrix.T)
    every = [
        quadratic(operator, torch.tensor(signs, dtype=torch.float64))
        for signs in itertools.product([-1.0, 1.0], repeat=8)
    ]
    assert np.mean(every) == pytest.approx(float(2 * matrix.trace()), rel=1e-12)
    off = (matrix + matrix.T).fill_diagonal_(0)
    assert np.var(every) == pytest.approx(2 * float(off.square().sum()), rel=1e-12)


def test_a_diagonal_operator_is_exact_and_the_interval_does_not_pretend():
    diagonal = torch.rand(50, generator=seeded(), dtype=torch.float64)
    estimate = hutchinson(DenseOperator(torch.diag(diagonal)), 4, generator=seeded())
    assert estimate.value == pytest.approx(float(diagonal.sum()), rel=1e-14)
    assert isinstance(estimate.uncertainty, Unknown)
    assert "all 4 random-sign draws gave the same number" in str(estimate.uncertainty.why)


def test_the_interval_is_students_and_named():
    matrix = torch.randn(30, 30, generator=seeded(1), dtype=torch.float64)
    estimate = hutchinson(DenseOperator(matrix + matrix.T), 16, level=0.9, generator=seeded(2))
    uncertainty = estimate.uncertainty
    assert isinstance(uncertainty, Statistical)
    assert uncertainty.level == 0.9
    assert uncertainty.method.id == "numerics.hutchinson"
    assert str(uncertainty.method) == "Student's t over 16 random-sign products (Hutchinson)"
    generator, draws = seeded(2), []
    for _ in range(16):
        signs = torch.randint(0, 2, (30,), generator=generator, dtype=torch.int8).double() * 2 - 1
        draws.append(float(signs @ (matrix + matrix.T) @ signs))
    wanted = stats.ttest_1samp(draws, 0).confidence_interval(0.9)
    assert (estimate.lower, estimate.upper) == pytest.approx((wanted.low, wanted.high), rel=1e-12)
    assert estimate.value == pytest.approx(np.mean(draws), rel=1e-12)


def test_the_same_seed_gives_the_same_bits_and_global_randomness_is_left_alone():
    operator = DenseOperator(torch.ones(20, 20))
    before = torch.get_rng_state()
    assert hutchinson(operator, 8, generator=seeded(4)) == hutchinson(operator, 8, generator=seeded(4))
    assert hutchinson(operator, 8, generator=seeded(4)) != hutchinson(operator, 8, generator=seeded(5))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("draws", [1, 0, -3])
def test_fewer_than_two_draws_are_refused(draws):
    with pytest.raises(ValueError, match=f"draws must be at least 2 to give an interval, got {draws}"):
        hutchinson(GOLDEN, draws, generator=seeded())


@pytest.mark.parametrize("level", [0.0, 1.0, float("nan")])
def test_a_level_that_is_no_probability_is_refused(level):
    with pytest.raises(ValueError, match="level must lie strictly between 0 and 1"):
        hutchinson(GOLDEN, 4, level=level, generator=seeded())


def coverage(matrix, draws, runs=2000):
    operator, generator, truth = DenseOperator(matrix), seeded(0), float(matrix.trace())
    estimates = (hutchinson(operator, draws, generator=generator) for _ in range(runs))
    return sum(estimate.lower <= truth <= estimate.upper for estimate in estimates) / runs


def normal(rows, columns):
    return torch.randn(rows, columns, generator=seeded(7), dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("draws", [2, 16, 64])
def test_the_interval_covers_the_trace_as_often_as_it_says(draws, unchecked_shapes):
    square = normal(200, 200)
    # 2,000 runs: three standard errors are 1.5 %.
    assert 0.935 <= coverage((square + square.T) / 2, draws) <= 0.965
    assert 0.93 <= coverage(square @ square.T / 200, draws) <= 0.965


@pytest.mark.slow
@pytest.mark.parametrize(("draws", "low", "high"), [(4, 0.80, 0.87), (16, 0.86, 0.92), (64, 0.91, 0.95)])
def test_one_eigenvalue_that_carries_the_trace_is_covered_too_rarely_as_documented(draws, low, high, unchecked_shapes):
    vector = normal(200, 1)
    assert low <= coverage(vector @ vector.T, draws) <= high


def symmetric(size=12, seed=5):
    factor = torch.randn(size, size, generator=seeded(seed), dtype=torch.float64)
    return factor + factor.T


def test_the_frobenius_norm_is_estimated_with_its_interval():
    matrix = symmetric()
    truth = float(matrix.norm())
    found = frobenius(DenseOperator(matrix), 400, generator=seeded(1))
    assert found.value == pytest.approx(truth, rel=0.05)
    assert found.lower <= truth <= found.upper
    assert found.uncertainty.method.id == "numerics.frobenius"
    assert frobenius(DenseOperator(3 * matrix), 400, generator=seeded(1)).value == pytest.approx(3 * found.value)
    # the mean of |Az|² over all signs z is the sum of the squared entries
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 12)
    assert float((signs @ matrix).square().sum(1).mean()) == pytest.approx(truth**2)


@pytest.mark.slow
@pytest.mark.parametrize("draws", [4, 16])
def test_the_interval_of_the_frobenius_norm_covers_as_often_as_it_says(draws):
    operator = DenseOperator(symmetric(60))
    truth, generator = float(symmetric(60).norm()), seeded(9)
    runs = (frobenius(operator, draws, generator=generator) for _ in range(2000))
    hits = sum(r.lower <= truth <= r.upper for r in runs)
    assert hits / 2000 >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_products_of_one_length_say_nothing_about_the_spread():
    found = frobenius(DenseOperator(torch.eye(5)), 4, generator=seeded())
    assert found.value == pytest.approx(5**0.5)
    assert isinstance(found.uncertainty, Unknown)
    for draws, level, said in ((1, 0.95, "draws must be at least 2"), (4, 1.0, "level must lie strictly")):
        with pytest.raises(ValueError, match=said):
            frobenius(GOLDEN, draws, level=level, generator=seeded())


def test_the_diagonal_is_estimated_with_standard_errors_that_cover():
    matrix = symmetric(40)
    found = hutchinson_diagonal(DenseOperator(matrix), 200, generator=seeded(2))
    off = (matrix - matrix.diag().diag()).square().sum(1).sqrt()
    assert torch.allclose(found.errors, off / 200**0.5, rtol=0.25)  # the variance is that of the row's other entries
    gaps = (found.values - matrix.diag()) / found.errors
    assert float(gaps.square().mean()) == pytest.approx(1, abs=0.5)
    exact = hutchinson_diagonal(DenseOperator(matrix.diag().diag()), 2, generator=seeded(2))
    assert torch.equal(exact.values, matrix.diag())
    assert not exact.errors.any()
    with pytest.raises(ValueError, match="draws must be at least 2"):
        hutchinson_diagonal(GOLDEN, 1, generator=seeded())
