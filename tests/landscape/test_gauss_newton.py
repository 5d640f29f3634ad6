"""Gauss-Newton and Fisher products and the exact trace, against dense Jacobians on networks of every kind."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from theorylens import core
from theorylens.core import RefusedError, Task
from theorylens.landscape import (
    fisher,
    gauss_newton_trace,
    ggn,
    layer_curvature,
    trace,
    trace_split,
)
from theorylens.numerics.lanczos import eigenvalues
from theorylens.results import Exact


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, dropout=0.0)
        self.out = nn.Linear(4, 3)

    def forward(self, tokens):
        return self.out(self.layer(self.embed(tokens)).mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.out = nn.LSTM(2, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


def cases():
    with core.global_randomness_kept(0):
        y = torch.randint(3, (11,))
        dense = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 3))
        conv = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
        x, images = torch.randn(11, 4).double(), torch.randn(11, 1, 6, 6).double()
        return {
            "layer norm": (dense.double().eval(), (x, y), "cross_entropy"),
            "squared loss": (dense, (x, torch.randn(11, 3).double()), "mse"),
            "weighted": (dense, (x, y), nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5]).double())),
            "convolutions": (conv.double().eval(), (images, y), "cross_entropy"),
            "attention": (Attention().double().eval(), (torch.randint(9, (11, 5)), y), "cross_entropy"),
            "recurrent": (Recurrent().double().eval(), (torch.randn(11, 5, 2).double(), y), "cross_entropy"),
        }


def jacobian(net, data):
    outputs = net(data[0])
    leaves = list(net.parameters())
    lines = [
        torch.cat([g.reshape(-1) for g in torch.autograd.grad(o, leaves, retain_graph=True)]) for o in outputs.flatten()
    ]
    return torch.stack(lines).view(*outputs.shape, -1), outputs.detach()


def dense_gauss_newton(net, data, loss):
    j, outputs = jacobian(net, data)
    if loss == "mse":
        h = 2 / outputs.shape[1] * torch.eye(outputs.shape[1], dtype=torch.float64).expand(len(outputs), -1, -1)
        weight = torch.ones(len(outputs))
    else:
        p = outputs.softmax(1)
        h = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
        weight = torch.ones(len(outputs)) if loss == "cross_entropy" else loss.weight[data[1]]
    return torch.einsum("n,nip,nij,njq->pq", weight.double() / weight.sum(), j, h.double(), j)


@pytest.mark.parametrize("name", cases())
def test_products_and_the_exact_trace_are_those_of_the_dense_matrix(name):
    net, data, loss = cases()[name]
    truth = dense_gauss_newton(net, data, loss)
    operator = ggn(net, data, loss, batch_size=4)  # ragged
    for seed in range(2):
        v = torch.randn(len(truth), generator=torch.Generator().manual_seed(seed)).double()
        assert torch.allclose(operator @ v, truth @ v, atol=1e-10, rtol=1e-9)
    assert gauss_newton_trace(net, data, loss, batch_size=4).value == pytest.approx(float(truth.trace()), rel=1e-9)
    top = eigenvalues(operator, 1, tolerance=1e-6, generator=torch.Generator().manual_seed(0)).values[0]
    assert top == pytest.approx(float(torch.linalg.eigvalsh(truth)[-1]), rel=1e-5)


def test_the_trace_of_the_hessian_of_a_relu_network_is_that_of_its_gauss_newton_matrix():
    net, data, loss = cases()["convolutions"]
    exact = gauss_newton_trace(net, data, loss)
    assert net[4].weight.numel() + 26 > 100
    assert trace(net, data, loss).value == pytest.approx(exact.value, rel=1e-9)
    smooth, data, loss = cases()["layer norm"]
    assert trace(smooth, data, loss).value != pytest.approx(gauss_newton_trace(smooth, data, loss).value, rel=1e-3)


def test_the_empirical_fisher_is_the_second_moment_of_the_examples_gradients():
    net, data, _ = cases()["layer norm"]
    leaves = list(net.parameters())
    each = F.cross_entropy(net(data[0]), data[1], reduction="none")
    g = torch.stack(
        [torch.cat([s.reshape(-1) for s in torch.autograd.grad(e, leaves, retain_graph=True)]) for e in each]
    )
    truth = g.T @ g / 11
    operator = fisher(net, data, "cross_entropy", kind="empirical", batch_size=4)
    v = torch.randn(len(truth), generator=torch.Generator().manual_seed(0)).double()
    assert torch.allclose(operator @ v, truth @ v, atol=1e-10)
    assert operator.size == len(truth)


def test_refusals():
    net, data, _ = cases()["layer norm"]
    with pytest.raises(RefusedError, match="one number for a batch"):
        ggn(net, data, lambda o, t: F.cross_entropy(o, t))
    with pytest.raises(RefusedError, match="not convex in the outputs"):
        gauss_newton_trace(net, data, lambda o, t: -o.square().sum(1))
    flat = gauss_newton_trace(net, data, lambda o, t: o.sum(1))  # linear in the outputs: no curvature
    assert flat.value == 0
    with pytest.raises(RefusedError, match="one row of outputs for each example"):
        gauss_newton_trace(_Cube(), data, Task(loss=_sum))


class _Cube(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1).double())

    def forward(self, x):
        return (self.scale * x).view(len(x), 2, 2)


def _sum(outputs, targets):
    return outputs.square().sum((1, 2))


def test_the_trace_splits_into_an_exact_part_and_one_that_is_sampled():
    net, data, loss = cases()["layer norm"]
    found = trace_split(net, data, loss, draws=200)
    truth = trace(net, data, loss).value
    assert isinstance(found.gauss_newton.uncertainty, Exact)
    assert found.total.lower <= truth <= found.total.upper
    assert found.residual.value + found.gauss_newton.value == pytest.approx(found.total.value, rel=1e-12)
    assert found.residual.upper - found.residual.lower < 0.5 * truth
    relu, data, loss = cases()["convolutions"]
    rest = trace_split(relu, data, loss, draws=32).residual
    assert rest.lower <= 0 <= rest.upper
    line = nn.Linear(4, 3).double()  # nothing but Gauss-Newton: no draw differs from zero
    whole = trace_split(line, cases()["layer norm"][1], loss).total
    assert isinstance(whole.uncertainty, Exact)
    assert whole.value == pytest.approx(trace(line, cases()["layer norm"][1], loss).value, rel=1e-9)


def test_blocks_add_up_to_the_trace_and_lie_below_the_whole():
    net, data, loss = cases()["layer norm"]
    found = layer_curvature(net, data, loss)
    assert list(found) == ["0", "1", "3"]
    assert [b.parameters for b in found.values()] == [25, 10, 18]
    assert sum(b.trace.value for b in found.values()) == pytest.approx(trace(net, data, loss).value, rel=1e-9)
    goal = core.objective(net, data, loss)
    dense = torch.stack([goal.hessian() @ e for e in torch.eye(goal.size).double()])
    tops = [float(torch.linalg.eigvalsh(dense[s, s])[-1]) for s in (slice(0, 25), slice(25, 35), slice(35, 53))]
    assert [b.largest.value for b in found.values()] == pytest.approx(tops, rel=0.01)
    assert max(tops) <= float(torch.linalg.eigvalsh(dense)[-1])


def test_hutchpp_serves_the_trace_of_a_network(digits):
    data = digits.split("train").take(range(100))
    exact = trace_split(digits.net, data, "cross_entropy", draws=64).total
    found = trace(digits.net, data, "cross_entropy", draws=60, method="hutch++")
    half = found.upper - found.lower
    assert abs(found.value - exact.value) < half + exact.upper - exact.lower
