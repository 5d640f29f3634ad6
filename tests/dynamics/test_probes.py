"""Judge and reading of the loss slope on bare numbers; both probes on a small trained network."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.core import Subject, UnsuitableError
from theorylens.dynamics import Turning, loss_slope, probe_loss_slope, probe_sharpening
from theorylens.dynamics._progress import judge, read
from theorylens.landscape import eigenvalues
from theorylens.results import Curve, Estimate, History, Kind, Message, Statistical, Status, Table, Unknown, Verdict

WHY = Message("test.why", "for a test")


def slope(value, error, trouble=None):
    if trouble is not None:
        return Estimate(value=value, uncertainty=Unknown(why=trouble), trouble=trouble)
    return Estimate(
        value=value, uncertainty=Statistical(lower=value - error, upper=value + error, level=0.95, method=WHY)
    )


@pytest.mark.parametrize(
    ("estimate", "verdict", "said", "answer"),
    [
        (slope(-0.5, 0.1), Verdict.DESCRIPTIVE, "still falling, as the step to the power −0.5", "Yes: if this power"),
        (slope(-0.5, 0.1), Verdict.DESCRIPTIVE, "(−0.6 to −0.4)", "would take 4 times the training so far"),
        (slope(-0.05, 0.01), Verdict.DESCRIPTIVE, "still falling", "Yes, but slowly"),
        (slope(-1e-5, 1e-6), Verdict.DESCRIPTIVE, "still falling", "Yes, but slowly"),
        (slope(0.5, 0.1), Verdict.DESCRIPTIVE, "rising", "No: the training loss rises"),
        (slope(-0.5, 0.6), Verdict.INCONCLUSIVE, "flat within its noise", "cannot be told from noise"),
        (slope(-0.5, 0, WHY), Verdict.INCONCLUSIVE, "no answer: for a test", "Unknown, for the reason given"),
    ],
)
def test_the_judge_and_the_reading_of_a_slope(estimate, verdict, said, answer):
    got, reason = judge(estimate)
    assert got is verdict
    assert said in reason.render()
    assert answer in read(estimate, None).render()


@pytest.mark.parametrize(
    ("turned", "said"),
    [
        (None, "No validation loss was recorded"),
        (Turning(step=40, lowest=1.0, last=1.5, slope=slope(0.5, 0.1)), "lowest at step 40, rises and ends 50.0"),
        (Turning(step=40, lowest=1.0, last=1.5, slope=slope(0.5, 0.6)), "a rise since then cannot be told from noise"),
        (Turning(step=40, lowest=1.0, last=1.5, slope=None), "too few records for a slope"),
        (Turning(step=99, lowest=1.0, last=1.0, slope=slope(-0.5, 0.1)), "is lowest at the end"),
    ],
)
def test_the_reading_of_a_validation_loss(turned, said):
    assert said in read(slope(-0.5, 0.1), turned).render()


def recorded(**series):
    return Subject(
        outputs={"test": (torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))}, loss="cross_entropy",
        history=History.of({k: np.asarray(v).tolist() for k, v in series.items()}),
    )  # fmt: skip


STEPS = np.arange(0, 201)


def test_the_loss_slope_of_a_recorded_run_needs_no_model():
    law = 2.0 * np.maximum(STEPS, 1) ** -0.25
    turned = np.where(STEPS < 80, 1 - STEPS / 160, 0.5 + (STEPS - 80) / 400)
    result = probe_loss_slope(recorded(step=STEPS, train_loss=law, validation_loss=turned))
    assert result.estimate.value == pytest.approx(-0.25, rel=1e-6)
    assert result.kind is Kind.DESCRIPTION
    assert "still falling" in result.reason.render()
    assert "lowest at step 80, rises and ends 60.0" in result.reading.render()
    curve, table = result.payload
    assert isinstance(curve, Curve)
    assert [line.name.render() for line in curve.lines] == ["training", "validation", "power law"]
    fit = curve.lines[2]
    assert fit.x[0] == 100
    assert fit.y == pytest.approx(law[100:], rel=1e-6)
    assert isinstance(table, Table)
    rate = loss_slope(STEPS[100:], law[100:], scale="log-linear").estimate
    assert table.rows[1][1:] == pytest.approx((rate.value, rate.lower, rate.upper))
    assert len(table.rows) == 3
    assert result.settings["points"] == 101


def test_noise_alone_is_no_slope_and_few_records_are_trouble():
    noise = np.exp(0.1 * np.random.default_rng(0).standard_normal(201))
    flat = probe_loss_slope(recorded(step=STEPS, train_loss=noise))
    assert flat.verdict is Verdict.INCONCLUSIVE
    assert "flat within its noise" in flat.reason.render()
    few = probe_loss_slope(recorded(step=[0, 50, 100], train_loss=[3.0, 2.0, 1.0]))
    assert few.verdict is Verdict.INCONCLUSIVE
    assert "only 2 recorded steps" in few.estimate.trouble.render()


def test_a_run_that_diverged_is_trouble_and_not_dropped():
    losses = np.ones(201)
    losses[150:] = np.nan
    result = probe_loss_slope(recorded(step=STEPS, train_loss=losses))
    assert math.isnan(result.estimate.value)
    assert "51 of 101 recorded losses of the last half have no logarithm" in result.reason.render()
    assert result.verdict is Verdict.INCONCLUSIVE


def test_other_names_serve_and_nothing_to_read_is_unsuitable():
    assert probe_loss_slope(recorded(step=STEPS, loss=np.ones(201) + STEPS)).settings["series"] == "loss"
    for history in ({"lr": [0.1, 0.1]}, {"train_loss": [1.0]}):
        with pytest.raises(UnsuitableError, match="has no training loss over steps"):
            probe_loss_slope(recorded(**history))


def test_sharpness_along_the_checkpoints_of_a_network(digits):
    result = probe_sharpening(digits)
    curve, table = result.payload
    assert curve.lines[0].x.tolist() == [0, 100, 150, 250, 300, 400]  # 6 of 9, both ends
    for step, value in zip((0, 400), (curve.lines[0].y[0], curve.lines[0].y[-1]), strict=True):
        there = digits.at(step).net.eval()
        wanted = eigenvalues(there, digits.split("train").take(range(200)), "cross_entropy", k=1, tolerance=1e-6)
        assert value == pytest.approx(wanted.values[0], rel=1e-2)
    assert (curve.lines[0].lower <= curve.lines[0].y).all()
    assert [wall.at for wall in curve.walls] == [pytest.approx(5.0)]
    assert result.estimate.value == curve.lines[0].y[-1]
    assert [a.status for a in result.assumptions] == [Status.MET, Status.MET]
    assert table.rows[0][3] == pytest.approx(5.0)
    assert 0 < result.cost.hvps < 3 * probe_sharpening.cost(digits, None).hvps


def test_sharpness_with_a_falling_rate_draws_the_limit_as_a_line(digits):
    history = {"step": [0, 200, 400], "lr": [0.4, 0.2, 0.1]}
    subject = Subject(
        model=digits.net, loss="cross_entropy", train=digits.train, checkpoints=digits.checkpoints, history=history
    )
    result = probe_sharpening(subject, rows=50, checkpoints=3)
    limit = result.payload[0].lines[1]
    assert limit.role == "theory"
    assert limit.y == pytest.approx([5, 10, 20])
    assert result.payload[0].walls == ()
    assert [a.status for a in result.assumptions] == [Status.UNCHECKED, Status.UNCHECKED]
    assert result.settings["rows"] == 50


def test_a_checkpoint_that_diverged_is_unsuitable(digits):
    state = {name: torch.full_like(t, float("nan")) for name, t in digits.checkpoints[0].items()}
    subject = Subject(
        model=digits.net, loss="cross_entropy", train=digits.train, checkpoints={0: digits.checkpoints[0], 7: state}
    )
    with pytest.raises(UnsuitableError, match="the loss of the checkpoint at step 7 is nan"):
        probe_sharpening(subject)
    with pytest.raises(UnsuitableError, match="needs checkpoints"):
        probe_sharpening(Subject(model=nn.Linear(1, 1), loss="mse", train=(torch.zeros(2, 1), torch.zeros(2, 1))))
