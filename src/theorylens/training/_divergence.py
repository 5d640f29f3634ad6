"""Training that has left the finite numbers."""

from __future__ import annotations

from typing import Any


class DivergedError(ArithmeticError):
    """The loss or the gradient is no longer finite."""

    def __init__(self, what: str, value: float, step: int, lr: float) -> None:
        super().__init__(
            f"training diverged: the {what} is {value} at step {step} with lr {lr:g}; lower lr, or look at the "
            "examples of that step. Checkpoints written before it are kept"
        )
        self.what = what
        self.value = value
        self.step = step
        self.lr = lr

    def __reduce__(self) -> tuple[Any, ...]:  # so that it survives the way back from a worker
        return type(self), (self.what, self.value, self.step, self.lr)
