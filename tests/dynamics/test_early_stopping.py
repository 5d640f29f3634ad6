"""Early stopping by hand-worked examples, against Prechelt's definitions written out again, and with weights."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.dynamics import (
    EarlyStopping,
    early_stop,
    generalisation_loss,
    patience,
    progress_quotient,
    relative_rise,
    successive_rises,
    training_progress,
)


def test_patience_gives_the_stop_and_the_best_epoch(golden):
    stop, best = golden("G6.3-6")
    found = early_stop([1.0, 0.5, 0.6, 0.7, 0.8], patience(2))
    assert (found.stopped_epoch, found.best_epoch) == (stop, best)


def test_a_run_that_never_stops_has_no_stop_epoch():
    found = early_stop([3.0, 2.0, 1.0], patience(2))
    assert found.stopped_epoch is None
    assert found.best_epoch == 2


def test_a_small_gain_does_not_reset_patience():
    losses = [1.0, 0.999, 0.998, 0.997]
    assert early_stop(losses, patience(3)).stopped_epoch is None
    found = early_stop(losses, patience(3, min_delta=0.01), min_delta=0.01)
    assert (found.stopped_epoch, found.best_epoch) == (3, 0)


def test_accuracies_are_maximised():
    found = early_stop([0.5, 0.9, 0.8, 0.7], patience(2), mode="max")
    assert (found.stopped_epoch, found.best_epoch) == (3, 1)


def prechelt(validation, training, gl=None, pq=None, up=None, k=5):
    """Section 2 of the paper, epochs counted from 1."""
    for t in range(1, len(validation) + 1):
        rise = 100 * (validation[t - 1] / min(validation[:t]) - 1)
        if gl is not None and rise > gl:
            return t - 1
        if t % k == 0:
            strip = training[t - k : t]
            progress = 1000 * (sum(strip) / (k * min(strip)) - 1)
            if pq is not None and rise / progress > pq:
                return t - 1
            if up is not None and t >= (up + 1) * k:
                ends = [validation[t - 1 - i * k] for i in range(up + 1)]
                if all(a > b for a, b in itertools.pairwise(ends)):
                    return t - 1
    return None


@pytest.mark.parametrize("seed", range(5))
def test_prechelts_criteria_agree_with_his_definitions(seed):
    rng = np.random.default_rng(seed)
    t = np.arange(1, 101)
    training = (1 / t + 0.1) * np.exp(0.02 * rng.standard_normal(100))
    validation = (1 / t + 0.004 * t + 0.2) * np.exp(0.03 * rng.standard_normal(100))
    for limit in (2.0, 10.0, 30.0):
        found = early_stop(validation, generalisation_loss(limit)).stopped_epoch
        assert found == prechelt(validation, training, gl=limit)
    for limit in (0.1, 0.5, 2.0):
        found = early_stop(validation, progress_quotient(limit), training=training).stopped_epoch
        assert found == prechelt(validation, training, pq=limit)
    for strips in (1, 2, 4):
        assert early_stop(validation, successive_rises(strips)).stopped_epoch == prechelt(
            validation, training, up=strips
        )


def test_the_parts_of_the_criteria_by_hand():
    assert relative_rise([2.0, 1.0, 1.5]) == pytest.approx(50.0)
    assert training_progress([9.0, 2.0, 1.0, 3.0], strip=3) == pytest.approx(1000.0)
    # No progress in training: any rise stops.
    flat = early_stop([1.0, 1.0, 1.1], progress_quotient(1.0, strip=3), training=[1.0, 1.0, 1.0])
    assert flat.stopped_epoch == 2


def test_the_best_weights_come_back():
    net = nn.Linear(1, 1)
    stopping = EarlyStopping(patience(2))
    for i, value in enumerate((1.0, 0.5, 0.6, 0.7)):
        with torch.no_grad():
            net.weight.fill_(float(i))
        stopped = stopping.update(value, model=net)
    assert stopped
    assert net.weight.item() == 3.0
    stopping.restore(net)
    assert net.weight.item() == 1.0
    assert stopping.best_value == 0.5
    with pytest.raises(RuntimeError, match="stopped at epoch 3 already"):
        stopping.update(0.1)


def test_weights_that_were_not_given_cannot_come_back():
    stopping = EarlyStopping(patience(1))
    stopping.update(1.0)
    with pytest.raises(RuntimeError, match="pass model= to update"):
        stopping.restore(nn.Linear(1, 1))


def test_what_a_value_that_is_no_number_does_is_said_beforehand():
    losses = [1.0, math.nan, 0.5]
    with pytest.raises(ValueError, match="the value of epoch 1 is nan"):
        early_stop(losses, patience(2))
    assert early_stop(losses, patience(2), nan="stop").stopped_epoch == 1
    found = early_stop(losses, patience(2), nan="worse")
    assert (found.stopped_epoch, found.best_epoch) == (None, 2)
    for mode in ("min", "max"):
        assert early_stop([1.0, math.nan], patience(5), nan="worse", mode=mode).best_epoch == 0
    with pytest.raises(ValueError, match="no value is a number"):
        early_stop([math.nan], patience(2), nan="worse")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: patience(0), "patience must be at least 1, got 0"),
        (lambda: patience(1, -1.0), "min_delta must be zero or more, got -1.0"),
        (lambda: generalisation_loss(0.0), "limit must be a positive number, got 0.0"),
        (lambda: progress_quotient(1.0, 0), "strip must be at least 1, got 0"),
        (lambda: successive_rises(0), "strips must be at least 1, got 0"),
        (lambda: early_stop([], patience(1)), "there are no values"),
        (lambda: early_stop([1.0], patience(1), training=[1.0, 2.0]), "2 training losses for 1 epochs"),
        (lambda: early_stop([1.0], progress_quotient(1.0)), "needs the training loss of every epoch: 0 for 1"),
        (lambda: relative_rise([0.0, 1.0]), "a relative rise needs positive losses, got 0.0"),
        (lambda: training_progress([1.0], 2), "training progress needs 2 positive training losses"),
        (lambda: EarlyStopping(patience(1), min_delta=-1.0), "min_delta must be zero or more"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_unknown_words_are_refused(unchecked_shapes):
    with pytest.raises(ValueError, match="mode must be 'min' or 'max', got 'up'"):
        EarlyStopping(patience(1), mode="up")
    with pytest.raises(ValueError, match="nan must be 'raise', 'stop' or 'worse', got 'skip'"):
        EarlyStopping(patience(1), nan="skip")
