"""Colour refinement (1-WL): which graphs can no message-passing network tell apart, whatever its weights?

Method   every node's colour is replaced by its colour and the multiset of its neighbours' colours until nothing splits
Source   Weisfeiler, Leman (1968); Xu, Hu, Leskovec, Jegelka (2019). How powerful are graph neural networks? ICLR;
         Morris et al. (2019). Weisfeiler and Leman go neural. AAAI
Assumes  undirected graphs with edges that are there or not; node features compared exactly
Breaks   equal colours do not mean isomorphic: regular graphs of one degree and size all look the same
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import combinations_with_replacement

import torch
from jaxtyping import Float
from torch import Tensor

from theorylens.numerics.counting import count

from ._graphs import checked_adjacency
from ._permutation import rounding

GraphModel = Callable[[Tensor, Tensor], Tensor]
"""``model(features, adjacency)``: (nodes, width), (nodes, nodes) -> one row per node, or one vector for the graph."""


def colour_refinement(*adjacencies: Tensor, features: tuple[Tensor, ...] | None = None) -> tuple[tuple[int, ...], ...]:
    """Stable colours of the nodes of each graph, the same number meaning the same colour in all of them.

    >>> path = torch.tensor([[0., 1, 0], [1, 0, 1], [0, 1, 0]])
    >>> colour_refinement(path)
    ((0, 1, 0),)
    """
    graphs = [checked_adjacency(a) > 0 for a in adjacencies]
    neighbours = [[torch.nonzero(row)[:, 0].tolist() for row in g] for g in graphs]
    if features is not None and [len(f) for f in features] != [len(g) for g in graphs]:
        raise ValueError(
            f"features for {[len(f) for f in features]} nodes, graphs of {[len(g) for g in graphs]}; give a row each"
        )
    keys: list[list[Hashable]] = (
        [[0] * len(g) for g in graphs]
        if features is None
        else [[tuple(row.reshape(-1).tolist()) for row in f] for f in features]
    )
    colours = _numbered(keys)
    while True:
        finer = _numbered(
            [
                [(own[v], tuple(sorted(own[u] for u in near[v]))) for v in range(len(own))]
                for own, near in zip(colours, neighbours, strict=True)
            ]
        )
        if len({c for g in finer for c in g}) == len({c for g in colours for c in g}):
            return tuple(map(tuple, colours))
        colours = finer


def _numbered(keys: list[list[Hashable]]) -> list[list[int]]:
    number: dict[Hashable, int] = {}
    return [[number.setdefault(key, len(number)) for key in graph] for graph in keys]


def weisfeiler_leman_separates(a: Tensor, b: Tensor, features: tuple[Tensor, Tensor] | None = None) -> bool:
    """Whether colour refinement tells the graphs apart: then they are not isomorphic. False proves nothing.

    No network that only passes messages between neighbours can tell apart what this does not (Xu et al. 2019).
    """
    one, two = colour_refinement(a, b, features=features)
    return Counter(one) != Counter(two)


def cycle(n: int) -> Float[Tensor, "n n"]:
    """The ring of n nodes."""
    ring = torch.arange(n)
    matrix = torch.zeros(n, n, dtype=torch.float64)
    matrix[ring, (ring + 1) % n] = matrix[(ring + 1) % n, ring] = 1.0
    return matrix


def disjoint(*graphs: Tensor) -> Float[Tensor, "n n"]:
    """Several graphs side by side as one."""
    joined: Tensor = torch.block_diag(*(g.double() for g in graphs))  # type: ignore[no-untyped-call]
    return joined


def star(leaves: int) -> Float[Tensor, "n n"]:
    """One centre joined to every leaf."""
    matrix = torch.zeros(leaves + 1, leaves + 1, dtype=torch.float64)
    matrix[0, 1:] = matrix[1:, 0] = 1.0
    return matrix


def path(n: int) -> Float[Tensor, "n n"]:
    """A row of n nodes."""
    matrix = cycle(n) if n > 2 else torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    if n > 2:
        matrix[0, -1] = matrix[-1, 0] = 0.0
    return matrix


PAIRS: tuple[tuple[str, Callable[[], tuple[Tensor, Tensor]]], ...] = (
    ("path and star of 4", lambda: (path(4), star(3))),
    ("ring and path of 6", lambda: (cycle(6), path(6))),
    ("rings of 4 and of 5", lambda: (cycle(4), cycle(5))),
    ("ring of 6 and two of 3", lambda: (cycle(6), disjoint(cycle(3), cycle(3)))),
    ("ring of 8 and two of 4", lambda: (cycle(8), disjoint(cycle(4), cycle(4)))),
)
"""Pairs of non-isomorphic graphs: colour refinement separates the first three, not the last two."""


@dataclass(frozen=True, kw_only=True)
class Separation:
    """Whether a model and colour refinement tell one pair of graphs apart; ``gap`` is the relative distance."""

    pair: str
    colours: bool
    model: bool
    gap: float


def separations(model: GraphModel, width: int, *, dtype: torch.dtype = torch.float32) -> tuple[Separation, ...]:
    """What a graph network can tell apart: its outputs, summed over the nodes, on `PAIRS` with all features equal to 1.

    A message-passing network can separate at most the pairs that colours separate; a model that separates more uses
    something else (identifiers, positions, triangles). Random weights separate whatever the architecture can, almost
    surely; sums of rows that are not told apart by accident of the weights are possible but have probability 0.

    Parameters
    ----------
    model
        ``model(features, adjacency)``, in evaluation mode.
    width
        Features per node that the model takes.
    """
    found = []
    for name, make in PAIRS:
        pair = make()
        with torch.no_grad():
            sums = [_total(model, torch.ones(len(a), width, dtype=dtype), a.to(dtype)) for a in pair]
        scale = max(float(sums[0].norm()), float(sums[1].norm()))
        gap = float((sums[0] - sums[1]).norm()) / scale if scale > 0 else 0.0
        found.append(
            Separation(
                pair=name,
                colours=weisfeiler_leman_separates(*pair),
                model=gap > rounding(dtype),
                gap=gap,
            )
        )
    return tuple(found)


def _total(model: GraphModel, features: Tensor, adjacency: Tensor) -> Tensor:
    """The graph's vector: the output itself, or the sum of the rows when there is one per node."""
    output = model(features, adjacency)
    count(forwards=1)
    per_node = output.ndim == 2 and len(output) == len(features) and len(features) > 1
    return (output.sum(0) if per_node else output.reshape(-1)).double()


