"""Theorems about learners, run: no free lunch, Novikoff's bound, progressive validation."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from theorylens.generalization import no_free_lunch, perceptron, progressive_validation


@pytest.mark.parametrize("make", [lambda: KNeighborsClassifier(1), DecisionTreeClassifier])
def test_no_learner_beats_a_guess_on_what_it_has_not_seen(make):
    points = np.random.default_rng(0).standard_normal((24, 3))
    found = no_free_lunch(make, points, 12, runs=600, generator=torch.Generator().manual_seed(0))
    assert found.upper >= 0.25
    exact = (1 - 1 / 24) ** 12 / 2  # learners that fit what they saw and guess the rest
    assert found.lower <= exact <= found.upper


def test_the_perceptron_keeps_its_promise():
    rng = np.random.default_rng(1)
    for _ in range(20):
        x = rng.standard_normal((60, 4))
        w = rng.standard_normal(4)
        y = np.where(x @ w > 0, 1, -1)
        kept = np.abs(x @ w) / np.linalg.norm(w) > 0.1
        run = perceptron(x[kept], y[kept])
        assert run.separated
        assert (y[kept] * (x[kept] @ run.weights) > 0).all()
        true_margin = (np.abs(x[kept] @ w) / np.linalg.norm(w)).min()
        assert run.mistakes <= (np.linalg.norm(x[kept], axis=1).max() / true_margin) ** 2
        assert run.mistakes <= run.bound


def test_what_cannot_be_separated_has_no_bound():
    run = perceptron([[0.0, 0.0, 1], [1.0, 1.0, 1], [0.0, 1.0, 1], [1.0, 0.0, 1]], [1, 1, -1, -1], passes=50)
    assert (run.separated, run.bound) == (False, math.inf)


@pytest.mark.slow
@pytest.mark.parametrize("falling", [False, True])
def test_progressive_validation_holds_for_risks_that_depend_on_the_run(falling):
    rng, n, delta, runs = np.random.default_rng(0), 50, 0.2, 4000
    missed = 0
    for _ in range(runs):
        errors, risks, p = [], [], 0.5
        for _ in range(n):
            risks.append(p)
            wrong = rng.random() < p
            errors.append(int(wrong))
            p = (
                (max(0.02, p * 0.9) if wrong else p)
                if falling
                else (min(0.9, p + 0.05) if not wrong else max(0.05, p - 0.05))
            )
        missed += np.mean(risks) > progressive_validation(errors, delta)
    assert stats.binom.sf(missed - 1, runs, delta) >= 1e-4


def test_progressive_validation_pays_for_its_choice():
    from theorylens.generalization import kl_inverse

    found = progressive_validation([0] * 99 + [1], 0.05)
    assert found == pytest.approx(kl_inverse(0.01, math.log(101 / 0.05) / 100))
    assert progressive_validation([1] * 10, 0.05) == 1.0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: no_free_lunch(DecisionTreeClassifier, np.zeros((5, 1)), 3, runs=1, generator=torch.Generator()),
         "give at least 6 points"),
        (lambda: perceptron([[1.0]], [0]), "labels of -1 and 1"),
        (lambda: perceptron([[1.0]], [1], passes=0), "passes must be at least 1"),
        (lambda: progressive_validation([0.5], 0.05), "errors must be a list of 0 and 1"),
        (lambda: progressive_validation([], 0.05), "errors must be a list of 0 and 1"),
        (lambda: progressive_validation([0], 1.0), "delta must lie strictly between 0 and 1"),
    ],
)  # fmt: skip
def test_what_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
