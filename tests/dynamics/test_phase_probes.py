"""Judges and readings of phases and drift on bare numbers; both probes on records and on a trained network."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from theorylens.core import Recipe, Subject, UnsuitableError
from theorylens.dynamics import _drift_probe as drift
from theorylens.dynamics import _phases as phases
from theorylens.dynamics import change_points, probe_drift, probe_phases, successive_gradients
from theorylens.results import Curve, Estimate, Exact, History, Intervals, Message, Statistical, Status, Table, Verdict

T = np.arange(120)
PLATEAU = np.where(T < 60, 2.0, 2.0 * np.exp(-(T - 60) / 15.0))
TWO = np.where(T < 40, 2.0, np.where(T < 80, 1.0, 0.5))


def noisy(law, seed=0):
    return law * np.exp(0.02 * np.random.default_rng(seed).standard_normal(len(law)))


def recorded(losses, steps=T):
    history = History.of({"step": steps.tolist(), "train_loss": np.asarray(losses).tolist()})
    return Subject(outputs={"test": (torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))}, history=history)


def test_the_judge_and_the_reading_of_phases():
    none, one, two = (change_points(T, noisy(law)) for law in (np.ones(120), PLATEAU, TWO))
    assert phases.judge(none)[0] is Verdict.INCONCLUSIVE
    assert "no change of course beyond noise" in phases.judge(none)[1].render()
    assert "One, as far as the record shows" in phases.read(none).render()
    assert "the course changes at step 60" in phases.judge(one)[1].render()
    assert "2 phases" in phases.read(one).render()
    assert "falls fastest in phase 2, by 0.06" in phases.read(one).render()
    assert "at steps 40 and 80 (the least certain with p\xa0=\xa00.005)" in phases.judge(two)[1].render()


def test_phases_of_a_record():
    result = probe_phases(recorded(noisy(PLATEAU)))
    assert result.estimate.value == 1
    assert (result.estimate.lower, result.estimate.upper) == (1, math.inf)
    curve, table = result.payload
    assert isinstance(curve, Curve)
    assert curve.lines[1].y == pytest.approx(PLATEAU, rel=0.2)
    assert isinstance(table, Table)
    assert [row[:2] for row in table.rows] == [(1, 0), (2, 60)]
    assert table.rows[1][3] == pytest.approx(-1 / 15, rel=0.05)
    assert result.assumptions[1].status is Status.MET


def test_noise_alone_has_one_phase():
    result = probe_phases(recorded(noisy(np.ones(120))))
    assert result.estimate.value == 0
    assert result.verdict is Verdict.INCONCLUSIVE


def test_short_or_broken_records_have_no_phases_to_speak_of():
    with pytest.raises(UnsuitableError, match="no training loss at 10 steps or more"):
        probe_phases(recorded([1.0, 2.0], np.arange(2)))
    losses = noisy(PLATEAU)
    losses[100:] = math.nan
    with pytest.raises(UnsuitableError, match="20 of 120 recorded losses are not finite"):
        probe_phases(recorded(losses))


def limits(low, high):
    return Statistical(lower=low, upper=high, level=0.95, method=Message("m", "a method"))


@pytest.mark.parametrize(
    ("low", "high", "verdict", "said"),
    [
        (0.1, 0.3, Verdict.DESCRIPTIVE, "go the same way: 0.2 of a step's square (0.1 to 0.3)"),
        (-0.3, -0.1, Verdict.DESCRIPTIVE, "undo one another"),
        (-0.1, 0.3, Verdict.INCONCLUSIVE, "cannot be told: −0.1 to 0.3"),
    ],
)
def test_the_judge_of_drift(low, high, verdict, said):
    estimate = Estimate(value=(low + high) / 2, uncertainty=limits(low, high))
    got, reason = drift.judge(estimate)
    assert got is verdict
    assert said in reason.render()


def test_the_reading_of_drift():
    rng = np.random.default_rng(0)
    steps = drift.Steps(lr=0.1, batch=32, known=True)

    def read(rest, step):
        noise = 0.01 * rng.standard_normal(64)
        return drift.read(drift.SuccessiveGradients(rest=rest + noise, step=step + noise, exact=False), steps).render()

    assert read(0.5, 0.4).startswith("Yes: at learning rate 0.1")
    assert "although the gradient has a direction here" in read(0.5, -0.4)
    assert "no mean gradient can be told from its noise" in read(0.0, -0.4)
    assert read(0.5, 0.0).startswith("Cannot be told from 64 pairs of batches of 32")


def test_full_batch_descent_is_judged_exactly(digits):
    result = probe_drift(digits)
    net = digits.net
    wanted = successive_gradients(net, digits.split("train"), "cross_entropy", lr=0.4, batch_size=200)
    assert result.estimate.value == pytest.approx(wanted.after.value, rel=1e-6)
    assert isinstance(result.estimate.uncertainty, Exact)
    assert [c.role for c in result.controls] == ["init"]
    assert isinstance(result.payload[0], Intervals)
    assert result.settings["batch"] == 200
    assert result.cost.gradients <= 2 * probe_drift.cost(digits, None).gradients


def test_small_batches_at_a_large_rate_undo_one_another(digits):
    def again(lr, momentum=0.0):
        settings = {"lr": lr, "batch_size": 4, "optimizer": "sgd", "momentum": momentum}
        subject = replace(digits, history=None, recipe=Recipe(train=lambda **_: None, settings=settings))
        return probe_drift(subject, draws=24)

    assert again(8.0).estimate.upper < 0
    assert again(1e-4).estimate.value > again(8.0).estimate.value
    assert again(0.8, momentum=0.9).estimate.value == pytest.approx(again(8.0).estimate.value, rel=1e-3)


def test_unknown_or_rescaled_steps_are_unsuitable(digits):
    adam = Recipe(train=lambda **_: None, settings={"optimizer": "adam", "lr": 0.001})
    for subject in (replace(digits, history=None, recipe=None), replace(digits, recipe=adam)):
        with pytest.raises(UnsuitableError, match="the size of a plain step is not known"):
            probe_drift(subject)


def test_a_batch_size_that_nobody_said_is_a_guess_and_said_to_be(digits):
    subject = replace(digits, recipe=None)
    result = probe_drift(subject)
    assert result.settings["batch"] == 32
    assert "32 is a guess" in result.assumptions[0].evidence.render()
