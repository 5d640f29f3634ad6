"""A classifier that judges each row without having seen it: kernel ridge regression with every row left out.

Method   least squares on one-hot labels with the kernel exp(-γ |x - x'|²), leave-one-out scores in closed form; the
         penalty by their squared error, the temperature of the softmax by their log loss
Source   Hastie, Tibshirani, Friedman (2009), The Elements of Statistical Learning, section 7.10 (the closed form)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize, special
from torch import Tensor

Floats = NDArray[np.float64]
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class LeftOut:
    """What the other rows say about each.

    Attributes
    ----------
    scores
        Shape (n, K): about 1 for the class, 0 for the others.
    probabilities
        Their softmax at the temperature that suits the labels best, shape (n, K).
    """

    scores: Floats
    probabilities: Floats

    def accuracy(self, labels: NDArray[np.int64]) -> float:
        return float((self.scores.argmax(1) == labels).mean())


class LeaveOneOut:
    """Leave-one-out scores for one set of inputs and any labels: the kernel is decomposed once."""

    def __init__(self, inputs: Tensor) -> None:
        x = inputs.reshape(len(inputs), -1).detach().double().cpu()
        if len(x) < 2 or not bool(torch.isfinite(x).all()):
            raise ValueError(f"at least 2 rows of finite numbers are needed, got {len(x)}")
        x = x - x.mean(0)
        squared = torch.cdist(x, x, compute_mode="use_mm_for_euclid_dist").square()
        middle = float(squared[tuple(torch.triu_indices(len(x), len(x), 1))].median())
        if not middle > 0:
            raise ValueError("half of the rows are equal, so there is no scale to compare on")
        values, vectors = torch.linalg.eigh(torch.exp(-squared * (2.0 / middle)))
        self._values, self._vectors = values.clamp(min=0), vectors

    def fit(self, labels: NDArray[np.int64], classes: int) -> LeftOut:
        """Scores of every row from all others with their ``labels`` (n,), classes from 0."""
        targets = torch.zeros(len(labels), classes, dtype=torch.float64)
        targets[torch.arange(len(labels)), torch.from_numpy(labels)] = 1
        offset = targets.mean(0)
        rotated = self._vectors.T @ (targets - offset)
        best: tuple[float, Tensor] | None = None
        for penalty in PENALTIES:
            weight = penalty / (self._values + penalty)  # of the residual in each direction
            residual = self._vectors @ (weight[:, None] * rotated)
            kept = (self._vectors.square() * weight).sum(1)  # one less the leverage of each row
            left = residual / kept.clamp(min=1e-12)[:, None]
            error = float(left.square().mean())
            if best is None or error < best[0]:
                best = error, targets - left
        assert best is not None
        scores = best[1].numpy()
        return LeftOut(scores=scores, probabilities=special.softmax(_sharpness(scores, labels) * scores, axis=1))


def _sharpness(scores: Floats, labels: NDArray[np.int64]) -> float:
    rows = np.arange(len(labels))

    def log_loss(log_scale: float) -> float:
        logits = np.exp(log_scale) * scores
        return float((special.logsumexp(logits, axis=1) - logits[rows, labels]).mean())

    return float(np.exp(optimize.minimize_scalar(log_loss, bounds=(-2.0, 4.0), method="bounded").x))
