"""Where trace and diagonal of the Hessian are exact, that they are, and that nothing else is called exact."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from theorylens import core
from theorylens.core import RefusedError, Subject, Task
from theorylens.landscape import _piecewise as piecewise_module
from theorylens.landscape import (
    diagonal,
    fisher,
    frobenius_norm,
    gauss_newton_trace,
    ggn,
    hessian,
    layer_curvature,
    piecewise_linear,
    probe_trace,
    trace,
    trace_split,
)
from theorylens.landscape._trace_split import drawn
from theorylens.numerics import Counted, DenseOperator, tally
from theorylens.numerics.trace import mean_of_draws
from theorylens.results import Exact, Message, Statistical, Status


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU())

    def forward(self, x):
        return x + self.body(x)


class Joined(nn.Module):
    """Two branches side by side, leaky and parametric rectifiers, a learnt scale for each unit."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.slope = nn.Linear(5, 8), nn.Linear(5, 9), nn.PReLU()
        self.scale, self.out = nn.Parameter(torch.randn(17)), nn.Linear(17, 3)

    def forward(self, x):
        return self.out(self.scale * torch.cat([F.leaky_relu(self.a(x)), self.slope(self.b(x))], 1))


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.out = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.out(self.layer(self.layer(x).relu()).relu())


def convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace=True), Residual(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(8, 16), nn.Hardtanh(), nn.Linear(16, 3),
    )  # fmt: skip


FLAT, IMAGE = (5,), (1, 6, 6)
LINEAR = {
    "dense": (lambda: nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 3)), FLAT),
    "convolutions": (convolutional, IMAGE),
    "joined": (Joined, FLAT),
}
CURVED = {
    "smooth": (lambda: nn.Sequential(nn.Linear(5, 30), nn.GELU(), nn.Linear(30, 3)), FLAT, "Gelu"),
    "layer norm": (
        lambda: nn.Sequential(nn.Linear(5, 30), nn.LayerNorm(30), nn.ReLU(), nn.Linear(30, 3)), FLAT, "NativeLayerNorm",
    ),
    "shared": (Shared, FLAT, "Addmm"),
}  # fmt: skip


def made(name, n=11):
    build, shape = (LINEAR | CURVED)[name][:2]
    with core.global_randomness_kept(2):
        net = build().double()
        for buffer in net.buffers():
            if buffer.is_floating_point():
                buffer.add_(0.3 * torch.rand_like(buffer))
        return net.eval(), (torch.randn(n, *shape).double(), torch.randint(3, (n,)))


def dense_diagonal(net, data, loss):
    operator = hessian(net, data, loss)
    return torch.stack([(operator @ unit)[i] for i, unit in enumerate(torch.eye(operator.size, dtype=torch.float64))])


WEIGHTS = nn.CrossEntropyLoss(weight=torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64), ignore_index=1)


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("loss", ["cross_entropy", WEIGHTS, nn.CrossEntropyLoss(reduction="sum"), "mse"])
def test_headline_the_trace_of_the_hessian_is_that_of_gauss_newton(name, loss):
    net, data = made(name)
    if loss == "mse":
        data = (data[0], F.one_hot(data[1], 3).double())
    truth = dense_diagonal(net, data, loss)
    assert piecewise_linear(net, data, loss).holds
    exact = gauss_newton_trace(net, data, loss, batch_size=4)
    assert exact.value == pytest.approx(float(truth.sum()), rel=1e-10)
    found = trace(net, data, loss, batch_size=4)
    assert isinstance(found.uncertainty, Exact)
    assert found.value == pytest.approx(float(truth.sum()), rel=1e-10)
    entries = diagonal(net, data, loss, batch_size=4)
    assert entries.exact
    assert torch.allclose(entries.values, truth, rtol=1e-9, atol=1e-12)
    assert not entries.errors.any()


@pytest.mark.parametrize("name", CURVED)
def test_curved_networks_are_named_so_and_their_interval_covers_the_truth(name):
    net, data = made(name)
    truth = dense_diagonal(net, data, "cross_entropy")
    found = piecewise_linear(net, data, "cross_entropy")
    assert (found.holds, found.obstacle) == (False, CURVED[name][2])
    exact = gauss_newton_trace(net, data, "cross_entropy")
    assert exact.value != pytest.approx(float(truth.sum()), rel=1e-3)
    if len(truth) > 200:
        split = trace(net, data, "cross_entropy", draws=200)
        assert isinstance(split.uncertainty, Statistical)
        parts = trace_split(net, data, "cross_entropy", draws=200)
        assert parts.total.uncertainty.method.id == "landscape.trace_split"
        assert parts.total.lower <= float(truth.sum()) <= parts.total.upper
        assert parts.linear == found
        assert split.lower <= float(truth.sum()) <= split.upper
        entries = diagonal(net, data, "cross_entropy", draws=400)
        assert not entries.exact
        known = entries.errors > 0
        gaps = (entries.values - truth)[known] / entries.errors[known]
        assert float(gaps.square().mean()) < 2
        assert torch.allclose(entries.values[~known], truth[~known], atol=1e-10)


