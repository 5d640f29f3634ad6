"""What the tutorial gets wrong about data distribution, one test per defect; each would be red with its code."""

import math

import numpy as np
import pytest
import torch

from theorylens import bias


def test_an_empty_class_gives_no_infinite_ratio_and_no_nan():
    found = bias.class_balance([90, 10, 0])
    assert found.ratio == 9
    assert found.empty == 1
    assert all(math.isfinite(v) for v in (found.gini, found.effective, found.simpson))


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="class counts must be whole numbers from 0"):
        bias.class_balance([10, -3])
    with pytest.raises(ValueError, match="class counts"):
        bias.class_balance([])


def test_simple_examples_learnt_first_give_a_positive_order():
    """The tutorial returns minus the correlation of final losses and complexity: -.96 where simple comes first."""
    g = np.random.default_rng(0)
    complexity = np.arange(100.0)
    steps = np.arange(0, 200)
    learnt = steps[:, None] >= complexity + 5 * g.random(100)  # simple examples are right earlier
    found = bias.learning_order(bias.time_to_fit(learnt, steps), complexity)
    assert found.correlation.lower > 0.9


def test_an_order_of_learning_is_not_read_off_final_losses():
    """Simple and complex examples end at losses of one order and were learnt in the other."""
    complexity = np.arange(40.0)
    learnt = np.arange(50)[:, None] >= 40 - complexity  # complex first
    final_losses = 0.01 * complexity
    found = bias.learning_order(bias.time_to_fit(learnt, np.arange(50)), complexity)
    assert np.corrcoef(final_losses, complexity)[0, 1] == pytest.approx(1)
    assert found.correlation.upper < -0.9


def signs(n, seed):
    return torch.where(torch.rand(n, 1, generator=torch.Generator().manual_seed(seed)) < 0.5, -1.0, 1.0)


def test_a_shift_that_keeps_the_mean_is_found():
    """Standard normal against ±1: equal mean and variance. The squared difference of means sees nothing."""
    x, y = torch.randn(300, 1, generator=torch.Generator().manual_seed(0)), signs(300, 1)
    g = torch.Generator().manual_seed(2)
    assert float((x.mean() - y.mean()).square()) < 0.02
    assert bias.mmd_test(x, y, 199, g).p == 1 / 200
    assert bias.energy_test(x, y, 199, g).p == 1 / 200
    assert bias.feature_shift(x, y).smallest < 1e-6


def test_a_shift_statistic_comes_with_a_valid_p_value():
    g = torch.Generator().manual_seed(0)
    p = [
        bias.energy_test(torch.randn(20, 2, generator=g), torch.randn(20, 2, generator=g), 19, g).p for _ in range(200)
    ]
    assert min(p) == 1 / 20
    assert np.mean(np.array(p) <= 0.25) < 0.36  # 0.25 and four standard errors


def test_one_feature_does_not_crash():
    x, y = torch.randn(50, 1), torch.randn(60, 1)
    assert 0 < bias.mmd_test(x, y, 19, torch.Generator().manual_seed(0)).p <= 1
    assert bias.feature_shift(x, y).p.shape == (1,)


def test_samples_that_cannot_be_compared_are_refused():
    x = torch.randn(20, 3)
    for test in (lambda a, b: bias.mmd_test(a, b, 9, torch.Generator()), bias.energy_distance, bias.feature_shift):
        with pytest.raises(ValueError, match="shapes"):
            test(x, torch.randn(20, 2))
        with pytest.raises(ValueError, match="at least 2 rows"):
            test(x, x[:1])
        with pytest.raises(ValueError, match="not finite"):
            test(x, torch.full((5, 3), math.nan))


def test_label_noise_says_what_was_memorised_and_needs_no_flips():
    found = bias.noise_breakdown([0, 0, 1], [1, 0, 1], [1, 0, 1])
    assert found.memorised.value == 1
    assert bias.noise_breakdown([0, 1], [0, 1], [0, 1]).memorised is None


def test_twenty_per_cent_resampled_is_not_called_twenty_per_cent_noise():
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 10, (50_000,), generator=g)
    drawn = torch.rand(50_000, generator=g) < 0.2
    resampled = torch.where(drawn, torch.randint(0, 10, (50_000,), generator=g), labels)
    assert (resampled != labels).double().mean().item() == pytest.approx(bias.flip_rate(0.2, 10), abs=0.006)
    flipped = bias.flip_labels(labels, 0.2, 10, g)
    assert (flipped != labels).double().mean().item() == pytest.approx(0.2, abs=0.006)


def test_wrong_labels_are_found_without_the_true_ones():
    g = np.random.default_rng(0)
    true = g.integers(0, 3, 3000)
    labels = np.where(g.random(3000) < 0.1, (true + 1) % 3, true)
    p = 0.9 * np.eye(3)[true] + 0.1 / 3
    assert sorted(bias.suspected_labels(labels, p).tolist()) == np.flatnonzero(labels != true).tolist()
    assert bias.transition_matrix(labels, p) == pytest.approx(
        np.array([[0.9, 0.1, 0], [0, 0.9, 0.1], [0.1, 0, 0.9]]), abs=0.04
    )
