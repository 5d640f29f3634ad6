"""Fisher matrices against the enumeration of all labels, and operators of chosen parameters as blocks."""

import pytest
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import eigsh
from torch import nn

from theorylens import core
from theorylens.core import RefusedError, Task
from theorylens.landscape import fisher, ggn, hessian
from theorylens.numerics import as_linear_operator, tally


def made(outputs=3, last=None):
    with core.global_randomness_kept(0):
        layers = [nn.Linear(4, 3), nn.LayerNorm(3), nn.Tanh(), nn.Linear(3, outputs)]
        net = nn.Sequential(*layers, *([] if last is None else [last])).double().eval()
        return net, torch.randn(7, 4).double()


def dense(operator):
    return torch.stack([operator @ unit for unit in torch.eye(operator.size, dtype=torch.float64)])


def slopes_of(net, losses):
    leaves = list(net.parameters())
    flat = [torch.autograd.grad(e, leaves, retain_graph=True) for e in losses.reshape(-1)]
    return torch.stack([torch.cat([g.reshape(-1) for g in each]) for each in flat])


def over_labels(net, x, each, weights=None):
    """The mean over examples of the expectation of g g' over the labels that the network would draw."""
    weights = torch.ones(len(x)).double() if weights is None else weights
    total = 0
    for label in range(3):
        losses = each(net(x), torch.full((len(x),), label), reduction="none")
        g = slopes_of(net, losses)
        total = total + torch.einsum("n,np,nq->pq", losses.detach().neg().exp() * weights, g, g)
    return total / weights.sum()


def test_the_exact_fisher_matrix_is_the_expectation_over_labels():
    net, x = made()
    y = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    truth = over_labels(net, x, F.cross_entropy)
    for loss in ("cross_entropy", nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)):
        assert torch.allclose(dense(fisher(net, (x, y), loss, batch_size=3)), truth, atol=1e-12)
    weight = torch.tensor([1.0, 2.0, 0.5]).double()  # of classes: they count as weights of the examples
    weighted = over_labels(net, x, F.cross_entropy, weight[y])
    assert torch.allclose(dense(fisher(net, (x, y), nn.CrossEntropyLoss(weight=weight), batch_size=3)), weighted)
    net, x = made(last=nn.LogSoftmax(1))  # the loss is linear in these outputs: no Gauss-Newton matrix would do
    truth = over_labels(net, x, F.nll_loss)
    assert torch.allclose(dense(fisher(net, (x, y), nn.NLLLoss(), batch_size=3)), truth, atol=1e-12)
    assert not dense(ggn(net, (x, y), nn.NLLLoss())).any()


def test_binary_and_gaussian_targets():
    net, x = made(outputs=1)
    y = (torch.arange(7) % 2).double()
    z = net(x)[:, 0]
    g = slopes_of(net, z)  # E (σ - y)² = σ (1 - σ)
    truth = torch.einsum("n,np,nq->pq", z.sigmoid() * (1 - z.sigmoid()), g, g) / 7
    for loss in ("binary_cross_entropy", nn.BCEWithLogitsLoss()):
        assert torch.allclose(dense(fisher(net, (x, y[:, None]), loss)), truth.detach(), atol=1e-12)
    net, x = made(outputs=2)
    g = slopes_of(net, net(x)).reshape(7, 2, -1)  # mean squared error of 2 outputs: variance 1, slopes of size 1
    truth = torch.einsum("nkp,nkq->pq", g, g) / 7
    assert torch.allclose(dense(fisher(net, (x, torch.zeros(7, 2).double()), "mse")), truth, atol=1e-12)


CASES = {
    "cross-entropy": ("cross_entropy", 3, None, lambda: torch.arange(7) % 3),
    "weighted": (nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 0.5]).double()), 3, None, lambda: torch.arange(7) % 3),
    "log-probabilities": (nn.NLLLoss(), 3, nn.LogSoftmax(1), lambda: torch.arange(7) % 3),
    "binary": ("binary_cross_entropy", 2, None, lambda: torch.ones(7, 2).double()),
    "squared": ("mse", 2, None, lambda: torch.ones(7, 2).double()),
    "summed": (nn.MSELoss(reduction="sum"), 2, None, lambda: torch.ones(7, 2).double()),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_drawn_labels_give_the_exact_matrix_in_the_mean(name):
    loss, outputs, last, targets = CASES[name]
    net, x = made(outputs, last)
    data = (x, targets())
    truth = dense(fisher(net, data, loss))
    found = [dense(fisher(net, data, loss, kind="monte_carlo", samples=100, seed=s)) for s in range(10)]
    mean, spread = torch.stack(found).mean(0), torch.stack(found).std(0) / 10**0.5
    gaps = (mean - truth) / (spread + 1e-9 * truth.abs().max())
    assert float(gaps.square().mean()) < 3  # about 1.3 for 10 independent runs; entries are far from independent
    assert float((mean - truth).norm() / truth.norm()) < 0.1


