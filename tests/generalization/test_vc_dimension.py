"""VC dimensions by theorem against brute force, and growth bounds of networks against their definition."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from theorylens.core import UnsuitableError
from theorylens.generalization import (
    feature_rank,
    log_sauer_shelah,
    network_growth,
    piecewise_linear_growth,
    vc_dimension,
    vc_linear,
    vc_of_labellings,
    vc_sigmoid_network,
    vc_stump,
    vc_threshold_network,
    vc_tree,
)
from theorylens.generalization._network_growth import log_cells
from theorylens.generalization._vc_dimension import VcDimension, largest_shattered
from theorylens.results import Message


def test_halfspaces():
    assert [vc_linear(d).upper for d in (10, 100, 1000, 10000)] == [11, 101, 1001, 10001]  # S1.2-1
    assert vc_linear(10, bias=False).upper == 10
    assert vc_linear(10).exact
    assert [vc_linear(50, radius=2.0, margin=g).upper for g in (0.1, 0.5, 1.0, 2.0, 4.0)] == [51, 17, 5, 2, 2]


def brute_force_stump(features, m):
    """Whether some arrangement of m points, as ranks per feature, is shattered by stumps."""
    fixed = tuple(range(m))
    for ranks in itertools.combinations_with_replacement(itertools.permutations(range(m)), features - 1):
        made = set()
        for order in (fixed, *ranks):
            for cut in range(m + 1):
                part = frozenset(i for i in range(m) if order[i] < cut)
                made |= {part, frozenset(range(m)) - part}
        if len(made) == 2**m:
            return True
    return False


def test_stumps(golden):
    expected = golden("G1.2-2")
    assert [vc_stump(n).upper for n in (1, 2, 3)] == expected
    assert [vc_stump(n).upper for n in (10, 100)] == [6, 9]
    for features, d in zip((1, 2, 3), expected, strict=True):
        assert brute_force_stump(features, int(d))
        if d < 4:  # five points on three features are too many arrangements for this
            assert not brute_force_stump(features, int(d) + 1)


def tree_labellings(points, splits):
    """Every labelling of points (m, features) by trees with at most this many splits, from the definition."""
    m = len(points)

    def grown(rows, splits):
        found = {frozenset(), rows}
        if splits:
            for j, t in itertools.product(range(points.shape[1]), range(m)):
                left = frozenset(i for i in rows if points[i, j] < points[t, j])
                for used in range(splits):
                    found |= {a | b for a in grown(left, used) for b in grown(rows - left, splits - 1 - used)}
        return found

    return grown(frozenset(range(m)), splits)


def test_trees_do_no_more_than_their_growth_bound_says():
    rng = np.random.default_rng(0)
    for features, splits in ((1, 2), (2, 2), (3, 2), (2, 3)):
        points = rng.standard_normal((5, features))
        cuts = features * 4 + 1
        shapes = math.comb(2 * splits, splits) // (splits + 1)
        assert len(tree_labellings(points, splits)) <= shapes * cuts**splits * 2 ** (splits + 1)
        found = vc_tree(features, splits=splits)
        if len(tree_labellings(points, splits)) == 2**5:
            assert found.upper >= 5
        line = np.arange(splits + 1.0)[:, None] * np.ones(features)
        assert len(tree_labellings(line, splits)) == 2 ** (splits + 1)  # the lower end


def categorical_labellings(values, depth=None, splits=None):
    """Every labelling of all points of these categories by trees that ask "is feature j equal to v", by definition."""
    points = np.array(list(itertools.product(*(range(c) for c in values))))
    cuts = [points[:, j] == v for j, c in enumerate(values) for v in range(c)]

    def made(mask, nodes, levels):
        found = {tuple(np.zeros(len(points), int)), tuple(mask.astype(int))}
        if nodes == 0 or levels == 0:
            return found
        for cut in cuts:
            for left in range(nodes):
                for a in made(mask & cut, left, levels - 1):
                    for b in made(mask & ~cut, nodes - 1 - left, levels - 1):
                        found.add(tuple(np.array(a) | np.array(b)))
        return found

    nodes, levels = (2**depth - 1, depth) if splits is None else (splits, splits)
    return np.array(list(made(np.ones(len(points), bool), nodes, levels)))


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ((2, 2), {"splits": 1}),
        ((2, 2), {"splits": 2}),
        ((3, 2), {"splits": 2}),
        ((5,), {"depth": 2}),
        ((4,), {"splits": 3}),
    ],
)
def test_trees_over_categories_lie_between_their_limits(values, size):
    found = vc_tree(0, categories=values, **size)
    exact = vc_of_labellings(categorical_labellings(values, **size))
    assert found.lower <= exact <= found.upper
    with_numbers = vc_tree(3, categories=values, **size)
    assert with_numbers.lower >= vc_tree(3, **size).lower
    assert with_numbers.upper >= vc_tree(3, **size).upper


def test_categories_by_hand():
    # 2 ways to ask per yes-or-no feature count once: 20 cuts and none, 7 nodes, 8 leaves.
    exact = max(m for m in range(1, 100) if 7 * math.log(21) + 8 * math.log(2) >= m * math.log(2))
    assert vc_tree(0, depth=3, categories=[2] * 20).upper == exact
    three = max(m for m in range(1, 100) if 7 * math.log(3 * 4 + 1) + 8 * math.log(2) >= m * math.log(2))
    assert vc_tree(0, depth=3, categories=[3] * 4).upper == three
    assert vc_tree(0, depth=5, categories=[3]).upper == 3  # there are three points
    assert vc_tree(0, depth=2, categories=[9]).lower == 3
    assert vc_tree(0, splits=3, categories=[9]).lower == 4


def test_trees():
    assert vc_tree(7, splits=1) == vc_stump(7)
    assert vc_tree(1, splits=5) == vc_tree(1, splits=5)
    assert (vc_tree(1, splits=5).upper, vc_tree(1, splits=5).exact) == (6, True)
    assert vc_tree(100, depth=1).lower == vc_stump(100).lower == 9
    assert vc_tree(10, depth=3).lower == 8
    assert vc_tree(10, depth=3).upper <= vc_tree(10, splits=7).upper
    assert vc_tree(100, depth=3).upper > vc_tree(10, depth=3).upper


def test_threshold_networks(golden):
    closed, searched = golden("G1.2-10")
    assert 2 * 100 * math.log2(2 * 10 / math.log(2)) == pytest.approx(closed, rel=1e-9)
    assert vc_threshold_network(100, 10).upper == searched < closed
    assert vc_threshold_network(1, 1).lower == 1


@pytest.mark.parametrize(("weights", "units"), [(3, 1), (10, 2), (1000, 50), (10**6, 1000)])
def test_threshold_networks_stay_below_the_closed_form(weights, units):
    assert vc_threshold_network(weights, units).upper <= 2 * weights * math.log2(2 * units / math.log(2)) or units == 1


def test_sigmoid_networks_grow_with_the_fourth_power():
    assert vc_sigmoid_network(10, 3).upper == math.floor(900 + 330 * math.log2(18 * 90))
    assert vc_sigmoid_network(1000, 100).upper > 10**10


def test_the_largest_number_of_points_that_is_not_excluded():
    for weights, units in ((5, 2), (40, 7)):
        d = vc_threshold_network(weights, units).upper
        assert (math.e * d * units / weights) ** weights >= 2**d
        assert (math.e * (d + 1) * units / weights) ** weights < 2.0 ** (d + 1)
    with pytest.raises(ValueError, match="more than 2\\*\\*500 points"):
        largest_shattered(lambda m: float(m))


# ---- networks ------------------------------------------------------------------------------------------------------


def mlp(*widths, activation=nn.ReLU):
    layers = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), activation()]
    return nn.Sequential(*layers[:-1])


def bartlett(widths, m):
    """Theorem 7's proof for a fully connected ReLU network with one output, written out: product over layers."""
    total, weights = 0.0, 0
    for i, (a, b) in enumerate(itertools.pairwise(widths), start=1):
        weights += (a + 1) * b
        n = m * b
        if i == 1:  # hyperplanes
            total += log_sauer_shelah(n, weights)
            continue
        total += n * math.log(2) if n < weights else min(
            n * math.log(2), math.log(2) + weights * math.log(2 * math.e * n * i / weights)
        )  # fmt: skip
    return total


