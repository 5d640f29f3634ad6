"""Margins and their bound: the contract's values, loops, real linear classifiers, validity by simulation, refusals."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from theorylens.generalization import L2Ball, margin_bound, margin_gap, margin_loss, margins


def test_gaps_of_the_contract(golden):
    fixed, uniform = golden("G1.2-9")
    assert margin_gap(0.1, 0.5, 1000, 0.05) == pytest.approx(fixed, rel=1e-9)
    assert margin_gap(0.1, 0.5, 1000, 0.05, largest=1.0) == pytest.approx(uniform, rel=1e-9)
    for margin, value in ((0.1, 2.0387), (0.5, 0.4387), (1.0, 0.2387), (2.0, 0.1387)):  # S1.2-2
        assert margin_gap(0.1, margin, 1000, 0.05) == pytest.approx(min(1.0, value), abs=5e-5)


def test_the_other_forms():
    root = math.sqrt(math.log(2 / 0.05) / 2000)
    assert margin_gap(0.01, 0.5, 1000, 0.05, empirical=True) == pytest.approx(0.04 + 3 * root)
    search = math.sqrt(math.log(3) / 1000)
    both = margin_gap(0.01, 0.5, 1000, 0.05, empirical=True, largest=2.0)
    assert both == pytest.approx(0.08 + 3 * search + 3 * math.sqrt(math.log(4 / 0.05) / 2000))
    assert margin_gap(0.001, 0.5, 1000, 0.05, classes=10) == pytest.approx(
        0.001 * 2 / 0.5 * 20 + math.sqrt(math.log(20) / 2000)
    )


def test_margins_by_hand():
    scores = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    y = torch.randint(4, (50,), generator=torch.Generator().manual_seed(1))
    loops = [float(s[t] - max(s[j] for j in range(4) if j != t)) for s, t in zip(scores, y, strict=True)]
    assert margins(scores, y).tolist() == pytest.approx(loops)
    assert ((margins(scores, y) > 0) == (scores.argmax(1) == y)).all()
    one = torch.tensor([0.5, -2.0, 1.0])
    assert margins(one, torch.tensor([1, 0, 0])).tolist() == [0.5, 2.0, -1.0]
    assert margins(one[:, None], torch.tensor([1.0, -1.0, -1.0])).tolist() == [0.5, 2.0, -1.0]


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=30), st.floats(0.01, 3))
def test_the_margin_loss_lies_between_two_shares(values, margin):
    m = np.array(values)
    loss = margin_loss(m, margin)
    assert (m <= 0).mean() - 1e-12 <= loss <= (m < margin).mean() + 1e-12
    assert margin_loss(m, 2 * margin) >= loss - 1e-12


def test_a_large_margin_on_real_data():
    """A linear classifier of norm 1 on digits 0 and 1: the bound is not vacuous and lies above the test error."""
    from sklearn.datasets import load_digits
    from sklearn.svm import LinearSVC

    x, y = load_digits(n_class=2, return_X_y=True)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    train, test = slice(None, 300), slice(300, None)
    w = LinearSVC(fit_intercept=False, max_iter=100_000).fit(x[train], y[train]).coef_[0]
    w /= np.linalg.norm(w)
    reach = L2Ball(points=x[train]).bound
    found = margin_bound((2 * y[train] - 1) * (x[train] @ w), 0.3, reach, 0.05, largest=1.0, empirical=True)
    error = np.mean((2 * y[test] - 1) * (x[test] @ w) <= 0)
    assert error <= found.bound
    fixed = margin_bound((2 * y[train] - 1) * (x[train] @ w), 0.3, reach, 0.05, empirical=True)
    assert fixed.bound < found.bound
    assert fixed.bound == pytest.approx(min(1.0, fixed.empirical + fixed.gap))


@pytest.mark.slow
@pytest.mark.parametrize("uniform", [False, True])
def test_the_bound_holds_for_the_best_of_all_directions(uniform):
    """Pure noise labels: every direction has error 1/2; the one with the least bound is taken, 4,000 times."""
    rng, m, delta, runs = np.random.default_rng(0), 40, 0.3, 4000
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    directions = np.c_[np.cos(angles), np.sin(angles)]
    grid = (0.25, 0.5, 1.0) if uniform else (1.0,)
    missed = 0
    for _ in range(runs):
        x = rng.standard_normal((m, 2))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        score = (x @ directions.T) * rng.choice([-1.0, 1.0], (m, 1))
        least = min(
            np.clip(1 - score / r, 0, 1).mean(0).min()
            + margin_gap(L2Ball(points=x).bound, r, m, delta, largest=1.0 if uniform else None, empirical=True)
            for r in grid
        )
        missed += least < 0.5
    assert stats.binom.sf(missed - 1, runs, delta) >= 1e-4


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: margin_gap(0.1, 0.0, 100, 0.05), "margin must be a finite number above 0, got 0"),
        (lambda: margin_gap(0.1, -1.0, 100, 0.05), "margin must be a finite number above 0, got -1"),
        (lambda: margin_gap(-0.1, 1.0, 100, 0.05), "a Rademacher complexity is finite and at least 0, got -0.1"),
        (lambda: margin_gap(0.1, 1.0, 0, 0.05), "m must be at least 1"),
        (lambda: margin_gap(0.1, 1.0, 10, 1.5), "delta must lie strictly between 0 and 1"),
        (lambda: margin_gap(0.1, 1.0, 10, 0.1, largest=0.5), "the margin must be at most largest = 0.5, got 1"),
        (lambda: margin_gap(0.1, 1.0, 10, 0.1, largest=0.0), "largest must be a finite number above 0"),
        (lambda: margin_gap(0.1, 1.0, 10, 0.1, classes=1), "classes must be at least 2"),
        (lambda: margin_bound([], 1.0, 0.1, 0.1), "margins must be finite, at least one; got 0"),
        (lambda: margin_bound([math.nan], 1.0, 0.1, 0.1), "got 1, 1 not finite"),
        (lambda: margins(torch.zeros(3, 2), torch.tensor([0, 1, 2])), "class numbers run from 0 to 1, got 0 to 2"),
        (lambda: margins(torch.zeros(3, 2), torch.tensor([0, 1])), "scores \\(n, classes\\) and n class numbers"),
        (lambda: margins(torch.zeros(3), torch.tensor([0, 1, 2])), "targets are 0 and 1, or -1 and 1"),
    ],
)
def test_what_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
