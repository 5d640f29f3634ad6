"""How fast a loss falls, window by window, and the power law it follows.

Method   in each window a line through ln(L - L_inf) with an interval for correlated noise (`loss_slope`); over the
         whole record L = L_inf + a t^(-b) by least squares on log loss with AR(1) noise, whose errors come from the
         whitened derivatives
Assumes  for the power law: one law throughout (`change_points` looks), multiplicative noise of stationary scale
Breaks   the floor is not identified while the loss is far above it: its interval then starts at 0
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import least_squares

from theorylens.results import Curve, Estimate, Line, Message, Statistical, Unknown

from ._loss_slope import LEAST, LEVEL, Floats, Slope, loss_slope

HALF = 0.5
FLAT = 1e-9  # a loss that varies by less than this share of itself has no power


@dataclass(frozen=True, kw_only=True, eq=False)
class LearningSpeed:
    """Speed of learning along training: minus the slope of ln(L - floor) per step.

    Attributes
    ----------
    steps
        Middle of each window; shape (w,).
    speeds, lower, upper
        Rate per step with its 95 % limits; NaN limits where a window has fewer than 8 records. Above 0 the loss falls.
    """

    steps: Floats
    speeds: Floats
    lower: Floats
    upper: Floats

    @property
    def fastest(self) -> float:
        """The step in the middle of the fastest window."""
        return float(self.steps[int(self.speeds.argmax())])

    @property
    def mean(self) -> float:
        return float(self.speeds.mean())

    @property
    def final(self) -> float:
        return float(self.speeds[-1])

    @property
    def slowdown(self) -> float | None:
        """The first step after the fastest window at which the speed is below half of it; None while it lasts."""
        top = int(self.speeds.argmax())
        slow = np.flatnonzero(self.speeds[top:] < HALF * self.speeds[top])
        return float(self.steps[top + int(slow[0])]) if len(slow) else None

    def curve(self) -> Curve:
        """Speed over the steps with its band."""
        lower, upper = (self.lower, self.upper) if np.isfinite(self.lower).all() else (None, None)
        name = Message("dynamics.speed.line", "rate per step")
        line = Line(x=self.steps, y=self.speeds, lower=lower, upper=upper, name=name)
        return Curve(
            label=Message("dynamics.speed", "How fast the loss fell, window by window"),
            lines=(line,),
            x_name=Message("dynamics.speed.x", "step"),
            y_name=Message("dynamics.speed.y", "rate per step"),
        )


def learning_speed(
    steps: NDArray[np.int64] | Sequence[int], losses: Floats | Sequence[float], window: int, *, floor: float = 0.0
) -> LearningSpeed:
    """Rate of decay of a loss in windows of ``window`` records, each moved by half a window.

    Parameters
    ----------
    steps, losses
        Shape (n,), n above ``window``; losses above ``floor``.
    floor
        L_inf, what the loss tends to: 0, or that of `loss_power_law`.

    Raises
    ------
    ValueError
        A record no longer than the window, a window below 2, losses that are not finite or not above ``floor``.
    """
    x, y = _pair(steps, losses)
    if window < 2:
        raise ValueError(f"a window needs at least 2 records for a slope, got {window}")
    if len(x) <= window:
        raise ValueError(f"the record has {len(x)} losses, needed are more than the window of {window}")
    if not (y > floor).all():
        at = int(np.flatnonzero(~(y > floor))[0])
        raise ValueError(f"all losses must lie above the floor {floor:g}; at step {x[at]:.0f} it is {y[at]:g}")
    starts = range(0, len(x) - window + 1, max(1, window // 2))
    fits = [loss_slope(x[i : i + window], y[i : i + window] - floor, scale="log-linear") for i in starts]
    limits = [_limits(fit) for fit in fits]
    return LearningSpeed(
        steps=np.array([float(x[i : i + window].mean()) for i in starts]),
        speeds=np.array([-fit.estimate.value for fit in fits]),
        lower=np.array([low for low, _ in limits]),
        upper=np.array([high for _, high in limits]),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class LossPowerLaw:
    """L(t) = floor + factor t^(-exponent).

    Attributes
    ----------
    floor, factor, exponent
        With intervals at 95 %.
    correlation
        Of the noise from one record to the next.
    steps, losses
        The record it was fitted to.
    """

    floor: Estimate
    factor: Estimate
    exponent: Estimate
    correlation: float
    steps: Floats
    losses: Floats

    def at(self, t: float) -> float:
        """The law at step ``t``: beyond the record an extrapolation, and no interval covers a law that ends."""
        return float(self.floor.value + self.factor.value * t**-self.exponent.value)

    def curve(self) -> Curve:
        """The record with the law."""
        law = np.array([self.at(t) for t in self.steps])
        return Curve(
            label=Message("dynamics.power", "The loss and the power law fitted to it"),
            lines=(
                Line(x=self.steps, y=self.losses, name=Message("dynamics.power.run", "loss")),
                Line(x=self.steps, y=law, name=Message("dynamics.power.law", "power law"), role="theory"),
            ),
            x_name=Message("dynamics.power.x", "step"),
            y_name=Message("dynamics.power.y", "loss"),
            x_log=True,
            y_log=True,
        )


def loss_power_law(steps: NDArray[np.int64] | Sequence[int], losses: Floats | Sequence[float]) -> LossPowerLaw:
    """Fit L = floor + factor t^(-exponent) to a record of positive losses at positive steps.

    Raises
    ------
    ValueError
        Fewer than 8 records, losses or steps that are not positive, or a loss that does not vary.

    >>> t = np.arange(1, 200)
    >>> round(loss_power_law(t, 0.3 + 2.0 * t**-0.7).exponent.value, 6)
    0.7
    """
    x, y = _pair(steps, losses)
    if len(x) < LEAST:
        raise ValueError(f"a power law with a floor needs at least {LEAST} records, got {len(x)}")
    if not ((y > 0).all() and (x > 0).all()):
        raise ValueError("a power law needs positive losses at positive steps; leave step 0 out")
    if np.ptp(y) <= FLAT * y.max():
        raise ValueError(f"the loss stays at {y[0]:g}, so no power can be told from any other")
    log_x, log_y = np.log(x), np.log(y)
    rho = 0.0
    best = _fit(log_x, log_y, rho, _start(log_x, log_y, float(y.min())))
    for _ in range(2):
        left = _misfit(best, log_x, log_y)
        total = float(left[:-1] @ left[:-1])
        raw = float(left[1:] @ left[:-1]) / total if total > 1e-24 * len(x) else 0.0
        rho = min(0.99, max(0.0, raw + (3 + 4 * raw) / len(x))) if total > 1e-24 * len(x) else 0.0
        best = _fit(log_x, log_y, rho, best)
    return _law(best, log_x, log_y, rho, x, y)


def _law(best: Floats, log_x: Floats, log_y: Floats, rho: float, x: Floats, y: Floats) -> LossPowerLaw:
    """Intervals from the whitened derivatives; the floor by its own, cut at 0."""
    root, log_factor, exponent = (float(v) for v in best)
    jacobian = _white(_derivatives(best, log_x), rho)
    left = _white(_misfit(best, log_x, log_y), rho)
    free = len(x) - 3
    effective = max(3.0, free * (1 - rho) / (1 + rho))
    inverse = np.linalg.pinv(jacobian.T @ jacobian)
    errors = [float(e) for e in np.sqrt(np.maximum(np.diag(inverse), 0) * float(left @ left) / free)]
    times = float(stats.t.ppf((1 + LEVEL) / 2, effective))
    method = Message("dynamics.power.interval", "whitened least squares with AR(1) noise, linearised")
    unidentified = root**2 <= 1e-6 * float(y.min())

    def estimate(value: float, low: float, high: float) -> Estimate:
        if not (math.isfinite(low) and math.isfinite(high)):
            why = Message("dynamics.power.unidentified", "the record does not tell this from other values")
            return Estimate(value=value, uncertainty=Unknown(why=why))
        return Estimate(value=value, uncertainty=Statistical(lower=low, upper=high, level=LEVEL, method=method))

    # d floor = 2 root d root: at a floor of zero the linearised error vanishes, so the error is taken of the floor.
    floor_error = times * (errors[0] * 2 * root if not unidentified else math.inf)
    spread = times * errors[1]
    return LossPowerLaw(
        floor=estimate(root**2, max(0.0, root**2 - floor_error), root**2 + floor_error),
        factor=estimate(math.exp(log_factor), math.exp(log_factor - spread), math.exp(min(log_factor + spread, 700.0))),
        exponent=estimate(exponent, exponent - times * errors[2], exponent + times * errors[2]),
        correlation=rho, steps=x, losses=y,
    )  # fmt: skip


def _model(p: Floats, log_x: Floats) -> Floats:
    return np.asarray(p[0] ** 2 + np.exp(np.clip(p[1] - p[2] * log_x, -700, 700)))


def _misfit(p: Floats, log_x: Floats, log_y: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(_model(p, log_x), 1e-300)) - log_y)


def _derivatives(p: Floats, log_x: Floats) -> Floats:
    model = _model(p, log_x)
    falling = np.exp(np.clip(p[1] - p[2] * log_x, -700, 700)) / model
    return np.stack([2 * p[0] / model, falling, -log_x * falling], axis=1)


def _white(columns: Floats, rho: float) -> Floats:
    return np.concatenate([math.sqrt(1 - rho**2) * columns[:1], columns[1:] - rho * columns[:-1]])


def _start(log_x: Floats, log_y: Floats, lowest: float) -> Floats:
    """The best of some floors, each with the line through what lies above it."""
    tries = []
    for share in (0.0, 0.3, 0.6, 0.8, 0.9, 0.97):
        above = np.log(np.exp(log_y) - share * lowest)
        slope, at = np.polyfit(log_x, above, 1)
        tries.append(np.array([math.sqrt(max(share * lowest, 1e-6 * lowest)), at, -slope]))
    return min(tries, key=lambda p: float((_misfit(p, log_x, log_y) ** 2).sum()))


def _fit(log_x: Floats, log_y: Floats, rho: float, start: Floats) -> Floats:
    found = least_squares(
        lambda p: _white(_misfit(p, log_x, log_y), rho), start, jac=lambda p: _white(_derivatives(p, log_x), rho),
        method="trf", x_scale="jac", xtol=1e-14, ftol=1e-14, gtol=1e-14, max_nfev=500,
    )  # fmt: skip
    return np.asarray(found.x)


def _limits(fit: Slope) -> tuple[float, float]:
    if isinstance(fit.estimate.uncertainty, Statistical):
        return -fit.estimate.upper, -fit.estimate.lower
    return math.nan, math.nan


def _pair(steps: NDArray[np.int64] | Sequence[int], losses: Floats | Sequence[float]) -> tuple[Floats, Floats]:
    x, y = np.asarray(steps, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"steps and losses must be two lists of one length, got {x.shape} and {y.shape}")
    if not (np.diff(x) > 0).all():
        raise ValueError("steps must be strictly increasing")
    if not np.isfinite(y).all():
        at = int(np.flatnonzero(~np.isfinite(y))[0])
        raise ValueError(f"the loss at step {x[at]:.0f} is {y[at]}; cut the record where the run diverged")
    return x, y
