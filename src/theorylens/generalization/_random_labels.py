"""The same network trained on true and on random labels: what it can memorise, and which measures notice.

Source   Zhang, Bengio, Hardt, Recht, Vinyals (2017), ICLR; Neyshabur, Tomioka, Srebro (2015), ICLR workshop
Assumes  a recipe that trains the same network on whatever labels it is given
Breaks   a network that does not fit random labels may only have been trained too briefly: look at steps and rate
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from theorylens.bias import flip_labels, flip_rate
from theorylens.core import Recipe, Subject, key_seed
from theorylens.results import Curve, Estimate, History, Line, Message, Statistical, Table, Unknown, Wall
from theorylens.training import sweep

from ._measure_names import NAMES
from ._measures import generalization_measures
from ._scratch import kept_or_temporary

Floats = NDArray[np.float64]
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
MEASURED = (
    "length", "distance", "frobenius", "spectral", "path_norm", "spectral_complexity_margin", "inverse_margin",
    "stable_rank", "adaptive_flatness", "train_loss",
)  # fmt: skip
LEVEL = 0.95
MEMORISED = 0.01  # training error on random labels up to which they count as fitted


@dataclass(frozen=True, kw_only=True, eq=False)
class RandomLabelStudy:
    """Every training over shares of random labels and seeds.

    Attributes
    ----------
    shares
        Shape (k,): share of training labels drawn anew, evenly from all classes, so that some stay what they were.
    train_error, test_error
        Shape (k, seeds): on the labels that were given, and on true labels.
    steps
        Shape (k, seeds): steps to the first record of the history without training error; NaN where there is none.
    measures
        By name of `generalization_measures`, shape (k, seeds).
    chance
        Error of guessing: one less the share of the largest class among the test rows.
    """

    shares: Floats
    train_error: Floats
    test_error: Floats
    steps: Floats
    measures: dict[str, Floats]
    chance: float

    @property
    def memorises(self) -> bool:
        """Whether every network trained on random labels alone fitted them."""
        return bool(self.shares[-1] == 1 and (self.train_error[-1] <= MEMORISED).all())

    def change(self, name: str) -> Estimate:
        """How much larger a measure is at the largest share than at the smallest, paired over seeds, 95 %."""
        values = self.measures[name]
        found = values[-1] - values[0]
        n = len(found)
        half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * float(found.std(ddof=1)) / math.sqrt(n)
        mean = float(found.mean())
        method = Message("generalization.paired_runs", "Student's t over {runs} paired runs", runs=n)
        if not math.isfinite(mean + half):
            bad = Message("random_labels.undefined", "the measure is not defined for some network")
            return Estimate(value=math.nan, uncertainty=Unknown(why=bad), trouble=bad)
        interval = Statistical(lower=mean - half, upper=mean + half, level=LEVEL, method=method)
        return Estimate(value=mean, uncertainty=interval)

    @property
    def reading(self) -> Message:
        """What follows, in a sentence."""
        last, true = float(self.train_error[-1].mean()), float(self.test_error[0].mean())
        if self.memorises:
            text = (
                "Yes: random labels are fitted to a training error of {train:.1%} with a test error of {test:.1%}, and "
                "the true ones are learnt to {true:.1%}. A bound for all networks of this kind and size must cover "
                "both, so it cannot explain the second."
            )
            random = float(self.test_error[-1].mean())
            return Message("random_labels.memorises", text, train=last, test=random, true=true)
        text = (
            "No: at the largest share of random labels ({share:.0%}) a training error of {train:.1%} is left. That is "
            "a limit of this training, not of the network, unless longer training leaves it too."
        )
        return Message("random_labels.not", text, share=float(self.shares[-1]), train=last)

    def curve(self) -> Curve:
        """Errors against the share of random labels, means with intervals over seeds."""
        names = (Message("random_labels.test", "test, true labels"), Message("random_labels.train", "training"))
        lines = []
        for name, values, role in zip(names, (self.test_error, self.train_error), ("network", "init"), strict=True):
            n = values.shape[1]
            half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * values.std(1, ddof=1) / math.sqrt(n)
            mean = values.mean(1)
            limits = {"lower": np.maximum(mean - half, 0.0), "upper": np.minimum(mean + half, 1.0)}
            lines.append(Line(x=self.shares, y=mean, name=name, role=role, **limits))  # type: ignore[arg-type]
        return Curve(
            label=Message("random_labels.curve", "Errors after training with a share of random labels"),
            lines=tuple(lines), x_name=Message("random_labels.share", "share of random labels"),
            y_name=Message("generalization.test_error", "error"),
            walls=(Wall(at=self.chance, name=Message("random_labels.chance", "guessing")),),
        )  # fmt: skip

    def table(self) -> Table:
        """Steps to fit and every measure, mean over seeds, by share of random labels."""
        columns = (
            Message("measure.column", "measure"),
            *(Message("random_labels.at", "{share:.0%} random", share=float(s)) for s in self.shares),
        )
        rows = [(Message("random_labels.steps", "steps to no training error"), self.steps)]
        rows += [(NAMES[name], values) for name, values in self.measures.items()]
        return Table(
            label=Message(
                "random_labels.table", "What fitting random labels takes and leaves behind, means over seeds"
            ),
            columns=columns,
            rows=tuple((name, *(_cell(float(v)) for v in values.mean(1))) for name, values in rows),
        )


def random_label_study(
    recipe: Recipe,
    labels: Any,
    *,
    shares: Sequence[float] = SHARES,
    seeds: Sequence[int] = (0, 1, 2),
    classes: int | None = None,
    names: Collection[str] = MEASURED,
    directory: str | Path | None = None,
    jobs: int | None = None,
) -> RandomLabelStudy:
    """Train one network again and again with a growing share of its training labels drawn at random.

    Parameters
    ----------
    recipe
        How to train it; the subject it gives must have ``train`` (with the labels it was handed) and ``test``, and
        with a history of ``train_error`` also the steps are known.
    labels
        True training labels, classes from 0, shape (n,).
    shares
        Increasing, within 0 and 1; a label is drawn anew with this probability, from all classes evenly.
    seeds
        At least 2: of the training and of the labels drawn, the same rows for all shares.
    classes
        By default one more than the largest label.
    names
        Of `generalization_measures`.
    directory, jobs
        Of `training.sweep`.

    Raises
    ------
    ValueError
        Shares that do not increase within 0 and 1, fewer than 2 seeds or classes, a recipe that trains on other labels
        than it is given, a subject without ``test``.
    SweepError
        A training failed, or did one of the former.
    """
    part = [float(s) for s in shares]
    if len(part) < 2 or sorted(set(part)) != part or part[0] < 0 or part[-1] > 1:
        raise ValueError(f"shares must be at least 2 numbers that increase within 0 and 1, got {list(shares)}")
    if len(set(seeds)) < 2:
        raise ValueError(f"seeds must be at least 2 different ones to give an interval, got {list(seeds)}")
    y = torch.as_tensor(labels).long().cpu()
    if y.ndim != 1 or not len(y) or int(y.min()) < 0:
        raise ValueError(f"labels must be classes from 0, one a row, got shape {tuple(y.shape)}")
    count = classes if classes is not None else int(y.max()) + 1
    if count < 2 or int(y.max()) >= count:
        raise ValueError(f"labels go up to {int(y.max())}; needed are 2 classes at least, and all labels among them")
    wanted = tuple(names)

    def one(item: dict[str, Any]) -> dict[str, Any]:  # a closure: recipe and labels are part of its hash
        return _one(recipe, y, count, wanted, float(item["share"]), int(item["seed"]))

    grid = [{"share": s, "seed": int(k)} for s in part for k in seeds]
    with kept_or_temporary(directory) as folder:
        found = sweep(one, grid, directory=folder, jobs=jobs)
    shape = (len(part), len(seeds))
    column = {k: np.array([f[k] for f in found], dtype=np.float64).reshape(shape) for k in ("train", "test", "steps")}
    return RandomLabelStudy(
        shares=np.array(part), train_error=column["train"], test_error=column["test"], steps=column["steps"],
        measures={n: np.array([f["measures"][n] for f in found]).reshape(shape) for n in wanted},
        chance=float(np.mean([f["chance"] for f in found])),
    )  # fmt: skip


def random_labels(labels: Tensor, share: float, classes: int, seed: int) -> Tensor:
    """Each label drawn anew with probability ``share``, evenly from all classes; growing shares keep what was drawn.

    >>> y = torch.arange(1000) % 10
    >>> 0.85 < float((random_labels(y, 1.0, 10, 0) != y).double().mean()) < 0.95
    True
    """
    generator = torch.Generator().manual_seed(key_seed(seed, "random labels"))
    return flip_labels(labels, flip_rate(share, classes), classes, generator)


def _one(
    recipe: Recipe, labels: Tensor, classes: int, names: Sequence[str], share: float, seed: int
) -> dict[str, Any]:  # fmt: skip
    given = random_labels(labels, share, classes, seed)
    subject = recipe(seed=seed, labels=given)
    if not subject.has("test"):
        raise ValueError("the recipe's subject has no test split; its error on true labels is what is compared")
    _, targets = subject.predictions("train")
    if targets.shape != given.shape or not torch.equal(targets.cpu().long(), given):
        raise ValueError("the recipe trained on other labels than it was given; its function must use labels=")
    errors = {role: subject.scores(role).errors for role in ("train", "test")}
    if errors["train"] is None or errors["test"] is None:
        raise ValueError("the task of the recipe's subject states no error; give Task(error=...)")
    start = subject.initial()
    own = dict(start.subject.net.state_dict()) if start is not None and start.own else None
    with subject.studied():
        measures = generalization_measures(
            subject.net, subject.split("train"), subject.judged, reference=own, names=names
        )  # fmt: skip
    answers = subject.predictions("test")[1].reshape(-1).long()
    return {
        "train": float(errors["train"].mean()), "test": float(errors["test"].mean()), "steps": _steps(subject),
        "measures": measures, "chance": 1 - int(torch.bincount(answers).max()) / len(answers),
    }  # fmt: skip


def _steps(subject: Subject) -> float:
    history = subject.history
    if not isinstance(history, History) or "train_error" not in history.series:
        return math.nan
    fitted = np.flatnonzero(np.asarray(history.series["train_error"]) == 0)
    return float(history.steps[fitted[0]]) if len(fitted) else math.nan


def _cell(value: float) -> float | str:
    return value if math.isfinite(value) else "-"
