"""Leaving out one example at a time: shortcuts against training again, and the bound for nearest neighbours."""

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import KNeighborsClassifier

from theorylens.generalization import neighbours_bound, neighbours_leave_one_out, ridge_leave_one_out


def data(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng


@pytest.mark.parametrize("penalty", [1e-6, 0.1, 10.0])
def test_linear_ridge_is_the_same_as_training_n_times(penalty):
    x, rng = data(25, 4)
    y = rng.standard_normal(25)
    found = ridge_leave_one_out(x @ x.T, y, penalty)
    for i in range(25):
        keep = np.arange(25) != i
        again = Ridge(alpha=penalty, fit_intercept=False, solver="svd").fit(x[keep], y[keep])
        assert found[i] == pytest.approx(again.predict(x[i : i + 1])[0], rel=1e-6, abs=1e-8)


def test_kernel_ridge_with_several_outputs_is_the_same_as_training_n_times():
    x, rng = data(20, 3, 1)
    y = rng.standard_normal((20, 2))
    found = ridge_leave_one_out(rbf_kernel(x, gamma=0.5), y, 0.3)
    for i in range(20):
        keep = np.arange(20) != i
        again = KernelRidge(alpha=0.3, kernel="rbf", gamma=0.5).fit(x[keep], y[keep])
        assert found[i] == pytest.approx(again.predict(x[i : i + 1])[0], rel=1e-9)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_neighbours_are_the_same_as_training_n_times(k):
    x, rng = data(60, 2, 2)
    y = rng.integers(0, 3, 60)
    found = neighbours_leave_one_out(x, y, k)
    for i in range(60):
        keep = np.arange(60) != i
        again = KNeighborsClassifier(k, algorithm="brute").fit(x[keep], y[keep])
        assert found[i] == again.predict(x[i : i + 1])[0]


def test_the_bound_written_out():
    assert neighbours_bound(0.1, 1000, 3, 0.05) == pytest.approx(0.1 + np.sqrt((13 / 1000 + 6 / 999) / 0.05))
    assert neighbours_bound(0.1, 50, 3, 0.05) == 1.0


def neighbours_run(n, k, rng):
    """True error and error at left-out examples of the k-NN rule on [0, 1] with labels 1 of chance 0.3 everywhere."""
    x, y = np.sort(rng.random(n)), (rng.random(n) < 0.3).astype(int)
    answers = KNeighborsClassifier(k, algorithm="kd_tree").fit(x[:, None], y).predict(np.linspace(0, 1, 2001)[:, None])
    chance = answers.mean()  # of answering 1 at a uniform point
    left_out = (neighbours_leave_one_out(x[:, None], y, k) != y).mean()
    return chance * 0.7 + (1 - chance) * 0.3, left_out


def test_the_squared_difference_is_within_what_the_derivation_allows():
    rng = np.random.default_rng(0)
    for n, k in [(40, 1), (40, 5)]:
        runs = np.array([neighbours_run(n, k, rng) for _ in range(60)])
        square = ((runs[:, 0] - runs[:, 1]) ** 2).mean()
        assert 0 < square <= (1 + 4 * k) / n + 2 * k / (n - 1)


@pytest.mark.slow
def test_the_bound_fails_no_more_often_than_delta():
    rng, misses = np.random.default_rng(1), 0
    for _ in range(1000):
        truth, left_out = neighbours_run(200, 1, rng)
        misses += neighbours_bound(left_out, 200, 1, 0.3) < truth
    assert misses <= 300


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ridge_leave_one_out(np.ones((2, 3)), [1, 2], 1.0), "square and finite"),
        (lambda: ridge_leave_one_out([[1.0, np.nan], [0.0, 1.0]], [1, 2], 1.0), "square and finite"),
        (lambda: ridge_leave_one_out([[1.0, 0.5], [0.0, 1.0]], [1, 2], 1.0), "symmetric, this one is not"),
        (lambda: ridge_leave_one_out(np.eye(2), [1, 2, 3], 1.0), "as many finite targets"),
        (lambda: ridge_leave_one_out(np.eye(2), [1, 2], 0.0), "penalty must be"),
        (lambda: ridge_leave_one_out(-5 * np.eye(2), [1, 2], 1.0), "not positive definite"),
        (lambda: neighbours_leave_one_out([1.0, 2.0], [0, 1], 1), "points \\(n, d\\)"),
        (lambda: neighbours_leave_one_out([[1.0], [2.0]], [0.5, 1.0], 1), "classes 0, 1"),
        (lambda: neighbours_leave_one_out([[1.0], [2.0]], [0, 1], 2), "between 1 and n - 1"),
        (lambda: neighbours_bound(1.2, 10, 1, 0.05), "left_out must lie"),
        (lambda: neighbours_bound(0.1, 10, 10, 0.05), "k must be below n"),
        (lambda: neighbours_bound(0.1, 10, 1, 0.0), "delta must lie"),
    ],
)
def test_what_it_refuses(call, said):
    with pytest.raises(ValueError, match=said):
        call()
