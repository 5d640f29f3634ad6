"""How the weights are updated: optimiser, learning rate and its schedule, batches and epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from theorylens.results import Setting

MakeOptimizer = Callable[..., torch.optim.Optimizer]
Factor = Callable[[float], float]


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """Everything that decides an update, apart from the data and the seed.

    Parameters
    ----------
    optimizer
        ``"sgd"``, ``"adam"``, ``"adamw"``, or a callable ``(parameters, lr=...) -> torch.optim.Optimizer``; momentum
        and weight decay are then its own affair.
    lr
        Learning rate at the start.
    momentum
        Of ``"sgd"`` only.
    weight_decay
        L2 penalty of ``"sgd"`` and ``"adam"``, decoupled decay of ``"adamw"``.
    batch_size, epochs
        Examples per step; passes over the training split. A last smaller batch is used, not dropped.
    schedule
        None (constant), ``"cosine"`` (to zero at the end), or a factor of ``lr`` as a function of the share of
        training that is done, from 0 to below 1.
    stop_at
        Training loss at which to stop before the last epoch, compared with the records of the history (one an epoch
        unless `Keeping` says otherwise); None trains through. A schedule is that of the full length.

    Raises
    ------
    ValueError
        Unknown names, or numbers outside their range.
    """

    optimizer: Literal["sgd", "adam", "adamw"] | MakeOptimizer = "sgd"
    lr: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0
    batch_size: int = 32
    epochs: int = 10
    schedule: Literal["cosine"] | Factor | None = None
    stop_at: float | None = None

    def __post_init__(self) -> None:
        if not callable(self.optimizer) and self.optimizer not in ("sgd", "adam", "adamw"):
            raise ValueError(f"unknown optimizer {self.optimizer!r}; use 'sgd', 'adam', 'adamw' or a callable")
        if not (self.schedule is None or self.schedule == "cosine" or callable(self.schedule)):
            raise ValueError(f"unknown schedule {self.schedule!r}; use None, 'cosine' or a function of the share done")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"lr must be a positive number, got {self.lr}")
        if self.batch_size < 1 or self.epochs < 1:
            raise ValueError(f"batch_size and epochs must be at least 1, got {self.batch_size} and {self.epochs}")
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(f"momentum={self.momentum} applies to optimizer='sgd' only, got {self.optimizer_name!r}")
        if self.stop_at is not None and not math.isfinite(self.stop_at):
            raise ValueError(f"stop_at must be a finite loss or None, got {self.stop_at}")
        if self.momentum < 0 or self.weight_decay < 0:
            raise ValueError(
                f"momentum and weight_decay must not be negative, got {self.momentum}, {self.weight_decay}"
            )

    @property
    def optimizer_name(self) -> str:
        return self.optimizer if isinstance(self.optimizer, str) else _name(self.optimizer)

    @property
    def schedule_name(self) -> str:
        if self.schedule is None:
            return "constant"
        return self.schedule if isinstance(self.schedule, str) else _name(self.schedule)

    @property
    def settings(self) -> dict[str, Setting]:
        """The same as plain values, for reports."""
        found: dict[str, Setting] = {
            "optimizer": self.optimizer_name, "lr": self.lr, "momentum": self.momentum,
            "weight_decay": self.weight_decay, "batch_size": self.batch_size, "epochs": self.epochs,
            "schedule": self.schedule_name,
        }  # fmt: skip
        return found if self.stop_at is None else found | {"stop_at": self.stop_at}

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser over ``parameters``."""
        if callable(self.optimizer):
            return self.optimizer(parameters, lr=self.lr)
        if self.optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        return kind(parameters, lr=self.lr, weight_decay=self.weight_decay)

    def reached(self, loss: float) -> bool:
        """Whether a training loss is low enough to stop at."""
        return self.stop_at is not None and loss <= self.stop_at

    def factor(self, done: float) -> float:
        """What ``lr`` is multiplied by when the share ``done`` of all steps lies behind."""
        if self.schedule is None:
            return 1.0
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        return float(self.schedule(done))


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", None) or type(function).__name__)
