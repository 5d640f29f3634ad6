"""A trained network with what is known about its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from theorylens.core import Recipe, Split, Subject, Task
from theorylens.results import History, Setting


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """What `fit` returns.

    Attributes
    ----------
    model
        The network given to `fit`, trained, in evaluation mode.
    init
        Its state dict before training, on the CPU.
    checkpoints
        Step to state dict, or to the safetensors file that holds it.
    history
        Losses and errors of the splits in evaluation mode at every record: ``train_loss``, ``train_error``,
        ``validation_loss``, ``validation_error``, ``lr``.
    trace
        Every step: ``batch_loss``, ``lr``, ``gradient_norm``, of the batch the step was taken on.
    settings
        What was asked for, as plain values.
    seconds
        Time spent training, a resumed run's earlier parts included.
    """

    model: nn.Module
    loss: Any
    train: Split
    validation: Split | None
    init: Mapping[str, Tensor]
    checkpoints: Mapping[int, Mapping[str, Tensor] | Path]
    history: History
    trace: History
    settings: dict[str, Setting]
    seconds: float

    def subject(
        self,
        *,
        train: Any = None,
        validation: Any = None,
        test: Any = None,
        name: str = "",
        recipe: Recipe | None = None,
    ) -> Subject:
        """The network as a subject; ``train`` and ``validation`` are those of the fit unless given."""
        task = self.loss if isinstance(self.loss, Task) else Task(loss=self.loss)
        return Subject(
            model=self.model, task=task, train=self.train if train is None else train,
            validation=self.validation if validation is None else validation, test=test, init=self.init,
            checkpoints=self.checkpoints or None, history=self.history, recipe=recipe, name=name,
        )  # fmt: skip