def pair(share, size=40):
    """Two symmetric matrices H and G, H - G being ``share`` times as large as G."""
    rng = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, size, generator=rng, dtype=torch.float64) for _ in range(2))
    half = left @ left.T
    rest = right + right.T
    rest = rest * share * float(half.norm() / rest.norm())
    return DenseOperator(half + rest), DenseOperator(half), float(half.trace()), float((half + rest).trace())


def test_draws_of_the_rest_are_taken_where_they_pay():
    for share, pays in ((0.1, True), (2.0, False)):
        whole, half, _, _ = pair(share)
        counted = Counted(half)
        found = drawn(whole, counted, 30, generator=torch.Generator().manual_seed(1))
        assert found.split is pays
        assert (len(found.whole), counted.products) == (30, 30 if pays else 8)
    few = drawn(*pair(0.1)[:2], 2, generator=torch.Generator().manual_seed(1))
    assert len(few.rest) == 2


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.7, 2.0])
@pytest.mark.parametrize("draws", [8, 24])
def test_choosing_between_draws_costs_no_coverage(share, draws):
    whole, half, exact, truth = pair(share)
    hits = 0
    for seed in range(600):
        found = drawn(whole, half, draws, generator=torch.Generator().manual_seed(seed))
        values = [exact + r for r in found.rest] if found.split else found.whole
        made = mean_of_draws(values, level=0.95, rounding=1e-15, method=Message("test.method", "for a test"))
        hits += made.lower <= truth <= made.upper
    assert hits / 600 >= 0.95 - 3 * (0.05 * 0.95 / 600) ** 0.5 - 0.01


def test_a_network_whose_rest_is_small_gets_it_drawn():
    with core.global_randomness_kept(0):
        net = nn.Sequential(nn.Linear(5, 40), nn.Tanh(), nn.Linear(40, 3)).double()
        x = torch.randn(30, 5).double()
        with torch.no_grad():
            y = net(x) + 1e-3 * torch.randn(30, 3).double()  # slopes of the loss, and with them H - G, near zero
    found = trace(net, (x, y), "mse", draws=16)
    assert found.uncertainty.method.id == "landscape.trace_split"
    truth = float(dense_diagonal(net, (x, y), "mse").sum())
    assert found.value == pytest.approx(truth, rel=1e-3)
    assert found.upper - found.lower < 2e-3 * truth


def test_diagonals_of_the_sums_of_squares_are_those_of_the_dense_matrices():
    net, data = made("layer norm")
    for of, operator in (
        ("ggn", ggn(net, data, "cross_entropy")),
        ("empirical_fisher", fisher(net, data, "cross_entropy", kind="empirical")),
    ):
        truth = torch.stack(
            [(operator @ unit)[i] for i, unit in enumerate(torch.eye(operator.size, dtype=torch.float64))]
        )
        found = diagonal(net, data, "cross_entropy", of=of, batch_size=4)
        assert found.exact
        assert torch.allclose(found.values, truth, rtol=1e-9, atol=1e-13)
    assert {k: len(v) for k, v in found.by_parameter().items()} == {k: p.numel() for k, p in net.named_parameters()}
    few = diagonal(net, data, "cross_entropy", names=["3"])
    assert few.exact  # 93 parameters: the dense diagonal
    assert list(few.sizes) == ["3.weight", "3.bias"]


def test_the_last_layer_of_any_network_is_linear_in_its_parameters():
    net, data = made("smooth")
    assert piecewise_linear(net, data, "cross_entropy", names=["2"]).holds
    blocks = layer_curvature(net, data, "cross_entropy")
    truth = dense_diagonal(net, data, "cross_entropy")
    assert isinstance(blocks["2"].trace.uncertainty, Exact)
    assert blocks["2"].trace.value == pytest.approx(float(truth[-93:].sum()), rel=1e-9)


def test_a_parameter_in_the_loss_or_in_the_targets_is_seen():
    net, data = made("dense")
    penalised = Task(loss=lambda o, t: F.cross_entropy(o, t, reduction="none") + net[0].weight.square().sum())
    assert piecewise_linear(net, data, penalised).obstacle == "0.weight in the loss itself"
    found = trace(net, data, penalised, draws=100)
    assert isinstance(found.uncertainty, Statistical)
    truth = float(dense_diagonal(net, data, penalised).sum())
    assert truth == pytest.approx(gauss_newton_trace(net, data, "cross_entropy").value + 2 * 100, rel=1e-9)
    assert found.lower <= truth <= found.upper

    def own_targets(model, batch):
        outputs = model(batch[0])
        return outputs, outputs.sum(1, keepdim=True) * 0.5 + torch.zeros_like(outputs)

    moving = Task(forward=own_targets, loss="mse")
    assert piecewise_linear(net, data, moving).obstacle == "targets that depend on the parameters"


