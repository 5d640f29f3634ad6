"""Squared gradients of single examples against plain reverse mode, on layers used in every way."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from theorylens import core
from theorylens.numerics import ExampleSquares, tally
from theorylens.numerics.layer_calls import HiddenLayerError

FLAT, IMAGE, TOKENS, SEQUENCE = (5,), (2, 7, 7), None, (3, 4)


class Tied(nn.Module):
    """One layer used twice: the gradients of both uses are added before they are squared."""

    def __init__(self):
        super().__init__()
        self.layer, self.out = nn.Linear(5, 5), nn.Linear(5, 2)

    def forward(self, x):
        return self.out(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


class Functional(nn.Module):
    """Parameters used where no layer call shows them."""

    def __init__(self):
        super().__init__()
        self.layer, self.scale = nn.Linear(5, 2), nn.Parameter(torch.randn(5))

    def forward(self, x):
        return self.layer(x * self.scale) + F.linear(x, self.layer.weight)


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.norm, self.out = nn.Embedding(6, 4, padding_idx=0), nn.LayerNorm(4), nn.Linear(4, 2)

    def forward(self, tokens):
        return self.out(self.norm(self.embed(tokens))).mean(1)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend, self.out = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.attend(x, x, x, need_weights=False)[0].mean(1))


class Centred(nn.Module):
    """Mixes the examples of a batch: only one example at a time has a gradient of its own."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 2)

    def forward(self, x):
        return self.layer(x) - 0.5 * self.layer(x).mean(0)


class Overwriting(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(5, 2)

    def forward(self, x):
        h = x * 1.0
        y = self.out(h)
        h.add_(1)
        return y


def convolutions(**options):
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, **options), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.GroupNorm(2, 4), nn.Flatten(),
        nn.LazyLinear(2),
    )  # fmt: skip


NETS = {
    "dense": (lambda: nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2, bias=False)), FLAT),
    "sequence": (lambda: nn.Sequential(nn.Linear(4, 3), nn.GELU(), nn.Flatten(), nn.Linear(9, 2)), SEQUENCE),
    "convolutions": (convolutions, IMAGE),
    "grouped, strided, dilated": (lambda: convolutions(groups=2, stride=2, padding=1, dilation=2), IMAGE),
    "one place": (lambda: nn.Sequential(nn.Conv2d(2, 3, 7, groups=1), nn.Flatten(), nn.Linear(3, 2)), IMAGE),
    "few places": (lambda: nn.Sequential(nn.Conv2d(8, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(32, 2)), (8, 4, 4)),
    "words": (Words, TOKENS),
    "tied": (Tied, FLAT),
    "functional": (Functional, FLAT),
    "attention": (Attention, SEQUENCE),
}


def made(name, n=5):
    build, shape = NETS[name]
    with core.global_randomness_kept(3):
        x = torch.randint(6, (n, 4)) if shape is None else torch.randn(n, *shape)
        net = build().eval()
        net(x)
        x = x if shape is None else x.double()
        directions = [torch.randn(n, 2).double() for _ in range(3)]
    return net.double(), x, directions


def plain(net, x, directions):
    """Gradients of single examples and directions by reverse mode, squared and summed."""
    names, leaves = zip(*net.named_parameters(), strict=True)
    total = {name: torch.zeros(p.numel(), dtype=torch.float64) for name, p in net.named_parameters()}
    for i in range(len(x)):
        for s in directions:
            slopes = torch.autograd.grad(net(x[i : i + 1])[0] @ s[i], leaves, allow_unused=True, materialize_grads=True)
            for name, slope in zip(names, slopes, strict=True):
                total[name] += slope.detach().square().reshape(-1)
    return total


@pytest.mark.parametrize("name", NETS)
def test_norms_and_entries_are_those_of_plain_reverse_mode(name):
    net, x, directions = made(name)
    truth = plain(net, x, directions)
    for keep in ("norm", "entries"):
        squares = ExampleSquares(net, dict(net.named_parameters()), lambda m, b: m(b), keep=keep)
        for part in (slice(0, 3), slice(3, 5)):  # ragged
            squares.add(x[part], lambda outputs, part=part: [d[part] for d in directions])
        assert squares._by_layers  # the comparison with a plain pass did not send everything there
        for parameter, found in squares.totals.items():
            expected = truth[parameter] if keep == "entries" else truth[parameter].sum().reshape(1)
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["convolutions", "few places"])
def test_the_size_of_tiles_does_not_matter(name, monkeypatch):
    # Of 4 places, 72 inputs and 3 directions of 8 outputs each, products of places are the cheaper form.
    net, x, directions = made(name)
    from theorylens.numerics import example_squares

    found = {}
    for tile in (1, 1 << 22):  # one example at a time, all together
        monkeypatch.setattr(example_squares, "TILE", tile)
        monkeypatch.setattr(example_squares, "COLUMNS", tile)
        squares = ExampleSquares(net, dict(net.named_parameters()), lambda m, b: m(b))
        squares.add(x, lambda outputs: directions)
        found[tile] = torch.stack(list(squares.totals.values()))
    torch.testing.assert_close(found[1], found[1 << 22], rtol=1e-12, atol=0)


def test_examples_that_mix_are_taken_one_at_a_time():
    with core.global_randomness_kept(1):
        net, x = Centred().double(), torch.randn(4, 5).double()
        s = torch.randn(4, 2).double()
    squares = ExampleSquares(net, dict(net.named_parameters()), lambda m, b: m(b))
    squares.add(x, lambda outputs: [s])
    assert squares._by_layers is False
    truth = plain(net, x, [s])
    assert float(squares.totals["layer.weight"]) == pytest.approx(float(truth["layer.weight"].sum()), rel=1e-12)


def test_a_choice_of_parameters_leaves_the_others_alone():
    net, x, directions = made("convolutions")
    chosen = {"0.weight": net[0].weight}
    with tally() as spent:
        squares = ExampleSquares(net, chosen, lambda m, b: m(b))
        squares.add(x, lambda outputs: directions)
    assert list(squares.totals) == ["0.weight"]
    assert float(squares.totals["0.weight"]) == pytest.approx(float(plain(net, x, directions)["0.weight"].sum()))
    assert spent.gradients == 5 * 3
    assert all(p.grad is None for p in net.parameters())
    nothing = ExampleSquares(net, chosen, lambda m, b: m(b).detach())
    nothing.add(x, lambda outputs: directions)
    assert float(nothing.totals["0.weight"]) == 0


def test_an_input_that_was_overwritten_is_refused():
    net, x = Overwriting(), torch.randn(3, 5)
    squares = ExampleSquares(net, dict(net.named_parameters()), lambda m, b: m(b))
    with pytest.raises(HiddenLayerError, match=r"input of out \(Linear\) is changed in place"):
        squares.add(x, lambda outputs: [torch.ones_like(outputs)])


def test_half_precision_is_squared_in_single():
    net = nn.Linear(3, 2).to(torch.bfloat16)
    x = torch.full((2, 3), 300.0, dtype=torch.bfloat16)
    squares = ExampleSquares(net, dict(net.named_parameters()), lambda m, b: m(b))
    squares.add(x, lambda outputs: [torch.full_like(outputs, 300.0)])
    # two examples, two outputs: |300 * 300|² for each of three inputs; bfloat16 holds 300 itself
    assert float(squares.totals["weight"]) == pytest.approx(2 * 2 * 3 * 300.0**4, rel=1e-2)
