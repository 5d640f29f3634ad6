"""Large batches are read in pieces that stay near the processor, and nothing but rounding shows it."""

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
        assert sizes[0][0] == 20
        rest = [*sizes[0][1:], *sizes[1]]
        assert len(rest) > 4
        assert max(rest) * hessian._bytes <= 8_000 + hessian._bytes
        assert max(sizes[1]) - min(sizes[1]) <= 1  # equal shares, no crumbs
        assert hessian._kept_bytes == pytest.approx(200 * hessian._bytes, rel=0.1)
    else:
        assert not hessian._kept


def test_small_graphs_are_not_split():
    net, x, y = made(400)
    hessian = core.objective(net, (x, y), "cross_entropy", batch_size=200).hessian()
    hessian @ torch.ones(hessian.size, dtype=torch.float64)
    assert [[g.examples for g in graphs] for graphs in hessian._kept.values()] == [[64, 136], [200]]


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
    goal = Objective(net, [batch], loss)
    hessian = goal.hessian()
    v = torch.ones(goal.size, dtype=torch.float64)
    wanted = full_hessian(net, (mixing @ x)[edges[0]], y[edges[0]]) @ v
    torch.testing.assert_close(hessian @ v, wanted, rtol=1e-10, atol=1e-13)
    assert [[g.examples for g in graphs] for graphs in hessian._kept.values()] == [[80]]
