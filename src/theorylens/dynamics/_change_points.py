"""Change points of a training loss: where did its course break off, beyond what noise does?

Method   the loss is held against one smooth law of decay (`smooth_law`) with AR(1) noise; the place at which a jump
         and a change of slope lower the squared error most is accepted when the gain exceeds what simulations of that
         law with its noise give; then the next place, with those accepted kept
Source   supremum tests for breaks: Andrews (1993), Econometrica 61:821; one after the other: Bai, Perron (1998),
         Econometrica 66:47; sequential p-values: Besag, Clifford (1991), Biometrika 78:301
Assumes  noise of log loss that is stationary up to a slowly changing scale, first-order correlated
Breaks   fewer than about 40 records; gradual changes; a law of decay that is none of the family
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ._break_search import BreakSearch
from ._loss_slope import LEAST, Slope, loss_slope
from ._smooth_law import Floats, smooth_law

FEWEST = 10  # records
BINS = 120  # longer records are averaged in this many stretches


@dataclass(frozen=True, kw_only=True, eq=False)
class ChangePoints:
    """Where the course of a loss changes.

    Attributes
    ----------
    steps
        First step of each new phase, ascending; empty when one smooth law with noise describes the whole record.
    p_values
        Of each, given the changes accepted before it.
    next_p_value
        Of the best further candidate, which was not accepted; 1 when none was left or large enough.
    correlation
        Of the noise of one record (or stretch) with the next, corrected for its bias.
    phases
        Slope of the loss over the step in each phase (log-linear), None where a phase has fewer than 8 records or the
        losses are not all positive.
    resolution
        Steps that one averaged stretch holds: a change is placed no more finely.
    at, fitted
        Steps and losses of the law with its changes, for drawing; shape (n,).
    """

    steps: tuple[int, ...]
    p_values: tuple[float, ...]
    next_p_value: float
    correlation: float
    phases: tuple[Slope | None, ...]
    resolution: float
    at: Floats
    fitted: Floats


def change_points(
    steps: NDArray[np.int64] | Sequence[int],
    losses: Floats | Sequence[float],
    *,
    level: float = 0.05,
    most: int = 6,
    simulations: int = 199,
    seed: int = 0,
) -> ChangePoints:
    """Change points of a loss over training, with p-values; none on noise and on a plain decay.

    Parameters
    ----------
    steps, losses
        Shape (n,): steps strictly increasing. Positive losses are judged on their logarithm.
    level
        Largest probability of a change where there is none.
    most
        Stop after this many.
    simulations
        Of the law with its noise, per change.
    seed
        Of the simulations.

    Raises
    ------
    ValueError
        Different lengths, fewer than 10 records, losses that are not finite numbers, steps out of order.

    >>> t = np.arange(120)
    >>> change_points(t, np.exp(-t / 40)).steps
    ()
    """
    x, y, logarithm = _checked(np.asarray(steps), np.asarray(losses, dtype=np.float64))
    if not 0 < level < 1 or most < 1 or simulations < 1 / level - 1:
        raise ValueError(
            f"level must lie between 0 and 1, most be at least 1 and simulations at least 1/level - 1, "
            f"got {level}, {most} and {simulations}"
        )
    edges = np.linspace(0, len(x), min(BINS, len(x)) + 1).round().astype(int)
    middle, height = (np.add.reduceat(v, edges[:-1]) / np.diff(edges) for v in (x, y))
    unit = (middle - middle[0]) / (middle[-1] - middle[0])
    law = smooth_law(unit, height, logarithm=logarithm)
    search = BreakSearch(unit, height - law.fitted, law.directions, 1.0 if logarithm else float(np.ptp(height)))
    search.run(level, most, simulations, np.random.default_rng(seed))
    places = sorted(search.places)
    order = np.argsort(search.places)
    starts = [int(x[edges[i]]) for i in places]
    shown = law.fitted + search.explained()
    return ChangePoints(
        steps=tuple(starts),
        p_values=tuple(search.p_values[i] for i in order),
        next_p_value=search.next_p_value,
        correlation=search.correlation,
        phases=_phases(x, np.asarray(losses, dtype=np.float64), [0, *(int(edges[i]) for i in places), len(x)]),
        resolution=float(np.diff(edges).mean() * np.diff(x).mean()),
        at=middle,
        fitted=np.exp(shown) if logarithm else shown,
    )


def _checked(steps: NDArray[np.int64], losses: Floats) -> tuple[Floats, Floats, bool]:
    if steps.shape != losses.shape or steps.ndim != 1:
        raise ValueError(f"steps and losses must be two lists of one length, got {steps.shape} and {losses.shape}")
    if len(steps) < FEWEST:
        raise ValueError(f"change points need at least {FEWEST} records, got {len(steps)}; record the loss more often")
    if not (np.diff(steps) > 0).all():
        raise ValueError("steps must be strictly increasing")
    bad = np.flatnonzero(~np.isfinite(losses))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(losses)} losses are not finite, the first is {losses[bad[0]]} at step "
            f"{steps[bad[0]]}; cut the record where the run diverged"
        )
    logarithm = bool((losses > 0).all())
    return steps.astype(np.float64), np.log(losses) if logarithm else losses, logarithm


def _phases(x: Floats, losses: Floats, bounds: list[int]) -> tuple[Slope | None, ...]:
    def slope(first: int, last: int) -> Slope | None:
        piece = losses[first:last]
        if last - first < LEAST or not (piece > 0).all() or np.ptp(piece) == 0:
            return None
        return loss_slope(x[first:last], piece, scale="log-linear")

    return tuple(slope(a, b) for a, b in pairwise(bounds))