def test_drawn_labels_belong_to_the_rows():
    net, x = made()
    data = (x, torch.arange(7) % 3)
    first = dense(fisher(net, data, "cross_entropy", kind="monte_carlo", seed=1))
    for options in ({"batch_size": 2}, {"memory": 0, "batch_size": 3}):
        again = fisher(net, data, "cross_entropy", kind="monte_carlo", seed=1, **options)
        assert torch.allclose(dense(again), first, atol=1e-13)
        assert torch.equal(again @ torch.ones(again.size).double(), again @ torch.ones(again.size).double())
    assert not torch.allclose(dense(fisher(net, data, "cross_entropy", kind="monte_carlo", seed=2)), first)
    rank = int(torch.linalg.matrix_rank(first))
    assert rank == 7  # one label for each example


def test_tokens_are_drawn_one_by_one():
    with core.global_randomness_kept(0):
        net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)).double().eval()
        x, y = torch.randn(6, 5, 4).double(), torch.randint(3, (6, 5))
    y[0, 1:3] = -100  # tokens that do not count
    truth = dense(fisher(net, (x, y), "cross_entropy"))
    found = dense(fisher(net, (x, y), "cross_entropy", kind="monte_carlo", samples=3000, batch_size=4))
    assert float((found - truth).norm() / truth.norm()) < 0.06


def test_what_is_refused(unchecked_shapes):
    net, x = made()
    data = (x, torch.randn(7, 3).double())
    labels = (x, torch.arange(7) % 3)
    said = "not the negative logarithm of a likelihood known here"
    for loss in ("l1", lambda o, t: (o - t).square().mean(1)):
        with pytest.raises(RefusedError, match=said):
            fisher(net, data, loss)
        assert fisher(net, data, loss, kind="empirical").size == 33
    for loss in (nn.BCEWithLogitsLoss(pos_weight=torch.ones(3).double()), nn.BCEWithLogitsLoss(weight=torch.ones(3))):
        with pytest.raises(RefusedError, match=said):
            fisher(net, data, loss, kind="monte_carlo")
    both = nn.CrossEntropyLoss(weight=torch.ones(3).double(), label_smoothing=0.1)
    with pytest.raises(RefusedError, match=said):
        fisher(net, labels, both)
    with pytest.raises(ValueError, match="kind must be"):
        fisher(net, labels, "cross_entropy", kind="true")
    with pytest.raises(ValueError, match="samples must be at least 1"):
        fisher(net, labels, "cross_entropy", kind="monte_carlo", samples=0)


@pytest.mark.parametrize("operator", [hessian, ggn, fisher])
def test_names_choose_a_diagonal_block(operator):
    net, x = made()
    data = (x, torch.arange(7) % 3)
    whole = dense(operator(net, data, "cross_entropy"))
    block = operator(net, data, "cross_entropy", names=["1", "3.bias"])
    chosen = [*range(15, 21), *range(30, 33)]
    assert block.size == 9
    assert torch.allclose(dense(block), whole[chosen][:, chosen], atol=1e-12)
    for names, said in ((["4"], "named '4'"), ([], "names is empty"), ("0", "must be a list of names")):
        with pytest.raises(ValueError, match=said):
            operator(net, data, "cross_entropy", names=names)


def test_scipy_and_a_kept_graph_agree_with_the_dense_matrix():
    net, x = made()
    data = (x, torch.arange(7) % 3)
    operator = hessian(net, data, "cross_entropy", batch_size=3)
    truth = torch.linalg.eigvalsh(dense(operator))
    found = eigsh(as_linear_operator(operator), k=3, which="LA", return_eigenvectors=False)
    assert sorted(found) == pytest.approx(truth[-3:].tolist(), rel=1e-9)


def test_graphs_of_gauss_newton_products_are_kept_within_the_budget():
    net, x = made()
    data = (x, torch.arange(7) % 3)
    v = torch.linspace(-1, 1, 33).double()
    kept, rebuilt = (ggn(net, data, "cross_entropy", memory=m, batch_size=2) for m in (1 << 20, 0))
    first = kept @ v
    with tally() as spent:
        assert torch.equal(kept @ v, first)
    assert (spent.gradients, spent.hvps) == (0, 7)
    with tally() as spent:
        torch.testing.assert_close(rebuilt @ v, first, rtol=1e-11, atol=1e-14)
    assert (spent.gradients, spent.hvps) == (7, 7)
    some = ggn(net, data, "cross_entropy", memory=kept._kept_bytes // 2, batch_size=2)
    assert torch.equal(some @ v, first)
    assert 0 < len(some._kept) < 4
    assert 2 * some._kept_bytes <= kept._kept_bytes


def test_outputs_that_move_with_nothing_are_refused():
    class Still(nn.Module):
        def __init__(self):
            super().__init__()
            self.p = nn.Parameter(torch.ones(2).double())

        def forward(self, x):
            return x[:, :2]

    net, x = Still(), torch.randn(3, 4).double()
    with pytest.raises(RefusedError, match="do not depend on any of the chosen parameters"):
        ggn(net, (x, x[:, :2]), Task(loss="mse")) @ torch.ones(2).double()
