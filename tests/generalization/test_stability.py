"""Stability in closed form against retraining, the bound it gives, and the stability of a network, measured."""

import math

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from torch import nn

from theorylens.core import Recipe, RefusedError, Subject, UnsuitableError
from theorylens.generalization import (
    hoeffding,
    measured_stability,
    regularised_stability,
    ridge_stability,
    stability_bound,
    svm_stability,
)


def unit_data(n, d, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True), np.sign(rng.standard_normal(n)), rng


def left_out(fit, x, y, judged):
    """Largest change of the loss at fresh points over all examples left out."""
    points = unit_data(400, x.shape[1], 99)[0]
    full = fit(x, y)(points)
    worst = 0.0
    for i in range(len(x)):
        keep = np.arange(len(x)) != i
        other = fit(x[keep], y[keep])(points)
        worst = max(worst, *(np.abs(judged(full, t) - judged(other, t)).max() for t in (-1.0, 1.0)))
    return worst


def test_a_support_vector_machine_is_as_stable_as_said():
    x, y, _ = unit_data(40, 3, 0)

    def fit(x, y):
        machine = LinearSVC(loss="hinge", C=0.05, fit_intercept=False, tol=1e-10, max_iter=100_000).fit(x, y)
        return lambda points: points @ machine.coef_[0]

    found = left_out(fit, x, y, lambda f, t: np.clip(1 - t * f, 0, 1))
    assert 0.3 * svm_stability(0.05, 1.0) < found <= svm_stability(0.05, 1.0)


def test_logistic_regression_is_as_stable_as_said():
    x, y, _ = unit_data(40, 3, 1)
    penalty = 5.0  # sklearn: |w|^2 / 2 + C sum

    def fit(x, y):
        machine = LogisticRegression(C=1 / (2 * penalty), fit_intercept=False, tol=1e-10, max_iter=10_000).fit(x, y)
        return lambda points: points @ machine.coef_[0]

    found = left_out(fit, x, y, lambda f, t: np.logaddexp(0, -t * f))
    assert 0 < found <= regularised_stability(penalty, 1.0)


@pytest.mark.parametrize("penalty", [1.0, 10.0, 100.0])
def test_ridge_is_as_stable_as_said(penalty):
    x, y, _ = unit_data(40, 3, 2)

    def fit(x, y):
        machine = KernelRidge(alpha=penalty).fit(x, y)
        return lambda points: np.clip(machine.predict(points), -1, 1)

    assert 0 < left_out(fit, x, y, lambda f, t: (f - t) ** 2) <= ridge_stability(penalty, 1.0, 1.0, 40)


def test_the_bounds_written_out():
    root = math.sqrt(math.log(20) / 4000)
    assert stability_bound(0.1, 1e-4, 2000, 0.05) == pytest.approx(0.1 + 2e-4 + 1.8 * root)
    assert stability_bound(0.1, 1e-4, 2000, 0.05, measured="left-out") == pytest.approx(0.1 + 1e-4 + 1.8 * root)
    assert stability_bound(0.4, 1e-4, 2000, 0.05, largest=4.0) == pytest.approx(0.4 + 2e-4 + 4.8 * root)


def test_a_fixed_predictor_has_hoeffdings_bound():
    assert stability_bound(0.2, 0.0, 500, 0.01) == pytest.approx(0.2 + hoeffding(500, 0.01), rel=1e-9)


def test_an_unstable_learner_has_no_bound():
    assert stability_bound(0.0, 0.1, 1000, 0.05) == 1.0
    assert stability_bound(0.0, 1.0, 1000, 0.05, largest=4.0) == 4.0


