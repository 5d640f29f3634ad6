"""Permutation alignment: what may be permuted, that outputs stay, that known orders are found; barriers after it."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from theorylens.core import RefusedError, global_randomness_kept
from theorylens.landscape import align, linear_path, symmetry_directions, unit_groups
from theorylens.landscape._alignment import entries, permuted
from theorylens.landscape._unit_flow import UnitAxis


class Residual(nn.Module):
    """Batch normalisation, a strided block with a projection, flattening and two dense layers."""

    def __init__(self, width=4):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width)
        self.one, self.one_norm = nn.Conv2d(width, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)
        self.two, self.two_norm = nn.Conv2d(5, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.down = nn.Sequential(nn.Conv2d(width, 6, 1, stride=2), nn.BatchNorm2d(6))
        self.hidden, self.out = nn.Linear(6 * 16, 7), nn.Linear(7, 3)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(x + self.two_norm(self.two(F.relu(self.one_norm(self.one(x))))))
        x = self.down(x)
        return self.out(torch.tanh(self.hidden(x.view(x.size(0), -1))))


class Mixed(nn.Module):
    """Layer normalisation, a gate, a depthwise and a transposed convolution, a mean over places, a per-unit slope."""

    def __init__(self):
        super().__init__()
        self.into = nn.Conv1d(2, 4, 3, padding=1)
        self.each = nn.Conv1d(4, 4, 3, padding=1, groups=4)
        self.back = nn.ConvTranspose1d(4, 6, 3, padding=1)
        self.scale = nn.GroupNorm(1, 6)
        self.slope = nn.PReLU(6)
        self.a, self.b, self.norm, self.out = nn.Linear(6, 5), nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 2)

    def forward(self, x):
        x = self.slope(self.scale(self.back(torch.relu(self.each(self.into(x))))))
        x = x.mean(2)
        return self.out(self.norm(self.a(x) * torch.sigmoid(self.b(x)) * 2 + 1))


class Tied(nn.Module):
    """The weights of the embedding read the last hidden state."""

    def __init__(self):
        super().__init__()
        self.words, self.hidden, self.out = nn.Embedding(6, 4), nn.Linear(4, 4), nn.Linear(4, 6, bias=False)
        self.out.weight = self.words.weight

    def forward(self, x):
        x = self.words(x)
        return self.out(x + F.gelu(self.hidden(x)))


def dense(*sizes, activation=nn.ReLU):
    layers = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers[:-1])


def made(make, seed=0):
    """A network with weights and running statistics that are none of the defaults."""
    with global_randomness_kept(seed):
        net = make()
        for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
            if tensor.is_floating_point():
                tensor.data = torch.rand(tensor.shape) + 0.5 if "var" in name else torch.randn(tensor.shape)
    return net.double().eval()


DRAWN = torch.Generator().manual_seed(0)
ZOO = {
    "dense": (lambda: dense(3, 5, 4, 2), torch.randn(9, 3, generator=DRAWN)),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 9, 5),
            nn.BatchNorm1d(5), nn.ELU(), nn.Dropout(0.5), nn.Linear(5, 2),
        ),
        torch.randn(9, 2, 8, 8, generator=DRAWN),
    ),
    "residual": (Residual, torch.randn(9, 1, 8, 8, generator=DRAWN)),
    "mixed": (Mixed, torch.randn(9, 2, 7, generator=DRAWN)),
    "tied": (Tied, torch.randint(6, (9, 3), generator=DRAWN)),
}  # fmt: skip


def shuffled(net, seed=1):
    """The network with the units of every group in a random order."""
    other, groups = copy.deepcopy(net), unit_groups(net)
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(g.size, generator=generator) for g in groups]
    with torch.no_grad():
        state = other.state_dict()
        for name, tensor in permuted(state, groups, orders).items():
            state[name].copy_(tensor)
    return other, orders


@pytest.mark.parametrize("name", ZOO)
def test_a_permutation_of_every_group_leaves_the_outputs(name):
    make, x = ZOO[name]
    x = x.double() if x.is_floating_point() else x
    net = made(make)
    other, _ = shuffled(net)
    assert any(not torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    assert torch.allclose(other(x), net(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", ["weights", "activations"])
@pytest.mark.parametrize("name", ZOO)
def test_a_known_permutation_is_found_exactly(name, method):
    make, x = ZOO[name]
    x = x.double() if x.is_floating_point() else x
    net = made(make)
    other, orders = shuffled(net)
    before = {k: v.clone() for k, v in other.state_dict().items()}
    found = align(net, other, (x, torch.zeros(9)), method=method)
    for order, mine in zip(found.orders, orders, strict=True):
        assert mine[order].tolist() == list(range(len(order)))
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in found.model.state_dict().items())
    assert (found.distance_after, found.distance_before > 0, found.moved > 0) == (0.0, True, True)
    assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())


def test_groups_of_a_residual_network_are_those_of_its_sums():
    sizes = {g.size: {a.name for a in g.axes if a.name.endswith("weight")} for g in unit_groups(Residual())}
    assert sizes == {
        4: {"stem.weight", "norm.weight", "one.weight", "two.weight", "two_norm.weight", "down.0.weight"},
        5: {"one.weight", "one_norm.weight", "two.weight"},
        6: {"down.0.weight", "down.1.weight", "hidden.weight"},
        7: {"hidden.weight", "out.weight"},
    }


def test_what_is_added_to_the_inputs_or_outputs_keeps_its_order():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.three = nn.Linear(4, 5), nn.Linear(5, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.three(x + self.two(torch.relu(self.one(x))))

    group, = unit_groups(Skip())  # fmt: skip
    assert {a.name for a in group.axes} == {"one.weight", "one.bias", "two.weight"}


def test_entries_of_flattened_axes_move_in_blocks():
    order = torch.tensor([2, 0, 1])
    assert entries(UnitAxis(name="w", axis=1, after=2), order).tolist() == [4, 5, 0, 1, 2, 3]
    assert entries(UnitAxis(name="w", axis=1, before=2), order).tolist() == [2, 0, 1, 5, 3, 4]


def test_one_hidden_layer_is_matched_as_well_as_by_trying_all_orders():
    first, second = made(lambda: dense(3, 5, 2)), made(lambda: dense(3, 5, 2), seed=7)
    found = align(first, second)
    best = min(
        sum(float((a - b).detach().square().sum()) for a, b in (
            (first[0].weight, second[0].weight[list(p)]), (first[0].bias, second[0].bias[list(p)]),
            (first[2].weight, second[2].weight[:, list(p)]), (first[2].bias, second[2].bias),
        ))
        for p in itertools.permutations(range(5))
    )  # fmt: skip
    assert found.distance_after**2 == pytest.approx(best, rel=1e-12)
    assert found.distance_after < found.distance_before


def test_correlations_pair_units_that_weights_do_not_show():
    """Units whose scales differ: the same functions up to positive factors."""
    first = made(lambda: dense(3, 6, 2))
    second, orders = shuffled(first)
    with torch.no_grad():
        factors = torch.tensor([30.0, 0.02, 5.0, 0.1, 8.0, 1.0], dtype=torch.float64)
        second[0].weight *= factors[:, None]
        second[0].bias *= factors
        second[2].weight /= factors
    x = torch.randn(200, 3, generator=DRAWN).double()
    found = align(first, second, x, method="activations")
    assert orders[0][found.orders[0]].tolist() == list(range(6))
    assert torch.allclose(found.model(x), first(x))


def test_a_compiled_network_is_the_one_inside():
    with global_randomness_kept(0):
        nets = [nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).eval() for _ in range(2)]
        rows = torch.randn(12, 3), torch.randint(2, (12,))
    compiled = [torch.compile(net, backend="eager") for net in nets]
    found, known = align(*compiled), align(*nets)
    assert found.moved == known.moved > 0
    assert found.distance_after == known.distance_after
    path = linear_path(compiled[0], nets[1], rows, "cross_entropy", points=3)
    assert path.losses.tolist() == linear_path(*nets, rows, "cross_entropy", points=3).losses.tolist()
    assert torch.equal(
        symmetry_directions(compiled[0], rows, "cross_entropy"), symmetry_directions(nets[0], rows, "cross_entropy")
    )


def test_what_cannot_be_followed_is_named():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.into, self.mix, self.out = nn.Linear(3, 4), nn.MultiheadAttention(4, 2), nn.Linear(4, 2)

        def forward(self, x):
            x = self.into(x)
            return self.out(self.mix(x, x, x)[0])

    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Linear(3, 3)

        def forward(self, x):
            return self.one(x) if x.sum() > 0 else x

    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(3, 4), nn.Linear(7, 2)

        def forward(self, x):
            return self.two(torch.cat([x, self.one(x)], 1))

    cases = [
        (Attention(), r"followed through mix \(mix\): it goes through MultiheadAttention; understood are dense"),
        (Branching(), "graph of Branching cannot be traced"),
        (Joined(), "cannot be followed through cat: it goes through the operation cat"),
        (nn.Sequential(nn.Conv2d(1, 4, 1), nn.GroupNorm(2, 4), nn.Conv2d(4, 1, 1)), "2 groups of channels bind"),
        (nn.Sequential(nn.Linear(3, 2), nn.Tanh()), "Sequential has no hidden units whose order is free"),
        (nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (2, 2)), nn.Flatten(), nn.Linear(4, 2)), "Unflatten"),
        (nn.Sequential(nn.Conv1d(1, 4, 1), nn.Linear(5, 2)), "a dense layer reads the last axis"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), "the parameter bias is used outside of a layer"),
    ]  # fmt: skip
    for net, text in cases:
        with pytest.raises(RefusedError, match=text):
            align(net, copy.deepcopy(net))


def test_refusals_of_arguments(unchecked_shapes):
    net = dense(3, 4, 2)
    with pytest.raises(ValueError, match="method must be 'weights' or 'activations', got 'both'"):
        align(net, net, method="both")
    with pytest.raises(ValueError, match="activations are matched on data; give data="):
        align(net, net, method="activations")
    with pytest.raises(ValueError, match=r"0\.weight has shape \(4, 3\) in one network and \(5, 3\)"):
        align(net, dense(3, 5, 2))


def on_digits(width, seed):
    data = load_digits()
    x, y = torch.tensor(data.data / 16, dtype=torch.float32)[:1000], torch.tensor(data.target)[:1000]
    with global_randomness_kept(seed):
        net = dense(64, width, width, 10)
        rule = torch.optim.Adam(net.parameters(), lr=2e-3)
        for _ in range(400):
            chosen = torch.randint(1000, (100,))
            rule.zero_grad()
            F.cross_entropy(net(x[chosen]), y[chosen]).backward()
            rule.step()
    return net.eval(), (x, y)


@pytest.mark.slow
def test_the_barrier_falls_after_alignment_and_more_so_with_width():
    """Entezari et al. (2022), Ainsworth et al. (2023), on digits with two hidden layers."""
    left = {}
    for width in (8, 32, 256):
        (first, data), (second, _) = on_digits(width, 0), on_digits(width, 1)
        aligned = align(first, second)
        assert torch.allclose(aligned.model(data[0]), second(data[0]), atol=1e-4)
        before, after = (
            linear_path(first, other, data, "cross_entropy", points=11).barrier for other in (second, aligned.model)
        )
        assert after < 0.5 * before
        left[width] = after
    assert left[8] > 3 * left[32] > 3 * left[256]
