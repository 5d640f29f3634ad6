"""Schedules against closed forms, against torch's schedulers step by step, and their refusals."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from theorylens.dynamics import (
    constant,
    cosine_annealing,
    cosine_restarts,
    exponential_decay,
    followed,
    linear_to_zero,
    step_decay,
    warmup,
    warmup_stable_decay,
)

EPOCHS = (0, 25, 50, 75, 99)


def values(schedule, epochs=EPOCHS, lr=0.1):
    return [schedule.at(t, lr) for t in epochs]


def test_cosine(golden):
    assert values(cosine_annealing(100)) == pytest.approx(golden("G6.2-1"), rel=1e-9)


def test_step_decay(golden):
    assert values(step_decay(30, 0.1)) == pytest.approx(golden("G6.2-2"), rel=1e-9)


def test_exponential(golden):
    assert values(exponential_decay(0.97)) == pytest.approx(golden("G6.2-3"), rel=1e-9)


def test_warmup(golden):
    """G6.2-4 and S6.2-2."""
    assert values(warmup(10, constant()), (0, 5, 9, 10, 20)) == pytest.approx(golden("G6.2-4"), rel=1e-9)


def followed_by_torch(schedule, steps, lr=0.1):
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=lr)
    scheduler = schedule.scheduler(optimizer)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize(
    "schedule",
    [
        constant(), step_decay(7, 0.3), exponential_decay(0.9), cosine_annealing(40, lowest=0.01),
        cosine_restarts(5, growth=2, lowest=0.001), cosine_restarts(7), linear_to_zero(40), warmup(0, step_decay(3)),
        warmup(1, cosine_annealing(40)), warmup(6, cosine_annealing(34)), warmup(5, step_decay(4, 0.5)),
        warmup_stable_decay(4, 20, 16), followed(warmup(3, exponential_decay(0.8)), 10, linear_to_zero(40)),
    ],
    ids=lambda s: s.name,
)  # fmt: skip
def test_the_function_and_the_torch_scheduler_say_the_same(schedule):
    """S6.2-1: identical with torch's classes to rounding."""
    steps = 40 if schedule.horizon is None else min(40, schedule.horizon + 1)
    seen = followed_by_torch(schedule, steps)
    assert seen == pytest.approx([schedule.at(t, 0.1) for t in range(steps)], rel=1e-12, abs=1e-16)


def test_ours_is_torchs_own_class_where_there_is_one():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    pairs = [
        (step_decay(3), lr_scheduler.StepLR),
        (exponential_decay(0.9), lr_scheduler.ExponentialLR),
        (cosine_annealing(3), lr_scheduler.CosineAnnealingLR),
        (warmup(2, constant()), lr_scheduler.SequentialLR),
    ]
    for schedule, kind in pairs:
        assert isinstance(schedule.scheduler(optimizer), kind)


def test_every_parameter_group_keeps_its_own_rate():
    net = nn.Linear(2, 1)
    groups = [{"params": [net.weight], "lr": 0.1}, {"params": [net.bias], "lr": 0.4}]
    optimizer = torch.optim.SGD(groups)
    scheduler = warmup(2, linear_to_zero(4)).scheduler(optimizer)
    for t in range(6):
        assert [g["lr"] for g in optimizer.param_groups] == pytest.approx(
            [warmup(2, linear_to_zero(4)).at(t, lr) for lr in (0.1, 0.4)]
        )
        optimizer.step()
        scheduler.step()


def test_restarts_begin_again_and_a_single_cosine_does_not():
    schedule = cosine_restarts(10, growth=2)
    assert schedule.at(10, 0.1) == schedule.at(30, 0.1) == 0.1
    assert schedule.at(20, 0.1) == pytest.approx(0.05)
    assert schedule.horizon is None


def test_warmup_stable_decay_has_its_three_parts():
    schedule = warmup_stable_decay(5, 10, 5)
    found = np.array([schedule.at(t, 1.0) for t in range(21)])
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert (found[5:16] == 1).all()
    assert found[15:] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.0])
    assert schedule.horizon == 20


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: step_decay(0), "every must be at least 1, got 0"),
        (lambda: step_decay(1, 0.0), "factor must lie above 0 and be at most 1, got 0.0"),
        (lambda: step_decay(1).at(-1, 0.1), "the step must be zero or more, got -1"),
        (lambda: exponential_decay(1.5), "gamma must lie above 0 and be at most 1, got 1.5"),
        (lambda: exponential_decay(0.0), "gamma must lie above 0"),
        (lambda: cosine_annealing(0), "horizon must be at least 1, got 0"),
        (lambda: cosine_annealing(10, lowest=-1.0), "lowest must be zero or more, got -1.0"),
        (lambda: cosine_annealing(100).at(150, 0.1), "ends at step 100, asked was step 150"),
        (lambda: cosine_restarts(0), "first must be at least 1"),
        (lambda: cosine_restarts(1, growth=0), "growth must be at least 1"),
        (lambda: linear_to_zero(10).at(11, 0.1), "the linear to zero schedule ends at step 10"),
        (lambda: warmup(-1, constant()), "the warm-up must take zero steps or more, got -1"),
        (lambda: warmup(2, cosine_annealing(3)).at(6, 0.1), "ends at step 5, asked was step 6"),
        (lambda: followed(cosine_annealing(3), 5, constant()), "has steps 0 to 3, so it cannot fill 5 steps"),
        (lambda: constant().at(0, 0.0), "lr must be a positive number, got 0.0"),
        (lambda: constant().at(0, math.nan), "lr must be a positive number, got nan"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_the_torch_scheduler_refuses_steps_after_the_end_too():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    scheduler = cosine_annealing(3).scheduler(optimizer)
    optimizer.step()
    for _ in range(3):
        scheduler.step()
    with pytest.raises(ValueError, match="ends at step 3, asked was step 4"):
        scheduler.step()