@pytest.mark.slow
def test_the_bound_fails_no_more_often_than_delta():
    """Ridge with one constant input: the answer is sum y / (n + penalty), everything is known."""
    rng, n, delta, misses = np.random.default_rng(0), 2000, 0.05, 0
    stability = ridge_stability(float(n), 1.0, 1.0, n)
    for _ in range(4000):
        y = np.where(rng.random(n) < 0.3, 1.0, -1.0)
        answer = y.sum() / (2 * n)
        bound = stability_bound(((answer - y) ** 2).mean(), stability, n, delta, largest=4.0)
        misses += bound < 0.3 * (answer - 1) ** 2 + 0.7 * (answer + 1) ** 2
    assert bound < 4.0
    assert misses <= delta * 4000


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: stability_bound(1.5, 0.0, 10, 0.05), "must lie between 0 and 1"),
        (lambda: stability_bound(0.5, -1.0, 10, 0.05), "at least 0, got -1"),
        (lambda: stability_bound(0.5, math.nan, 10, 0.05), "at least 0, got nan"),
        (lambda: stability_bound(0.5, 0.0, 0, 0.05), "n must be at least 1"),
        (lambda: stability_bound(0.5, 0.0, 10, 1.0), "delta must lie strictly"),
        (lambda: stability_bound(0.5, 0.0, 10, 0.1, largest=0.0), "largest must be a finite number above 0"),
        (lambda: stability_bound(0.5, 0.0, 10, 0.1, measured="test"), "'training' or 'left-out'"),
        (lambda: svm_stability(0.0, 1.0), "C must be a finite number above 0"),
        (lambda: regularised_stability(1.0, -1.0), "radius must be"),
        (lambda: ridge_stability(1.0, 1.0, 0.0, 5), "largest must be"),
        (lambda: ridge_stability(1.0, 1.0, 1.0, 0), "n must be at least 1"),
    ],
)
def test_what_it_refuses(call, said):
    with pytest.raises(ValueError, match=said):
        call()


# ----------------------------------------------------------------------------------------------------- measured


class Means(nn.Module):
    """Answers the class with the nearer mean."""

    def __init__(self, means):
        super().__init__()
        self.means = nn.Parameter(means)

    def forward(self, x):
        return -torch.cdist(x, self.means)


def blobs(n, seed, scale=1.0):
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 2
    return torch.randn(n, 2, generator=rng) * scale + 2.0 * y[:, None], y


def subject(n=12, *, noise=0.0, takes_rows=True, test=True):
    x, y = blobs(n, 0)

    def train(*, seed, width=1.0, labels=None, rows=None, callbacks=()):
        keep = torch.as_tensor(rows if rows is not None else range(n))
        means = torch.stack([x[keep][y[keep] == c].mean(0) for c in (0, 1)])
        torch.manual_seed(seed)
        means = means + noise * torch.randn(2, 2)
        return Subject(model=Means(means), loss="cross_entropy", train=(x[keep], y[keep]))

    recipe = Recipe(train if takes_rows else lambda *, seed, width, labels, callbacks: train(seed=seed))
    more = {"test": blobs(500, 1)} if test else {}
    return Subject(model=train(seed=0).net, loss="cross_entropy", train=(x, y), recipe=recipe, **more)


def test_it_is_what_leaving_out_by_hand_finds():
    base = subject()
    found = measured_stability(base, draws=5, generator=torch.Generator().manual_seed(0))
    x, y = base.split("test").data
    right = [
        (base.recipe(seed=0, rows=tuple(j for j in range(12) if j != i)).net(x).argmax(1) != y).double()
        for i in [None, *found.rows.tolist()]
    ]
    by_hand = [float((each - right[0]).abs().mean()) for each in right[1:]]
    assert found.changes == pytest.approx(by_hand)
    assert found.change.value == pytest.approx(np.mean(by_hand))
    assert found.largest == max(by_hand) > 0
    assert found.repeated == found.reseeded == 0.0


def test_a_learner_of_many_examples_changes_less():
    few, many = (
        measured_stability(subject(n), draws=8, generator=torch.Generator().manual_seed(0)).change.value
        for n in (12, 400)
    )
    assert many < few / 4


def test_the_control_shows_what_a_seed_alone_does():
    found = measured_stability(subject(200, noise=0.5), draws=4, generator=torch.Generator().manual_seed(0))
    assert found.repeated == 0.0
    assert found.reseeded > 2 * found.change.value


def test_global_randomness_is_left_alone():
    base = subject()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    measured_stability(base, draws=2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_cannot_be_measured():
    rng = torch.Generator().manual_seed(0)
    with pytest.raises(UnsuitableError, match="needs a recipe"):
        measured_stability(subject(test=False), generator=rng)
    with pytest.raises(RefusedError, match="no argument rows"):
        measured_stability(subject(takes_rows=False), generator=rng)
    with pytest.raises(ValueError, match="draws must be at least 2"):
        measured_stability(subject(), draws=1, generator=rng)
