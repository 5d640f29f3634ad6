"""The largest curvature at which steps of a given size do not grow: 2/lr, and what momentum and Adam make of it.

Source   Polyak (1964) for heavy ball; Cohen, Kaur, Li, Kolter, Talwalkar (2021), Gradient descent on neural networks
         typically occurs at the edge of stability, ICLR
Assumes  steps along the full gradient of a quadratic; noise, weight decay and other curvature shift the limit
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from theorylens.core import Subject
from theorylens.results import History, Setting


def stability_limit(lr: float, momentum: float = 0.0, *, nesterov: bool = False) -> float:
    """Largest eigenvalue on which gradient descent with heavy-ball ``momentum`` does not diverge: (2 + 2 β) / lr.

    With Nesterov's momentum it is (2 + 2 β) / ((1 + 2 β) lr), for which a larger momentum allows less.

    >>> stability_limit(0.2)
    10.0
    """
    if not (math.isfinite(lr) and lr > 0):
        raise ValueError(f"lr must be a positive number, got {lr}")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be at least 0 and below 1, got {momentum}")
    return (2 + 2 * momentum) / (lr * (1 + 2 * momentum if nesterov else 1))


def adam_stability_limit(lr: float, beta1: float = 0.9) -> float:
    """The same for the *preconditioned* Hessian of Adam, (2 + 2 β₁) / ((1 − β₁) lr); the Hessian itself has none.

    >>> round(adam_stability_limit(1.0), 9)
    38.0
    """
    if not 0 <= beta1 < 1:
        raise ValueError(f"beta1 must be at least 0 and below 1, got {beta1}")
    return stability_limit(lr, beta1) / (1 - beta1)


@dataclass(frozen=True, kw_only=True)
class StepRule:
    """What is known about the steps a network was trained with; None where nothing was said.

    Attributes
    ----------
    lr
        Learning rate at the step asked about.
    momentum
        Heavy-ball momentum, 0 when nothing was said.
    plain
        Steps along the gradient itself (True), along a rescaled one as of Adam (False).
    full_batch
        Whether every step saw all training rows.
    nesterov, weight_decay
        Nesterov's form of momentum; decay, 0 when nothing was said.
    """

    lr: float | None = None
    momentum: float = 0.0
    plain: bool = True
    full_batch: bool | None = None
    nesterov: bool = False
    weight_decay: float = 0.0

    @property
    def limit(self) -> float | None:
        """`stability_limit` less what weight decay takes of it, where it applies."""
        if not (self.lr and self.plain):
            return None
        return stability_limit(self.lr, self.momentum, nesterov=self.nesterov) - self.weight_decay


def step_rule(subject: Subject, step: int | None = None) -> StepRule:
    """The step rule at ``step`` (the last when None), from the history and the recipe's settings."""
    settings = (subject.recipe.settings if subject.recipe is not None else None) or {}
    name = str(settings.get("optimizer") or "sgd").lower()
    batch, momentum, decay = (settings.get(key) for key in ("batch_size", "momentum", "weight_decay"))
    return StepRule(
        lr=_lr(subject, settings, step),
        momentum=float(momentum) if isinstance(momentum, int | float) and 0 <= momentum < 1 else 0.0,
        plain=name in ("sgd", "gd", "gradient descent", "momentum"),
        full_batch=batch >= len(subject.split("train")) if isinstance(batch, int) and subject.has("train") else None,
        nesterov=settings.get("nesterov") is True,
        weight_decay=_positive(decay) or 0.0,
    )


def _lr(subject: Subject, settings: Mapping[str, Setting], step: int | None) -> float | None:
    history = subject.history
    if isinstance(history, History) and "lr" in history.series and len(history.steps):
        known = history.series["lr"]
        # Recorded at a step is the rate of the update just made: the last one at or before the step asked about.
        at = len(known) - 1 if step is None else max(0, int((history.steps <= step).sum()) - 1)
        return _positive(float(known[at]))
    return _positive(settings.get("lr")) if settings.get("schedule") in (None, "constant") else None


def _positive(value: Setting) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) and value > 0 else None  # type: ignore[arg-type, operator]
