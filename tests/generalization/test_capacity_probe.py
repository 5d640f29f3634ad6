"""TL105 on real networks: its bound from numbers, both ends of the dimension, what is refused."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.core import Split, Subject, Task, UnsuitableError
from theorylens.generalization import growth_gap, piecewise_linear_growth, probe_capacity, vc_gap
from theorylens.generalization._capacity_probe import judge
from theorylens.generalization._vc_dimension import largest_shattered
from theorylens.results import Curve, Verdict


def test_digits(subject):
    result = probe_capacity(subject)
    growth = piecewise_linear_growth((64, 32, 10))
    train = float(subject.scores("train").errors.mean())
    assert result.verdict is Verdict.VACUOUS
    assert result.certificate.bound == min(1.0, train + growth_gap(800, growth, 0.05, "vapnik")) == 1.0
    assert result.settings["vc_upper"] == largest_shattered(growth)
    assert 1 < result.settings["vc_lower"] <= 33
    wanted = result.settings["examples_for_gap"]
    assert growth_gap(wanted, growth, 0.05, "vapnik") <= 0.1 < growth_gap(wanted - 1, growth, 0.05, "vapnik")
    controls = {c.role: c.estimate.value for c in result.controls}
    assert controls["init"] > 0.7
    assert "no fault of the network" in result.reading.render()


def test_a_wide_last_layer_can_answer_everything(digits):
    x, y = digits
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 400), nn.ReLU(), nn.Linear(400, 10))
    result = probe_capacity(Subject(model=net, loss="cross_entropy", train=(x[:150], y[:150])))
    assert result.settings["vc_lower"] == 150
    assert "last layer alone can answer all 150" in result.reading.render()


def small():
    x = torch.linspace(-1, 1, 4001)[:, None]
    net = nn.Linear(1, 1)
    with torch.no_grad():
        net.weight.fill_(1.0)
        net.bias.fill_(0.0)
    return Subject(model=net, loss="binary_cross_entropy", train=(x, (x > 0).float()))


def test_a_tiny_network_with_many_examples_is_not_vacuous():
    result = probe_capacity(small())
    growth = piecewise_linear_growth((1, 1))
    assert result.verdict is Verdict.HOLDS
    assert result.certificate.bound == pytest.approx(growth_gap(4001, growth, 0.05, "vapnik"), rel=1e-12)
    assert result.certificate.bound < 0.1
    assert (result.settings["vc_lower"], result.settings["weights"]) == (2, 2)
    exact = vc_gap(4001, 2, 0.05, "vapnik", growth="exact")  # the bias makes halfspaces on a line of dimension 2
    assert result.certificate.bound == pytest.approx(exact, rel=1e-9)
    assert result.settings["vc_upper"] == 2
    (curve, _) = result.payload
    assert isinstance(curve, Curve)
    assert (np.diff(curve.lines[0].y) <= 1e-12).all()


def test_comparisons_are_paid_for():
    one, ten = (probe_capacity(small(), comparisons=k).certificate for k in (1, 10))
    growth = piecewise_linear_growth((1, 1))
    assert ten.bound == pytest.approx(growth_gap(4001, growth, 0.005, "vapnik"))
    assert ten.bound > one.bound
    assert math.fsum(s.delta for s in ten.ledger) == pytest.approx(0.05)


def test_a_doubled_file_is_not_twice_the_evidence(subject):
    x, y = subject.train.data
    twice = dataclasses.replace(subject, train=(torch.cat([x, x]), torch.cat([y, y])), shuffled=None)
    assert probe_capacity(twice).certificate.n == 800


class Named(nn.Linear):
    def forward(self, *, x):
        return super().forward(x)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10)), "Tanh \\(at 1\\)"),
        (nn.Sequential(nn.Linear(64, 8), nn.LayerNorm(8), nn.Linear(8, 10)), "LayerNorm"),
    ],
)
def test_other_architectures_are_named(subject, model, said):
    with pytest.raises(UnsuitableError, match=said):
        probe_capacity(dataclasses.replace(subject, model=model.eval(), shuffled=None, init=None))


def test_what_else_is_not_suitable(digits):
    x, y = digits
    net = nn.Linear(64, 10)
    units = Split((x[:100], y[:100]), units=[i // 2 for i in range(100)])
    with pytest.raises(UnsuitableError, match="several rows form one unit"):
        probe_capacity(Subject(model=net, loss="cross_entropy", train=units))
    task = Task(loss="mse", error=lambda o, t: (o - t).abs().clamp(max=1).mean(1))
    with pytest.raises(UnsuitableError, match="give a task of plain classification"):
        probe_capacity(Subject(model=nn.Linear(64, 1), task=task, train=(x[:50], x[:50, :1])))
    named = Task(forward=lambda model, batch: (model(x=batch[0]), batch[1]), loss="cross_entropy")
    with pytest.raises(UnsuitableError, match="named arguments \\(x\\)"):
        probe_capacity(Subject(model=Named(64, 10), task=named, train=(x[:50], y[:50])))


def test_judge():
    assert judge(0.2, 0.5, 10, 100)[0] is Verdict.HOLDS
    verdict, reason = judge(0.5, 0.5, 1000, 100)
    assert verdict is Verdict.VACUOUS
    assert "up to 1,000 points in all ways, too many for 100 examples" in reason.render()
