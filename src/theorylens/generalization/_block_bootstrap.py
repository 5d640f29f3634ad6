"""An interval for the mean of errors that come one after another and depend on their neighbours in time.

Method   resampling of blocks of consecutive errors, the length of a block from the data; percentiles, stretched as
         Student's t stretches the normal because only about n / block blocks are independent
Source   Kunsch (1989), Ann. Statist. 17:1217 (moving blocks); Politis, Romano (1994), JASA 89:1303 (stationary);
         Politis, White (2004), Econometric Reviews 23:53, corrected by Patton, Politis, White (2009), 28:372 (length)
Assumes  the sequence is stationary (no drift), dependence dies out within a small part of it
Breaks   with fewer than some tens of independent stretches, under drift or seasons longer than a block; it is an
         approximation for large n, never a certificate
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from theorylens.results import Estimate, Message, Statistical, Unknown

from ._asked import probability, whole

Floats = NDArray[np.float64]
Blocks = Literal["stationary", "circular", "moving"]
CHUNK = 1 << 22  # indices drawn at once
FEWEST = 8  # blocks below which percentiles mean nothing


@dataclass(frozen=True, kw_only=True)
class BlockBootstrap:
    """The mean with its interval, the (mean) length of the blocks, and the standard error they give."""

    estimate: Estimate
    block: float
    standard_error: float


def block_bootstrap(
    errors: Any, *, block: float | None = None, blocks: Blocks = "stationary", draws: int = 2000,
    generator: torch.Generator, delta: float = 0.05,
) -> BlockBootstrap:  # fmt: skip
    """Mean of ``errors`` in their order in time, with an interval that allows for dependence between neighbours.

    Parameters
    ----------
    errors
        One number per example in the order in which the examples came, shape (n,).
    block
        Length of a block; by default `block_length`. 1 treats the examples as independent.
    blocks
        ``"stationary"``: lengths are geometric with mean ``block``, on a circle; ``"circular"``: fixed lengths on a
        circle; ``"moving"``: fixed lengths, not across the ends.
    draws, generator
        Resamples, drawn from ``generator``.
    delta
        Both sides together. The interval is approximate: of 2,000 errors at a rate of 0.1 to 0.3 that depend like an
        autoregression with coefficient up to 0.8 it covers 91 % or more at delta = 0.05 (the tests hold it); 1,000
        errors at a rate of 0.05 and coefficient 0.8 are too few (89 %). `holdout_bound` with ``units=`` is exact where
        the dependent stretches are known.

    Returns
    -------
    `BlockBootstrap`; the uncertainty is unknown where fewer than `FEWEST` blocks fit or all errors are equal.

    Raises
    ------
    ValueError
        Fewer than 2 errors, values that are not finite, a block outside [1, n], an unknown kind of blocks.

    >>> rng = torch.Generator().manual_seed(0)
    >>> found = block_bootstrap([0, 0, 0, 1, 1, 0, 0, 0] * 50, generator=rng)
    >>> found.estimate.lower < 0.25 < found.estimate.upper
    True
    """
    x = _sequence(errors)
    n, draws, delta = len(x), whole("draws", draws, 100), probability("delta", delta)
    if blocks not in ("stationary", "circular", "moving"):
        raise ValueError(f"blocks must be 'stationary', 'circular' or 'moving', got {blocks!r}")
    length = block_length(x, blocks=blocks) if block is None else float(block)
    if not 1 <= length <= n:
        raise ValueError(f"a block holds between 1 and all {n} errors, got {block}")
    mean = math.fsum(x) / n
    if n / length < FEWEST or (x == x[0]).all():
        text = "{n} errors in blocks of {block:.3g}, {distinct} values: too few independent stretches for an interval"
        why = Message("bootstrap.few", text, n=n, block=length, distinct=len(np.unique(x)))
        return BlockBootstrap(
            estimate=Estimate(value=mean, uncertainty=Unknown(why=why)), block=length, standard_error=math.nan
        )
    means = np.sort(_resampled(x - mean, length, blocks, draws, generator))
    means -= means.mean()  # moving blocks favour the middle; the others only lose their sampling error here
    # Percentiles, stretched: the spread itself is known from about n / length blocks only.
    stretch = stats.t.ppf(1 - delta / 2, n / length - 1) / stats.norm.ppf(1 - delta / 2)
    # Cutting into blocks loses dependence across the cuts; the spectrum at 0 does not, so the larger spread is taken.
    spread = float(means.std(ddof=1))
    lost = max(1.0, math.sqrt(max(0.0, _spectrum(x)[1]) / n) / spread) if block is None else 1.0
    stretch *= lost
    low, high = np.quantile(means, [delta / 2, 1 - delta / 2]) * stretch
    inside = (x >= 0).all() and (x <= 1).all()
    text = "{blocks} block bootstrap, blocks of about {block:.3g}, stretched by Student's t; approximate"
    method = Message("method.block_bootstrap", text, blocks=blocks, block=length)
    ends = Statistical(
        lower=max(0.0, mean + low) if inside else mean + low, upper=min(1.0, mean + high) if inside else mean + high,
        level=1 - delta, method=method,
    )  # fmt: skip
    return BlockBootstrap(estimate=Estimate(value=mean, uncertainty=ends), block=length, standard_error=spread * lost)


def block_length(errors: Any, *, blocks: Blocks = "stationary") -> float:
    """Length of blocks that makes the variance of the resampled mean most accurate, estimated from the sequence.

    (2 G^2 / D)^(1/3) n^(1/3) with G = sum l(k/M) |k| R(k) and D = c (sum l(k/M) R(k))^2, R the autocovariances, l a
    window that is flat up to 1/2, M twice the lag beyond which correlations vanish in the noise; c = 2 for stationary,
    4/3 for fixed blocks. Between 1 and min(3 sqrt(n), n/3).

    >>> block_length([0, 1] * 50 + [1, 0] * 50) >= 1
    True
    """
    x = _sequence(errors)
    n = len(x)
    most = max(1.0, min(3 * math.sqrt(n), n / 3))
    slope, spectrum = _spectrum(x)
    constant = (2.0 if blocks == "stationary" else 4 / 3) * spectrum**2
    if slope == 0:
        return 1.0
    if spectrum <= 0:
        return most
    return float(min(most, max(1.0, (2 * slope**2 / constant) ** (1 / 3) * n ** (1 / 3))))


def _spectrum(x: Floats) -> tuple[float, float]:
    """Windowed sums of |k| R(k) and of R(k) over all lags k; the latter is n times the variance of the mean."""
    n = len(x)
    centred = x - x.mean()
    variance = float(centred @ centred) / n
    quiet, last = max(5, math.ceil(math.sqrt(math.log10(n)))), math.ceil(math.sqrt(n))
    last = min(last + quiet, n - 1)
    if variance == 0:
        return 0.0, 0.0
    covariance = np.array([float(centred[: n - k] @ centred[k:]) / n for k in range(last + 1)])
    silent = np.abs(covariance[1:] / variance) < 2 * math.sqrt(math.log10(n) / n)
    window = min(2 * _lag(silent, quiet), last)
    k = np.arange(1, window + 1)
    weight = np.minimum(1.0, 2 * (1 - k / window)) if window > 1 else np.ones(window)
    slope = 2 * float((weight * k * covariance[k]).sum())
    return slope, variance + 2 * float((weight * covariance[k]).sum())


def _lag(silent: NDArray[np.bool_], quiet: int) -> int:
    """Smallest lag m after which ``quiet`` correlations in a row are within the noise; the last loud one if none is."""
    for m in range(len(silent) - quiet + 1):
        if silent[m : m + quiet].all():
            return m
    loud = np.flatnonzero(~silent)
    return int(loud[-1]) + 1 if len(loud) else 1


def _resampled(x: Floats, length: float, blocks: str, draws: int, generator: torch.Generator) -> Floats:
    """Means of ``draws`` resamples of the centred sequence."""
    n = len(x)
    found = []
    for start in range(0, draws, size := max(1, CHUNK // n)):
        count = min(size, draws - start)
        if blocks == "stationary":
            rows = _stationary(n, length, count, generator)
        else:
            rows = _fixed(n, round(length), count, generator, wrap=blocks == "circular")
        found.append(x[rows].mean(1))
    return np.concatenate(found)


def _stationary(n: int, length: float, draws: int, generator: torch.Generator) -> NDArray[np.int64]:
    """At every position a new block begins with chance 1 / length; else the next index on the circle follows."""
    begins = torch.rand((draws, n), generator=generator, dtype=torch.float64).numpy() < 1 / length
    begins[:, 0] = True
    starts = torch.randint(n, (draws, n), generator=generator).numpy()
    position = np.arange(n)
    since = np.maximum.accumulate(np.where(begins, position, 0), axis=1)  # where the block in force began
    return np.asarray((np.take_along_axis(starts, since, 1) + position - since) % n)


def _fixed(n: int, length: int, draws: int, generator: torch.Generator, *, wrap: bool) -> NDArray[np.int64]:
    many = -(-n // length)
    starts = torch.randint(n if wrap else n - length + 1, (draws, many, 1), generator=generator).numpy()
    return np.asarray((starts + np.arange(length)).reshape(draws, -1)[:, :n] % n)


def _sequence(errors: Any) -> Floats:
    x = np.asarray(errors, dtype=np.float64)
    if x.ndim != 1 or len(x) < 2 or not np.isfinite(x).all():
        raise ValueError(f"a sequence is a list of at least 2 finite numbers in their order in time, got {x.shape}")
    return x
