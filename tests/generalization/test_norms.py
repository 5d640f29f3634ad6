"""Stable rank, path norm, spectral complexity: golden values, enumeration of paths, dense twins, laws, the judge."""

import itertools
import math

import pytest
import torch
from torch import nn

from theorylens.core import Subject, UnsuitableError
from theorylens.generalization import (
    operator_norm,
    probe_norms,
    spectral_complexity,
    squared_path_norm,
    stable_rank,
    weight_matrices,
)
from theorylens.generalization._norms_probe import judge, read
from theorylens.results import Exact, Verdict


def two_layers(first, second):
    first, second = torch.tensor(first), torch.tensor(second)
    net = nn.Sequential(
        nn.Linear(*first.shape[::-1], bias=False), nn.ReLU(), nn.Linear(*second.shape[::-1], bias=False)
    )
    net[0].weight.data, net[2].weight.data = first, second
    return net


def test_golden_values(golden):
    rank, path = golden("G1.4-8")
    assert stable_rank(torch.diag(torch.tensor([3.0, 4.0]))) == pytest.approx(rank, rel=1e-12)
    net = two_layers([[1.0, -1.0], [0.0, 3.0]], [[1.0, 2.0]])
    assert squared_path_norm(net, (2,)) == pytest.approx(path, rel=1e-12)


def test_stable_rank_lies_between_one_and_the_rank_and_ignores_scale_and_rotation():
    rng = torch.Generator().manual_seed(0)
    a = torch.randn(9, 4, generator=rng, dtype=torch.float64) @ torch.randn(4, 12, generator=rng, dtype=torch.float64)
    q = torch.linalg.qr(torch.randn(9, 9, generator=rng, dtype=torch.float64)).Q
    assert 1 < stable_rank(a) < 4
    assert stable_rank(-7 * q @ a) == pytest.approx(stable_rank(a), rel=1e-12)
    assert stable_rank(torch.outer(torch.arange(3.0), torch.arange(5.0))) == pytest.approx(1.0)
    assert stable_rank(torch.eye(6)) == pytest.approx(6.0)


def test_path_norm_is_the_sum_over_paths_biases_included():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    w1, b1, w2, b2, w3, b3 = [p.detach() for p in net.parameters()]
    total = float((b3**2).sum())
    for o, k in itertools.product(range(2), range(2)):
        total += float(w3[o, k] ** 2 * b2[k] ** 2)
        for j in range(4):
            total += float(w3[o, k] ** 2 * w2[k, j] ** 2 * (b1[j] ** 2 + (w1[j] ** 2).sum()))
    assert squared_path_norm(net, (3,)) == pytest.approx(total, rel=1e-12)


def dense(layer, shape):
    """Matrix of a layer without its bias, by what it does to basis vectors."""
    layer = layer.double()
    zero = layer(torch.zeros(1, *shape, dtype=torch.float64))
    size = math.prod(shape)
    basis = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
    return (layer(basis) - zero).reshape(size, -1).T.detach()


CONVOLUTIONS = [
    (nn.Conv2d(1, 4, 3, padding=1, stride=2), (1, 8, 8)),
    (nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2), (4, 6, 5)),
    (nn.Conv1d(2, 3, 4), (2, 11)),
]


@pytest.mark.parametrize(("layer", "shape"), CONVOLUTIONS, ids=lambda x: str(type(x).__name__))
def test_the_norm_of_a_convolution_is_that_of_its_matrix(layer, shape):
    exact = float(torch.linalg.matrix_norm(dense(layer, shape), 2))
    assert operator_norm(layer, torch.zeros(1, *shape, dtype=torch.float64)) == pytest.approx(exact, rel=1e-6)