@pytest.mark.parametrize("widths", [(3, 5, 1), (10, 20, 20, 1), (2, 1), (784, 100, 50, 10, 1)])
def test_a_fully_connected_network_is_the_theorem(widths):
    growth = network_growth(mlp(*widths), torch.zeros(2, widths[0]))
    numbers = piecewise_linear_growth(widths)
    for m in (1, 10, 1000, 10**6):
        assert growth(m) == pytest.approx(bartlett(widths, m), rel=1e-12)
        assert numbers(m) == pytest.approx(growth(m), rel=1e-12)
    assert growth.weights == sum((a + 1) * b for a, b in itertools.pairwise(widths))
    assert (growth.depth, growth.units) == (len(widths) - 1, sum(widths[1:-1]))


def test_a_linear_layer_is_the_halfspaces_exactly():
    x = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    for bias in (True, False):
        found = vc_dimension(nn.Linear(5, 1, bias=bias), x, features=x, bias=bias)
        assert found.exact
        assert found.upper == vc_linear(5, bias=bias).upper


@pytest.mark.parametrize("widths", [(4, 8, 1), (64, 32, 1), (784, 600, 600, 1)])
def test_it_is_below_the_closed_form_of_the_paper(widths):
    """VCdim <= L + sum W_i log2(4 e R log2(2 e R)), R = sum of i k_i (theorem 7, one breakpoint)."""
    layers = list(itertools.pairwise(widths))
    sizes = np.cumsum([(a + 1) * b for a, b in layers])
    r = sum(i * b for i, (_, b) in enumerate(layers, start=1))
    closed = len(layers) + sizes.sum() * math.log2(4 * math.e * r * math.log2(2 * math.e * r))
    assert vc_dimension(mlp(*widths), torch.zeros(1, widths[0])).upper <= closed


