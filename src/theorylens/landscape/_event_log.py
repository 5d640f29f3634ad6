"""Optimisers that remember: what they did and where they are goes into ``state_dict`` and comes back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, ClassVar

import torch
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
        for name, value in log["counters"].items():
            setattr(self, name, value)
        self._generator.set_state(log["generator"].cpu().to(torch.uint8))
