"""What of the error is the same for every training run, and what differs from run to run.

Method   squared loss: bias^2 (with the noise of the targets) + variance, both unbiased over runs; 0-1 loss: Domingos'
         decomposition around the majority vote
Source   Geman, Bienenstock, Doursat (1992), Neural Computation 4:1; Domingos (2000), AAAI; over networks: Neal et al.
         (2018), arXiv:1810.08591
Assumes  runs that are independent draws of what is varied: the seed, or seed and training sample
Breaks   with the seed alone varied, what depends on the training sample counts as bias
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from theorylens.core import Recipe
from theorylens.results import Estimate, Message, Statistical

Floats = NDArray[np.float64]
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class BiasVariance:
    """Parts of the mean error; ``risk`` = ``bias`` + ``variance``, intervals by jackknife over runs.

    ``bias`` is the squared bias together with the noise of the targets, which no predictor can avoid: with targets
    without noise it is the bias alone.
    """

    risk: Estimate
    bias: Estimate
    variance: Estimate


@dataclass(frozen=True, kw_only=True)
class VoteDecomposition:
    """Parts of the mean 0-1 error around the majority vote of the runs; ``error`` = ``bias`` + ``harm`` - ``help``.

    Attributes
    ----------
    error
        Mean error over runs and points.
    bias
        Error of the majority vote.
    harm, help
        Share of answers that leave a right vote, and share that leave a wrong vote for the right answer: variance
        harms where the vote is right and can help where it is wrong.
    """

    error: float
    bias: float
    harm: float
    help: float


def bias_variance(predictions: Any, targets: Any) -> BiasVariance:
    """Decompose the mean squared error of several runs at the same points.

    Parameters
    ----------
    predictions
        Shape (runs, points, ...): real outputs, or class probabilities. At least 3 runs.
    targets
        Shape (points, ...): real, or one-hot.

    Returns
    -------
    Squared errors are summed over the axes behind the points and averaged over points.

    >>> rng = np.random.default_rng(0)
    >>> found = bias_variance(1.0 + 2.0 * rng.standard_normal((200, 50)), np.zeros(50))
    >>> round(found.bias.value, 1), round(found.variance.value, 1)
    (1.0, 4.0)
    """
    f, y = np.asarray(predictions, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if f.ndim < 2 or f.shape[1:] != y.shape or len(f) < 3:
        raise ValueError(
            f"need predictions (runs >= 3, points, ...) at targets (points, ...), got {f.shape}, {y.shape}"
        )
    if not (np.isfinite(f).all() and np.isfinite(y).all()):
        raise ValueError("predictions and targets must be finite; leave out runs that diverged")
    f, y = f.reshape(len(f), len(y), -1), y.reshape(len(y), -1)
    whole = _parts(f, y)
    left_out = np.array([_parts(np.delete(f, run, axis=0), y) for run in range(len(f))])
    risk, bias, variance = (_jackknife(whole[i], left_out[:, i]) for i in range(3))
    return BiasVariance(risk=risk, bias=bias, variance=variance)


def vote_decomposition(answers: Any, classes: Any) -> VoteDecomposition:
    """Decompose the mean 0-1 error of several runs at the same points.

    Parameters
    ----------
    answers
        Class numbers, shape (runs, points); at least 2 runs. Ties of the vote go to the smallest number.
    classes
        True class numbers, shape (points,).

    >>> vote_decomposition(np.array([[0, 1], [0, 1], [1, 0]]), np.array([0, 0]))
    VoteDecomposition(error=0.5, bias=0.5, harm=0.16666666666666666, help=0.16666666666666666)
    """
    a, y = np.asarray(answers), np.asarray(classes)
    if a.ndim != 2 or a.shape[1:] != y.shape or len(a) < 2 or not y.size:
        raise ValueError(f"need answers (runs >= 2, points) and classes (points,), got {a.shape} and {y.shape}")
    if a.dtype.kind not in "iu" or y.dtype.kind not in "iu":
        raise ValueError(
            f"answers and classes must be whole numbers, got {a.dtype} and {y.dtype}; take an argmax first"
        )
    names = np.unique(np.concatenate([a.ravel(), y]))
    votes = np.stack([(a == name).sum(0) for name in names])
    main = names[votes.argmax(0)]
    right = main == y
    return VoteDecomposition(
        error=float((a != y).mean()), bias=float((~right).mean()),
        harm=float(((a != main) & right).mean()), help=float(((a == y) & ~right).mean()),
    )  # fmt: skip


def retrained_outputs(
    recipe: Recipe | Callable[..., Any], seeds: Sequence[int], role: str = "test", *, width: float = 1.0
) -> tuple[Floats, NDArray[Any]]:
    """Outputs of a recipe's networks at the rows of a split, shape (seeds, points, ...), and its targets.

    Trained once per seed. Classification outputs become probabilities.

    Raises
    ------
    ValueError
        Fewer than 3 seeds, or runs whose targets differ: then points do not correspond.
    """
    if len(set(seeds)) < 3:
        raise ValueError(f"seeds must be at least 3 different ones, got {list(seeds)}")
    outputs, targets = [], []
    for seed in seeds:
        subject = recipe(seed=int(seed), width=width)
        found, given = subject.predictions(role)
        if subject.judged.kind == "classification" and found.ndim == 2 and found.shape[1] > 1:
            found = found.double().softmax(1)
        outputs.append(found.double().numpy())
        targets.append(given.numpy())
    if any(not np.array_equal(t, targets[0]) for t in targets):
        raise ValueError(f"the {role} targets differ between runs of the recipe; fix the split, vary the seed only")
    return np.stack(outputs), targets[0]


def _parts(f: Floats, y: Floats) -> tuple[float, float, float]:
    """Risk, squared bias with noise, variance: the second without the part of the variance in the mean."""
    variance = float(f.var(0, ddof=1).sum(1).mean())
    risk = float(((f - y) ** 2).sum(2).mean())
    return risk, risk - variance, variance


def _jackknife(value: float, without: Floats) -> Estimate:
    n = len(without)
    spread = math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * spread
    method = Message("generalization.jackknife_runs", "jackknife over {n} runs, Student's t", n=n)
    interval = Statistical(lower=value - half, upper=value + half, level=LEVEL, method=method)
    return Estimate(value=value, uncertainty=interval)
