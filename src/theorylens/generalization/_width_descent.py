"""Double descent of real networks, measured: trained over a range of widths, with label noise and several seeds.

Source   Belkin, Hsu, Ma, Mandal (2019), PNAS 116:15849; Nakkiran, Kaplun, Bansal, Yang, Barak, Sutskever (2020), ICLR
Assumes  the training rule is the same for all widths; whether test error falls twice depends on label noise, on
         training length and on regularisation, and it need not
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from theorylens.bias import flip_labels
from theorylens.core import Split, Task, global_randomness_kept, key_seed
from theorylens.results import Message
from theorylens.training import Keeping, Optimisation, fit, sweep

from ._risk_curve import RiskCurve
from ._scratch import kept_or_temporary

Floats = NDArray[np.float64]
Make = Callable[[int, int], nn.Module]
"""``make(width, seed) -> network`` before training; with ``jobs`` other than 1 a function that can be sent about."""
TEST = Message("generalization.test_error", "error")


@dataclass(frozen=True, kw_only=True, eq=False)
class DoubleDescent:
    """Errors of every training over widths, seeds and epochs.

    Attributes
    ----------
    widths, parameters
        Shape (k,): widths asked for, numbers of trainable parameters they give.
    epochs
        Shape (e,): epochs at which errors were recorded, 0 first.
    train_error, test_error
        Shape (k, seeds, e): training error on the labels as given (with noise), test error on true labels.
    rate
        Share of training labels changed.
    """

    widths: NDArray[np.int64]
    parameters: NDArray[np.int64]
    epochs: Floats
    train_error: Floats
    test_error: Floats
    rate: float

    def by_width(self) -> RiskCurve:
        """Errors at the end of training against the number of parameters: model-wise double descent."""
        text = "Networks of growing width, {rate:.0%} of training labels changed"
        return RiskCurve(
            sizes=self.parameters.astype(np.float64), train=self.train_error[:, :, -1], test=self.test_error[:, :, -1],
            label=Message("generalization.by_width", text, rate=self.rate),
            x_name=Message("generalization.trainable", "trainable parameters"), y_name=TEST,
        )  # fmt: skip

    def by_epoch(self, width: int) -> RiskCurve:
        """Errors of one width against the epoch: epoch-wise double descent."""
        if width not in self.widths:
            raise ValueError(f"width {width} was not trained; there are {self.widths.tolist()}")
        k = int(np.flatnonzero(self.widths == width)[0])
        text = "A network of width {width} in the course of training, {rate:.0%} of labels changed"
        return RiskCurve(
            sizes=self.epochs[1:], train=self.train_error[k, :, 1:].T, test=self.test_error[k, :, 1:].T,
            label=Message("generalization.by_epoch", text, width=width, rate=self.rate),
            x_name=Message("generalization.epoch", "epoch"), y_name=TEST,
        )  # fmt: skip


def double_descent(
    make: Make,
    train: tuple[Any, Any],
    test: tuple[Any, Any],
    *,
    widths: Sequence[int],
    rate: float,
    optimisation: Optimisation,
    seeds: Sequence[int] = (0, 1, 2),
    classes: int | None = None,
    directory: str | Path | None = None,
    jobs: int | None = None,
) -> DoubleDescent:
    """Train a classifier at every width and seed on labels with noise, and record its errors.

    Parameters
    ----------
    make
        See `Make`; outputs one column per class. Initialised under the global seed too, so ``seed`` may be ignored.
    train, test
        ``(inputs, classes)``. Test labels stay as they are.
    widths
        Increasing; each is passed to ``make``.
    rate
        Share of training labels changed to another class, the same rows for every width of a seed.
    optimisation
        The same for all widths.
    seeds
        At least 2: of initial weights, order of examples and label noise.
    classes
        By default one more than the largest label.
    directory, jobs
        Of `training.sweep`: finished trainings are kept in ``directory`` and not repeated; by default nothing is kept.

    Raises
    ------
    ValueError
        Widths that do not increase, fewer than 2 seeds, a rate outside [0, 1], an optimisation that stops early.
    SweepError
        A training failed, for instance because it diverged.
    """
    wide = [int(w) for w in widths]
    if not wide or sorted(set(wide)) != wide or wide[0] < 1:
        raise ValueError(f"widths must be whole numbers that increase from at least 1, got {list(widths)}")
    if optimisation.stop_at is not None:
        raise ValueError("errors of all widths are recorded over the same epochs: leave out stop_at")
    one = _prepared(make, train, test, rate, optimisation, seeds, classes)
    grid = [{"width": w, "seed": int(s)} for w in wide for s in seeds]
    with kept_or_temporary(directory) as folder:
        found = sweep(one, grid, directory=folder, jobs=jobs)
    shape = (len(wide), len(seeds), -1)
    return DoubleDescent(
        widths=np.array(wide), parameters=np.array([f["parameters"] for f in found[:: len(seeds)]]),
        epochs=np.asarray(found[0]["epochs"], dtype=np.float64), rate=rate,
        train_error=np.array([f["train_error"] for f in found]).reshape(shape),
        test_error=np.array([f["test_error"] for f in found]).reshape(shape),
    )  # fmt: skip


def sample_descent(
    make: Make,
    train: tuple[Any, Any],
    test: tuple[Any, Any],
    *,
    width: int,
    examples: Sequence[int],
    rate: float,
    optimisation: Optimisation,
    seeds: Sequence[int] = (0, 1, 2),
    classes: int | None = None,
    directory: str | Path | None = None,
    jobs: int | None = None,
) -> RiskCurve:
    """Train one network on growing parts of the training rows, with label noise: sample-wise double descent.

    Parameters
    ----------
    width
        Passed to ``make``.
    examples
        Numbers of training rows, increasing: the first of an order drawn for each seed. The same epochs for all, so
        fewer rows are fewer steps; set ``stop_at`` to train all to the same loss.

    The others, and errors, are those of `double_descent`.
    """
    counts = [int(m) for m in examples]
    if not counts or sorted(set(counts)) != counts or counts[0] < 1 or counts[-1] > len(train[0]):
        raise ValueError(
            f"examples must be whole numbers that increase from at least 1 to at most {len(train[0])}, got {counts}"
        )
    one = _prepared(make, train, test, rate, optimisation, seeds, classes)
    grid = [{"width": int(width), "seed": int(s), "examples": m} for m in counts for s in seeds]
    with kept_or_temporary(directory) as folder:
        found = sweep(one, grid, directory=folder, jobs=jobs)
    errors = {
        role: np.array([f[f"{role}_error"][-1] for f in found]).reshape(len(counts), len(seeds))
        for role in ("train", "test")
    }
    text = "A network of width {width} on growing training sets, {rate:.0%} of labels changed"
    return RiskCurve(
        sizes=np.array(counts, dtype=np.float64), train=errors["train"], test=errors["test"],
        label=Message("generalization.by_examples", text, width=int(width), rate=rate),
        x_name=Message("generalization.examples", "training examples"), y_name=TEST,
    )  # fmt: skip


def _prepared(
    make: Make, train: Any, test: Any, rate: float, optimisation: Optimisation, seeds: Sequence[int],
    classes: int | None,
) -> Callable[[dict[str, Any]], dict[str, Any]]:  # fmt: skip
    """One training as a function of its cell: a closure, so data, rate and settings are part of its hash."""
    if len(set(seeds)) < 2:
        raise ValueError(f"seeds must be at least 2 different ones to give an interval, got {list(seeds)}")
    if not 0 <= rate <= 1:
        raise ValueError(f"the rate must lie between 0 and 1, got {rate}")
    (x, y), (held, answers) = ((torch.as_tensor(a), torch.as_tensor(b)) for a, b in (train, test))
    count = classes if classes is not None else int(max(y.max(), answers.max())) + 1

    def one(item: dict[str, Any]) -> dict[str, Any]:
        return _train(make, (x, y), (held, answers), count, rate, optimisation, item)

    return one


def _train(
    make: Make, train: Any, test: Any, classes: int, rate: float, optimisation: Optimisation, item: dict[str, Any]
) -> dict[str, Any]:
    seed, (x, y) = int(item["seed"]), train
    noisy = flip_labels(y, rate, classes, torch.Generator().manual_seed(key_seed(seed, "label noise")))
    with global_randomness_kept(key_seed(seed, "double descent", int(item["width"]))):
        net = make(int(item["width"]), seed)
    task = Task(loss="cross_entropy")
    if "examples" in item:
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(key_seed(seed, "examples")))
        x, noisy = (t[order[: int(item["examples"])]] for t in (x, noisy))
    fitted = fit(net, (x, noisy), task, optimisation, seed=seed, validation=Split.of(test), keeping=Keeping())
    history = fitted.history
    per_epoch = -(-len(x) // optimisation.batch_size)
    return {
        "parameters": sum(p.numel() for p in net.parameters() if p.requires_grad),
        "epochs": [float(s) / per_epoch for s in history.steps],
        "train_error": [float(v) for v in history.series["train_error"]],
        "test_error": [float(v) for v in history.series["validation_error"]],
    }
