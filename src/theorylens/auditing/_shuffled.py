"""The control that needs training: the same recipe on shuffled labels, trained once and shared by every probe."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from theorylens.core import Split, Subject, key_seed

AFFORDABLE = 0.3  # of the budget may go into training the control


def affordable(subject: Subject, budget: float | None) -> bool:
    """Whether the control can be trained: there is a recipe that says how long it takes, and that fits."""
    recipe = subject.recipe
    if recipe is None or recipe.seconds is None or shuffled_labels(subject, 0) is None:
        return False
    return budget is None or recipe.seconds <= AFFORDABLE * budget


def shuffled_labels(subject: Subject, seed: int) -> Tensor | None:
    """The training labels in a keyed random order; None when the data are not pairs of inputs and labels."""
    stacked = subject.train._stacked if isinstance(subject.train, Split) else None
    if not (isinstance(stacked, tuple | list) and len(stacked) == 2 and isinstance(stacked[1], Tensor)):
        return None
    generator = torch.Generator().manual_seed(key_seed(seed, "shuffled labels"))
    return stacked[1][torch.randperm(len(stacked[1]), generator=generator)]


def train_shuffled(subject: Subject, seed: int) -> dict[str, Tensor]:
    """Weights of the recipe trained on shuffled labels."""
    assert subject.recipe is not None
    trained = subject.recipe(seed=seed, labels=shuffled_labels(subject, seed))
    return {name: value.detach().clone() for name, value in trained.net.state_dict().items()}


def with_shuffled(subject: Subject, state: dict[str, Tensor], seed: int) -> Subject:
    """``subject`` with its control: the weights ``state`` and the labels they were trained on."""
    inputs: Any = subject.train._stacked[0]
    control = replace(
        subject._with_state(state), train=Split((inputs, shuffled_labels(subject, seed))), shuffled=None,
        init=subject.init,
    )  # fmt: skip
    control.__dict__["judged"] = subject.judged
    return replace_keeping(subject, shuffled=control)


def replace_keeping(subject: Subject, **changes: Any) -> Subject:
    """`dataclasses.replace` that keeps what was already computed about an unchanged model."""
    other = replace(subject, **changes)
    other.__dict__["judged"] = subject.judged
    other._memo.update(subject._memo)
    return other
