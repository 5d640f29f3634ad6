"""Norms of networks that are no plain nn.Sequential: against dense matrices, squared copies and their own Jacobian."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from theorylens.generalization import operator_norm, spectral_complexity, squared_path_norm, weight_matrices
from theorylens.generalization._layer_chain import chain
from theorylens.generalization._layer_norms import lipschitz


def dense(call, shape):
    """Matrix of an affine map without its constant, by what it does to basis vectors."""
    basis = torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape)
    with torch.no_grad():
        return (call(basis) - call(torch.zeros_like(basis))).flatten(1).T


def top(call, shape):
    return float(torch.linalg.matrix_norm(dense(call, shape), 2))


class Plain(nn.Module):
    """A chain written the way people write networks: registered in another order, activations as functions."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(12, 3)
        self.first = nn.Conv2d(2, 3, 3, padding=1, stride=2)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        return self.last(x.view(x.size(0), -1))


class Written(nn.Module):
    """A way through two layers that is given from outside."""

    def __init__(self, way, inputs=4):
        super().__init__()
        self.way, self.a, self.b = way, nn.Linear(inputs, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.way(self, x)


def squared_copy(net):
    other = copy.deepcopy(net).double()
    with torch.no_grad():
        for p in other.parameters():
            p.square_()
    return other


def test_a_chain_is_read_off_the_forward_pass_and_not_the_order_of_registration():
    torch.manual_seed(0)
    net = Plain().double()
    same = nn.Sequential(net.first, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), net.last)
    found, expected = spectral_complexity(net, (2, 8, 8)), spectral_complexity(same, (2, 8, 8))
    assert [name for name, _ in chain(net)] == ["first", "relu", "max_pool2d", "view", "last"]
    assert list(found.norms) == ["first.weight", "last.weight"]
    assert (found.spectral, found.complexity) == pytest.approx((expected.spectral, expected.complexity), rel=1e-12)
    by_hand = top(net.first, (2, 8, 8)) * float(torch.linalg.matrix_norm(net.last.weight.detach(), 2))
    assert 10**found.spectral == pytest.approx(by_hand, rel=1e-6)
    ones = torch.ones(1, 2, 8, 8, dtype=torch.float64)
    assert squared_path_norm(net, (2, 8, 8)) == pytest.approx(squared_copy(net)(ones).sum().item(), rel=1e-12)


def test_a_layer_used_twice_counts_twice():
    torch.manual_seed(0)
    layer = nn.Linear(4, 4, bias=False).double()
    net = nn.Sequential(layer, nn.ReLU(), layer)
    norm = torch.linalg.matrix_norm(layer.weight, 2).item()
    assert spectral_complexity(net, (4,)).spectral == pytest.approx(2 * math.log10(norm), rel=1e-9)
    squares = layer.weight.detach().square()
    assert squared_path_norm(net, (4,)) == pytest.approx(float((squares @ squares).sum()), rel=1e-12)
    called_twice = Written(lambda m, x: m.a(torch.relu(m.a(x)))).double()
    called_twice.a = layer
    assert spectral_complexity(called_twice, (4,)).spectral == pytest.approx(2 * math.log10(norm), rel=1e-9)


JOINED = {
    "sum": lambda m, x: x + m.b(torch.relu(m.a(x))),
    "difference": lambda m, x: m.b(torch.relu(m.a(x))) - x,
    "concatenation": lambda m, x: torch.cat([x, torch.relu(m.a(x))], dim=1),
    "shared": lambda m, x: m.b(torch.relu(m.a(x))) + m.b(x),
}


@pytest.mark.parametrize("way", JOINED)
def test_path_norms_of_joined_paths_are_those_of_all_paths(way):
    torch.manual_seed(1)
    net = Written(JOINED[way]).double()
    with torch.no_grad():
        a, b = net.a.weight.square(), net.b.weight.square()
        c, d = net.a.bias.square(), net.b.bias.square()
    one = torch.ones(4, dtype=torch.float64)
    inner = a @ one + c
    sums = {
        "sum": one + b @ inner + d, "difference": one + b @ inner + d, "concatenation": torch.cat([one, inner]),
        "shared": b @ inner + d + b @ one + d,
    }  # fmt: skip
    assert squared_path_norm(net, (4,)) == pytest.approx(float(sums[way].sum()), rel=1e-12)
    with pytest.raises(ValueError, match="Written is no chain of layers"):
        spectral_complexity(net, (4,))


@pytest.mark.parametrize(
    ("way", "path"),
    [
        (lambda m, x: m.a(x) * m.b(x), "what mul"),
        (lambda m, x: F.linear(x, m.a.weight), r"a.weight is used outside of a layer"),
        (lambda m, x: m.a(x) if x.sum() > 0 else m.b(x), "are not known: symbolically traced variables"),
        (lambda m, x: (m.a(x), m.b(x)), "returns several things"),
        (lambda m, x: torch.softmax(m.a(x), 1), "what softmax"),
    ],
)
def test_what_is_not_known_is_refused_by_name(way, path):
    with pytest.raises(ValueError, match=path):
        squared_path_norm(Written(way), (4,))
    with pytest.raises(ValueError, match=r"no chain of layers|not known"):
        spectral_complexity(Written(way), (4,))


