"""Relatives of SAM: another neighbour, another use of the gradient there, or the second gradient only now and then.

Source   Andriushchenko, Flammarion (2022), Towards understanding sharpness-aware minimization, ICML (unnormalised);
         Kim, Li, Hu, Hospedales (2022), Fisher SAM, ICML; Zhuang et al. (2022), Surrogate gap minimization improves
         sharpness-aware training, ICLR (GSAM); Liu, Mai, Chen, Hsieh, You (2022), Towards efficient and scalable
         sharpness-aware minimization, CVPR (LookSAM)
Assumes  what SAM assumes: both gradients are of one batch
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ._sharpness_aware import SharpnessAware


class USAM(SharpnessAware):
    """Unnormalised SAM: the neighbour is w + rho g, so that it comes nearer as the gradient vanishes.

    Used as `SAM`, whose arguments it has. The size of the gradient counts: with AMP give ``first_step`` the scaler.

    >>> w = torch.tensor([1.0, 0.5], dtype=torch.float64, requires_grad=True)
    >>> rule = USAM(torch.optim.SGD([w], lr=0.01), rho=0.001)
    >>> (w[0] ** 2 + 100 * w[1] ** 2).backward()
    >>> _ = rule.first_step()
    >>> [round(v, 9) for v in w.tolist()]
    [1.002, 0.6]
    """

    def __init__(self, base: Optimizer, *, rho: float = 0.05, model: nn.Module | None = None) -> None:
        super().__init__(base, rho, model)

    def _metric(self, p: Tensor, scale: float) -> float:
        del p, scale
        return 1.0

    def _length(self, norm: float, scale: float) -> float:
        del norm
        return scale


class FisherSAM(SharpnessAware):
    """SAM in the ellipsoid v'Fv <= rho² with the diagonal F = 1 + eta g², g being the gradient of the batch.

    The neighbour is w + rho F^-1 g / sqrt(g' F^-1 g): a weight on which the loss depends steeply moves less. Used as
    `SAM`. The size of the gradient counts: with AMP give ``first_step`` the scaler.

    Parameters
    ----------
    eta
        Weight of the squared gradient against the Euclidean metric, at least 0; 0 is `SAM`.
    """

    def __init__(self, base: Optimizer, *, rho: float = 0.05, eta: float = 1.0, model: nn.Module | None = None) -> None:
        self.eta = _at_least_zero("eta", eta)
        super().__init__(base, rho, model)

    def _metric(self, p: Tensor, scale: float) -> Tensor:
        assert p.grad is not None
        slope = p.grad.to_dense() if p.grad.is_sparse else p.grad  # where no gradient is the metric is 1, not nothing
        return 1 / (1 + self.eta * (slope / scale).square())


class GSAM(SharpnessAware):
    """SAM that also lowers the surrogate gap L(w + v) - L(w).

    The step is along g' - alpha g_perp: g' is the gradient at SAM's neighbour, g_perp what the gradient at w has
    orthogonal to it. That part is climbed: L(w) may rise so that the gap closes, and L(w + v) does not notice.

    Used as `SAM`. The paper moves rho with the learning rate: write ``group["rho"]``.

    Parameters
    ----------
    alpha
        At least 0; 0 is `SAM`.
    """

    _keeps_first = True

    def __init__(
        self, base: Optimizer, *, rho: float = 0.05, alpha: float = 0.1, model: nn.Module | None = None
    ) -> None:
        self.alpha = _at_least_zero("alpha", alpha)
        super().__init__(base, rho, model)

    def _metric(self, p: Tensor, scale: float) -> float:
        del p, scale
        return 1.0

    @torch.no_grad()
    def _settle(self) -> None:
        there = {p: p.grad for p in self._first if p.grad is not None}
        square = _inner(there, there)
        share = _inner(self._first, there) / square if square else 0.0
        for p, slope in there.items():
            slope.sub_(self._first[p] - share * slope, alpha=self.alpha)
        super()._settle()


class LookSAM(SharpnessAware):
    """SAM with the second gradient in one step of ``every``; what it told about flat directions is reused in between.

    In a SAM step the part g_v of the gradient at the neighbour that is orthogonal to the gradient g at w is kept; in
    the steps between, the gradient is g + alpha (|g| / |g_v|) g_v. With the two-step interface::

        loss_on(batch).backward()
        if rule.first_step(): loss_on(batch).backward()
        rule.second_step()

    Parameters
    ----------
    every
        Steps from one second gradient to the next, at least 1; 1 is `SAM`.
    alpha
        Weight of the kept part, at least 0.
    """

    _keeps_first = True

    def __init__(
        self, base: Optimizer, *, rho: float = 0.05, every: int = 5, alpha: float = 0.7, model: nn.Module | None = None
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.every, self.alpha = every, _at_least_zero("alpha", alpha)
        self._turn = 0
        self._kept: dict[Tensor, Tensor] = {}
        super().__init__(base, rho, model)

    def _metric(self, p: Tensor, scale: float) -> float:
        del p, scale
        return 1.0

    def _ascend(self, scale: float) -> bool:
        due = self._turn == 0
        self._turn = (self._turn + 1) % self.every
        if due:
            return super()._ascend(scale)
        own = {p: p.grad for p in self._all() if p.grad is not None}
        kept = math.sqrt(_inner(self._kept, self._kept))
        if kept > 0:
            ratio = self.alpha * math.sqrt(_inner(own, own)) / kept
            for p, slope in own.items():
                if p in self._kept:
                    slope.add_(self._kept[p], alpha=ratio)
        return False

    @torch.no_grad()
    def _settle(self) -> None:
        if self._first:
            there = {p: p.grad for p in self._first if p.grad is not None}
            share = _inner(self._first, there) / _inner(self._first, self._first)
            found = {p: slope - share * self._first[p] for p, slope in there.items()}
            # What AMP overflowed in is not worth keeping: the scaler leaves that step out, and the next look renews it.
            self._kept = found if math.isfinite(_inner(found, found)) else {}
        super()._settle()

    def sharded_step(self, closures: Sequence[Callable[[], Any]]) -> list[Any]:
        """Refused: every shard would need a kept direction of its own."""
        raise ValueError(f"LookSAM keeps one direction and has no step of {len(closures)} shards; take SAM")

    def _own_state(self) -> dict[str, Any]:
        kept = [self._kept.get(p) for p in self._all()]
        return {**super()._own_state(), "turn": self._turn, "kept": kept}

    def _take_own_state(self, own: dict[str, Any]) -> None:
        super()._take_own_state(own)
        self._turn = own.get("turn", 0)
        pairs = zip(self._all(), own.get("kept", []), strict=False)
        self._kept = {p: v.detach().clone().to(p) for p, v in pairs if v is not None}


def _inner(a: Mapping[Tensor, Tensor], b: Mapping[Tensor, Tensor]) -> float:
    # Not fsum: it raises on the infinities that an AMP scaler has still to see.
    return sum(float((a[p].double() * b[p].double()).sum()) for p in a if p in b)


def _at_least_zero(name: str, value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be at least 0, got {value}")
    return value
