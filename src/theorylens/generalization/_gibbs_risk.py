"""The empirical risk of a network drawn at random, estimated by draws, with an upper bound that counts them rightly.

Method   mean over draws and examples, Chernoff-kl on the number of independent terms: draws x examples when every
         example has a draw of its own, draws x batches when a batch shares one
Source   Hoeffding (1963), JASA 58:13 (independent terms need not have the same mean); Langford, Caruana (2002), NeurIPS
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from theorylens.numerics.relative_entropy import kl_inverse

Score = Callable[[Tensor], Tensor]
"""``score(rows)``: the loss in [0, 1] of each of these examples, by one fresh draw of the network."""


@dataclass(frozen=True, kw_only=True)
class GibbsRisk:
    """Mean loss over draws and examples, and over how many independent terms in [0, 1] it is a mean.

    ``inflation`` is at least 1: with batches of unequal size, a batch counts by its share of the largest, and the mean
    loss is ``inflation`` times the mean of the terms.
    """

    mean: float
    terms: int
    inflation: float = 1.0

    def upper(self, delta: float) -> float:
        """Upper bound on the expected loss on these examples, wrong with probability at most ``delta`` over draws."""
        if not 0 < delta < 1:
            raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")
        mean = self.mean / self.inflation
        if 0 < mean < 1:
            mean = math.nextafter(mean, 1.0)  # the mean itself was rounded
        bound = kl_inverse(mean, math.nextafter(math.log(1 / delta) / self.terms, math.inf))
        return min(1.0, math.nextafter(bound * self.inflation, math.inf))


def gibbs_risk(score: Score, examples: int, *, draws: int, batch: int, by_example: bool) -> GibbsRisk:
    """Score ``examples`` rows ``draws`` times, all rows equally often.

    Parameters
    ----------
    score
        See `Score`; it draws with torch's global random state.
    batch
        Most rows that are scored together. With ``by_example`` it decides nothing but memory; otherwise a batch shares
        one draw and is one term, so small batches give more terms.

    Raises
    ------
    ValueError
        No example, draw or batch; a loss outside [0, 1] or not a number.
    """
    return gibbs_risks(score, examples, draws=draws, batch=batch, by_example=by_example)[0]


def gibbs_risks(
    score: Score, examples: int, *, draws: int, batch: int, by_example: bool, measured: int = 1
) -> tuple[GibbsRisk, ...]:  # fmt: skip
    """As `gibbs_risk` for several losses of the same draws: ``score(rows)`` returns shape (rows, measured)."""
    if examples < 1 or draws < 1 or batch < 1:
        raise ValueError(f"at least one example, draw and batch is needed, got {examples}, {draws}, {batch}")
    parts = torch.arange(examples).tensor_split(-(-examples // batch))
    sums: list[list[float]] = [[] for _ in range(measured)]
    for _ in range(draws):
        for rows in parts:
            losses = score(rows).double().reshape(len(rows), -1)
            if losses.shape[1] != measured or not bool(((losses >= 0) & (losses <= 1)).all()):
                raise ValueError(f"one loss in [0, 1] is needed for each of {len(rows)} examples")
            for found, total in zip(sums, losses.sum(0).tolist(), strict=True):
                found.append(total)
    means = [math.fsum(found) / (draws * examples) for found in sums]
    if by_example:
        return tuple(GibbsRisk(mean=mean, terms=draws * examples) for mean in means)
    largest = max(map(len, parts))
    inflation = largest * len(parts) / examples
    return tuple(GibbsRisk(mean=mean, terms=draws * len(parts), inflation=inflation) for mean in means)
