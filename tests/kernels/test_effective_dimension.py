"""Effective dimension, leverage and kernel movement: golden values, laws, coverage, refusals."""

import numpy as np
import pytest
import torch

from theorylens.kernels import effective_dimension, kernel_movement, leverage
from theorylens.kernels._jackknife import leave_one_out, with_interval

LEVELS = torch.tensor([10.0, 8, 5, 3, 2, 1, 0.5, 0.1], dtype=torch.float64)


def gram(n=10, d=4, seed=0):
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x @ x.T


def test_golden_values(golden):
    assert effective_dimension(torch.tensor([1.0, 2, 4]), 1.0) == pytest.approx(golden("G4.3-5"), rel=1e-9)
    assert effective_dimension(LEVELS, 1.0) == pytest.approx(4.972222222, rel=1e-9)


def test_the_matrix_and_its_eigenvalues_agree_with_the_smoother():
    K = gram()
    smoother = K @ torch.linalg.inv(K + 0.3 * torch.eye(10, dtype=torch.float64))
    assert effective_dimension(K, 0.3) == pytest.approx(float(smoother.trace()), rel=1e-10)
    assert effective_dimension(torch.linalg.eigvalsh(K), 0.3) == pytest.approx(float(smoother.trace()), rel=1e-10)
    torch.testing.assert_close(leverage(K, 0.3), smoother.diagonal())
    assert effective_dimension(K, 0.03, per_example=True) == pytest.approx(float(smoother.trace()), rel=1e-10)
    torch.testing.assert_close(leverage(K, 0.03, per_example=True), smoother.diagonal())


def test_limits_and_scale():
    K = gram()
    assert effective_dimension(K, 1e-8) == pytest.approx(4, abs=1e-4)  # the rank
    assert effective_dimension(K, 1e12) < 1e-9
    assert effective_dimension(7 * K, 7 * 0.3) == pytest.approx(effective_dimension(K, 0.3), rel=1e-12)
    assert effective_dimension(K.numpy(), 0.3) == pytest.approx(effective_dimension(K, 0.3), rel=1e-12)


@pytest.mark.parametrize(
    ("given", "ridge", "match"),
    [
        (LEVELS, 0.0, "ridge must be positive, got 0"),
        (LEVELS, float("nan"), "ridge must be positive"),
        (torch.tensor([1.0, -1e-3]), 0.1, "positive semi-definite, got an eigenvalue of -0.001"),
        (torch.eye(3) - 1, 0.1, "positive semi-definite"),
        (torch.tensor([1.0, torch.inf]), 0.1, "eigenvalues must be finite"),
        (torch.ones(2, 3), 0.1, "square matrix"),
    ],
)
def test_what_is_refused(given, ridge, match):
    with pytest.raises(ValueError, match=match):
        effective_dimension(given, ridge)


def test_movement_of_known_kernels():
    K = gram()
    same = kernel_movement(K, 3 * K)
    assert same.relative == pytest.approx(2)
    assert same.turn == pytest.approx(0, abs=1e-12)
    assert same.centred_turn == pytest.approx(0, abs=1e-12)
    lifted = kernel_movement(torch.eye(4), torch.eye(4) + 1)  # a constant part: centring does not see it
    assert lifted.relative == pytest.approx(2)
    assert lifted.turn == pytest.approx(1 - 8 / (4 * 28) ** 0.5)
    assert lifted.centred_turn == pytest.approx(0, abs=1e-12)
    crossed = kernel_movement(torch.diag(torch.tensor([1.0, 0])), torch.diag(torch.tensor([0, 1.0])))
    assert (crossed.relative, crossed.turn) == (pytest.approx(2**0.5), pytest.approx(1))


def test_what_movement_refuses():
    with pytest.raises(ValueError, match="use the same examples"):
        kernel_movement(torch.eye(3), torch.eye(4))
    with pytest.raises(ValueError, match="a kernel is zero"):
        kernel_movement(torch.eye(3), torch.zeros(3, 3))


def drawn(n, seed):
    generator = np.random.default_rng(seed)
    y = np.arange(n) % 4
    x = np.random.default_rng(77).normal(size=(4, 12))[y] + generator.normal(size=(n, 12)) * np.linspace(1, 0.05, 12)
    return torch.as_tensor(x @ x.T), y


def dimension(K):
    levels = torch.linalg.eigvalsh(K).clamp(min=0)
    return effective_dimension(levels / levels.mean(), 0.01)


@pytest.mark.slow
def test_the_jackknife_interval_covers_the_mean_over_fresh_rows():
    """Range: 40 rows, 4 classes, a decaying spectrum; the truth is the mean dimension over 4,000 draws of 40 rows."""
    n = 40
    truth = np.mean([dimension(drawn(n, seed)[0]) for seed in range(10_000, 14_000)])
    hits = 0
    for seed in range(2000):
        K, y = drawn(n, seed)
        without = leave_one_out(lambda i, K=K: dimension(K[i][:, i]), n)
        estimate = with_interval(dimension(K), without, y)
        hits += estimate.lower <= truth <= estimate.upper
    assert hits / 2000 > 0.935
