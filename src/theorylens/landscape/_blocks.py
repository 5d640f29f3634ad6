"""Where the curvature sits: the diagonal blocks of the Hessian layer by layer, and the share that outputs alone make.

Method   Lanczos and random signs on each layer's own parameters; exact Gauss-Newton trace plus Hutchinson on the rest
Source   Schraudolph (2002), Neural Comput. 14:1723 (H = G + the outputs' own curvature); Sagun et al. (2018), ICLR
         workshop
Assumes  a loss that is twice differentiable at the parameters
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from theorylens.core import Task, objective, rng_for
from theorylens.numerics.operator import Operator
from theorylens.numerics.trace import hutchinson
from theorylens.results import Estimate, Exact, Statistical

from ._curvature import hessian_eigenvalues
from ._exact_trace import gauss_newton_trace
from ._gauss_newton import ggn
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


@dataclass(frozen=True, kw_only=True)
class TraceSplit:
    """tr H = tr G + tr R: ``gauss_newton`` exactly, ``residual`` from random draws of H - G, and their sum."""

    gauss_newton: Estimate
    residual: Estimate
    total: Estimate


def trace_split(
    model: nn.Module, data: Any, loss: Any, *, draws: int = 16, seed: int = 0, batch_size: int = 256
) -> TraceSplit:
    """The trace of the Hessian as that of the Gauss-Newton matrix, exactly, plus that of the outputs' own curvature.

    Only the second part is sampled. For networks that are piecewise linear in each parameter its diagonal is zero and
    not its other entries: the draws then scatter around zero, and `gauss_newton_trace` alone is the trace.

    Errors are those of `gauss_newton_trace`.
    """
    exact = gauss_newton_trace(model, data, loss, batch_size=batch_size)
    half = ggn(model, data, loss, batch_size=batch_size)
    rest = hutchinson(
        _Difference(half.objective.hessian(), half), draws, generator=rng_for(seed, "landscape.trace_split")
    )
    limits = rest.uncertainty
    if isinstance(limits, Statistical):
        limits = replace(limits, lower=limits.lower + exact.value, upper=limits.upper + exact.value)
    if rest.value == 0:  # every draw gave zero: there is no second part
        limits = Exact()
    total = Estimate(value=exact.value + rest.value, uncertainty=limits)
    return TraceSplit(gauss_newton=exact, residual=rest, total=total)


class _Difference:
    """A - B."""

    def __init__(self, a: Operator, b: Operator) -> None:
        self._a, self._b = a, b

    @property
    def size(self) -> int:
        return self._a.size

    @property
    def dtype(self) -> torch.dtype:
        return self._a.dtype

    @property
    def device(self) -> torch.device:
        return self._a.device

    def matvec(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]:
        return self._a.matvec(vector) - self._b.matvec(vector)

    def __matmul__(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]:
        return self.matvec(vector)
