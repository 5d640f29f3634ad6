"""Large batches are read in pieces that stay near the processor, and nothing but rounding shows it."""

import numpy as np
import pytest
import torch
from torch import nn

from theorylens import core
from theorylens.numerics import products
from theorylens.numerics.memory import divisible
from theorylens.numerics.objective import Objective


def made(n=200):
    with core.global_randomness_kept(0):
        net = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3)).double().eval()
        return net, torch.randn(n, 6).double(), torch.randint(3, (n,))


def full_hessian(net, x, y):
    names, leaves = zip(*net.named_parameters(), strict=True)

    def risk(*values):
        return nn.functional.cross_entropy(torch.func.functional_call(net, dict(zip(names, values, strict=True)), x), y)

    blocks = torch.autograd.functional.hessian(risk, tuple(leaves))
    sizes = [p.numel() for p in leaves]
    rows = [[b.reshape(n, m) for b, m in zip(row, sizes, strict=True)] for n, row in zip(sizes, blocks, strict=True)]
    return torch.cat([torch.cat(row, 1) for row in rows])


@pytest.mark.parametrize("memory", [0, 1, 1 << 29])
def test_products_from_pieces_are_those_of_the_whole_matrix(memory, monkeypatch):
    net, x, y = made()
    whole = full_hessian(net, x, y)
    monkeypatch.setattr(products, "PIECE", 8_000)
    monkeypatch.setattr(products, "PILOT", 20)
    hessian = core.objective(net, (x, y), "cross_entropy", batch_size=150).hessian(memory=memory)
    v = torch.linspace(-1, 1, hessian.size, dtype=torch.float64)
    for _ in range(2):
        torch.testing.assert_close(hessian @ v, whole @ v, rtol=1e-10, atol=1e-13)
    if memory > 1:
        sizes = {i: [graph.examples for graph in graphs] for i, graphs in hessian._kept.items()}
        assert sizes.keys() == {0, 1}
        assert (sum(sizes[0]), sum(sizes[1])) == (150, 50)
        every = [*sizes[0], *sizes[1]]
        assert len(every) > 6
        assert max(every) * hessian._bytes <= 8_000
        assert all(max(each) - min(each) < len(each) for each in sizes.values())  # equal shares, no crumbs
        assert hessian._kept_bytes == pytest.approx(200 * hessian._bytes, rel=0.1)
    else:
        assert not hessian._kept


def test_small_graphs_are_not_split():
    net, x, y = made(400)
    hessian = core.objective(net, (x, y), "cross_entropy", batch_size=200).hessian()
    hessian @ torch.ones(hessian.size, dtype=torch.float64)
    assert [[g.examples for g in graphs] for graphs in hessian._kept.values()] == [[200], [200]]
    assert hessian._kept_bytes == pytest.approx(400 * hessian._bytes, rel=0.1)


def test_a_batch_of_which_some_pieces_fit_is_not_kept_by_halves(monkeypatch):
    net, x, y = made()
    monkeypatch.setattr(products, "PIECE", 8_000)
    goal = core.objective(net, (x, y), "cross_entropy", batch_size=100)
    everything = goal.hessian()
    v = torch.ones(goal.size, dtype=torch.float64)
    wanted = everything @ v
    some = goal.hessian(memory=int(0.7 * everything._kept_bytes))
    for _ in range(3):
        torch.testing.assert_close(some @ v, wanted, rtol=1e-11, atol=1e-14)
    assert [sum(g.examples for g in graphs) for graphs in some._kept.values()] == [100]
    assert some._kept_bytes <= some.memory


