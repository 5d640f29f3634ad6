"""How much does the network change when one training example is left out? Measured by training again.

A description: the largest change seen is no bound on the largest there is, so nothing follows with confidence. Twice
the mean change is about what the expected difference of training and test error can be (Bousquet, Elisseeff 2002,
JMLR 2:499, hypothesis stability).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from theorylens.core import UnsuitableError, global_randomness_kept
from theorylens.results import Estimate, Message, Statistical

from ._answers import answers
from ._asked import probability, whole

if TYPE_CHECKING:
    from theorylens.core import Subject

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredStability:
    """Change of the error of test rows when one training row is left out.

    Attributes
    ----------
    change
        Mean over left-out rows and test rows of the absolute change, with Student's interval over the left-out rows.
    largest
        Largest mean change over the test rows that one row caused.
    reseeded
        The same mean change when nothing is left out but the seed of training is another: the control. Where
        ``change`` is as large, leaving a row out only reshuffles the training.
    repeated
        The same when training is repeated exactly: 0 unless the recipe is not deterministic.
    rows
        Rows left out, shape (draws,), and ``changes``, the mean change each caused.
    """

    change: Estimate
    largest: float
    reseeded: float
    repeated: float
    rows: NDArray[np.int64]
    changes: Floats


def measured_stability(
    subject: Subject, *, draws: int = 8, seed: int = 0, generator: torch.Generator, delta: float = 0.05
) -> MeasuredStability:  # fmt: skip
    """Train ``draws`` + 3 times: with all rows (twice), with another seed, and without one row each.

    Parameters
    ----------
    subject
        With a recipe that takes ``rows``, a training and a test split.
    draws
        Rows left out, drawn from ``generator``; at least 2.
    seed
        Of all trainings but the reseeded one.

    Raises
    ------
    UnsuitableError
        No recipe, train or test split, or an error that is not in [0, 1].
    RefusedError
        The recipe cannot train on part of the data.
    """
    if subject.recipe is None or not subject.has("train") or not subject.has("test"):
        text = "stability is measured by training again: the subject needs a recipe that takes rows, train= and test="
        raise UnsuitableError(Message("stability.unsuitable", text))
    n = len(subject.split("train"))
    chosen = torch.randperm(n, generator=generator)[: whole("draws", draws, 2)].numpy()
    everything = np.arange(n)
    recipe = subject.recipe

    def errors(seed: int, rows: NDArray[np.int64]) -> Floats:
        with global_randomness_kept():
            trained = recipe(seed=seed, rows=tuple(int(i) for i in rows))
        other = replace(subject, model=trained.net, init=None, checkpoints=None, history=None, shuffled=None, others={})
        return answers(other, "test").errors.numpy()

    base = errors(seed, everything)
    changes = np.array([np.abs(errors(seed, np.delete(everything, i)) - base).mean() for i in chosen])
    mean = float(changes.mean())
    half = stats.t.ppf(1 - probability("delta", delta) / 2, len(changes) - 1)
    half *= float(changes.std(ddof=1)) / len(changes) ** 0.5
    method = Message("method.left_out", "Student's interval over {count} rows left out", count=len(changes))
    ends = Statistical(lower=max(0.0, mean - half), upper=mean + half, level=1 - delta, method=method)
    return MeasuredStability(
        change=Estimate(value=mean, uncertainty=ends),
        largest=float(changes.max()),
        reseeded=float(np.abs(errors(seed + 1, everything) - base).mean()),
        repeated=float(np.abs(errors(seed, everything) - base).mean()),
        rows=np.asarray(chosen, dtype=np.int64),
        changes=changes,
    )
