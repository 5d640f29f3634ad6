"""Where the curvature sits: the diagonal blocks of the Hessian layer by layer.

Method   Lanczos on each layer's own parameters, and the trace of its block
Source   Sagun et al. (2018), ICLR workshop
Assumes  a loss that is twice differentiable at the parameters
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from theorylens.core import Task, objective, rng_for
from theorylens.results import Estimate

from ._curvature import hessian_eigenvalues
from ._trace import hessian_trace


@dataclass(frozen=True, kw_only=True)
class LayerCurvature:
    """The Hessian's diagonal block of one layer: its largest eigenvalue, its trace, its number of parameters."""

    largest: Estimate
    trace: Estimate
    parameters: int


def layer_curvature(
    model: nn.Module, data: Any, loss: Any, *, draws: int = 32, tolerance: float = 1e-2, seed: int = 0,
    batch_size: int = 256,
) -> dict[str, LayerCurvature]:  # fmt: skip
    """Largest eigenvalue and trace of the Hessian in the parameters of each layer alone, by the layer's name.

    The blocks' traces add up to the trace of the whole; their largest eigenvalues are at most the whole's. A parameter
    that two layers share counts for the first.
    """
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    owners: dict[str, list[str]] = {}
    for name in goal.parameters:
        owners.setdefault(name.rpartition(".")[0], []).append(name)
    found = {}
    for layer, names in owners.items():
        block = replace(goal, names=tuple(names))
        generator = rng_for(seed, f"landscape.layer_curvature.{layer}")
        top = hessian_eigenvalues(block, k=1, tolerance=tolerance, generator=generator)
        found[layer] = LayerCurvature(
            largest=top.estimate(),
            trace=hessian_trace(block, draws=draws, generator=generator),
            parameters=block.size,
        )
    return found