def test_a_network_labels_no_more_ways_than_its_bound():
    torch.manual_seed(0)
    x = torch.randn(7, 1)
    seen = set()
    for _ in range(4000):
        net = mlp(1, 2, 1)
        for p in net.parameters():
            nn.init.normal_(p)
        seen.add(tuple((net(x)[:, 0] > 0).tolist()))
    growth = network_growth(mlp(1, 2, 1), x)
    assert 20 < len(seen) <= math.exp(growth(7)) * (1 + 1e-9)


def test_several_outputs_compare_every_pair():
    growth = network_growth(mlp(4, 8, 5), torch.zeros(1, 4))
    assert growth.stages[-1].tests == 10
    assert growth.outputs == 5


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second, self.out = nn.Conv2d(4, 4, 1), nn.Linear(4, 3)

    def forward(self, x):
        h = torch.relu(self.norm(self.first(x)))
        h = F.max_pool2d(h + F.leaky_relu(self.second(h)), 2)
        return F.log_softmax(self.out(h.mean((2, 3)) * 0.5), 1)


def test_wiring_sharing_and_pooling_are_read_off_the_graph():
    model = Residual().train()
    growth = network_growth(model, torch.zeros(5, 3, 8, 8))
    first, second, pool, answer = growth.stages
    conv = 4 * (27 + 1)
    assert (first.tests, first.degree, first.weights) == (4 * 64, 2, conv + 8)
    assert (second.tests, second.degree, second.weights) == (4 * 64, 3, conv + 8 + 20)
    assert (pool.tests, pool.degree) == (4 * 16 * 6, 3)
    assert (answer.tests, answer.degree, answer.weights) == (3, 4, conv + 8 + 20 + 15)
    assert model.training