def test_path_norm_through_convolution_normalisation_and_pooling_is_that_of_the_dense_chain():
    torch.manual_seed(1)
    conv, norm = nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2)
    norm.running_var.uniform_(0.5, 2.0)
    norm.running_mean.normal_()
    nn.init.uniform_(norm.weight)
    net = nn.Sequential(conv, norm, nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3)).eval()
    found = squared_path_norm(net, (1, 4, 4))
    layers, shape = [], (1, 4, 4)
    for layer in (conv, norm, net[3], net[5]):
        matrix = dense(layer, shape)
        bias = layer(torch.zeros(1, *shape, dtype=torch.float64)).reshape(-1).detach()
        layers.append((matrix, bias))
        shape = tuple(layer(torch.zeros(1, *shape, dtype=torch.float64)).shape[1:])
        shape = (math.prod(shape),) if layer is net[3] else shape
    x = torch.ones(16, dtype=torch.float64)
    for matrix, bias in layers:
        x = matrix**2 @ x + bias**2
    assert found == pytest.approx(float(x.sum()), rel=1e-6)


def test_rescaling_the_layers_of_a_relu_network_moves_neither_path_norm_nor_the_product():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False))
    path, spectral = squared_path_norm(net, (5,)), spectral_complexity(net, (5,))
    net[0].weight.data *= 10
    net[2].weight.data /= 10
    assert squared_path_norm(net, (5,)) == pytest.approx(path, rel=1e-5)
    assert spectral_complexity(net, (5,)).spectral == pytest.approx(spectral.spectral, rel=1e-5)
    assert spectral_complexity(net, (5,)).complexity == pytest.approx(spectral.complexity, rel=1e-5)


def test_spectral_complexity_by_hand_and_from_initialisation():
    net = two_layers([[3.0, 0.0], [0.0, 4.0]], [[1.0, 2.0], [2.0, 4.0]])
    found = spectral_complexity(net, (2,))
    ratio = (7 / 4) ** (2 / 3) + ((5**0.5 + 20**0.5) / 5) ** (2 / 3)  # rows of torch's weight, over the norms 4 and 5
    assert found.complexity == pytest.approx(math.log10(20 * ratio**1.5), rel=1e-9)
    assert found.norms == pytest.approx({"0.weight": 4.0, "2.weight": 5.0})
    assert spectral_complexity(net, (2,), net.state_dict()).complexity == -math.inf
    start = {k: v.clone() for k, v in net.state_dict().items()}
    start["0.weight"][0, 0] -= 2.0
    assert spectral_complexity(net, (2,), start).complexity == pytest.approx(math.log10(20 * (2 / 4)), rel=1e-9)


def test_a_convolution_counts_every_row_of_its_matrix():
    torch.manual_seed(3)
    conv = nn.Conv2d(2, 3, 3)  # without padding every row of the unrolled matrix is a whole filter
    matrix = dense(conv, (2, 6, 5))
    by_hand = math.log10(float(matrix.norm(dim=1).sum()))  # norm x (2,1)-norm / norm
    assert spectral_complexity(nn.Sequential(conv), (2, 6, 5)).complexity == pytest.approx(by_hand, rel=1e-6)


def test_the_output_moves_no_more_than_the_product_of_norms_allows():
    torch.manual_seed(2)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.GELU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 4),
        nn.Sigmoid(),
    ).eval()  # fmt: skip
    most = 10 ** spectral_complexity(net, (1, 4, 4)).spectral
    x, step = torch.randn(200, 1, 4, 4), 0.1 * torch.randn(200, 1, 4, 4)
    with torch.no_grad():
        moved = (net(x + step) - net(x)).norm(dim=1) / step.flatten(1).norm(dim=1)
    assert 0 < float(moved.max()) <= most


@pytest.mark.parametrize(
    ("others", "verdict", "said"),
    [
        ({}, Verdict.DESCRIPTIVE, "stable rank 5 on average"),
        ({"init": 8.0}, Verdict.DESCRIPTIVE, "5 on average, 8 at initialisation"),
        ({"init": 5.001}, Verdict.INCONCLUSIVE, "not told apart from initialisation"),
        ({"init": 8.0, "shuffled": 5.001}, Verdict.INCONCLUSIVE, "shuffled labels"),
    ],
)
def test_judgement(others, verdict, said):
    found, reason = judge(5.0, others)
    assert found is verdict
    assert said in reason.render()


