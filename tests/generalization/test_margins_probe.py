"""TL106: margins in units of the outputs' spread, against their controls."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.core import Subject, UnsuitableError
from theorylens.generalization import margins, normalised_margins, probe_margins
from theorylens.generalization._margins_probe import judge
from theorylens.results import Exact, Status, Verdict


def test_digits(subject):
    result = probe_margins(subject)
    outputs, targets = subject.predictions("train")
    found = normalised_margins(outputs, targets).numpy()
    assert result.estimate.value == pytest.approx(np.quantile(found, 0.1))
    assert isinstance(result.estimate.uncertainty, Exact)
    control = {c.role: c.estimate.value for c in result.controls}
    assert control["init"] < control["shuffled"] < result.estimate.value
    assert result.verdict is Verdict.DESCRIPTIVE
    assert result.reading.render().startswith("By ")
    curve, table = result.payload
    assert [line.role for line in curve.lines] == ["network", "init", "shuffled"]
    assert len(table.rows) == 2
    assert table.rows[0][-1] == pytest.approx((found <= 0).mean())


def test_the_network_on_shuffled_labels_is_not_wider_than_its_control(subject):
    twin = dataclasses.replace(subject.shuffled, init=subject.init, shuffled=subject)
    result = probe_margins(twin)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reading.render().startswith("Not on a tenth of the training examples")


def test_scale_and_order_do_not_matter():
    generator = torch.Generator().manual_seed(0)
    outputs, targets = torch.randn(40, 5, generator=generator), torch.randint(5, (40,), generator=generator)
    one = normalised_margins(outputs, targets)
    shift = torch.randn(40, 1, generator=generator)
    assert torch.allclose(normalised_margins(7 * outputs, targets), one)
    assert torch.allclose(normalised_margins(outputs + shift, targets), one, atol=1e-6)
    order = torch.randperm(40, generator=generator)
    assert torch.allclose(normalised_margins(outputs[order], targets[order]), one[order])
    classes = torch.randperm(5, generator=generator)
    assert torch.allclose(normalised_margins(outputs[:, classes], classes.argsort()[targets]), one)
    assert torch.equal(one.sign(), margins(outputs, targets).sign())


def test_outputs_without_spread_have_no_margins():
    with pytest.raises(ValueError, match="spread of 0"):
        normalised_margins(torch.ones(4, 3), torch.tensor([0, 1, 2, 0]))
    x = torch.randn(4, 2)
    net = nn.Linear(2, 3)
    for p in net.parameters():
        nn.init.zeros_(p)
    with pytest.raises(UnsuitableError, match="cannot be measured on the train split"):
        probe_margins(Subject(model=net, loss="cross_entropy", train=(x, torch.tensor([0, 1, 2, 0]))))


def test_one_score_and_ignored_targets():
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    net = nn.Linear(3, 1)
    result = probe_margins(Subject(model=net, loss="binary_cross_entropy", train=(x, (x[:, :1] > 0).float())))
    assert result.settings["rows"] == 60
    y = torch.arange(60) % 3
    y[:10] = -100
    result = probe_margins(Subject(model=nn.Linear(3, 3), loss="cross_entropy", train=(x, y)))
    assert result.settings["rows"] == 50


def test_a_last_layer_that_starts_at_zero_is_a_control_with_margin_zero(subject):
    start = {k: torch.zeros_like(v) if k.startswith("2.") else v for k, v in subject.init.items()}
    result = probe_margins(dataclasses.replace(subject, init=start, shuffled=None))
    assert {c.role: c.estimate.value for c in result.controls} == {"init": 0.0}
    assert result.verdict is Verdict.DESCRIPTIVE


def test_wrong_answers_break_the_assumption(subject):
    result = probe_margins(dataclasses.replace(subject, shuffled=None))
    wrong = result.settings["wrong"]
    assert (result.assumptions[1].status is Status.BROKEN) == (wrong > 0)
    start = probe_margins(dataclasses.replace(subject.initial().subject, shuffled=None, init=subject.init))
    assert start.assumptions[1].status is Status.BROKEN
    assert start.verdict is Verdict.INCONCLUSIVE  # it is its own control


def test_soft_targets_have_no_margin():
    x = torch.randn(10, 3)
    with pytest.raises(UnsuitableError, match="plain classification"):
        probe_margins(Subject(model=nn.Linear(3, 3), loss="cross_entropy", train=(x, torch.softmax(x, 1))))


@pytest.mark.parametrize(
    ("value", "init", "shuffled", "verdict", "said"),
    [
        (0.5, -1.0, 0.2, Verdict.DESCRIPTIVE, "wider than after training on shuffled labels (0.2)"),
        (0.2, -1.0, 0.2, Verdict.INCONCLUSIVE, "not wider than after training on shuffled labels"),
        (0.3, 0.3, None, Verdict.INCONCLUSIVE, "not wider than before training"),
        (-0.1, -1.0, -2.0, Verdict.INCONCLUSIVE, "no margin to speak of"),
        (0.5, -1.0, None, Verdict.DESCRIPTIVE, "but not how wide"),
        (0.5, None, None, Verdict.DESCRIPTIVE, "but not how wide"),
    ],
)
def test_judge(value, init, shuffled, verdict, said):
    found, reason = judge(value, init, shuffled)
    assert found is verdict
    assert said in reason.render()
