"""Long tails: what a network gets right in frequent and in rare classes, and what corrects for their frequencies.

Source   Cui, Jia, Lin, Song, Belongie (2019), CVPR (effective number); Menon et al. (2021), ICLR (logit
         adjustment); Cao, Wei, Gaidon, Arechiga, Ma (2019), NeurIPS (LDAM margins)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from theorylens.numerics.binomial import clopper_pearson_interval
from theorylens.results import Estimate, Message, Statistical

from ._class_balance import class_balance

Floats = NDArray[np.float64]
HEAD, TAIL = 100, 20  # examples: the usual limits of many, medium and few shots (Liu et al. 2019, CVPR)
LEVEL = 0.95


def effective_number(counts: Any, beta: float) -> Floats:
    """Effective number of examples (1 - βⁿ) / (1 - β) of each class: n for β = 0+, at most 1 / (1 - β).

    >>> effective_number([1000, 5], 0.999).round(6).tolist()
    [632.304575, 4.99001]
    """
    n = _counts(counts)
    if not 0 < beta < 1:
        raise ValueError(f"beta must lie strictly between 0 and 1, got {beta}")
    return np.asarray(-np.expm1(n * math.log(beta)) / (1 - beta))


@dataclass(frozen=True, kw_only=True)
class GroupAccuracy:
    """Accuracy on the classes of a band of training counts.

    Attributes
    ----------
    name
        ``"head"``, ``"medium"`` or ``"tail"``.
    classes
        Classes of the group.
    examples
        Rows scored in them.
    accuracy
        With its exact binomial interval at 95 %; None when no row was scored.
    """

    name: str
    classes: tuple[int, ...]
    examples: int
    accuracy: Estimate | None


def group_accuracy(
    train_counts: Any, labels: Any, predicted: Any, *, head: int = HEAD, tail: int = TAIL
) -> tuple[GroupAccuracy, GroupAccuracy, GroupAccuracy]:
    """Accuracy on head (more than ``head`` training examples), medium, and tail (fewer than ``tail``) classes.

    Parameters
    ----------
    train_counts
        Training examples of each class, shape (K,).
    labels, predicted
        Classes from 0 of the rows scored, shape (n,).

    Raises
    ------
    ValueError
        Negative or fractional counts, none at all, labels outside of the classes, or different lengths.
    """
    counts = _counts(train_counts)
    y, guess = _classes(labels, len(counts), "labels"), _classes(predicted, len(counts), "predicted")
    if y.shape != guess.shape or not len(y):
        raise ValueError(f"labels and predicted must have one length and a row at least, got {len(y)} and {len(guess)}")
    if not 0 <= tail <= head:
        raise ValueError(f"limits must be 0 <= tail <= head, got tail={tail}, head={head}")
    groups = {"head": counts > head, "medium": (counts <= head) & (counts >= tail), "tail": counts < tail}
    return tuple(_group(name, inside, y, guess) for name, inside in groups.items())  # type: ignore[return-value]


def _group(name: str, inside: NDArray[np.bool_], y: NDArray[np.int64], guess: NDArray[np.int64]) -> GroupAccuracy:
    rows = inside[y]
    n, right = int(rows.sum()), int((guess[rows] == y[rows]).sum())
    classes = tuple(int(c) for c in np.flatnonzero(inside))
    return GroupAccuracy(name=name, classes=classes, examples=n, accuracy=share(right, n) if n else None)


def share(part: int, whole: int, level: float = LEVEL) -> Estimate:
    """``part`` of ``whole`` independent rows with the exact interval of Clopper and Pearson."""
    lower, upper = clopper_pearson_interval(np.array([part]), whole, 1 - level)
    method = Message("bias.share", "exact binomial interval over {n} rows", n=whole)
    ends = Statistical(lower=float(lower[0]), upper=float(upper[0]), level=level, method=method)
    return Estimate(value=part / whole, uncertainty=ends)


def logit_adjustment(logits: Float[Tensor, "n k"], counts: Any, *, tau: float = 1.0) -> Float[Tensor, "n k"]:
    """Logits less τ log(class share): with τ = 1 their largest is the class of least balanced error.

    Added instead of subtracted in training they give the logit-adjusted loss. Every class needs an example.
    """
    n = _counts(counts)
    if (n == 0).any():
        raise ValueError(f"{int((n == 0).sum())} classes have no example, so their share has no logarithm; drop them")
    if logits.shape[1] != len(n):
        raise ValueError(f"logits have {logits.shape[1]} classes, counts {len(n)}")
    return logits - tau * torch.from_numpy(np.log(n / n.sum())).to(logits)


def ldam_margins(counts: Any, largest: float = 0.5) -> Floats:
    """Margin of each class in proportion to n^(-1/4), scaled so that the rarest has ``largest``.

    For two classes that minimises the sum of the margin bounds 1 / (γ_k √n_k) at a fixed γ_1 + γ_2.
    """
    n = _counts(counts)
    if (n == 0).any():
        raise ValueError(f"{int((n == 0).sum())} classes have no example, so they have no margin; drop them")
    if not (largest > 0 and math.isfinite(largest)):
        raise ValueError(f"largest must be positive, got {largest}")
    raw = n**-0.25
    return np.asarray(largest * raw / raw.max())


def _counts(counts: Any) -> Floats:
    values = counts.cpu().numpy() if isinstance(counts, Tensor) else counts
    return np.asarray(class_balance(values).counts, dtype=np.float64)


def _classes(values: Any, k: int, name: str) -> NDArray[np.int64]:
    found = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
    if found.ndim != 1 or (len(found) and (found.min() < 0 or found.max() >= k)):
        raise ValueError(f"{name} must be classes from 0 to {k - 1} in one list, got shape {found.shape}")
    return found.astype(np.int64)