def test_attention_and_layers_with_a_forward_pass_of_their_own_are_refused():
    class Halved(nn.Linear):
        def forward(self, x):
            return super().forward(x) / 2

    class Named(nn.Linear):
        """Nothing of its own."""

    attention = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    for net in (attention, Halved(4, 4), nn.Sequential(nn.Linear(4, 4), Halved(4, 4))):
        for measure in (squared_path_norm, spectral_complexity):
            with pytest.raises(ValueError, match=r"known|no chain|outside of a layer"):
                measure(net, (4,))
    named = Named(4, 4)
    assert squared_path_norm(named, (4,)) == pytest.approx(
        (named.weight.square().sum() + named.bias.square().sum()).item()
    )


AWKWARD = [
    (nn.Conv2d(4, 8, 3, padding=1, groups=4), (4, 5, 6)),
    (nn.Conv2d(2, 3, (3, 2), padding=(0, 2), stride=(2, 1), dilation=(1, 3)), (2, 7, 6)),
    (nn.Conv1d(2, 2, 3, padding="same"), (2, 5)),
    (nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), (2, 5, 5)),
    (nn.Conv3d(1, 2, 2, stride=2), (1, 4, 4, 4)),
    (nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1), (3, 4, 4)),
    (nn.ConvTranspose1d(4, 6, 3, groups=2, dilation=2), (4, 5)),
    (nn.AvgPool2d(2), (3, 6, 6)),
    (nn.AvgPool2d(3, 1, 1), (2, 6, 5)),
    (nn.AdaptiveAvgPool2d(1), (2, 5, 4)),
    (nn.AdaptiveAvgPool2d((3, 2)), (2, 5, 5)),
    (nn.Conv2d(1, 1, 1, bias=False), (1, 1, 1)),
]


@pytest.mark.parametrize(("layer", "shape"), AWKWARD, ids=lambda x: type(x).__name__)
def test_operator_norms_and_paths_are_those_of_the_dense_matrix(layer, shape):
    layer = copy.deepcopy(layer).double()
    matrix = dense(layer, shape)
    x = torch.zeros(1, *shape, dtype=torch.float64)
    assert operator_norm(layer, x) == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)), rel=1e-6)
    with torch.no_grad():
        constant = layer(x).square().sum()
    if getattr(layer, "padding_mode", "zeros") == "zeros":
        expected = float(matrix.square().sum() + constant)
        assert squared_path_norm(layer, shape) == pytest.approx(expected, rel=1e-9)
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d):
        found = spectral_complexity(layer, shape)  # of one layer: the sum over rows of their lengths, short at borders
        assert 10**found.complexity == pytest.approx(float(matrix.norm(dim=1).sum()), rel=1e-6)


@pytest.mark.parametrize(
    ("layer", "slope"),
    [(nn.ELU(alpha=3.0), 3.0), (nn.LeakyReLU(-2.0), 2.0), (nn.PReLU(init=1.5), 1.5), (nn.GELU(), 1.13),
     (nn.Hardswish(), 1.5), (nn.SELU(), 1.7582), (nn.Mish(), 1.09), (nn.SiLU(), 1.1), (nn.Softplus(beta=5), 1.0)],
    ids=lambda x: type(x).__name__,
)  # fmt: skip
def test_activations_are_no_steeper_than_said_and_nearly_so(layer, slope):
    x = torch.linspace(-12, 12, 200_001, dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(layer.double()(x).sum(), x)
    steepest = float(slopes.abs().max())
    assert 0.995 * slope <= steepest <= slope
    assert lipschitz("", layer, x[None].detach()) == pytest.approx(slope)


@pytest.mark.parametrize(
    "pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2), nn.MaxPool2d(3, 1), nn.MaxPool2d(2, 2, dilation=2)]
)
def test_one_input_of_a_maximum_moves_as_many_windows_as_said(pool):
    x = torch.zeros(1, 1, 9, 9)
    most = 0.0
    for i in range(9):
        for j in range(9):
            there = x.clone()
            there[0, 0, i, j] = 1.0
            most = max(most, float((pool(there) - pool(x)).norm()))
    assert lipschitz("", pool, x) == pytest.approx(most)


def test_weights_are_those_that_layers_use():
    torch.manual_seed(2)
    layer = nn.Linear(5, 4)
    new = nn.utils.parametrizations.weight_norm(copy.deepcopy(layer))
    with pytest.warns(FutureWarning):
        old = nn.utils.weight_norm(copy.deepcopy(layer))
    half = nn.utils.parametrizations.spectral_norm(copy.deepcopy(layer)).eval()
    assert [*weight_matrices(nn.Sequential(new))] == ["0.weight"] == [*weight_matrices(nn.Sequential(old))]
    for net in (new, old):
        assert torch.allclose(weight_matrices(net)["weight"], layer.weight)
        assert squared_path_norm(net, (5,)) == pytest.approx(squared_path_norm(layer, (5,)), rel=1e-5)
    assert spectral_complexity(half, (5,)).spectral == pytest.approx(0.0, abs=1e-2)
    tied = nn.Sequential(layer, nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), layer)
    assert [*weight_matrices(tied)] == ["0.weight", "2.weight"]


def test_a_compiled_network_is_the_network():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    compiled = torch.compile(net, backend="eager")
    assert squared_path_norm(compiled, (3,)) == squared_path_norm(net, (3,))
    found = spectral_complexity(compiled, (3,), compiled.state_dict())
    assert found.complexity == -math.inf
    assert found.spectral == spectral_complexity(net, (3,)).spectral
