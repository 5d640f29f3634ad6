"""Graphs: spectra in closed form, colour refinement, what a network can tell apart, smoothing and squashing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from theorylens.bias import (
    adjacency_matrix,
    aggregator_collisions,
    colour_refinement,
    dirichlet_energy,
    graph_facts,
    graph_permutation_test,
    node_features,
    node_influence,
    normalised_laplacian,
    separations,
    smoothing_by_depth,
    squashing_curve,
    weisfeiler_leman_separates,
)
from theorylens.bias._colour_refinement import cycle, disjoint, path, star
from theorylens.bias._graphs import distances

TUTORIAL = torch.tensor([[0.0, 1, 1, 0], [1, 0, 1, 1], [1, 1, 0, 1], [0, 1, 1, 0]])


class Layer(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.own, self.near = nn.Linear(before, after), nn.Linear(before, after, bias=False)

    def forward(self, x: Tensor, mixing: Tensor) -> Tensor:
        return torch.tanh(self.own(x) + self.near(mixing @ x))


class Graph(nn.Module):
    """Message passing with sums or means; ``positions`` gives every node a name of its own."""

    def __init__(self, width: int, mean: bool = False, positions: int = 0, depth: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([Layer(width if k == 0 else 5, 5) for k in range(depth)])
        self.names = nn.Parameter(torch.randn(positions, width)) if positions else None
        self.mean = mean

    def forward(self, x: Tensor, a: Tensor) -> Tensor:
        mixing = a / a.sum(1, keepdim=True).clamp(min=1) if self.mean else a
        x = x + self.names[: len(x)] if self.names is not None else x
        for layer in self.layers:
            x = layer(x, mixing)
        return x


def test_the_contracts_graph_has_its_degrees_and_gap(golden) -> None:
    facts = graph_facts(TUTORIAL)
    assert [facts.mean_degree, facts.max_degree, facts.spectral_gap] == pytest.approx(golden("G5.1-5"), rel=1e-9)
    assert (facts.nodes, facts.edges, facts.isolated, facts.components) == (4, 5, 0, 1)


@pytest.mark.parametrize("n", [3, 4, 7, 12])
def test_gaps_of_rings_complete_graphs_and_stars_are_the_known_ones(n: int) -> None:
    assert graph_facts(cycle(n)).spectral_gap == pytest.approx(1 - math.cos(2 * math.pi / n), abs=1e-12)
    complete = torch.ones(n, n) - torch.eye(n)
    assert graph_facts(complete).spectral_gap == pytest.approx(n / (n - 1), rel=1e-12)
    assert graph_facts(star(n)).spectral_gap == pytest.approx(1, rel=1e-9)


def test_parts_and_isolated_nodes_are_counted() -> None:
    facts = graph_facts(disjoint(cycle(3), path(4), torch.zeros(2, 2)))
    assert (facts.components, facts.isolated, facts.edges) == (4, 2, 6)
    assert facts.spectral_gap == pytest.approx(0, abs=1e-12)
    steps = distances(disjoint(path(4), cycle(3)))
    assert steps[0].tolist() == [0, 1, 2, 3, math.inf, math.inf, math.inf]


def test_an_edge_list_is_its_matrix() -> None:
    edges = torch.tensor([[0, 1, 0, 2, 1, 2, 1, 3, 2, 3], [1, 0, 2, 0, 2, 1, 3, 1, 3, 2]])
    assert torch.equal(adjacency_matrix(edges, 4), TUTORIAL.double())
    with pytest.raises(ValueError, match="name nodes 0 to 3, but there are 3 nodes"):
        adjacency_matrix(edges, 3)
    with pytest.raises(ValueError, match=r"shape \(2, edges\), got \(10, 2\)"):
        adjacency_matrix(edges.T, 4)


def test_matrices_that_are_no_undirected_graph_are_refused() -> None:
    directed = TUTORIAL.clone()
    directed[0, 1] = 0
    calls = (graph_facts, colour_refinement, normalised_laplacian, lambda a: graph_permutation_test(Graph(1), a, a))
    for call in calls:
        with pytest.raises(ValueError, match=r"is square, \(nodes, nodes\); got \(2, 3\)"):
            call(torch.zeros(2, 3))
        with pytest.raises(ValueError, match=r"not symmetric: entry \(0, 1\) is 0, \(1, 0\) is 1"):
            call(directed)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        graph_facts(-TUTORIAL)
    with pytest.raises(ValueError, match="not finite"):
        graph_facts(TUTORIAL / 0)


def test_colours_do_not_separate_a_ring_of_six_from_two_of_three(golden) -> None:
    assert weisfeiler_leman_separates(cycle(6), disjoint(cycle(3), cycle(3))) == golden("G5.1-4")
    assert weisfeiler_leman_separates(path(4), star(3))
    assert weisfeiler_leman_separates(cycle(4), cycle(5))


def test_colours_agree_with_networkx_free_enumeration_of_a_path() -> None:
    (colours,) = colour_refinement(path(7))
    assert colours == (0, 1, 2, 3, 2, 1, 0)


def test_relabelling_does_not_change_colours_and_features_refine_them() -> None:
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    graph = disjoint(path(3), cycle(3))
    assert not weisfeiler_leman_separates(graph, graph[order][:, order])
    marks = torch.zeros(6, 1)
    marks[0] = 1.0
    (ring,) = colour_refinement(cycle(6), features=(marks,))
    assert len(set(ring)) == 4
    # one marked node separates what regular degrees hide
    assert weisfeiler_leman_separates(cycle(6), disjoint(cycle(3), cycle(3)), features=(marks, marks))
    with pytest.raises(ValueError, match="give a row each"):
        colour_refinement(cycle(6), features=(marks[:3],))


def test_message_passing_separates_what_colours_separate_and_nothing_more() -> None:
    for found in separations(Graph(3).double(), 3, dtype=torch.float64):
        assert found.model == found.colours, found


def test_means_over_equal_features_separate_nothing() -> None:
    """Two-regular graphs and all others look alike when only means of equal features arrive."""
    found = {
        s.pair: s for s in separations(lambda x, a: Graph(3, mean=True).double()(x, a).mean(0), 3, dtype=torch.float64)
    }
    assert not any(s.model for s in found.values())
    assert found["path and star of 4"].colours


def test_names_of_nodes_separate_more_than_colours_and_break_the_symmetry() -> None:
    named = Graph(3, positions=9).double()
    assert {s.pair: s.model for s in separations(named, 3, dtype=torch.float64)}["ring of 6 and two of 3"]
    x = torch.randn(4, 3, dtype=torch.float64)
    assert not graph_permutation_test(named, x, TUTORIAL.double()).equivariant
    assert graph_permutation_test(Graph(3).double(), x, TUTORIAL.double()).equivariant


def test_graph_outputs_are_held_for_invariance() -> None:
    model, x = Graph(3), torch.randn(4, 3)
    assert graph_permutation_test(lambda h, a: model(h, a).sum(0), x, TUTORIAL).invariant
    assert not graph_permutation_test(lambda h, a: model(h, a).flatten(), x, TUTORIAL).invariant
    with pytest.raises(ValueError, match="features of 3 nodes for a graph of 4"):
        graph_permutation_test(model, x[:3], TUTORIAL)
    with pytest.raises(ValueError, match="at least two nodes"):
        graph_permutation_test(model, x[:1], torch.zeros(1, 1))


def test_only_the_sum_tells_all_multisets_apart() -> None:
    assert aggregator_collisions(lambda x: x.sum(0), kinds=3) == ()
    means = aggregator_collisions(lambda x: x.mean(0))
    maxima = aggregator_collisions(lambda x: x.amax(0))
    assert ((0, 1), (0, 0, 1, 1)) in means
    assert ((0, 1), (0, 1, 1)) in maxima
    assert ((0, 1), (0, 1, 1)) not in means
    # enumeration: equal means are equal proportions, equal maxima equal supports
    assert all(a.count(0) * len(b) == b.count(0) * len(a) for a, b in means)
    assert all(set(a) == set(b) for a, b in maxima)
    assert len(maxima) == 2 * math.comb(4, 2) + math.comb(6, 2)
    with pytest.raises(ValueError, match="must be at least 1, got 0 and 4"):
        aggregator_collisions(lambda x: x.sum(0), kinds=0)


def test_a_learnt_sum_of_random_features_is_injective_too() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 16), nn.Tanh()).double()
    assert aggregator_collisions(lambda x: net(x).sum(0)) == ()


def test_dirichlet_energy_is_the_sum_over_edges() -> None:
    x = torch.randn(4, 3, dtype=torch.float64)
    d = TUTORIAL.double().sum(1).sqrt()
    naive = sum(
        0.5 * float(TUTORIAL[u, v]) * float(((x[u] / d[u] - x[v] / d[v]) ** 2).sum())
        for u in range(4) for v in range(4)
    )  # fmt: skip
    assert dirichlet_energy(TUTORIAL, x) == pytest.approx(naive, rel=1e-12)
    assert dirichlet_energy(TUTORIAL, d[:, None] * torch.ones(1, 3)) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="features of 3 nodes for a graph of 4"):
        dirichlet_energy(TUTORIAL, x[:3])


def test_repeated_averaging_smooths_at_the_rate_of_the_second_eigenvalue() -> None:
    """The non-bipartite diamond: each round multiplies what is apart by at most 1 - gap in size."""
    laplacian = normalised_laplacian(TUTORIAL)
    mixing = torch.eye(4, dtype=torch.float64) - laplacian
    layers = [torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))]
    for _ in range(10):
        layers.append(mixing @ layers[-1])
    energies = [dirichlet_energy(TUTORIAL, x) for x in layers]
    slowest = sorted(torch.linalg.eigvalsh(mixing).abs().tolist())[-2]  # 1 belongs to what is smooth
    assert energies[-1] / energies[-2] == pytest.approx(slowest**2, rel=1e-3)
    curve = smoothing_by_depth(TUTORIAL, layers)
    assert curve.lines[0].y[-1] < 1e-3 * curve.lines[0].y[0]
    assert max(curve.lines[0].y) <= 2


def test_node_features_are_those_of_the_modules() -> None:
    model, x = Graph(3, depth=2), torch.randn(4, 3)
    found = node_features(model, x, TUTORIAL, ["layers.0", "layers.1"])
    torch.testing.assert_close(found[-1], model(x, TUTORIAL))
    assert len(found) == 3
    assert len(node_features(model, x, TUTORIAL)) == 1 + 4  # the input and each linear map
    with pytest.raises(ValueError, match="no layer 'nine'"):
        node_features(model, x, TUTORIAL, ["nine"])


def test_influence_is_the_jacobian_and_stops_at_the_depth() -> None:
    line, x = path(6), torch.randn(6, 3, dtype=torch.float64)
    model = Graph(3, depth=2).double()
    found = node_influence(model, x, line)
    jacobian = torch.autograd.functional.jacobian(lambda h: model(h, line), x)
    torch.testing.assert_close(found.norms, jacobian.square().sum((1, 3)).sqrt())
    assert found.distance == (0, 1, 2, 3, 4, 5)
    assert min(found.by_distance[:3]) > 0
    assert max(found.by_distance[3:]) == 0  # two rounds carry news two edges
    assert len(squashing_curve(found).lines[0].x) == 6
    with pytest.raises(ValueError, match="give node outputs"):
        node_influence(lambda h, a: model(h, a).sum(0), x, line)


def test_a_bottleneck_squashes() -> None:
    """Linear means over two cliques joined by one edge: the far clique arrives weaker than in one clique of twelve."""

    def model(h: Tensor, a: Tensor) -> Tensor:
        mixing = a / a.sum(1, keepdim=True)
        for _ in range(3):
            h = mixing @ h
        return h

    clique = torch.ones(6, 6, dtype=torch.float64) - torch.eye(6, dtype=torch.float64)
    barbell = disjoint(clique, clique)
    barbell[5, 6] = barbell[6, 5] = 1.0
    whole = torch.ones(12, 12, dtype=torch.float64) - torch.eye(12, dtype=torch.float64)
    x = torch.randn(12, 1, dtype=torch.float64)
    through, direct = (node_influence(model, x, a).norms[0, 11] for a in (barbell, whole))
    assert float(through) < 0.1 * float(direct)
    assert graph_facts(barbell).spectral_gap < 0.1 < graph_facts(whole).spectral_gap
