"""Message passing, measured: does the network respect relabelling, do its nodes become alike, does far news arrive?

Method   relabelled graphs through the network; Dirichlet energy of node features by depth; Jacobians between nodes
Source   Oono, Suzuki (2020). Graph neural networks exponentially lose expressive power for node classification. ICLR;
         Topping et al. (2022). Understanding over-squashing and bottlenecks on graphs via curvature. ICLR
Assumes  ``model(features, adjacency)`` in evaluation mode, undirected graphs
Breaks   a small Jacobian says that the answer does not depend on far nodes, not that it should
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from theorylens.numerics.counting import count
from theorylens.results import Curve, Line, Message

from ._colour_refinement import GraphModel
from ._graphs import checked_adjacency, distances, normalised_laplacian
from ._permutation import PermutationTest, reorderings, rounding
from ._symmetry import relative_distance


def graph_permutation_test(
    model: GraphModel,
    features: Tensor,
    adjacency: Tensor,
    *,
    draws: int = 8,
    generator: torch.Generator | None = None,
) -> PermutationTest:
    """Relabel the nodes, features and adjacency together, and compare the outputs of ``model``.

    Outputs with one row per node should move along (equivariance), outputs for the whole graph stay (invariance).

    Raises
    ------
    ValueError
        An adjacency that is not square or not symmetric, or not one row of features per node.
    """
    checked_adjacency(adjacency)
    nodes = len(adjacency)
    if len(features) != nodes:
        raise ValueError(f"features of {len(features)} nodes for a graph of {nodes}; give one row per node")
    if nodes < 2:
        raise ValueError("a graph of one node has no other order; give at least two nodes")
    along, still = [], []
    with torch.no_grad():
        before = model(features, adjacency).double()
        for order in reorderings(nodes, draws, generator):
            index = order.to(features.device)
            after = model(features[index], adjacency[index][:, index]).double()
            still.append(relative_distance(after, before))
            if before.ndim and len(before) == nodes:
                along.append(relative_distance(after, before[index]))
    count(forwards=1 + len(still))
    return PermutationTest(
        equivariance=max(along) if along else None,
        invariance=max(still),
        rounding=rounding(features.dtype),
        draws=len(still),
    )


def dirichlet_energy(adjacency: Tensor, features: Tensor) -> float:
    """tr(X' L X) with the normalised Laplacian L: ½ Σ_uv A_uv ||x_u/√d_u - x_v/√d_v||²; 0 when neighbours agree."""
    laplacian = normalised_laplacian(adjacency)
    x = features.detach().double().cpu()
    if len(x) != len(laplacian):
        raise ValueError(f"features of {len(x)} nodes for a graph of {len(laplacian)}; give one row per node")
    return max(0.0, float((x * (laplacian @ x)).sum()))


def smoothing_by_depth(adjacency: Tensor, layers: Sequence[Tensor]) -> Curve:
    """Dirichlet energy per squared norm of the features after each layer: falling to 0 is over-smoothing.

    The energy itself also falls when features shrink; the share E(X)/||X||² lies between 0 and 2 whatever the scale,
    and is the Rayleigh quotient of the normalised Laplacian.
    """
    shares = []
    for x in layers:
        norm = float(x.detach().double().square().sum())
        shares.append(dirichlet_energy(adjacency, x) / norm if norm > 0 else 0.0)
    line = Line(
        x=np.arange(len(layers), dtype=np.float64),
        y=np.asarray(shares, dtype=np.float64),
        name=Message("graph.energy", "network"),
    )
    return Curve(
        label=Message("graph.smoothing", "Dirichlet energy of the node features by layer, per squared norm"),
        lines=(line,),
        x_name=Message("graph.layer", "layer (0: the input)"),
        y_name=Message("graph.share", "energy / squared norm"),
    )


def node_features(
    model: nn.Module, features: Tensor, adjacency: Tensor, layers: Sequence[str] | None = None
) -> tuple[Tensor, ...]:
    """What the named modules of a graph network give for each node, the input first; by default every module with
    one row per node, outermost modules before their parts left out.
    """
    modules = dict(model.named_modules())
    if unknown := [name for name in layers or () if name not in modules]:
        raise ValueError(f"the model has no layer {unknown[0]!r}; it has {', '.join(n for n in modules if n)}")
    chosen = layers if layers is not None else [n for n, m in modules.items() if n and not any(m.children())]
    kept: list[Tensor] = [features.detach()]

    def keep(m: nn.Module, args: Any, output: Any) -> None:
        first = next((x for x in pytree.tree_leaves(output) if isinstance(x, Tensor)), None)
        if first is not None and first.ndim == 2 and len(first) == len(features):
            kept.append(first.detach())

    handles = [modules[name].register_forward_hook(keep) for name in chosen]
    try:
        with torch.no_grad():
            model(features, adjacency)
    finally:
        for handle in handles:
            handle.remove()
    count(forwards=1)
    return tuple(kept)


@dataclass(frozen=True, kw_only=True)
class Influence:
    """How strongly each node's output depends on each node's input.

    Attributes
    ----------
    norms
        Entry (v, u): Frobenius norm of d h_v / d x_u.
    by_distance
        Mean of the entries over pairs at graph distance 0, 1, 2, ...; NaN never: distances that do not occur are left
        out of ``distance``.
    """

    norms: Float[Tensor, "nodes nodes"]
    distance: tuple[int, ...]
    by_distance: tuple[float, ...]


def node_influence(model: GraphModel, features: Tensor, adjacency: Tensor) -> Influence:
    """Jacobians between nodes (over-squashing): exact, one backward pass per node and output feature.

    Raises
    ------
    ValueError
        When the model does not give one row per node.
    """
    steps = distances(adjacency)
    x = features.detach().clone().requires_grad_()
    with torch.enable_grad():
        output = model(x, adjacency)
        if output.ndim != 2 or len(output) != len(x):
            raise ValueError(f"the model gave shape {tuple(output.shape)} for {len(x)} nodes; give node outputs")
        squares = torch.zeros(len(x), len(x), dtype=torch.float64)
        for v in range(output.shape[0]):
            for k in range(output.shape[1]):
                (slope,) = torch.autograd.grad(output[v, k], x, retain_graph=True)
                squares[v] += slope.double().square().sum(1).cpu()
    count(gradients=output.numel())
    norms = squares.sqrt()
    reached = sorted({int(d) for d in steps.flatten().tolist() if d != float("inf")})
    means = tuple(float(norms[steps == d].mean()) for d in reached)
    return Influence(norms=norms, distance=tuple(reached), by_distance=means)


def squashing_curve(influence: Influence) -> Curve:
    """Mean Jacobian norm by distance in the graph."""
    line = Line(
        x=np.asarray(influence.distance, dtype=np.float64),
        y=np.asarray(influence.by_distance, dtype=np.float64),
        name=Message("graph.energy", "network"),
    )
    return Curve(
        label=Message("graph.squashing", "How much a node's output depends on nodes at each distance"),
        lines=(line,),
        x_name=Message("graph.distance", "edges between the nodes"),
        y_name=Message("graph.jacobian", "mean norm of the Jacobian"),
    )
