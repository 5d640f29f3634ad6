"""One smooth law of decay: what a loss looks like over training when nothing happens.

L(t) = c + a (1 + t/s)^(-b): a mixture of exponentials whose rates are gamma distributed, down to a floor. A plain
exponential (b and s large together), a power law (s small) and a constant are special cases, and a loss that rises by
the same law (b below 0) too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

Floats = NDArray[np.float64]
POLISHED = 4  # starting points that are followed to the end
SCALES = np.geomspace(1e-3, 30.0, 10)  # s as a share of the run
POWERS = np.array([-1.0, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0])
FLOORS = np.array([0.0, 0.6, 0.95])  # c as a share of the lowest loss
STEEPEST = 300.0  # beyond this power the law is an exponential to four digits


@dataclass(frozen=True, kw_only=True, eq=False)
class SmoothLaw:
    """The law fitted to log losses (or to the losses themselves where some are not positive).

    Attributes
    ----------
    fitted
        Its values at the records, in the units of the fit; shape (n,).
    directions
        Orthonormal columns that span its first-order changes, the constant among them; shape (n, at most 4).
    """

    fitted: Floats
    directions: Floats


def smooth_law(x: Floats, y: Floats, *, logarithm: bool) -> SmoothLaw:
    """Least squares of ``y`` (log losses when ``logarithm``) on the law, over x scaled to run from 0 to 1."""
    with np.errstate(all="ignore"):  # a start that overflows loses
        starts = sorted(_starts(x, y, logarithm), key=lambda s: s[0])[:POLISHED]
    found = [least_squares(_gap, start, args=(x, y, logarithm), method="trf", x_scale="jac") for _, start in starts]
    best = min(found, key=lambda f: f.cost)
    jacobian = np.concatenate([np.asarray(best.jac), np.ones((len(x), 1))], axis=1)
    return SmoothLaw(fitted=_law(best.x, x, logarithm), directions=span(jacobian))


def span(columns: Floats) -> Floats:
    """Orthonormal columns of the same span, directions that are rounding left out."""
    scaled = columns / np.maximum(np.linalg.norm(columns, axis=0), 1e-300)
    u, s, _ = np.linalg.svd(scaled, full_matrices=False)
    return np.asarray(u[:, s > 1e-8 * s[0]])


def _law(parameters: Floats, x: Floats, logarithm: bool) -> Floats:
    """Parameters: log s, b, and log c, log a (``logarithm``) or c, a themselves."""
    log_scale, power, floor, height = parameters
    falling = -power * np.log1p(x * np.exp(-log_scale))
    if not logarithm:
        return np.asarray(floor + height * np.exp(np.clip(falling, -700, 700)))
    return np.asarray(np.logaddexp(floor, height + falling))


def _gap(parameters: Floats, x: Floats, y: Floats, logarithm: bool) -> Floats:
    clipped = parameters.copy()
    clipped[0] = np.clip(clipped[0], -14.0, 8.0)
    clipped[1] = np.clip(clipped[1], -STEEPEST, STEEPEST)
    return _law(clipped, x, logarithm) - y


def _starts(x: Floats, y: Floats, logarithm: bool) -> list[tuple[float, Floats]]:
    """Cost and parameters over a grid of scales and powers, with the height (and the floor) that fits each."""
    found = []
    for scale in SCALES:
        for power in POWERS:
            falling = -power * np.log1p(x / scale)
            if logarithm:
                for share in FLOORS:
                    floor = np.log(share) + y.min() if share > 0 else y.min() - 30
                    above = np.log(np.maximum(np.exp(y) - np.exp(floor), 1e-3 * np.exp(y)))
                    height = float((above - falling).mean())
                    found.append(np.array([np.log(scale), power, floor, height]))
            else:
                design = np.stack([np.ones_like(x), np.exp(np.clip(falling, -700, 50))], axis=1)
                floor, height = np.linalg.lstsq(design, y, rcond=None)[0]
                found.append(np.array([np.log(scale), power, floor, height]))
    costs = [(float((_gap(p, x, y, logarithm) ** 2).sum()), p) for p in found]
    return [(cost, p) for cost, p in costs if np.isfinite(cost)]
