"""Contrastive bounds: how much mutual information does a matrix of scores prove?

Method   InfoNCE: ln N minus the cross-entropy of finding one's partner among N; Donsker-Varadhan and NWJ beside it
Source   van den Oord, Li, Vinyals (2018), arXiv:1807.03748; Poole et al. (2019), ICML; NWJ: Nguyen et al. (2010)
Assumes  rows and columns are N independent pairs; the scores were not fitted to these pairs
Breaks   InfoNCE never exceeds ln N; DV and NWJ can, with a variance that grows exponentially with the information
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ._matrices import real_rows

SATURATED = 0.9  # of ln N: above, the bound says more about N than about the pairs


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """What a score matrix proves, in nats. The bounds hold on average over draws of the pairs, not for each.

    Attributes
    ----------
    loss
        InfoNCE: mean over rows of -s_ii + ln sum_j exp s_ij; not negative.
    bound
        ln N - loss, a lower bound of the mutual information that is at most ``ceiling``; negative when the scores are
        worse than none.
    ceiling
        ln N, with N candidates: the partner and N - 1 others.
    saturated
        Whether the bound reached 90 % of its ceiling.
    donsker_varadhan, nwj
        The two single-sample bounds, with off-diagonal pairs as independent ones. Donsker-Varadhan is a bound in the
        limit only: the log of a sample mean is biased.
    """

    loss: float
    bound: float
    ceiling: float
    saturated: bool
    donsker_varadhan: float
    nwj: float


def infonce(scores: Tensor) -> Contrast:
    """Bounds from ``scores`` (N, N): row i scores its candidates, its partner on the diagonal.

    >>> found = infonce(torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0], [1.0, 0.0, 1.0]]))
    >>> round(found.loss, 6), round(found.bound, 6)
    (0.454841, 0.643771)

    Raises
    ------
    ValueError
        Scores that are not a square matrix of at least 2 finite rows.
    """
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1]:
        raise ValueError(f"scores must be square, one row and one column per pair, got shape {tuple(scores.shape)}")
    s = real_rows(scores, "scores")
    n = len(s)
    loss = float((s.logsumexp(1) - s.diagonal()).mean())
    off = s[~torch.eye(n, dtype=torch.bool)]
    paired, log_mean = float(s.diagonal().mean()), float(off.logsumexp(0)) - math.log(len(off))
    ceiling = math.log(n)
    return Contrast(
        loss=loss,
        bound=ceiling - loss,
        ceiling=ceiling,
        saturated=ceiling - loss >= SATURATED * ceiling,
        donsker_varadhan=paired - log_mean,
        nwj=paired - math.exp(log_mean - 1) if log_mean < 700 else -math.inf,
    )


def contrastive_scores(first: Tensor, second: Tensor, temperature: float = 0.1) -> Tensor:
    """Cosines of two views' embeddings (N, d) over ``temperature``, as `infonce` takes them."""
    a, b = real_rows(first, "first"), real_rows(second, "second")
    if a.shape != b.shape:
        raise ValueError(f"two views need embeddings of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    if not temperature > 0:
        raise ValueError(f"the temperature must be positive, got {temperature}")
    if bool((a.norm(dim=1) == 0).any() | (b.norm(dim=1) == 0).any()):
        raise ValueError("an embedding is zero and has no direction; remove those rows")
    return torch.nn.functional.normalize(a, dim=1) @ torch.nn.functional.normalize(b, dim=1).T / temperature