def aggregator_collisions(
    aggregate: Callable[[Float[Tensor, "members width"]], Tensor], *, kinds: int = 2, members: int = 4
) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """Pairs of different multisets of neighbours to which ``aggregate`` gives the same value; empty: injective on them.

    All multisets of 1 to ``members`` elements out of ``kinds`` one-hot features are tried. Sum has no collision; mean
    confuses {0, 1} with {0, 0, 1, 1}, max confuses {0, 1} with {0, 1, 1}.

    Parameters
    ----------
    aggregate
        Maps the features of the members (members, width) to one vector: ``lambda x: x.sum(0)``. Learnt ones too.

    >>> aggregator_collisions(lambda x: x.sum(0))
    ()
    >>> aggregator_collisions(lambda x: x.mean(0), members=2)
    (((0,), (0, 0)), ((1,), (1, 1)))
    """
    if kinds < 1 or members < 1:
        raise ValueError(f"kinds and members must be at least 1, got {kinds} and {members}")
    sets = [m for size in range(1, members + 1) for m in combinations_with_replacement(range(kinds), size)]
    one_hot = torch.eye(kinds, dtype=torch.float64)
    with torch.no_grad():
        values = torch.stack([aggregate(one_hot[list(m)]).double().reshape(-1) for m in sets])
    scale = float(values.abs().max())
    same = torch.cdist(values, values, compute_mode="donot_use_mm_for_euclid_dist") <= 1e-10 * max(scale, 1e-300)
    return tuple((sets[i], sets[j]) for i in range(len(sets)) for j in range(i + 1, len(sets)) if bool(same[i, j]))