def test_weights_used_twice_count_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 6)

        def forward(self, x):
            return F.linear(torch.relu(self.layer(x)), self.layer.weight)

    growth = network_growth(Tied(), torch.zeros(1, 6))
    assert (growth.weights, growth.depth) == (42, 2)


def test_other_activations_change_the_count_of_tests():
    x = torch.zeros(1, 4)
    one, two = (network_growth(mlp(4, 8, 1, activation=a), x) for a in (nn.LeakyReLU, nn.Hardtanh))
    assert two.stages[0].tests == 2 * one.stages[0].tests
    assert network_growth(mlp(4, 8, 1, activation=nn.Identity), x).stages[:-1] == ()
    prelu = network_growth(mlp(4, 8, 1, activation=nn.PReLU), x)
    assert (prelu.depth, prelu.weights) == (3, 50)
    assert network_growth(mlp(4, 8, 1, activation=nn.Hardswish), x).depth == 3


class Squared(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.out = nn.Linear(4, 3), nn.Linear(3, 1)

    def forward(self, x):
        h = self.layer(x)
        return self.out(F.linear(input=h * h, weight=self.out.weight.T @ self.out.weight))


def test_products_add_degrees_however_they_are_written():
    growth = network_growth(Squared(), torch.zeros(1, 4))
    assert growth.depth == 1 + 1 + 2 + 1  # h has 1, h * h 2, the product of two weights 2 more, the last layer 1


class Choosing(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Counting(nn.Module):
    def forward(self, x):
        return x * len(x)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (mlp(4, 8, 1, activation=nn.Tanh), "Tanh \\(at 1\\) is not piecewise polynomial"),
        (mlp(4, 8, 1, activation=nn.GELU), "GELU \\(at 1\\) is not piecewise polynomial"),
        (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), "LayerNorm \\(at 1\\)"),
        (nn.Sequential(nn.Softmax(1), nn.Linear(4, 2)), "Softmax \\(at 0\\)"),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)), "BatchNorm1d \\(at 1\\)"),
        (Choosing(), "chooses its way while it runs"),
        (Counting(), "chooses its way while it runs"),
        (nn.Sequential(nn.AdaptiveMaxPool1d(2), nn.Linear(2, 1)), "AdaptiveMaxPool1d \\(at 0\\)"),
    ],
)
def test_what_is_not_known_is_named(model, said):
    with pytest.raises(UnsuitableError, match=said):
        network_growth(model, torch.zeros(1, 4))


def test_cells():
    """Lines in the plane: N lines have at most 1 + N + C(N, 2) cells, edges and points; their signs are fewer."""
    for n in (3, 10, 100):
        assert math.exp(log_cells(n, 1, 2)) == pytest.approx(1 + n + math.comb(n, 2))
        assert log_cells(n, 2, 2) > log_cells(n, 1, 2)
    assert log_cells(5, 0, 3) == log_cells(5, 2, 0) == 0


def test_linear_forms_have_no_more_signs_than_hyperplanes_have_cells():
    rng = np.random.default_rng(0)
    for n, w in ((4, 2), (6, 3)):
        forms = rng.integers(-1, 2, (n, w))  # with ties
        points = np.array(list(itertools.product((-2, -1, 0, 1, 2), repeat=w)))
        seen = {tuple(row) for row in (points @ forms.T > 0).tolist()}
        assert len(seen) <= math.exp(log_cells(n, 1, w)) * (1 + 1e-9)