@pytest.mark.parametrize(
    ("init", "complexity", "said"),
    [
        (None, (math.nan, math.nan), ("Nothing to compare", "no plain chain")),
        (5.0, (2.0, math.nan), ("it is the same", "is 10^2.0, without")),
        (8.0, (2.0, 1.0), ("concentrated", "10^1.0 at initialisation")),
        (2.0, (2.0, 1.0), ("spread them", "a measure, no bound")),
    ],
)
def test_reading(init, complexity, said):
    text = read(5.0, init, complexity).render()
    assert text.startswith("Over 5 directions")
    assert all(s in text for s in said)


def test_another_random_start_is_no_before_training():
    assert judge(5.0, {"init": 8.0}, own=False)[0] is Verdict.INCONCLUSIVE
    assert judge(5.0, {"init": 11.0}, own=False)[0] is Verdict.DESCRIPTIVE
    text = read(5.0, 8.0, (math.nan, math.nan), own=False).render()
    assert "not its own, it is 8: another random draw" in text
    data = torch.randn(20, 6), torch.zeros(20, dtype=torch.int64)
    untrained = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    found = probe_norms(Subject(model=untrained, loss="cross_entropy", train=data))
    assert found.verdict is Verdict.INCONCLUSIVE


def test_probe_on_digits(subject):
    found = probe_norms(subject)
    ranks = [stable_rank(m) for m in weight_matrices(subject.net).values()]
    assert isinstance(found.estimate.uncertainty, Exact)
    assert found.estimate.value == pytest.approx(sum(ranks) / 2, rel=1e-9)
    assert {c.role for c in found.controls} == {"init", "shuffled"}
    curve, table = found.payload
    assert [len(line.x) for line in curve.lines] == [2, 2, 2]
    cells = {row[0].id: row[1:] for row in table.rows}
    assert cells["TL111.row.distance"][1] == 0.0  # the initialisation, from itself
    assert cells["TL111.row.moved"][1] == "-"
    assert cells["TL111.row.path"][0] == pytest.approx(math.log10(squared_path_norm(subject.net, (64,))), rel=1e-9)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return x + self.inner(x)


def test_probe_without_a_plain_chain_keeps_what_is_defined_and_refuses_nothing_to_measure():
    data = torch.randn(8, 4), torch.zeros(8, dtype=torch.int64)
    net = nn.Sequential(Residual(), nn.Linear(4, 2))
    found = probe_norms(Subject(model=net, loss="cross_entropy", train=data))
    cells = {row[0].id: row[1:] for row in found.payload[1].rows}
    assert cells["TL111.row.complexity"][0] == "-"  # a sum is no chain, and has paths
    assert cells["TL111.row.path"][0] == pytest.approx(math.log10(squared_path_norm(net, (4,))))
    assert cells["TL111.row.length"][0] > 0
    zero = nn.Linear(4, 2)
    nn.init.zeros_(zero.weight)
    with pytest.raises(UnsuitableError, match="no weight matrix that is not zero"):
        probe_norms(Subject(model=zero, loss="cross_entropy", train=data))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: stable_rank(torch.zeros(2, 2)), "zeros has no stable rank"),
        (lambda: stable_rank(torch.ones(3)), r"matrix is needed, got shape \(3,\)"),
        (lambda: stable_rank(torch.full((2, 2), math.nan)), "not finite"),
        (lambda: squared_path_norm(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), (2,)), r"through Tanh \(1\)"),
        (lambda: squared_path_norm(nn.Sequential(nn.LPPool1d(2, 2)), (1, 4)), "through LPPool1d"),
        (lambda: spectral_complexity(Residual(), (4,)), "Residual is no chain of layers: add"),
        (lambda: spectral_complexity(nn.Sequential(nn.LayerNorm(4)), (4,)), "known for LayerNorm"),
        (lambda: spectral_complexity(nn.Sequential(nn.LPPool1d(2, 2)), (1, 4)), "known for LPPool1d"),
        (lambda: spectral_complexity(nn.Sequential(nn.ReLU()), (4,)), "no linear or convolution layer"),
        (lambda: spectral_complexity(nn.Linear(2, 2), (2,), {}), "reference has no weight weight"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()