def test_batches_with_a_tensor_that_does_not_go_by_examples_stay_whole(monkeypatch):
    """Such as the edges of a graph: a part of such a batch would be another problem."""
    monkeypatch.setattr(products, "PIECE", 1)
    net, x, y = made(80)
    edges = torch.randint(80, (2, 300))
    mixing = torch.zeros(80, 80, dtype=torch.float64).index_put_((edges[0], edges[1]), torch.ones(300).double())

    def loss(model, batch):
        rows, targets, pairs = batch
        return nn.functional.cross_entropy(model(mixing @ rows)[pairs[0]], targets[pairs[0]], reduction="sum"), (
            torch.tensor(float(pairs.shape[1]))
        )

    batch = (x, y, edges)
    assert not divisible(batch)
    assert divisible((x, y))
    assert not divisible((x, y, torch.tensor(0.5)))
    assert divisible({"x": x, "y": y, "name": "a split", "scale": 0.5, "mask": None})
    assert not divisible({"x": x, "y": y, "lengths": [3] * 80})  # one for each example
    assert not divisible({"x": x, "y": y, "lengths": np.ones(80)})
    assert not divisible((x.to_sparse(), y))
    goal = Objective(net, [batch], loss)
    hessian = goal.hessian()
    v = torch.ones(goal.size, dtype=torch.float64)
    wanted = full_hessian(net, (mixing @ x)[edges[0]], y[edges[0]]) @ v
    torch.testing.assert_close(hessian @ v, wanted, rtol=1e-10, atol=1e-13)
    assert [[g.examples for g in graphs] for graphs in hessian._kept.values()] == [[80]]


def contrastive(model, batch):
    """Every example against all others of its batch."""
    features = model(batch[0])
    scores = features @ features.T - 1e3 * torch.eye(len(features)).double()
    return nn.functional.cross_entropy(scores, batch[1] % len(scores), reduction="sum"), torch.tensor(
        float(len(scores))
    )


def centred(model, batch):
    outputs = model(batch[0])
    return (outputs - outputs.mean(0)).square().sum(), torch.tensor(float(len(outputs)))


def mixed(model, batch):
    """Nodes of a graph, whose edges are a square matrix: a part of it is none."""
    rows, targets, edges = batch
    return nn.functional.cross_entropy(edges @ model(rows), targets, reduction="sum"), torch.tensor(float(len(rows)))


@pytest.mark.parametrize("memory", [0, 1 << 29])
@pytest.mark.parametrize("loss", [contrastive, centred, mixed])
def test_examples_that_meet_in_the_loss_stay_together(loss, memory, monkeypatch):
    """The product is the derivative of the gradient, which takes batches whole."""
    monkeypatch.setattr(products, "PIECE", 1)
    net, x, y = made(80)
    batch = (x, y, torch.rand(80, 80).double()) if loss is mixed else (x, y)
    assert divisible(batch)
    goal = Objective(net, [batch], loss)
    assert not goal.additive
    hessian, v = goal.hessian(memory=memory), torch.linspace(-1, 1, goal.size, dtype=torch.float64)
    found, step = hessian @ v, 1e-6
    start = nn.utils.parameters_to_vector(net.parameters()).detach()
    slopes = []
    for sign in (1, -1):
        nn.utils.vector_to_parameters(start + sign * step * v, net.parameters())
        slopes.append(goal.gradient())
    torch.testing.assert_close(found, (slopes[0] - slopes[1]) / (2 * step), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_ordinary_losses_are_sums(dtype):
    net, x, y = made(80)
    net, x = net.to(dtype), x.to(dtype)
    weights = nn.CrossEntropyLoss(weight=torch.tensor([0.2, 1.0, 3.0], dtype=dtype), ignore_index=1)
    for loss in ("cross_entropy", weights, nn.CrossEntropyLoss(reduction="sum")):
        assert core.objective(net, (x, y), loss).additive
    assert not core.objective(net, (x[:1], y[:1]), "cross_entropy").additive  # nothing to see it by


def test_lists_with_an_entry_for_each_example_are_not_torn_from_them(monkeypatch):
    monkeypatch.setattr(products, "PIECE", 1)
    net, x, y = made(80)
    scales = [0.5 + i / 80 for i in range(80)]

    def loss(model, batch):
        values = nn.functional.cross_entropy(model(batch["x"]), batch["y"], reduction="none")
        return (values * torch.tensor(batch["scales"]).double()).sum(), torch.tensor(80.0)

    goal = Objective(net, [{"x": x, "y": y, "scales": scales}], loss)
    v = torch.ones(goal.size, dtype=torch.float64)

    def plain(model, batch):
        values = nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")
        return (values * batch[2]).sum(), torch.tensor(float(len(values)))

    wanted = Objective(net, [(x, y, torch.tensor(scales).double())], plain).hessian() @ v
    torch.testing.assert_close(goal.hessian() @ v, wanted, rtol=1e-10, atol=1e-13)