def test_independent_features_are_shattered():
    """The lower end, shown: the last layer alone answers every labelling of as many examples as the rank says."""
    torch.manual_seed(0)
    net = mlp(2, 6, 1)
    x = torch.randn(12, 2)
    features = net[:2](x).detach()
    rank = feature_rank(features)
    found = vc_dimension(net, x, features=features)
    assert found.lower == rank <= 7
    table = torch.cat([features, torch.ones(12, 1)], 1).double()
    rows = next(list(c) for c in itertools.combinations(range(12), rank) if feature_rank(features[list(c)]) == rank)
    for signs in itertools.product((-1.0, 1.0), repeat=rank):
        w = torch.linalg.lstsq(table[rows], torch.tensor(signs, dtype=torch.float64)[:, None], driver="gelsd").solution
        assert (torch.sign(table[rows] @ w)[:, 0] == torch.tensor(signs)).all()
    assert feature_rank(torch.ones(5, 3)) == feature_rank(torch.ones(5, 3), bias=False) == 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: vc_linear(0), "d must be at least 1, got 0"),
        (lambda: vc_linear(3, radius=1.0), "give radius and margin together"),
        (lambda: vc_linear(3, radius=1.0, margin=0.0), "margin must be a finite number above 0"),
        (lambda: vc_stump(0), "features must be at least 1"),
        (lambda: vc_tree(3), "give either splits"),
        (lambda: vc_tree(3, splits=2, depth=2), "give either splits"),
        (lambda: vc_tree(3, splits=0), "splits must be at least 1"),
        (lambda: vc_tree(0, splits=2), "features must be at least 1"),
        (lambda: vc_tree(1, splits=2, categories=[1]), "number of values must be at least 2"),
        (lambda: vc_threshold_network(0, 1), "weights must be at least 1"),
        (lambda: vc_threshold_network(3, 4), "got 4 units with 3 weights"),
        (lambda: vc_sigmoid_network(3, 0), "units must be at least 1"),
        (lambda: piecewise_linear_growth((3,)), "a network has inputs and outputs"),
        (lambda: piecewise_linear_growth((3, 0, 1)), "widths must be at least 1"),
        (lambda: piecewise_linear_growth((3, 2, 1))(0), "m must be at least 1"),
        (lambda: feature_rank(torch.full((2, 2), math.nan)), "features must be finite"),
        (lambda: VcDimension(lower=3, upper=2, lower_theorem=Message("a", "a"), upper_theorem=Message("a", "a")),
         "0 <= lower <= upper, got 3 and 2"),
    ],
)  # fmt: skip
def test_what_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_a_vote_of_three_stumps_on_a_line_shatters_four_points_and_the_forest_bound_knows():
    """Every labelling of points on a line by a majority of three two-sided thresholds, listed."""
    from itertools import combinations_with_replacement

    dimension = 0
    for m in range(1, 7):
        cuts = [np.where(np.arange(m) < c, s, -s) for c in range(m + 1) for s in (-1, 1)]
        votes = {tuple(np.sign(sum(three))) for three in combinations_with_replacement(cuts, 3)}
        dimension = m if len(votes) == 2**m else dimension
    assert dimension == 4
    found = vc_tree(1, splits=1, trees=3)
    assert found.lower <= dimension <= found.upper
    assert vc_tree(5, depth=3, trees=1) == vc_tree(5, depth=3)
    assert vc_tree(5, depth=3, trees=2).upper > vc_tree(5, depth=3).upper


def test_a_forest_has_at_least_one_tree():
    with pytest.raises(ValueError, match="trees must be at least 1"):
        vc_tree(5, depth=3, trees=0)


def test_a_tensor_made_from_few_numbers_counts_in_full():
    """One number can trace a curve through all matrices: counting it as one weight would promise too little."""

    class Curve(nn.Module):
        def forward(self, seed):
            return torch.sin(seed * torch.arange(1.0, 33.0)).reshape(8, 4)

        def right_inverse(self, weight):
            return weight.reshape(-1)[:1]

    made = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    plain = network_growth(made, torch.zeros(1, 4))
    parametrize.register_parametrization(made[0], "weight", Curve(), unsafe=True)
    assert sum(p.numel() for p in made[0].parameters()) == 9
    assert network_growth(made, torch.zeros(1, 4)) == plain
    normed = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 8)), nn.ReLU(), nn.Linear(8, 1))
    assert network_growth(normed, torch.zeros(1, 4)) == plain


def test_a_compiled_network_is_the_network():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    compiled = torch.compile(net, backend="eager")
    assert network_growth(compiled, torch.zeros(1, 4)) == network_growth(net, torch.zeros(1, 4))
