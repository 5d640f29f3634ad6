"""What all sharpness-aware optimisers share: two steps, and what batch statistics and AMP scalers make of them.

Source   Foret, Kleiner, Mobahi, Neyshabur (2021), ICLR (SAM)
Assumes  two gradients of the same batch per step
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler, OptState
from torch.optim import Optimizer

from ._event_log import whole


class SharpnessAware(Optimizer, ABC):
    """The two steps; the subclass says how the neighbourhood is measured and what becomes of the gradient there."""

    _keeps_first = False  # whether `_settle` needs the gradient at the weights themselves

    def __init__(self, base: Optimizer, rho: float, model: nn.Module | None) -> None:
        _check(base, rho)
        self.base = base
        self.skipped = 0
        self._model = model
        self._open = self._moved = self._knows_scaler = False
        self._origin: dict[Tensor, Tensor] = {}
        self._first: dict[Tensor, Tensor] = {}
        self._statistics: _Frozen | None = None
        super().__init__(base.param_groups, {**base.defaults, "rho": rho})
        self.param_groups = base.param_groups  # one list, so that a scheduler of either moves both
        self.state = base.state

    def first_step(self, scaler: GradScaler | None = None) -> bool:
        """Move to the neighbour along the gradient that is there, and zero the gradients.

        Returns whether a second gradient is wanted before `second_step`; False in some steps of `LookSAM` only.
        ``scaler`` is the AMP scaler that the loss was scaled with; `SAM`, `ASAM` and `GSAM` do not need it unless it
        has unscaled a gradient (as for clipping).
        """
        if self._open:
            raise RuntimeError("first_step was called twice; call second_step in between")
        if not any(p.grad is not None for p in self._all()):
            raise RuntimeError("no parameter has a gradient; call backward() before first_step()")
        self._open, self._knows_scaler = True, scaler is not None
        scale = 1.0 if scaler is None or self._unscaled(scaler) else float(scaler.get_scale())
        with torch.no_grad():
            wanted = self._ascend(scale)
        if scaler is not None and wanted:  # the second gradient is another one, not unscaled yet
            for owner in (self, self.base):
                _scaler_states(scaler).pop(id(owner), None)
        return wanted

    def _ascend(self, scale: float) -> bool:
        for group in self.param_groups:
            group.setdefault("rho", self.defaults["rho"])  # a group may have been added to the base
        # Higher is worse, but for what is maximised lower is.
        slopes = [
            (p, self._metric(p, scale), -group["rho"] if group.get("maximize") else group["rho"])
            for group in self.param_groups for p in group["params"] if p.grad is not None
        ]  # fmt: skip
        squares = [float((p.grad.double().square() * m).sum()) for p, m, _ in slopes]
        self._moved = all(map(math.isfinite, squares)) and any(squares)
        self._origin = {p: p.detach().clone() for p, _, _ in slopes}
        if self._moved:
            length = self._length(math.sqrt(math.fsum(squares)), scale)
            if self._keeps_first:
                self._first = {p: p.grad / scale for p, _, _ in slopes}
            for p, m, rho in slopes:
                p.add_(p.grad * m, alpha=rho / length)
        else:
            self.skipped += 1
        self.zero_grad()
        self._statistics = _Frozen(self._model)
        return True

    def second_step(self, scaler: GradScaler | None = None) -> None:
        """Move back and take the base optimiser's step with the gradient that is there now; it is kept.

        With ``scaler`` the step is ``scaler.step(base)``, which unscales and leaves out a step with infinities;
        ``scaler.update()`` is the loop's business, as always. The gradient may have been unscaled (and clipped) before.
        """
        if not self._open:
            raise RuntimeError("second_step needs first_step before it, and a second backward() in between")
        if scaler is not None and self._unscaled(scaler):
            if not self._knows_scaler:
                raise RuntimeError(
                    "the scaler has unscaled a gradient, and whether the first or the second cannot be told; give it "
                    "to first_step too: first_step(scaler)"
                )
            states = _scaler_states(scaler)
            if id(self) in states:  # unscaled under this name: the base has the same gradients
                states[id(self.base)] = states.pop(id(self))
        elif scaler is not None and scaler.is_enabled() and self._knows_scaler:
            scaler.unscale_(self.base)  # as the first gradient is remembered
        self._back()
        self._settle()
        if scaler is None:
            self.base.step()
        else:
            scaler.step(self.base)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Both steps; returns the loss at the weights themselves."""
        if closure is None:
            raise ValueError(
                "SAM.step needs a closure that zeroes the gradients, computes the loss, calls backward() and returns "
                "it; without one call first_step() and second_step(), each after a backward()"
            )
        loss = self._gradient_nearby(closure)
        self.base.step()
        return loss

    def _unscaled(self, scaler: GradScaler) -> bool:
        known = (_scaler_states(scaler).get(id(owner), {}) for owner in (self, self.base))
        return any(state.get("stage") is OptState.UNSCALED for state in known)

    def _back(self) -> None:
        with torch.no_grad():
            for p, value in self._origin.items():
                p.copy_(value)
        self._origin, self._open = {}, False
        if self._statistics is not None:
            self._statistics.thaw()
            self._statistics = None

    def sharded_step(self, closures: Sequence[Callable[[], Any]]) -> list[Any]:
        """One step with a neighbour of its own for each shard of a batch (m-sharpness); returns their losses.

        Each closure is as for `step`, on one shard; the gradients at the neighbours are averaged.
        """
        if not closures:
            raise ValueError("sharded_step needs at least one closure, one for each shard of the batch")
        losses, total = [], dict[Tensor, Tensor]()
        for closure in closures:
            losses.append(self._gradient_nearby(closure))
            for p in self._all():
                if p.grad is not None:
                    share = p.grad.detach() / len(closures)
                    total[p] = total[p] + share if p in total else share
        for p, slope in total.items():
            p.grad = slope
        self.base.step()
        return losses

    def _gradient_nearby(self, closure: Callable[[], Any]) -> Any:
        """Leave the gradient to step along in place, with the weights where they were; returns the first loss."""
        with torch.enable_grad():
            loss = closure()
        try:
            if self.first_step():
                with torch.enable_grad():
                    closure()
        finally:
            self._back()
        self._settle()
        return loss

    def _all(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    @abstractmethod
    def _metric(self, p: Tensor, scale: float) -> Tensor | float:
        """Squared unit in which the neighbourhood is measured, per weight; the loss was multiplied by ``scale``."""

    def _length(self, norm: float, scale: float) -> float:
        """What the metric times the gradient is divided by; ``norm`` is the gradient's in the metric."""
        del scale
        return norm

    @torch.no_grad()
    def _settle(self) -> None:
        """Turn the gradient at the neighbour into the one to step along; the weights are back."""
        self._first = {}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to this and the base, whose list of them is one; without ``rho`` it gets that of the others."""
        if self.__dict__.get("param_groups") is self.base.param_groups:
            self.base.add_param_group({"rho": self.defaults["rho"], **param_group})
        else:  # while torch goes through the base's own at construction
            super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        return whole(self)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.base.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """That of the base optimiser, with what is not the base's beside it."""
        return {**self.base.state_dict(), "sharpness_aware": self._own_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take one of this kind, or one of a plain base optimiser: the radius then stays what it is."""
        radii = [group["rho"] for group in self.param_groups]
        self.base.load_state_dict({k: v for k, v in state_dict.items() if k != "sharpness_aware"})
        self.param_groups, self.state = self.base.param_groups, self.base.state
        for group, rho in zip(self.param_groups, radii, strict=True):
            group.setdefault("rho", rho)
        self._take_own_state(state_dict.get("sharpness_aware", {}))

    def _own_state(self) -> dict[str, Any]:
        return {"skipped": self.skipped}

    def _take_own_state(self, own: dict[str, Any]) -> None:
        self.skipped = own.get("skipped", self.skipped)


def _check(base: object, rho: float) -> None:
    if not isinstance(base, Optimizer):
        raise TypeError(
            f"base is a {type(base).__name__}, needed is an optimiser: SAM(torch.optim.SGD(model.parameters(), lr=0.1))"
        )
    if isinstance(base, torch.optim.LBFGS):
        raise TypeError("LBFGS asks for the loss several times a step and cannot be the base; take SGD or Adam")
    if not (math.isfinite(rho) and rho >= 0):
        raise ValueError(f"rho must be at least 0, got {rho}")


def _scaler_states(scaler: GradScaler) -> dict[int, dict[str, Any]]:
    """What a scaler remembers of each optimiser since its last update; a disabled one remembers nothing.

    Not public in torch, which has no other way to say that a second gradient has taken the place of an unscaled one.
    """
    return getattr(scaler, "_per_optimizer_states", {})


class _Frozen:
    """Running statistics of batch normalisation, put back after the second pass through the network."""

    def __init__(self, model: nn.Module | None) -> None:
        norms = [] if model is None else [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
        self._kept = [(b, b.detach().clone()) for norm in norms for b in norm.buffers(recurse=False)]

    def thaw(self) -> None:
        with torch.no_grad():
            for buffer, value in self._kept:
                buffer.copy_(value)
