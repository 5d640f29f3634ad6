"""A small convolutional network on grey images: what the digits and mnist demos train."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from theorylens.core import Recipe, RefusedError, Split, Subject, global_randomness_kept, key_seed
from theorylens.training import Keeping, Optimisation, fit

CHECKPOINTS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """Images with their labels in three roles, and how a network is trained on them.

    ``train``, ``validation`` and ``test`` are pairs (images (n, 1, side, side), labels (n,)); the network has two
    convolutions, an average pooling and two dense layers.
    """

    name: str
    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: int
    stride: int
    pool: int
    optimisation: Optimisation
    every: int


def shuffled_splits(images: Tensor, labels: Tensor, sizes: Sequence[int], key: str) -> list[tuple[Tensor, Tensor]]:
    """Disjoint random parts of ``sizes`` examples, the same on every machine: data sets come sorted."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(key_seed(key, "split")))
    return [(images[index], labels[index]) for index in torch.split(order, list(sizes))]


def network(problem: Problem, *, seed: int, width: float = 1.0) -> nn.Sequential:
    """The network before training; ``width`` multiplies 16 and 32 channels and 64 hidden units."""
    first, second, hidden = (max(1, round(units * width)) for units in (16, 32, 64))
    side = problem.train[0].shape[-1] // problem.stride // problem.pool
    layers: list[tuple[str, Callable[[], nn.Module]]] = [
        ("conv1", lambda: nn.Conv2d(1, first, 3, stride=problem.stride, padding=1)), ("relu1", nn.ReLU),
        ("conv2", lambda: nn.Conv2d(first, second, 3, padding=1)), ("relu2", nn.ReLU),
        ("pool", lambda: nn.AvgPool2d(problem.pool)), ("flatten", nn.Flatten),
        ("dense", lambda: nn.Linear(second * side * side, hidden)), ("relu3", nn.ReLU),
        ("logits", lambda: nn.Linear(hidden, problem.classes)),
    ]  # fmt: skip
    with global_randomness_kept(key_seed(seed, problem.name, "init")):
        return nn.Sequential(OrderedDict((name, make()) for name, make in layers))


def trained(
    problem: Problem,
    retrain: Callable[..., Subject],
    *,
    seed: int,
    width: float = 1.0,
    labels: Any = None,
    rows: Any = None,
    callbacks: Sequence[Callable[..., None]] = (),
    directory: str | Path | None = None,
    progress: bool = False,
) -> Subject:
    """The network of ``problem`` trained from ``seed``; ``retrain`` goes into its recipe."""
    inputs, targets = problem.train
    if labels is not None:
        if len(labels) != len(targets):
            raise RefusedError(
                f"{len(labels)} labels were given for {len(targets)} training images; give one per image"
            )
        targets = torch.as_tensor(labels, dtype=targets.dtype)
    if rows is not None:
        chosen = torch.as_tensor(rows, dtype=torch.int64)
        inputs, targets = inputs[chosen], targets[chosen]
    fitted = fit(
        network(problem, seed=seed, width=width), Split((inputs, targets)), "cross_entropy", problem.optimisation,
        seed=seed, validation=problem.validation, callbacks=callbacks, progress=progress,
        keeping=Keeping(checkpoints=CHECKPOINTS, every=problem.every, directory=directory),
    )  # fmt: skip
    part = "" if rows is None else f", {len(rows)} rows"
    name = (
        problem.name
        + part
        + ("" if labels is None else ", other labels")
        + ("" if width == 1 else f", width x {width:g}")
    )
    recipe = Recipe(train=retrain, seconds=fitted.seconds, settings={**fitted.settings, "width": width})
    return fitted.subject(test=problem.test, name=name, recipe=recipe)
