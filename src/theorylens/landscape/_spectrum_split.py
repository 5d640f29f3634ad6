"""Which half of a Hessian makes its outliers: both ends of H, of its Gauss-Newton half G, and of the rest.

Method   Lanczos on each operator
Source   Sagun, Evci, Guney, Dauphin, Bottou (2017), arXiv:1706.04454; Papyan (2019), ICML (outliers come from G)
Assumes  a loss that is twice differentiable at the parameters and convex in the outputs
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from theorylens.core import rng_for

from ._curvature import Ends, operator_ends
from ._gauss_newton import GaussNewton, settled
from ._trace_split import Difference


@dataclass(frozen=True, kw_only=True)
class SpectrumSplit:
    """Both ends of the spectra of H, G and H - G.

    By Weyl's inequality the i-th eigenvalue of H differs from that of G by at most the larger end of H - G in size.
    """

    hessian: Ends
    gauss_newton: Ends
    residual: Ends

    @property
    def reach(self) -> float:
        """The spectral norm of H - G: how far an eigenvalue of H can be from that of G."""
        top, low = self.residual.top.estimate(), self.residual.bottom.estimate()
        return max(abs(top.upper), abs(low.lower))


def spectrum_split(
    model: nn.Module, data: Any, loss: Any, *, k: int = 5, tolerance: float = 1e-2, seed: int = 0,
    batch_size: int = 256,
) -> SpectrumSplit:  # fmt: skip
    """The ``k`` largest eigenvalues and the smallest of the Hessian, its Gauss-Newton half and their difference.

    Errors are those of `eigenvalues` and `ggn`.
    """
    goal, task = settled(model, data, loss, batch_size)
    whole, half = goal.hessian(), GaussNewton(goal, task)
    ends = [
        operator_ends(operator, k=k, tolerance=tolerance, generator=rng_for(seed, "landscape.spectrum_split"))
        for operator in (whole, half, Difference(whole, half))
    ]
    return SpectrumSplit(hessian=ends[0], gauss_newton=ends[1], residual=ends[2])
