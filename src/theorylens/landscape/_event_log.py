"""Optimisers that remember: what they did and where they are goes into ``state_dict`` and comes back."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from theorylens.core import rng_for


class Logged(Optimizer):
    """An optimiser with a log of events, counters and a random stream of its own, all of them part of its state.

    The state holds plain numbers and tensors only, so that ``torch.load(..., weights_only=True)`` reads it.

    Attributes
    ----------
    events
        One entry for each thing that happened; the subclass says of which kind.
    """

    _event: ClassVar[type]
    _counters: ClassVar[tuple[str, ...]]

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any], *, seed: int, stream: str) -> None:
        super().__init__(params, defaults)
        self.events: list[Any] = []
        self._generator = rng_for(seed, stream)

    def state_dict(self) -> dict[str, Any]:
        """That of any optimiser, with the log beside it."""
        log = {
            "kind": type(self).__name__,
            "events": [asdict(event) for event in self.events],
            "counters": {name: getattr(self, name) for name in self._counters},
            "generator": self._generator.get_state(),
        }
        return {**super().state_dict(), "log": log}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take a state of the same kind of optimiser; training then goes on as if it had not stopped.

        Raises
        ------
        ValueError
            The state of another kind.
        """
        log = state_dict.get("log", {})
        if log.get("kind") != type(self).__name__:
            found = log.get("kind") or "an optimiser without a log"
            raise ValueError(f"the state is that of {found}, not of {type(self).__name__}; load one that it saved")
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "log"})
        self.events = [self._event(**event) for event in log["events"]]
        leaves = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        for name, value in log["counters"].items():
            setattr(self, name, _taken(value, leaves))
        self._generator.set_state(log["generator"].cpu().to(torch.uint8))

    def __getstate__(self) -> dict[str, Any]:
        return whole(self)


def whole(optimizer: Optimizer) -> dict[str, Any]:
    """What a copy of an optimiser needs: torch's own ``__getstate__`` leaves out all that a subclass added.

    Hooks stay behind as with torch's, and so does a ``step`` that a scheduler has wrapped.
    """
    left = ("_optimizer_", "_zero_grad_profile_name", "_warned_")
    return {name: v for name, v in vars(optimizer).items() if name != "step" and not name.startswith(left)}


def _taken(value: Any, leaves: list[Tensor]) -> Any:
    """What a state says, on its own memory; one tensor for each parameter goes where that is."""
    if isinstance(value, list) and len(value) == len(leaves) and all(isinstance(v, Tensor) for v in value):
        return [v.detach().clone().to(p) for v, p in zip(value, leaves, strict=True)]
    return copy.deepcopy(value)
