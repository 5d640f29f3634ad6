"""Dynamics that are known exactly: linear models mode by mode, and two-layer linear networks.

Method   gradient flow or gradient descent on least squares decouples in the eigenvectors of the Hessian; what is signal
         and what is noise can be told apart there, and only there, without approximation
Source   Saxe, McClelland, Ganguli (2014), ICLR (two layers); Advani, Saxe, Sompolinsky (2020), Neural Networks 132:428
Assumes  squared loss, a model linear in its parameters, noise that is white with a known variance, start at zero
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from theorylens.results import Curve, Line, Message

Floats = NDArray[np.float64]


def mode_residual(eigenvalue: float, time: float) -> float:
    """Share of a mode's error that gradient flow has left after ``time``: exp(-λ t).

    >>> round(mode_residual(4.0, 1.0), 8)
    0.01831564
    """
    if eigenvalue < 0 or time < 0:
        raise ValueError(f"eigenvalue and time must be zero or more, got {eigenvalue} and {time}")
    return math.exp(-eigenvalue * time)


def two_layer_mode(strength: float, initial: float, time: float) -> float:
    """Strength of one mode of a two-layer linear network after ``time`` (in units of τ), from a small ``initial``.

    a(t) = s e^{2st} / (e^{2st} - 1 + s / a0) for balanced weights and whitened inputs: a plateau, then a sigmoidal
    rise, the stronger modes first. This is what makes learning stage-like without any threshold.

    Raises
    ------
    ValueError
        ``strength`` or ``initial`` not positive, a negative time.

    >>> round(two_layer_mode(2.0, 0.01, 1.0), 6)
    0.430588
    """
    _positive(strength, initial)
    if time < 0:
        raise ValueError(f"time must be zero or more, got {time}")
    return strength / (1 + math.exp(-2 * strength * time) * (strength / initial - 1))


def half_learning_time(strength: float, initial: float) -> float:
    """When `two_layer_mode` reaches half its strength: ln(s / a0 - 1) / (2 s), in units of τ."""
    _positive(strength, initial)
    if initial >= strength / 2:
        raise ValueError(f"the mode starts at {initial}, beyond half of {strength} already")
    return math.log(strength / initial - 1) / (2 * strength)


@dataclass(frozen=True, kw_only=True, eq=False)
class ModeCourse:
    """Expected excess risk of a linear model along training, mode by mode.

    Attributes
    ----------
    times
        Steps, or time of gradient flow; shape (t,).
    eigenvalues
        Of X'X / n, largest first; shape (p,).
    bias, variance
        Signal not yet learnt and noise learnt already, per mode; shape (t, p). Their sum over modes is
        E |X (w_t - w*)|² / n.
    """

    times: Floats
    eigenvalues: Floats
    bias: Floats
    variance: Floats

    @property
    def risk(self) -> Floats:
        """Bias plus variance over all modes, shape (t,)."""
        return np.asarray((self.bias + self.variance).sum(1))

    @property
    def best(self) -> float:
        """The time at which the expected risk is lowest: where early stopping should stop."""
        return float(self.times[int(self.risk.argmin())])

    def curve(self) -> Curve:
        """Bias, variance and their sum over time."""
        names = (
            (self.bias.sum(1), Message("dynamics.modes.bias", "signal not yet learnt")),
            (self.variance.sum(1), Message("dynamics.modes.variance", "noise learnt")),
            (self.risk, Message("dynamics.modes.risk", "both")),
        )
        return Curve(
            label=Message("dynamics.modes", "Expected excess risk of a linear model along training"),
            lines=tuple(Line(x=self.times, y=y, name=name, role="theory") for y, name in names),
            x_name=Message("dynamics.modes.x", "time"),
            y_name=Message("dynamics.modes.y", "excess risk"),
        )


def mode_course(
    x: Float[Tensor, "n p"],
    truth: Float[Tensor, " p"],
    noise: float,
    times: Floats,
    *,
    lr: float | None = None,
) -> ModeCourse:
    """Exact expected course of least squares from zero, over noise in the targets y = x w* + ε.

    Parameters
    ----------
    x, truth, noise
        Inputs, the weights that generate the targets, standard deviation of ε.
    times
        Times of gradient flow on |Xw - y|² / (2n), or numbers of steps when ``lr`` is given.
    lr
        Step of gradient descent; None for gradient flow.

    Raises
    ------
    ValueError
        Shapes that do not fit, negative noise or times, an ``lr`` at which gradient descent diverges.
    """
    n, p = x.shape
    if truth.shape != (p,):
        raise ValueError(f"truth must have one weight for each of {p} inputs, got shape {tuple(truth.shape)}")
    when = np.asarray(times, dtype=np.float64)
    if noise < 0 or when.ndim != 1 or (when < 0).any():
        raise ValueError("noise must be zero or more, and times one list of numbers that are zero or more")
    inputs = x.detach().double().cpu()
    values, vectors = torch.linalg.eigh(inputs.T @ inputs / n)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    rates = values.numpy()
    if lr is not None and not 0 < lr * float(rates[0]) <= 2:
        raise ValueError(f"lr must lie above 0 and be at most 2 / {float(rates[0]):.3g}, got {lr}; beyond it diverges")
    left = np.exp(-np.outer(when, rates)) if lr is None else (1 - lr * rates) ** when[:, None]
    signal = (vectors.T @ truth.detach().double().cpu()).numpy() ** 2
    learnt = (1 - left) ** 2 * (noise**2 / n) * (rates > 1e-12 * rates[0])
    return ModeCourse(times=when, eigenvalues=rates, bias=rates * signal * left**2, variance=learnt)


def residual_modes(residuals: Float[Tensor, "t n"], eigenvectors: Float[Tensor, "n k"]) -> Float[Tensor, "t k"]:
    """Share of each eigenvector in the residuals of a real run, |v' r_t| / |v' r_0|.

    With the tangent kernel's eigenvectors (squared loss), a kernel-regime run follows exp(-λ t) in each column;
    where it does not, the network has left that regime.

    Raises
    ------
    ValueError
        Shapes that do not fit, or a mode that the first residual does not contain.
    """
    if residuals.ndim != 2 or eigenvectors.ndim != 2 or residuals.shape[1] != eigenvectors.shape[0]:
        raise ValueError(
            f"residuals (t, n) and eigenvectors (n, k) must share n, got {tuple(residuals.shape)} and "
            f"{tuple(eigenvectors.shape)}"
        )
    parts = (residuals.double() @ eigenvectors.double()).abs()
    empty = torch.nonzero(parts[0] < 1e-12 * parts[0].max()).flatten()
    if len(empty):
        raise ValueError(f"mode {int(empty[0])} has no share in the first residual, so its decay is not defined")
    return parts / parts[0]


def _positive(strength: float, initial: float) -> None:
    if not (strength > 0 and initial > 0):
        raise ValueError(f"strength and initial must be positive, got {strength} and {initial}")
