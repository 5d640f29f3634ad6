"""How far the weights can be moved before the training error rises by a tenth: the flatness of PAC-Bayes measures.

Method   the standard deviation at which the mean error over normal draws has risen by ``rise``, sought in its
         logarithm with the same draws throughout; the worst case with signed-gradient ascent in place of draws
Source   Jiang, Neyshabur, Mobahi, Krishnan, Bengio (2020), ICLR, appendix; Neyshabur et al. (2017), NeurIPS
Assumes  a task with an error per example; noise of standard deviation s, not s squared, on every weight
Breaks   an error that does not rise by ``rise`` within the range tried (a factor 2^±31 around 0.1)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from scipy import stats
from torch import Tensor, nn

from theorylens.core import RefusedError, Split, Task, modules_in_training, rng_for
from theorylens.landscape import Displaced
from theorylens.numerics import Batch, Objective, to_device
from theorylens.numerics.root_search import level_crossing
from theorylens.results import Enclosure, Estimate, Message, Statistical

Scale = Literal["absolute", "weight"]
FIRST, SPAN = 0.1, 2.0**31  # where the search begins, and how far from there it looks
LEVEL = 0.95
RISE = 0.1  # of the error, as in Jiang et al.


def tolerated_noise(
    model: nn.Module, data: Any, loss: Any, *, rise: float = RISE, scale: Scale = "weight", draws: int = 16,
    seed: int = 0, batch_size: int = 1024,
) -> Estimate:  # fmt: skip
    """Standard deviation of normal noise on the weights under which the mean error rises by ``rise``.

    Parameters
    ----------
    model, data, loss
        As in `landscape.expected_sharpness`; the task must have an error (classification has).
    rise
        Of the mean error over the data, above that of the network itself; between 0 and 1.
    scale
        ``"weight"``: noise in units of each weight's size (magnitude-aware); ``"absolute"``: the same for all weights.
    draws, seed
        Of the noise, at least 2.

    Returns
    -------
    The standard deviation, with all those at which a Student's t interval at 95 % for the mean rise holds ``rise``.
    PAC-Bayes measures are its inverse square: large where little noise is tolerated.

    Raises
    ------
    RefusedError
        A module in training mode, a task without error, or an error that no noise in the range tried raises so far.
    ValueError
        A rise outside (0, 1) or fewer than 2 draws.
    """
    if not 0 < rise < 1 or draws < 2:
        raise ValueError(f"needed are a rise between 0 and 1 and at least 2 draws, got {rise} and {draws}")
    rises = _Rises(model, data, loss, rise, scale, draws, seed, batch_size)
    t = float(stats.t.ppf((1 + LEVEL) / 2, draws - 1))
    value, lower, upper = (rises.crossing(k) for k in (0.0, t, -t))
    method = Message("tolerated_noise.method", "Student's t over {draws} draws of the noise, inverted", draws=draws)
    interval = Statistical(lower=min(lower, value), upper=max(upper, value), level=LEVEL, method=method)
    return Estimate(value=value, uncertainty=interval)


def tolerated_noise_value(
    model: nn.Module, data: Any, loss: Any, *, scale: Scale, draws: int, seed: int = 0
) -> float:  # fmt: skip
    """`tolerated_noise` without its interval, at a third of the cost."""
    return _Rises(model, data, loss, RISE, scale, draws, seed, 1024).crossing(0.0)


class _Rises:
    """By how much noise of a size raises the error, mean over draws and its standard error."""

    def __init__(
        self, model: nn.Module, data: Any, loss: Any, rise: float, scale: Scale, draws: int, seed: int, batch_size: int
    ) -> None:  # fmt: skip
        self.rise, self.around = rise, error_around(model, data, loss, batch_size)
        size = _sizes(self.around, scale)
        generator = rng_for(seed, "generalization.tolerated_noise")
        self.noise = [torch.randn(self.around.size, generator=generator).to(size) * size for _ in range(draws)]
        self.known: dict[float, tuple[float, float]] = {}

    def at(self, deviation: float) -> tuple[float, float]:
        if deviation not in self.known:
            rises = [self.around.loss(deviation * z) - self.around.base for z in self.noise]
            n, mean = len(rises), math.fsum(rises) / len(rises)
            spread = math.fsum((r - mean) ** 2 for r in rises) / (n - 1) / n if n > 1 else math.nan
            self.known[deviation] = mean, math.sqrt(spread)
        return self.known[deviation]

    def crossing(self, errors: float) -> float:
        """Where the rise plus ``errors`` standard errors passes what is allowed."""
        return _crossing(lambda d: self.at(d)[0] + (errors * self.at(d)[1] if errors else 0.0), self.rise)


def tolerated_perturbation(
    model: nn.Module, data: Any, loss: Any, *, rise: float = RISE, scale: Scale = "weight", steps: int = 3,
    batch_size: int = 1024,
) -> Estimate:  # fmt: skip
    """Largest entry of a perturbation that raises the error by ``rise``, in units of ``scale``, from above.

    The perturbation is sought by ``steps`` signed-gradient ascents of the loss inside the box |v_i| <= a |w_i| (or a);
    there may be worse ones, so the true number is at most the one given. Arguments and errors as `tolerated_noise`.
    """
    if not 0 < rise < 1 or steps < 1:
        raise ValueError(f"needed are a rise between 0 and 1 and at least 1 step, got {rise} and {steps}")
    around = error_around(model, data, loss, batch_size)
    size = _sizes(around, scale)
    ascent = Displaced(_objective(model, data, loss, batch_size, error=False))

    def rises(at: float) -> float:
        place, worst = torch.zeros_like(size), -math.inf
        for k in range(steps):
            slope = ascent.gradient(place) * size
            stride = at * (1.0 if k == 0 else 2.0 / (k + 1))  # to the corner at first, then less and less
            ends = torch.where(size > 0, place / size.clamp(min=1e-30), 0.0) + stride * slope.sign()
            place = ends.clamp(-at, at) * size
            worst = max(worst, around.loss(place))
        return worst - around.base

    value = _crossing(rises, rise)
    why = Message("tolerated_noise.ascent", "found by {steps} steps of ascent; a worse one may be smaller", steps=steps)
    return Estimate(value=value, uncertainty=Enclosure(lower=0.0, upper=value, why=why))


def _crossing(rises: Callable[[float], float], rise: float) -> float:
    found = level_crossing(rises, rise, FIRST)
    if not found:  # none, or wherever one looks
        raise RefusedError(
            f"no noise between {FIRST / SPAN:.1g} and {FIRST * SPAN:.1g} raises the error by exactly {rise:g}: a "
            "network that answers at random has none to lose; give a smaller rise"
        )
    return found


def error_around(model: nn.Module, data: Any, loss: Any, batch_size: int) -> Displaced:
    return Displaced(_objective(model, data, loss, batch_size, error=True))


def _objective(model: nn.Module, data: Any, loss: Any, batch_size: int, *, error: bool) -> Objective:
    """The mean loss, or the mean error, as a function of the parameters."""
    if noisy := modules_in_training(model):
        raise RefusedError(f"{', '.join(noisy)} is in training mode, so the error is noisy; call model.eval()")
    split, device = Split.of(data), next(p.device for p in model.parameters())
    given = loss if isinstance(loss, Task) else Task(loss=loss)
    task = given.settled(model, to_device(split.take(range(min(len(split), 32))), device))
    measured = task.error
    if measured is None:
        raise RefusedError("the task has no error that could rise; give Task(error=...)")

    def error_sum(network: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        wrong = measured(*task.forward(network, batch)).double()
        return wrong.sum(), torch.ones_like(wrong).sum()

    batches = list(split.batches(batch_size))
    return Objective(model, batches, error_sum if error else task.loss_sum, True)


def _sizes(around: Displaced, scale: str) -> Tensor:
    if scale not in ("absolute", "weight"):
        raise ValueError(f"scale must be 'absolute' or 'weight', got {scale!r}")
    return around.here.abs() if scale == "weight" else torch.ones_like(around.here)
