"""One number that makes confidences honest: divide the scores by a temperature.

Method   maximum likelihood in the inverse temperature (a convex problem), interval by likelihood ratio
Source   Guo, Pleiss, Sun, Weinberger (2017), ICML
Assumes  scores before the softmax, from rows that served for nothing else
Breaks   on the test split: what was fitted there cannot be judged there
"""

from __future__ import annotations

import math

import torch
from scipy.optimize import brentq
from scipy.stats import chi2
from torch import Tensor

from theorylens.results import Estimate, Message, Statistical

RANGE = (1e-3, 1e3)  # of inverse temperatures; beyond, the answer is "no confidence at all" or "full confidence"


def temperature(scores: Tensor, targets: Tensor, *, level: float = 0.95) -> Estimate:
    """Temperature T that minimises the mean cross-entropy of ``scores / T``.

    Parameters
    ----------
    scores
        Before the softmax, shape (n, classes), or (n,) for one logit.
    targets
        Class numbers, shape (n,).
    level
        Of the likelihood-ratio interval.

    Raises
    ------
    ValueError
        Shapes that do not fit, scores that are not finite, no row.
    """
    if scores.ndim not in (1, 2) or targets.ndim != 1 or len(scores) != len(targets) or not len(targets):
        raise ValueError(
            "scores (n, classes) or (n,) and targets (n,) are needed, "
            f"got shapes {tuple(scores.shape)} and {tuple(targets.shape)}"
        )
    if not bool(torch.isfinite(scores).all()):
        raise ValueError("scores must be finite; the temperature divides them")
    s = scores.double()
    s = torch.stack([torch.zeros_like(s), s], 1) if s.ndim == 1 else s
    chosen = s.gather(1, targets.long()[:, None])[:, 0]

    def slope(inverse: float) -> float:
        """Derivative of the total cross-entropy in the inverse temperature; it increases."""
        return float(((torch.softmax(inverse * s, 1) * s).sum(1) - chosen).sum())

    def loss(inverse: float) -> float:
        return float((torch.logsumexp(inverse * s, 1) - inverse * chosen).sum())

    low, high = RANGE
    trouble = None
    if slope(high) <= 0:
        best, text = high, "every answer is right, or nearly: no temperature is small enough; give rows with errors"
        trouble = Message("temperature.none", text)
    elif slope(low) >= 0:
        best, text = low, "scores do not go with the targets at all: no temperature is large enough"
        trouble = Message("temperature.useless", text)
    else:
        best = float(brentq(slope, low, high, xtol=1e-12, rtol=1e-12))
    allowed = loss(best) + float(chi2.ppf(level, 1)) / 2

    def above(inverse: float) -> float:
        return loss(inverse) - allowed

    upper = float(brentq(above, best, high)) if best < high and above(high) > 0 else math.inf
    lower = float(brentq(above, low, best)) if best > low and above(low) > 0 else 0.0
    method = Message("method.likelihood_ratio", "likelihood ratio")
    ends = Statistical(
        lower=0.0 if math.isinf(upper) else 1 / upper, upper=math.inf if lower == 0 else 1 / lower,
        level=level, method=method,
    )  # fmt: skip
    return Estimate(value=1 / best, uncertainty=ends, trouble=trouble)