class Bump(torch.autograd.Function):
    """The identity, whose derivative says that it bends: only a comparison of products can tell."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * 1.0

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]


def test_an_operation_that_is_not_what_it_is_called_is_found_by_the_products(monkeypatch):
    class Lying(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, 30), nn.Linear(30, 3)

        def forward(self, x):
            return self.b(Bump.apply(self.a(x)))

    with core.global_randomness_kept(0):
        net, data = Lying().double(), made("dense")[1]
    assert piecewise_linear(net, data, "cross_entropy").obstacle == "BumpBackward"
    monkeypatch.setattr(piecewise_module, "bent", lambda outputs, parameters: None)
    found = piecewise_linear(net, data, "cross_entropy")
    assert not found.holds
    assert found.obstacle == "a.weight, whose own block of H is not that of G"
    assert isinstance(trace(net, data, "cross_entropy", draws=8).uncertainty, Statistical)
    straight, data = made("dense")
    assert piecewise_linear(straight, data, "cross_entropy").holds


def test_routes_without_an_exact_part():
    with core.global_randomness_kept(0):
        tokens = nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 6)).double().eval()
        x, y = torch.randn(4, 5, 4).double(), torch.randint(6, (4, 5))
        wide = nn.Linear(3, 300).double()
    found = trace(tokens, (x, y), "cross_entropy", draws=100)  # outputs (n, tokens, classes)
    assert found.uncertainty.method.id == "numerics.deflated"
    plain = trace(tokens, (x, y), "cross_entropy", draws=100, method="hutchinson")
    assert plain.uncertainty.method.id == "numerics.hutchinson"
    truth = float(dense_diagonal(tokens, (x, y), "cross_entropy").sum())
    for each in (found, plain):
        assert each.lower <= truth <= each.upper
    assert found.upper - found.lower < 0.9 * (plain.upper - plain.lower)
    entries = diagonal(tokens, (x, y), "cross_entropy", of="ggn", draws=50)
    assert not entries.exact
    assert float(entries.values.sum()) == pytest.approx(truth, rel=0.3)
    found = trace(wide, (torch.randn(5, 3).double(), torch.arange(5)), "cross_entropy", draws=4)
    assert found.uncertainty.method.id == "numerics.hutchinson"
    net, data = made("dense")
    bowl = trace(net, data, lambda o, t: -o.square().sum(1), draws=50)  # not convex in the outputs
    assert bowl.uncertainty.method.id == "numerics.deflated"
    assert bowl.upper < 0
    with pytest.raises(RefusedError, match="one number for a batch"):
        diagonal(net, data, lambda o, t: F.cross_entropy(o, t), of="ggn")
    scalar = diagonal(net, data, lambda o, t: F.cross_entropy(o, t), draws=4)
    assert not scalar.exact


def test_other_methods_are_asked_for_by_name(unchecked_shapes):
    net, data = made("dense")
    said_by = {"hutchinson": "numerics.hutchinson", "deflated": "numerics.deflated", "hutch++": "numerics.hutchpp"}
    for method, said in said_by.items():
        assert trace(net, data, "cross_entropy", draws=12, method=method).uncertainty.method.id == said
    with pytest.raises(ValueError, match="method must be one of auto, hutchinson"):
        trace(net, data, "cross_entropy", method="exact")
    with pytest.raises(ValueError, match="of must be"):
        diagonal(net, data, "cross_entropy", of="kfac")


def test_the_frobenius_norm_of_a_network():
    net, data = made("smooth")
    operator = hessian(net, data, "cross_entropy")
    dense = torch.stack([operator @ unit for unit in torch.eye(operator.size, dtype=torch.float64)])
    found = frobenius_norm(net, data, "cross_entropy", draws=100)
    assert found.lower <= float(dense.norm()) <= found.upper


def test_the_probe_says_that_the_trace_is_exact():
    with core.global_randomness_kept(0):
        net = nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 3))
        data = torch.randn(40, 5), torch.randint(3, (40,))
    subject = Subject(model=net, loss="cross_entropy", train=data)
    results = [probe_trace(subject, rung=rung, seed=seed) for rung, seed in ((16, 0), (32, 1))]
    result = results[0]
    assert result.estimate == results[1].estimate  # neither draws nor seed matter
    assert isinstance(result.estimate.uncertainty, Exact)
    assert result.settings["route"] == "piecewise linear"
    assert result.settings["draws"] is None
    assert "exactly that of the Gauss-Newton matrix" in result.assumptions[-1].statement.render()
    assert result.assumptions[-1].status is Status.MET
    announced = probe_trace.cost(subject, 16)
    assert result.cost.hvps == announced.hvps == 2 * 6 * 2 * 16  # networks, tensors, matrices, rows
    assert result.cost.gradients == pytest.approx(announced.gradients, rel=0.7)


def test_traces_cost_as_many_gradients_as_there_are_outputs_less_one():
    net, data = made("dense")
    with tally() as spent:
        gauss_newton_trace(net, data, "cross_entropy")
    assert spent.gradients == 11 * 2
    split = trace_split(net, data, "cross_entropy")
    assert split.residual.value == 0
    assert split.linear.holds
