"""Lanczos quadrature: exact moments, outliers counted exactly, densities that integrate, coverage, refusals."""

import math

import numpy as np
import pytest
import torch

from theorylens.numerics.operator import DenseOperator
from theorylens.numerics.quadrature import lanczos_quadrature
from theorylens.results import Statistical, Unknown


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def matrix(values, seed=0):
    q = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64, generator=rng(seed))).Q
    m = q @ torch.tensor(values, dtype=torch.float64).diag() @ q.T
    return (m + m.T) / 2


BULK = np.sin(np.arange(60)).tolist()


def test_each_draw_has_the_moments_of_its_own_start_to_degree_2m_minus_1():
    dense = matrix(BULK)
    rule = lanczos_quadrature(DenseOperator(dense), 1, steps=4, generator=rng(3))
    # The slow twin: the start is a normal draw of unit length; its moments z' A^k z.
    z = torch.randn(60, generator=rng(3), dtype=torch.float64)
    z /= z.norm()
    for k in range(8):
        truth = float(z @ torch.linalg.matrix_power(dense, k) @ z)
        assert rule.per_draw(lambda x, k=k: x**k)[0] == pytest.approx(truth, abs=2e-7)
    truth = float(z @ torch.linalg.matrix_power(dense, 12) @ z)
    assert rule.per_draw(lambda x: x**12)[0] != pytest.approx(truth, rel=1e-4)


def test_few_dimensions_are_exhausted_and_weights_add_up():
    rule = lanczos_quadrature(DenseOperator(matrix([1.0, 2.0, 4.0])), 3, steps=30, generator=rng())
    for nodes, weights in zip(rule.nodes, rule.weights, strict=True):
        assert sorted(nodes) == pytest.approx([1, 2, 4])
        assert weights.sum() == pytest.approx(1)
    assert rule.products == 9


def test_resolved_outliers_are_counted_exactly_and_leave_the_bulk_as_it_is():
    dense = matrix([*BULK, 30.0, 50.0])
    rule = lanczos_quadrature(DenseOperator(dense), 40, steps=15, generator=rng())
    plain = rule.mean(lambda x: x)
    split = rule.resolved(np.array([50.0, 30.0]), 10.0)
    better = split.mean(lambda x: x)
    truth = (sum(BULK) + 80) / 62
    assert plain.lower <= truth <= plain.upper
    assert better.lower <= truth <= better.upper
    assert better.upper - better.lower < 0.2 * (plain.upper - plain.lower)
    assert split.mean(lambda x: (x > 10).astype(float)).value == pytest.approx(2 / 62, rel=1e-12)
    with pytest.raises(ValueError, match="outliers must lie above 40"):
        rule.resolved(np.array([50.0, 30.0]), 40.0)
    with pytest.raises(ValueError, match="resolved already"):
        split.resolved(np.array([50.0]), 10.0)
    with pytest.raises(ValueError, match="no node below -100"):
        rule.resolved(np.array([50.0, 30.0]), -100.0)


def test_a_known_trace_is_met_exactly_and_takes_noise_out_of_other_moments():
    values = [*np.linspace(5, 9, 9), *np.linspace(0.1, 1, 60), *np.zeros(131)]
    operator, trace, squares = DenseOperator(matrix(values)), float(np.sum(values)), float(np.square(values).sum())
    plain, turned = [], []
    for seed in range(40):
        rule = lanczos_quadrature(operator, 2, steps=20, generator=rng(seed))
        better = rule.with_total(trace)
        assert 200 * better.per_draw(lambda x: x) == pytest.approx([trace] * 2, rel=1e-10)
        assert all(w.min() >= 0 and w.sum() == pytest.approx(1) for w in better.weights)
        plain.append(200 * rule.mean(np.square).value - squares)
        turned.append(200 * better.mean(np.square).value - squares)
    assert np.std(turned) < 0.5 * np.std(plain)
    assert abs(np.mean(turned)) < 0.05 * squares
    exact = lanczos_quadrature(DenseOperator(matrix([1.0, 2.0])), 1, generator=rng()).with_total(3.0)
    assert exact.mean(lambda x: x).value == pytest.approx(1.5)
    with pytest.raises(ValueError, match="is it the trace of this operator"):
        rule.with_total(-1e6)
    with pytest.raises(ValueError, match="is it the trace of this operator"):
        rule.with_total(float("nan"))


def test_the_density_integrates_to_one_and_finds_the_bulk():
    dense = matrix([*BULK, 30.0])
    rule = lanczos_quadrature(DenseOperator(dense), 4, steps=20, generator=rng()).resolved(np.array([30.0]), 10.0)
    grid = np.linspace(-5, 40, 4000)
    each = rule.density(grid, 0.3)
    assert each.sum(1) * (grid[1] - grid[0]) == pytest.approx(np.ones(4), rel=1e-3)
    assert each[:, grid > 20].sum(1) * (grid[1] - grid[0]) == pytest.approx(np.full(4, 1 / 61), rel=1e-3)
    with pytest.raises(ValueError, match="width must be a positive number, got 0"):
        rule.density(grid, 0.0)


def test_one_draw_has_no_interval():
    rule = lanczos_quadrature(DenseOperator(matrix(BULK)), 1, generator=rng())
    assert isinstance(rule.mean(lambda x: x).uncertainty, Unknown)
    with pytest.raises(ValueError, match="draws and steps must be at least 1, got 0 and 30"):
        lanczos_quadrature(DenseOperator(matrix(BULK)), 0, generator=rng())


@pytest.mark.slow
@pytest.mark.parametrize("draws", [4])
def test_the_interval_covers_the_mean_as_often_as_it_says(draws):
    dense, truth = DenseOperator(matrix(np.linspace(-1, 3, 40).tolist())), 1.0
    hits = 0
    for seed in range(300):
        found = lanczos_quadrature(dense, draws, steps=3, generator=rng(seed)).mean(lambda x: x)
        assert isinstance(found.uncertainty, Statistical)
        hits += found.lower <= truth <= found.upper
    assert hits / 300 >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 300)
