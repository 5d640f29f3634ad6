"""Wrong labels: how many, from which class to which, what a network makes of them, and losses that allow for them.

Method   counts on injected flips; anchor points and the confident joint for natural ones; losses corrected by the
         transition matrix T[i, j] = P(label j | class i)
Source   Patrini, Rozza, Menon, Nock, Qu (2017), CVPR (anchors, forward and backward correction); Northcutt, Jiang,
         Chuang (2021), JAIR 70:1373 (confident learning); Ghosh, Kumar, Sastry (2017), AAAI (symmetric losses)
Assumes  probabilities from outside of the rows they judge (cross-validation): a network that memorised agrees with all
Breaks   noise that depends on the example and not only on its class
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from theorylens.results import Estimate

from ._long_tail import share

Floats = NDArray[np.float64]
ANCHOR = 0.97  # quantile of the probability of a class from which a row counts as its anchor (Patrini et al.)


@dataclass(frozen=True, kw_only=True)
class NoiseBreakdown:
    """What a network answers on rows with right and with flipped labels; shares with exact 95 % intervals.

    Attributes
    ----------
    noise_rate
        Flipped labels.
    clean_accuracy
        Right answers on rows with right labels.
    corrected, memorised, other
        On flipped rows: the true class, the wrong label, a third class. They add up to 1; None without flips.
    accuracy
        Right answers on all rows.
    """

    noise_rate: Estimate
    clean_accuracy: Estimate | None
    corrected: Estimate | None
    memorised: Estimate | None
    other: Estimate | None
    accuracy: Estimate


def noise_breakdown(true: Any, noisy: Any, predicted: Any) -> NoiseBreakdown:
    """Compare answers with the labels before and after noise.

    Parameters
    ----------
    true, noisy, predicted
        Classes, shape (n,): known only where noise was injected or labels were checked.

    Raises
    ------
    ValueError
        Different lengths, or no row.
    """
    y, given, guess = (np.asarray(v.cpu() if isinstance(v, Tensor) else v) for v in (true, noisy, predicted))
    if not (y.ndim == 1 and y.shape == given.shape == guess.shape and len(y)):
        raise ValueError(
            f"true, noisy and predicted must be lists of one length and not empty, got {y.shape}, {given.shape}, "
            f"{guess.shape}"
        )
    flipped = y != given
    n, f = len(y), int(flipped.sum())
    right, memorised = guess == y, (guess == given) & flipped
    kept = f - int((right & flipped).sum()) - int(memorised.sum())
    return NoiseBreakdown(
        noise_rate=share(f, n),
        clean_accuracy=share(int((right & ~flipped).sum()), n - f) if f < n else None,
        corrected=share(int((right & flipped).sum()), f) if f else None,
        memorised=share(int(memorised.sum()), f) if f else None,
        other=share(kept, f) if f else None,
        accuracy=share(int(right.sum()), n),
    )


def flip_rate(resampled: float, classes: int) -> float:
    """Share of labels that differ after a share was drawn anew from all classes evenly: some land where they were.

    >>> round(flip_rate(0.2, 10), 12)
    0.18
    """
    if not 0 <= resampled <= 1 or classes < 2:
        raise ValueError(f"resampled must lie in 0 to 1 with 2 classes or more, got {resampled} and {classes}")
    return resampled * (classes - 1) / classes


def flip_labels(labels: Tensor, rate: float, classes: int, generator: torch.Generator) -> Tensor:
    """Each label replaced with probability ``rate`` by another class, evenly: symmetric noise of exactly that rate."""
    if not 0 <= rate <= 1 or classes < 2:
        raise ValueError(f"rate must lie in 0 to 1 with 2 classes or more, got {rate} and {classes}")
    n = len(labels)
    chosen = torch.rand(n, generator=generator) < rate
    shift = torch.randint(1, classes, (n,), generator=generator)
    return torch.where(chosen, (labels.cpu() + shift) % classes, labels.cpu())


def confident_joint(labels: Any, probabilities: Any) -> Floats:
    """Estimated P(label i, true class j), shape (K, K), calibrated to the label counts.

    Row i, column j counts rows labelled i whose probability of j is at least the mean probability of j among rows
    labelled j (the most probable such class when several are). Counts of each row are then scaled to the label's share.
    """
    y, p = _judged(labels, probabilities)
    confident, n = _confident(y, p), len(y)
    k = p.shape[1]
    counts = np.zeros((k, k))
    for i, j in zip(y[confident >= 0], confident[confident >= 0], strict=True):
        counts[i, j] += 1
    sizes = np.bincount(y, minlength=k)
    for i in range(k):
        if counts[i].sum() == 0:
            counts[i, i] = 1  # nothing was confident: nothing speaks against these labels
    return np.asarray(counts / counts.sum(1, keepdims=True) * sizes[:, None] / n)


def _confident(y: NDArray[np.int64], p: Floats) -> NDArray[np.int64]:
    """The class each row surely is, -1 where none passes its threshold."""
    k = p.shape[1]
    limits = np.array([p[y == j, j].mean() if (y == j).any() else np.inf for j in range(k)])
    passing = np.where(p >= limits - 1e-12, p, -1.0)
    best = passing.argmax(1)
    return np.where(passing.max(1) >= 0, best, -1)


def transition_matrix(labels: Any, probabilities: Any, *, method: str = "confident") -> Floats:
    """T[i, j] = P(label j | true class i), shape (K, K), rows adding up to 1.

    Parameters
    ----------
    labels, probabilities
        Given labels (n,) and probabilities (n, K) of a model of these labels that did not see the rows.
    method
        ``"confident"``: columns of the confident joint, normalised. ``"anchor"``: the probabilities at a row that is
        surely of class i (its 97 % quantile), which needs such rows and calibrated probabilities.
    """
    y, p = _judged(labels, probabilities)
    k = p.shape[1]
    if method == "confident":
        joint = confident_joint(y, p).T  # true class first
        total = joint.sum(1, keepdims=True)
        return np.where(total > 0, joint / np.where(total > 0, total, 1), np.eye(k))
    if method != "anchor":
        raise ValueError(f"method must be 'confident' or 'anchor', got {method!r}")
    rows = [int(np.argsort(p[:, i], kind="stable")[max(0, math.ceil(ANCHOR * len(p)) - 1)]) for i in range(k)]
    return np.asarray(p[rows] / p[rows].sum(1, keepdims=True))


def suspected_labels(labels: Any, probabilities: Any) -> NDArray[np.int64]:
    """Rows whose label is probably wrong, most suspicious first.

    A row is flagged when it is confidently of another class than its label and that class is also its most probable;
    the order is by the probability of the label less the largest other.
    """
    y, p = _judged(labels, probabilities)
    sure = _confident(y, p)
    flagged = np.flatnonzero((sure >= 0) & (sure != y) & (p.argmax(1) != y))
    own = p[flagged, y[flagged]]
    others = p[flagged].copy()
    others[np.arange(len(flagged)), y[flagged]] = -1
    return np.asarray(flagged[np.argsort(own - others.max(1), kind="stable")])


def backward_correction(transition: Any) -> Floats:
    """T⁻¹: the losses of all labels times it are, on average over noisy labels, the losses of the true ones.

    >>> backward_correction([[0.8, 0.2], [0.3, 0.7]]).round(9).tolist()
    [[1.4, -0.4], [-0.6, 1.6]]
    """
    t = _transition(transition)
    if np.linalg.cond(t) > 1e8:
        raise ValueError("the transition matrix cannot be inverted: two classes get labels alike; join them")
    return np.asarray(np.linalg.inv(t))


def backward_loss(logits: Float[Tensor, "n k"], labels: Tensor, transition: Any) -> Float[Tensor, " n"]:
    """Cross-entropy corrected backward; unbiased for the clean loss, may be negative."""
    weights = torch.from_numpy(backward_correction(transition)).to(logits)
    losses = -torch.log_softmax(logits, 1) @ weights.T
    return losses.gather(1, labels[:, None])[:, 0]


def forward_loss(logits: Float[Tensor, "n k"], labels: Tensor, transition: Any) -> Float[Tensor, " n"]:
    """Cross-entropy of the labels under the network's probabilities passed through the noise; its minimiser is the
    network of the clean labels.
    """
    t = torch.from_numpy(_transition(transition)).to(logits)
    noisy = torch.logsumexp(torch.log_softmax(logits, 1)[:, :, None] + t.log(), dim=1)
    return -noisy.gather(1, labels[:, None])[:, 0]


def symmetry_gap(
    loss: Callable[[Tensor, Tensor], Tensor], classes: int, generator: torch.Generator, draws: int = 200
) -> float:
    """Spread of Σ_k loss(logits, k) over random logits, relative to its mean: 0 for losses that tolerate even noise.

    Symmetric noise below (K - 1) / K does not move the minimiser of a loss with a constant sum (mean absolute error of
    the probabilities); cross-entropy has none.
    """
    if classes < 2 or draws < 2:
        raise ValueError(f"2 classes and 2 draws at least are needed, got {classes} and {draws}")
    logits = 3 * torch.randn(draws, classes, generator=generator, dtype=torch.float64)
    sums = torch.stack([loss(logits, torch.full((draws,), k)) for k in range(classes)]).sum(0)
    return float((sums.max() - sums.min()) / sums.abs().mean())


def _judged(labels: Any, probabilities: Any) -> tuple[NDArray[np.int64], Floats]:
    y = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
    p = np.asarray(probabilities.cpu() if isinstance(probabilities, Tensor) else probabilities, dtype=np.float64)
    if p.ndim != 2 or y.shape != (len(p),) or not len(p):
        raise ValueError(f"labels must have shape (n,) and probabilities (n, classes), got {y.shape} and {p.shape}")
    if not np.isfinite(p).all() or (p < -1e-9).any() or np.abs(p.sum(1) - 1).max() > 1e-4:
        raise ValueError("probabilities must be at least 0 and add up to 1 in each row; give softmax outputs")
    if y.min() < 0 or y.max() >= p.shape[1]:
        raise ValueError(f"labels must be classes from 0 to {p.shape[1] - 1}, got {y.min()} to {y.max()}")
    return y.astype(np.int64), p


def _transition(transition: Any) -> Floats:
    t = np.asarray(transition, dtype=np.float64)
    if t.ndim != 2 or t.shape[0] != t.shape[1] or (t < -1e-12).any() or np.abs(t.sum(1) - 1).max() > 1e-6:
        raise ValueError(f"a transition matrix is square with rows of probabilities, got shape {t.shape}")
    return t
