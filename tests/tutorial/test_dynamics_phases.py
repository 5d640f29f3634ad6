"""Training phases: what the tutorial finds in noise, always, by construction."""

import numpy as np
import pytest
import torch

from theorylens.dynamics import change_points, label_noise_course, learning_speed

T = np.arange(200)


def test_no_phase_is_found_in_white_noise():
    """There: a rapid descent that ends at epoch 198 of pure noise."""
    for seed in range(5):
        losses = 1 + 0.05 * np.random.default_rng(seed).standard_normal(200)
        assert change_points(T, losses, seed=seed).steps == ()


def test_no_phase_is_found_in_a_plain_exponential_decay():
    """There: 50 plateaus of 199 differences for a decay and for constant noise alike."""
    assert change_points(T, np.exp(-T / 50)).steps == ()
    for seed in range(3):
        losses = (0.1 + np.exp(-T / 50)) * np.exp(0.03 * np.random.default_rng(seed).standard_normal(200))
        assert change_points(T, losses, seed=seed).steps == ()


def test_the_number_of_phases_is_not_a_quarter_of_the_record():
    law = np.where(T < 100, 2.0, 2.0 * np.exp(-(T - 100) / 20.0))
    found = change_points(T, law * np.exp(0.03 * np.random.default_rng(0).standard_normal(200)))
    assert len(found.steps) == 1
    assert abs(found.steps[0] - 100) <= 4


def test_phases_of_lists_of_two_lengths_are_refused():
    with pytest.raises(ValueError, match="one length"):
        change_points(T, np.ones(199))


def test_signal_and_noise_need_labels_that_were_flipped():
    """There, "noise" is the accuracy of the later half of the epochs less that of the earlier one."""
    labels = torch.tensor([0, 1, 0, 1])
    with pytest.raises(ValueError, match="0 of 4 labels were flipped"):
        label_noise_course(labels[None].expand(10, 4), labels, labels)


def test_a_network_that_only_gets_better_has_no_noise_learnt():
    """The tutorial's difference of two halves would call this improvement noise."""
    true, given = torch.tensor([0, 1, 0, 1, 0, 1]), torch.tensor([0, 1, 0, 1, 1, 0])
    predictions = torch.stack([torch.zeros(6, dtype=torch.long), true, true, true])
    found = label_noise_course(predictions, given, true)
    assert found.memorised[-1] == 0
    assert found.recovered[-1] == 1
    assert found.crossover is None


def test_a_record_shorter_than_the_window_is_refused_and_does_not_crash():
    with pytest.raises(ValueError, match="needed are more than the window of 10"):
        learning_speed(T[:5], np.ones(5), 10)


def test_the_slowdown_never_precedes_the_fastest_part():
    rate = np.where(T < 50, 0.01, np.where(T < 60, 0.001, np.where(T < 100, 0.05, 0.002)))
    found = learning_speed(T, np.exp(-np.cumsum(rate)), 10)
    assert found.slowdown > found.fastest >= 55
