"""Signal and noise during training: when are right labels fitted, when are wrong ones memorised?

Method   labels of a known subset are flipped before training; per epoch the share of unflipped labels fitted, of wrong
         labels reproduced on the flipped subset, and of the true labels recovered there in spite of the wrong ones
Source   Arpit et al. (2017), A closer look at memorization in deep networks, ICML; Liu et al. (2020), NeurIPS
Assumes  flips that do not depend on the inputs; both labels of a flipped example are known
Breaks   flips that look alike (one class always turned into another) can be learnt as a rule
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from theorylens.bias import LogitRecorder, flip_labels
from theorylens.core import Recipe, RefusedError, Task, key_seed
from theorylens.numerics.binomial import clopper_pearson_interval
from theorylens.results import Curve, Line, Message

Floats = NDArray[np.float64]
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelNoiseCourse:
    """What a network does with right and wrong labels, record by record.

    Attributes
    ----------
    steps
        At which predictions were recorded; shape (t,).
    clean_fit
        Share of unflipped examples whose label is predicted.
    memorised
        Share of flipped examples whose wrong label is predicted.
    recovered
        Share of flipped examples whose true label is predicted in spite of the wrong one.
    clean, flipped
        Numbers of examples of both kinds.
    """

    steps: Floats
    clean_fit: Floats
    memorised: Floats
    recovered: Floats
    clean: int
    flipped: int

    @property
    def crossover(self) -> float | None:
        """The first step from which on more wrong labels are memorised than true ones recovered; None if never.

        A single record on the other side does not count: from the crossover to the end memorisation leads.
        """
        leads = self.memorised > self.recovered
        if not leads[-1]:
            return None
        behind = np.flatnonzero(~leads)
        return float(self.steps[int(behind[-1]) + 1 if len(behind) else 0])

    @property
    def best(self) -> float:
        """The step at which most true labels of the flipped examples are recovered."""
        return float(self.steps[int(self.recovered.argmax())])

    def curve(self) -> Curve:
        """The three shares over training, each with its 95 % binomial limits."""
        lines = (
            (self.clean_fit, self.clean, Message("dynamics.noise.clean", "right labels fitted")),
            (self.memorised, self.flipped, Message("dynamics.noise.memorised", "wrong labels memorised")),
            (self.recovered, self.flipped, Message("dynamics.noise.recovered", "true labels recovered")),
        )
        return Curve(
            label=Message("dynamics.noise", "What training does with right and with flipped labels"),
            lines=tuple(self._line(shares, n, name) for shares, n, name in lines),
            x_name=Message("dynamics.noise.x", "step"),
            y_name=Message("dynamics.noise.y", "share of examples"),
        )

    def _line(self, shares: Floats, n: int, name: Message) -> Line:
        lower, upper = clopper_pearson_interval(np.round(shares * n), n, 1 - LEVEL)
        return Line(x=self.steps, y=shares, lower=lower, upper=upper, name=name)


def label_noise_course(
    predictions: Int[Tensor, "t n"],
    given: Int[Tensor, " n"],
    true: Int[Tensor, " n"],
    *,
    steps: Floats | None = None,
) -> LabelNoiseCourse:
    """Decompose predictions on the training set into signal and noise.

    Parameters
    ----------
    predictions
        Predicted class of every training example at each record.
    given, true
        The labels training saw, and the right ones; where they differ the label was flipped.
    steps
        Of the records; their numbers 0, 1, 2 ... when None.

    Raises
    ------
    ValueError
        Shapes that do not fit, no record, or no flipped (or no unflipped) label.

    >>> found = label_noise_course(torch.tensor([[0, 1, 0], [0, 1, 1]]), torch.tensor([0, 1, 1]),
    ...                            torch.tensor([0, 1, 0]))
    >>> found.recovered.tolist(), found.memorised.tolist(), found.crossover
    ([1.0, 0.0], [0.0, 1.0], 1.0)
    """
    if predictions.ndim != 2 or given.shape != true.shape or predictions.shape[1:] != given.shape:
        raise ValueError(
            f"needed are predictions (t, n) and both labels (n,), got {tuple(predictions.shape)}, "
            f"{tuple(given.shape)} and {tuple(true.shape)}"
        )
    when = np.arange(len(predictions), dtype=np.float64) if steps is None else np.asarray(steps, dtype=np.float64)
    if len(predictions) == 0 or when.shape != (len(predictions),):
        raise ValueError(f"needed is a step for each of {len(predictions)} records, at least one, got {when.shape}")
    flipped = given != true
    wrong = int(flipped.sum())
    if not 0 < wrong < len(flipped):
        raise ValueError(f"{wrong} of {len(flipped)} labels were flipped; both kinds are needed to tell them apart")

    def share(labels: Tensor, chosen: Tensor) -> Floats:
        return np.asarray((predictions[:, chosen] == labels[chosen]).double().mean(1).cpu())

    return LabelNoiseCourse(
        steps=when, clean_fit=share(given, ~flipped), memorised=share(given, flipped),
        recovered=share(true, flipped), clean=len(flipped) - wrong, flipped=wrong,
    )  # fmt: skip


def label_noise_experiment(
    recipe: Recipe,
    data: tuple[Any, Int[Tensor, " n"]],
    *,
    share: float = 0.2,
    every: int = 1,
    seed: int = 0,
    task: Task | None = None,
) -> LabelNoiseCourse:
    """Train a recipe on partly flipped labels and watch what it fits when.

    Parameters
    ----------
    recipe
        Calls its callbacks as ``callback(step, model, metrics)``; `training.fit` does.
    data
        The inputs and the true labels the recipe trains on, in its order.
    share
        Probability with which each label is flipped (`bias.flip_labels`).
    every
        Steps between two looks at the whole training set.
    task
        How outputs are made of a batch; None: the model is called on the inputs.

    Raises
    ------
    ValueError
        What `bias.flip_labels` and `label_noise_course` refuse, for instance a share that flipped nothing.
    RefusedError
        The recipe never called back.
    """
    inputs, true = data
    classes = int(true.max()) + 1
    generator = torch.Generator().manual_seed(key_seed(seed, "flipped labels"))
    given = flip_labels(true, share, classes, generator)
    watch = LogitRecorder((inputs, given), every=every, task=task)
    recipe(seed=seed, labels=given, callbacks=(watch,))
    if not watch.logits:
        raise RefusedError("the recipe called no callback; pass callbacks on to training.fit, or call them every step")
    predictions = torch.stack([logits.argmax(-1) for logits in watch.logits])
    return label_noise_course(predictions, given.cpu(), true.cpu(), steps=np.array(watch.steps, dtype=np.float64))
