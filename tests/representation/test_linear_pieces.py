"""Counts of linear regions: closed forms, enumeration, and the pieces of real networks against a fine grid."""

from __future__ import annotations

import copy
import itertools
import math
import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from theorylens.representation import (
    linear_pieces,
    log2_dichotomies_bound,
    montufar_lower_bound,
    region_bounds,
    serra_upper_bound,
    threshold_functions,
    zaslavsky,
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Tent(nn.Module):
    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times):
            x = 2 * torch.relu(x) - 4 * torch.relu(x - 0.5)
        return x


class Pooled(nn.Module):
    """Functions instead of modules, a shortcut, and a pool."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = (
            nn.Conv2d(1, 4, 3, padding=1),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.Linear(36, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.max_pool2d(torch.relu(self.first(x)), 2)
        h = h + nn.functional.leaky_relu(self.second(h), 0.2)
        return self.out(h.clamp(max=1.5).flatten(1))


def seeded(make, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def on_grid(net: nn.Module, a: Tensor, b: Tensor, n: int = 100_001) -> int:
    """Changes of slope between neighbouring steps of a grid, runs of them counted once."""
    net = copy.deepcopy(net).double().eval()
    t = torch.linspace(0, 1, n, dtype=torch.float64)
    with torch.no_grad():
        out = torch.cat([net(a + c.reshape(-1, *(1,) * a.ndim) * (b - a)).flatten(1) for c in t.split(20_000)])
    change = ((out[2:] - 2 * out[1:-1] + out[:-2]).abs().amax(1) * n > 1e-6).nonzero()[:, 0]
    return 1 + (int((change.diff() > 1).sum()) + 1 if len(change) else 0)


def test_general_position_has_zaslavskys_count(golden) -> None:
    assert [zaslavsky(3, 2), zaslavsky(10, 2), zaslavsky(100, 3)] == golden("G2.2-1")


def test_random_lines_cut_the_plane_into_as_many_sign_patterns() -> None:
    lines = torch.randn(6, 3, generator=rng(), dtype=torch.float64)
    inside = torch.tensor([[*np.linalg.solve(lines[[i, j], :2], -lines[[i, j], 2]), 1.0]
                           for i, j in itertools.combinations(range(6), 2)], dtype=torch.float64)  # fmt: skip
    # Around each crossing point lie four cells; far circles see the unbounded ones.
    angle = torch.linspace(0, 2 * math.pi, 20_001, dtype=torch.float64)[:-1]
    circle = torch.stack([angle.cos(), angle.sin(), 0 * angle], 1)
    seen = torch.cat([*(p + r * circle for p in inside for r in (1e-6,)), 1e6 * circle + torch.tensor([0.0, 0, 1])])
    assert len(torch.sign(seen @ lines.T).unique(dim=0)) == zaslavsky(6, 2)  # type: ignore[no-untyped-call]


def test_the_construction_reaches_montufars_count(golden) -> None:
    assert [montufar_lower_bound(2, (4, 4, 4)), montufar_lower_bound(1, (2, 2, 2))] == golden("G2.2-2")


def test_five_tents_have_the_pieces_of_the_paper(golden) -> None:
    tents = linear_pieces(Tent(5), torch.tensor([[0.0]]), torch.tensor([[1.0]]))[0]
    assert tents.pieces == golden("G2.2-3")
    assert tents.bends.tolist() == pytest.approx([i / 32 for i in range(1, 32)], rel=1e-12)


def test_few_boolean_functions_are_linear_thresholds(golden) -> None:
    assert [threshold_functions(n) for n in (1, 2, 3)] == golden("G2.2-4")


@pytest.mark.slow
def test_four_inputs_have_1882_threshold_functions() -> None:
    assert threshold_functions(4) == 1882


def test_the_upper_bound_is_the_recursion_written_plainly() -> None:
    def naive(d: int, widths: tuple[int, ...]) -> int:
        if not widths:
            return 1
        n = widths[0]
        return sum(math.comb(n, j) * naive(min(d, n - j), widths[1:]) for j in range(min(n, d) + 1))

    source = random.Random(0)
    for _ in range(200):
        inputs = source.randint(1, 5)
        widths = tuple(source.randint(1, 6) for _ in range(source.randint(1, 4)))
        bounds = region_bounds(inputs, widths)
        assert bounds.upper == naive(inputs, widths)
        assert bounds.lower <= bounds.upper <= bounds.product
        assert bounds.upper <= bounds.states


def test_bounds_of_one_layer_meet() -> None:
    for inputs, width in ((1, 5), (2, 7), (3, 3)):
        bounds = region_bounds(inputs, (width,))
        assert bounds.lower == bounds.upper == zaslavsky(width, inputs)


def test_counts_of_wide_deep_networks_are_whole_and_have_a_logarithm() -> None:
    bounds = region_bounds(784, (1000, 1000, 1000))
    assert 301 < bounds.log10_lower < bounds.log10_upper < 903
    assert isinstance(bounds.upper, int)
    assert region_bounds(5, (3,)).lower == 1


def test_no_network_in_the_plane_has_more_regions_than_the_bound() -> None:
    axis = torch.linspace(-3, 3, 301, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    for seed in range(5):
        net = seeded(lambda: nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU()), seed).double()
        with torch.no_grad():
            first = net[:2](grid)
            patterns = torch.cat([first > 0, net[2](first) > 0], 1)
        assert len(patterns.unique(dim=0)) <= serra_upper_bound(2, (3, 3)) < 2**6  # type: ignore[no-untyped-call]


def test_a_threshold_unit_labels_as_many_ways_as_cover_counts_at_most() -> None:
    for inputs, examples in ((2, 10), (5, 100)):
        cover = 2 * sum(math.comb(examples - 1, j) for j in range(inputs + 1))
        assert math.log2(cover) <= log2_dichotomies_bound(inputs, (), examples) < 2.5 * math.log2(cover)
    assert log2_dichotomies_bound(5, (10, 10), 20) == 20
    assert log2_dichotomies_bound(5, (10, 10), 10**6) < 10**5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: region_bounds(0, (3,)), "at least one input, one hidden layer and one unit in each, got 0"),
        (lambda: region_bounds(2, ()), "at least one input, one hidden layer"),
        (lambda: serra_upper_bound(2, (3, 0)), "one unit in each"),
        (lambda: montufar_lower_bound(3, (4, 2)), "every layer as wide as the 3 inputs"),
        (lambda: zaslavsky(3, 0), "a dimension >= 1, got 3 and 0"),
        (lambda: threshold_functions(5), "feasible for 1 to 4 inputs, got 5"),
        (lambda: log2_dichotomies_bound(2, (3,), 0), "at least one input and one example, got 2 and 0"),
    ],
)
def test_architectures_that_are_none_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


NETS = {
    "deep": (lambda: nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU6(), nn.Linear(16, 2)), (3,)),
    "prelu": (lambda: nn.Sequential(nn.Linear(3, 16), nn.PReLU(), nn.Linear(16, 8), nn.Hardtanh(-0.5, 0.3)), (3,)),
    "functions": (Pooled, (1, 6, 6)),
    "in place": (
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.MaxPool2d(3, 1),
                              nn.Flatten(), nn.Linear(12, 3)), (1, 6, 6)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("seed", [0, 1])
def test_pieces_are_those_of_a_fine_grid(name: str, seed: int) -> None:
    make, shape = NETS[name]
    net = seeded(make, seed)
    a, b = torch.randn(2, *shape, generator=rng(seed), dtype=torch.float64) * 1.5
    pieces = linear_pieces(net, a[None], b[None])[0]
    assert pieces.pieces == pytest.approx(on_grid(net, a, b), abs=1)  # two bends within one step of the grid are one
    assert pieces.patterns >= pieces.pieces > 3


def test_a_third_candidate_of_a_pool_may_win_between_two() -> None:
    spread = nn.Linear(1, 4)
    with torch.no_grad():
        spread.weight.copy_(torch.tensor([[-2.0], [0.0], [2.0], [0.0]]))
        spread.bias.copy_(torch.tensor([1.0, 0.6, -1.0, -5.0]))
    net = nn.Sequential(spread, nn.Unflatten(1, (1, 2, 2)), nn.MaxPool2d(2), nn.Flatten())
    found = linear_pieces(net, torch.zeros(1, 1), torch.ones(1, 1))[0]
    assert found.bends.tolist() == pytest.approx([0.2, 0.8], rel=1e-6)


def test_the_output_is_straight_between_bends_and_bends_there() -> None:
    net = seeded(NETS["deep"][0], 3)
    a, b = torch.randn(2, 1, 3, generator=rng(5), dtype=torch.float64)
    bends = linear_pieces(net, a, b)[0].bends
    ends = torch.cat([torch.zeros(1), bends, torch.ones(1)]).double()
    slopes = []
    net = net.double()
    with torch.no_grad():
        for low, high in itertools.pairwise(ends.tolist()):
            t = torch.tensor([low, (low + high) / 2, high], dtype=torch.float64)[:, None]
            y = net(a + t * (b - a))
            assert torch.allclose(y[1], (y[0] + y[2]) / 2, atol=1e-12)
            slopes.append((y[2] - y[0]) / (high - low))
    assert all(float((s - r).abs().max()) > 1e-9 for s, r in itertools.pairwise(slopes))


def test_a_segment_there_and_back_has_the_same_pieces_and_the_model_is_not_touched() -> None:
    net = seeded(NETS["in place"][0], 0).train()
    before = copy.deepcopy(net.state_dict())
    a, b = torch.randn(2, 3, 1, 6, 6, generator=rng())
    there, back = linear_pieces(net, a, b), linear_pieces(net, b, a)
    assert [p.pieces for p in there] == [p.pieces for p in back]
    for one, other in zip(there, back, strict=True):
        assert torch.allclose(one.bends, (1 - other.bends).flip(0), atol=1e-9)
    assert net.training
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_random_networks_have_about_as_many_pieces_at_any_depth() -> None:
    """Hanin, Rolnick (2019): the number of units counts, not the depth."""

    def mean(widths: tuple[int, ...]) -> float:
        sizes, found = (10, *widths), []
        for seed in range(6):
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                layers: list[nn.Module] = []
                for a, b in itertools.pairwise(sizes):
                    layer = nn.Linear(a, b)
                    nn.init.normal_(layer.weight, std=(2 / a) ** 0.5)
                    nn.init.normal_(layer.bias, std=0.1)
                    layers += [layer, nn.ReLU()]
                net = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))
            ends = torch.randn(8, 10, generator=rng(seed))
            found += [p.pieces for p in linear_pieces(net, ends[:4], ends[4:])]
        return float(np.mean(found))

    shallow, deep = mean((96,)), mean((32, 32, 32))
    assert shallow == pytest.approx(deep, rel=0.35)
    assert deep < 96


@pytest.mark.parametrize(
    ("net", "starts", "ends", "message"),
    [
        (
            nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 2)),
            torch.zeros(1, 3),
            torch.ones(1, 3),
            "not piecewise",
        ),
        (nn.Linear(3, 2), torch.zeros(1, 3), torch.ones(2, 3), r"one shape, got \(1, 3\) and \(2, 3\)"),
        (nn.Linear(3, 2), torch.zeros(1, 3).long(), torch.ones(1, 3).long(), "needs real inputs, got torch.int64"),
        (nn.Linear(3, 2), torch.zeros(1, 3) / 0, torch.ones(1, 3), "not finite"),
    ],
)
def test_what_has_no_pieces_is_refused(net: nn.Module, starts: Tensor, ends: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        linear_pieces(net, starts, ends)
