"""Schedules, scaling and early stopping: what crashes, rises or is lost in the tutorial."""

import pytest

from theorylens.dynamics import (
    cosine_annealing,
    early_stop,
    patience,
    scale_learning_rate,
    step_decay,
)


def test_the_cosine_does_not_rise_again_after_its_end():
    """There, step 150 of 100 gives half the learning rate back."""
    with pytest.raises(ValueError, match="ends at step 100, asked was step 150"):
        cosine_annealing(100).at(150, lr=0.1)


def test_a_decay_every_zero_steps_is_refused_and_does_not_crash():
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        step_decay(0)


def test_an_adaptive_optimizer_does_not_scale_linearly():
    assert scale_learning_rate(0.01, 256, 1024, optimizer="adam").lr == pytest.approx(0.02)


def test_linear_scaling_ends_at_the_noise_scale():
    found = scale_learning_rate(0.01, 256, 65536, noise_scale=512.0)
    assert found.lr < 0.01 * 3.01  # the tutorial: 256 times
    assert found.warning is not None


def test_early_stopping_knows_the_best_epoch_and_not_only_the_stop():
    """S6.3-2: with patience 10 the stop comes ten epochs after the best (87 and 77 in the tutorial's example)."""
    losses = [1 / (1 + t) for t in range(78)] + [0.5] * 122
    found = early_stop(losses, patience(10))
    assert (found.stopped_epoch, found.best_epoch) == (87, 77)


def test_early_stopping_that_is_not_triggered_gives_no_epoch_outside_the_run():
    found = early_stop([3.0, 2.0, 1.0], patience(10))
    assert found.stopped_epoch is None
    assert found.best_epoch == 2


def test_a_loss_that_is_no_number_does_not_count_as_merely_worse():
    with pytest.raises(ValueError, match="the value of epoch 1 is nan"):
        early_stop([1.0, float("nan"), 0.5], patience(1))


def test_patience_of_zero_is_refused():
    with pytest.raises(ValueError, match="patience must be at least 1, got 0"):
        patience(0)
