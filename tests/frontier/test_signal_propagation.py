"""Gradients by depth: what the layers are, which steps are plain, the probe and its judge."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from theorylens.core import Subject, UnsuitableError
from theorylens.frontier import layer_signals, probe_signal_propagation
from theorylens.frontier._depth_profile import rate_per_step
from theorylens.frontier._signal_propagation import judge, phase
from theorylens.results import (
    Done,
    Estimate,
    Exact,
    Message,
    Status,
    Unknown,
    Verdict,
    outcome_from_view,
    outcome_view,
)

START = Message("control.init", "random initialisation")
WHY = Message("test.why", "a reason")


def squared(model, batch):
    return model(batch[0]).pow(2).sum() / 2, torch.tensor(float(len(batch[0])))


def signals(model, x):
    return layer_signals(model, (x, x), squared)


class Net(nn.Module):
    """Three layers joined by a function of choice."""

    def __init__(self, first, second=torch.tanh, width=6):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, width), nn.Linear(width, width), nn.Linear(width, 2)
        self.norm = nn.LayerNorm(width)
        self.first, self.second = first, second

    def forward(self, x):
        h = self.a(x)
        return self.c(self.second(self.b(self.first(self, h))))


STEPS = {
    "relu": lambda self, h: F.relu(h),
    "tanh": lambda self, h: torch.tanh(h),
    "gelu": lambda self, h: F.gelu(h),
    "silu": lambda self, h: h * torch.sigmoid(h),
    "identity": lambda self, h: h,
    "elu": lambda self, h: F.elu(h),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_functional_activation_is_read_off_the_values(name):
    torch.manual_seed(0)
    found = signals(Net(STEPS[name]), torch.randn(20, 4))
    assert [s.step for s in found] == [name, "tanh", None]


def test_a_leaky_relu_is_found_with_its_slope():
    torch.manual_seed(0)
    first = signals(Net(lambda self, h: F.leaky_relu(h, 0.3)), torch.randn(20, 4))[0]
    assert (first.step, first.slope) == ("leaky_relu", pytest.approx(0.3, rel=1e-5))
    x = torch.linspace(-1, 1, 5)
    torch.testing.assert_close(first.activation(x), F.leaky_relu(x, 0.3))


@pytest.mark.parametrize(
    ("function", "between"),
    [
        (lambda self, h: self.norm(torch.relu(h)), ("LayerNorm",)),
        (lambda self, h: torch.relu(h) + h, ()),
        (lambda self, h: torch.sin(h), ()),
    ],
)
def test_what_is_not_an_activation_alone_is_not_a_plain_step(function, between):
    torch.manual_seed(0)
    first = signals(Net(function), torch.randn(20, 4))[0]
    assert (first.step, first.activation, first.between) == (None, None, between)


def test_a_second_way_out_of_a_layer_is_found():
    """The next layer sees the plain activation, but a skip carries the gradient past it."""

    class Skip(Net):
        def forward(self, x):
            h = self.a(x)
            return self.c(torch.tanh(self.b(torch.relu(h))) + h)

    torch.manual_seed(0)
    assert signals(Skip(None), torch.randn(20, 4))[0].step is None


def test_a_layer_used_twice_in_a_row_is_not_independent_of_itself():
    layer = nn.Linear(4, 4)
    net = nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(4, 2))
    assert [s.step for s in signals(net, torch.randn(9, 4))] == [None, "tanh", None]


def test_sizes_agree_with_the_chain_rule_by_hand():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 3)).double()
    x = torch.randn(7, 4, dtype=torch.float64)
    first, last = signals(net, x)
    h = x @ net[0].weight.T + net[0].bias
    out = h.relu() @ net[2].weight.T + net[2].bias
    back = (out @ net[2].weight) * (h > 0)
    np.testing.assert_allclose(first.q, h.pow(2).mean(1).detach())
    np.testing.assert_allclose(last.gradient, out.pow(2).sum(1).detach())
    np.testing.assert_allclose(first.gradient, back.pow(2).sum(1).detach())
    assert first.fan_in == 4
    assert last.sigma_w2 == pytest.approx(5 * net[2].weight.detach().numpy().var())
    assert last.sigma_b2 == pytest.approx(net[2].bias.detach().numpy().var())


def test_rate_per_step_and_its_error_bar():
    generator = np.random.default_rng(0)
    last = generator.exponential(size=200)
    exact = rate_per_step(last * 0.25, last, 2)  # proportional: no spread at all
    assert (exact.value, exact.lower, exact.upper) == (pytest.approx(0.5),) * 3
    noisy = rate_per_step(generator.exponential(size=200), last, 1)
    assert noisy.lower < noisy.value < noisy.upper
    dead = rate_per_step(np.zeros(200), last, 2)
    assert dead.value == 0
    assert "no gradient reaches the first layer" in dead.uncertainty.why.render()
    rare = np.zeros(200)
    rare[:5] = 1
    assert "5 rows carry most of the gradient" in rate_per_step(rare, last, 1).uncertainty.why.render()


@pytest.mark.slow
@pytest.mark.parametrize(("n", "spread"), [(256, 0.8), (100, 0.6)])
def test_the_interval_covers_the_true_rate_as_often_as_it_says(n, spread):
    """Range: 100 to 256 rows, log-normal squared gradients of spread up to 0.8, correlation 0.7, three steps."""
    generator = np.random.default_rng(0)
    truth, hits = 0.5 ** (1 / 3), 0
    for _ in range(2000):
        a, b = generator.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], size=n).T * spread
        found = rate_per_step(0.5 * np.exp(a), np.exp(b), 3)
        hits += found.lower <= truth <= found.upper
    assert hits / 2000 > 0.935


@pytest.mark.parametrize(
    ("rate", "steps", "expected"),
    [(0.3, 3, "ordered"), (0.95, 5, "critical"), (1.1, 5, "critical"), (1.3, 5, "chaotic"), (0.0, 3, "ordered"),
     (0.95, 100, "ordered")],
)  # fmt: skip
def test_phases_depend_on_the_depth(rate, steps, expected):
    assert phase(rate, steps) == expected


@pytest.mark.parametrize(
    ("init", "predicted", "first", "says"),
    [
        (0.2, 0.25, "No, they shrink: at the start", "Mean-field theory predicts 0.25, ordered."),
        (1.0, 1.02, "Yes, nearly: at the start", "critical to within this depth"),
        (2.0, 1.9, "No, they grow: at the start", "chaotic"),
        (2.0, None, "No, they grow: at the start", "Mean-field theory does not apply: a reason."),
        (None, None, "Yes, nearly: after training", "The start is unknown"),
    ],
)
def test_every_branch_of_the_judge(init, predicted, first, says):
    before = None if init is None else Estimate(value=init, uncertainty=Exact())
    start = None if init is None else START
    now = Estimate(value=1.1, uncertainty=Exact())
    verdict, reason, reading = judge(now, before, start, predicted, WHY, 4)
    assert verdict is Verdict.DESCRIPTIVE
    assert reading.render().startswith(first)
    assert says in reading.render()
    assert reason.render()


def train(net, x, y, steps=60):
    start = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    return Subject(model=net, loss="cross_entropy", train=(x, y), init=start)


@pytest.fixture(scope="module")
def data():
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images[:400] / 16, dtype=torch.float32), torch.tensor(labels[:400])


@pytest.fixture(scope="module")
def plain(data):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(64, 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )
    with torch.no_grad():
        for layer in net[::2]:
            layer.weight.normal_(0, (2 / layer.in_features) ** 0.5)
            layer.bias.zero_()
    return train(net, *data)


def test_a_plain_network_stands_beside_its_theory(plain):
    result = probe_signal_propagation(plain)
    theory, init = result.control("theory").estimate.value, result.control("init").estimate
    assert theory == pytest.approx(1.0, rel=0.05)  # He initialisation is critical
    assert init.value == pytest.approx(theory, rel=0.25)  # one draw of width 128
    assert [a.status for a in result.assumptions] == [Status.MET, Status.MET, Status.UNCHECKED]
    curve, table = result.payload
    assert [line.role for line in curve.lines] == ["network", "init", "theory"]
    assert curve.lines[1].y[-1] == pytest.approx(curve.lines[2].y[-1])
    assert len(table.rows) == 3
    assert {row[3] for row in table.rows} == {"relu"}
    assert [row[4] for row in table.rows] == pytest.approx([1.0] * 3, rel=0.05)
    total = np.prod([row[6] for row in table.rows])
    assert init.value == pytest.approx(total ** (1 / 3))


def test_normalisation_leaves_the_measurement_and_takes_the_prediction(data):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    result = probe_signal_propagation(train(net, *data, steps=3))
    assert result.control("theory") is None
    assert result.control("init") is not None
    assert result.assumptions[0].status is Status.BROKEN
    assert "LayerNorm" in result.reading.render()
    assert "does not apply" in result.reading.render()
    assert len(result.payload[0].lines) == 2


def test_weights_that_are_not_centred_break_an_assumption(data):
    net = nn.Sequential(nn.Linear(64, 70), nn.Tanh(), nn.Linear(70, 10))
    with torch.no_grad():
        net[0].weight.abs_()
    subject = Subject(model=net, loss="cross_entropy", train=data, init=copy.deepcopy(net.state_dict()))
    independent = probe_signal_propagation(subject).assumptions[2]
    assert independent.status is Status.BROKEN
    assert "weights of 0" in independent.evidence.render()


def test_a_default_start_is_said_and_a_network_that_cannot_be_reset_has_none(data):
    net = nn.Sequential(nn.Linear(64, 70), nn.Tanh(), nn.Linear(70, 10))
    result = probe_signal_propagation(Subject(model=net, loss="cross_entropy", train=data))
    assert "not yours" in result.reading.render()
    assert result.assumptions[2].status is Status.MET

    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.scale = net, nn.Parameter(torch.ones(10))

        def forward(self, x):
            return self.net(x) * self.scale

    alone = probe_signal_propagation(Subject(model=Fixed(), loss="cross_entropy", train=data))
    assert alone.controls == ()
    assert "The start is unknown" in alone.reading.render()


def test_dead_units_are_said(data):
    net = nn.Sequential(nn.Linear(64, 70), nn.ReLU(), nn.Linear(70, 10))
    with torch.no_grad():
        net[0].bias.fill_(-100)
    result = probe_signal_propagation(Subject(model=net, loss="cross_entropy", train=data))
    assert result.estimate.value == 0
    assert isinstance(result.estimate.uncertainty, Unknown)


def test_what_is_skipped_and_why(data):
    one = Subject(model=nn.Linear(64, 10), loss="cross_entropy", train=data)
    with pytest.raises(UnsuitableError, match="found 1"):
        probe_signal_propagation(one)
    x = torch.randn(30, 4)
    net = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2))
    with torch.no_grad():
        exact = net(x)
    with pytest.raises(UnsuitableError, match="no gradient at the last layer"):
        probe_signal_propagation(Subject(model=net, loss="mse", train=(x, exact)))


def test_same_answer_again_and_nothing_is_left_behind(plain):
    first = probe_signal_propagation(plain)
    before = copy.deepcopy(plain.net.state_dict())
    again = Subject(model=plain.net, loss="cross_entropy", train=plain.train.data, init=plain.init, batch_size=32)
    second = probe_signal_propagation(again)
    assert second.estimate.value == pytest.approx(first.estimate.value, rel=1e-6)
    assert all(torch.equal(before[k], v) for k, v in plain.net.state_dict().items())
    assert not any(m._forward_hooks for m in plain.net.modules())
    assert math.isfinite(first.cost.gradients)
    assert first.cost.gradients == 512  # two networks, 256 rows
    done = Done(about=probe_signal_propagation.about, result=first)
    assert outcome_view(outcome_from_view(outcome_view(done))) == outcome_view(done)
