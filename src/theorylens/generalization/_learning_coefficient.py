"""The local learning coefficient: how fast the volume of parameters of nearly the same loss shrinks around a solution.

Method   n b (E L - L(w*)) under exp(-n b L(w) - g |w - w*|^2 / 2), b = 1 / ln n, sampled by Langevin steps with a
         Metropolis correction (so the step size decides speed and not the answer), longer where the loss is flat: along
         the steepest eigenvectors of the Hessian each as long as its own curvature allows
Source   Watanabe (2013), JMLR 14:867 (WBIC); Lau, Murfet, Wei (2023), arXiv:2308.12108; Roberts, Tweedie (1996),
         Bernoulli 2:341 (the sampler)
Assumes  w* at or near a minimum of the loss over these rows; losses that are negative log-likelihoods in nats
Breaks   the pull g hides directions flatter than g / n b; with few steps the chains do not reach all that the target
         holds, which is measured: the mean of (w - w*) . grad U, U the energy, is the number of parameters
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from scipy import stats
from torch import Tensor, nn

from theorylens.core import Task, objective, rng_for
from theorylens.landscape import Displaced
from theorylens.numerics import Hessian, NoSecondDerivativeError, Objective, eigenvalues
from theorylens.results import Estimate, Message, Statistical

TARGET = 0.574  # acceptance at which Langevin steps with correction move fastest in many dimensions
AGREE = 1.1  # ratio of total to within-chain spread (Gelman, Rubin) above which chains have not mixed
REACHED = 0.1  # share of the spread that may be missing before the estimate is in doubt, unless chance explains more
STEEPEST = 20  # eigenvectors of the Hessian along which steps have a length of their own
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class LearningCoefficient:
    """The estimate, and how the sampling went.

    Attributes
    ----------
    estimate
        With its interval over chains.
    accepted
        Share of the steps.
    step
        Size used, in units in which the steepest curvatures are 1.
    mixing
        Ratio of total to within-chain spread, the halves of every chain counting as chains; 1 when they agree.
    reached
        Mean of (w - w*) . grad U over the number of parameters: 1 under the target, below where chains are still on
        their way out.
    """

    estimate: Estimate
    accepted: float
    step: float
    mixing: float
    reached: float


def local_learning_coefficient(
    model: nn.Module,
    data: Any,
    loss: Any,
    *,
    localisation: float = 100.0,
    chains: int = 4,
    steps: int = 300,
    burn_in: int = 200,
    seed: int = 0,
) -> LearningCoefficient:
    """Local learning coefficient of a trained network on its training data, with a 95 % interval over chains.

    For a loss that is quadratic around w* it is half the number of effective parameters at precision ``localisation``
    and inverse temperature 1/ln n; for a singular one it is smaller than half the number of parameters even without
    the pull.

    Parameters
    ----------
    model, data, loss
        As in `landscape.trace`; full-batch gradients are taken, (burn_in + steps) per chain.
    localisation
        g: pull back to w*, positive. It must be small beside n b times the curvature of the directions that shall
        count.
    chains, steps, burn_in
        At least 2 chains; step sizes are fitted during burn-in and fixed afterwards.

    Raises
    ------
    ValueError
        Fewer than 2 chains, no steps, a pull that is not positive, fewer than 3 examples.
    RefusedError
        As in `landscape.trace`.
    """
    if chains < 2 or steps < 2 or burn_in < 1:
        raise ValueError(f"needed are at least 2 chains, 2 steps and a burn-in, got {chains}, {steps}, {burn_in}")
    if not (math.isfinite(localisation) and localisation > 0):
        raise ValueError(f"the localisation must be positive, got {localisation}")
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss))
    n = goal.examples
    if n < 3:
        raise ValueError(f"the temperature 1/ln n needs at least 3 examples, got {n}")
    scale = goal.denominator / math.log(n)  # n b when the loss is a mean over n examples
    around, spread = Displaced(goal), _spread(goal, scale, localisation, seed)
    every = [
        _Chain(around, spread, scale, localisation, rng_for(seed, f"learning coefficient {c}")).run(burn_in, steps)
        for c in range(chains)
    ]
    means = [math.fsum(c.rises) / len(c.rises) * scale for c in every]
    value = math.fsum(means) / chains
    times = float(stats.t.ppf((1 + LEVEL) / 2, chains - 1))
    half = times * math.sqrt(_variance(means) / chains)
    mixing = _mixing([c.rises for c in every])
    outs = [math.fsum(c.outs) / len(c.outs) / around.size for c in every]
    reached = math.fsum(outs) / chains
    chance = times * math.sqrt(_variance(outs) / chains)
    accepted = math.fsum(c.accepted for c in every) / (chains * steps)
    method = Message("generalization.chains", "Student's t over {chains} chains", chains=chains)
    interval = Statistical(lower=value - half, upper=value + half, level=LEVEL, method=method)
    trouble = _trouble(mixing, accepted, value, reached if abs(reached - 1) > max(REACHED, chance) else 1.0)
    return LearningCoefficient(
        estimate=Estimate(value=value, uncertainty=interval, trouble=trouble), accepted=accepted, step=every[0].step,
        mixing=mixing, reached=reached,
    )  # fmt: skip


def _mixing(every: list[list[float]]) -> float:
    """Of the halves of the chains, so that a chain on its way somewhere shows against itself."""
    middle = len(every[0]) // 2
    halves = [part for c in every for part in (c[:middle], c[-middle:])] if middle > 1 else every
    within = math.fsum(map(_variance, halves)) / len(halves)
    between = _variance([math.fsum(h) / len(h) for h in halves])
    return math.sqrt(1 + between / within) if within > 0 else math.inf


def _trouble(mixing: float, accepted: float, value: float, reached: float) -> Message | None:
    if not mixing <= AGREE:
        text = "chains differ by more than they move (ratio {mixing:.3g}); raise steps and burn_in"
        return Message("generalization.chains.mixing", text, mixing=mixing)
    if accepted < 0.1:
        text = "only {accepted:.1%} of the steps were accepted; raise burn_in, in which the step size is fitted"
        return Message("generalization.chains.accepted", text, accepted=accepted)
    if reached != 1:
        text = (
            "the chains reached about {reached:.0%} of the spread that the target has; raise steps and burn_in, or the "
            "localisation"
        )
        return Message("generalization.chains.reached", text, reached=reached)
    if value < 0:
        text = "the loss falls around the parameters, so they are no minimum; train to convergence first"
        return Message("generalization.chains.negative", text)
    return None


@dataclass(frozen=True, eq=False)
class _Spread:
    """A symmetric matrix S: places are S u, and in u the target is about as wide in every direction that is known."""

    vectors: Tensor  # (k, p), orthonormal
    along: Tensor  # (k,): standard deviation of the target along each
    rest: float

    def __call__(self, u: Tensor) -> Tensor:
        parts = self.vectors @ u
        return self.rest * u + self.vectors.T @ ((self.along - self.rest) * parts)


def _spread(goal: Objective, scale: float, pull: float, seed: int) -> _Spread:
    """From the steepest curvatures at the solution. It decides how fast chains move, not where they go."""
    k, plain = min(goal.size, STEEPEST), 1 / math.sqrt(pull)
    nothing = _Spread(torch.zeros(0, goal.size, dtype=torch.float64), torch.zeros(0, dtype=torch.float64), plain)
    try:
        found = eigenvalues(
            Hessian(goal), k, tolerance=0.1, vectors=True, generator=rng_for(seed, "learning coefficient curvature")
        )  # fmt: skip
    except NoSecondDerivativeError:
        return nothing
    levels = torch.as_tensor(found.values).double()
    if found.vectors is None or not bool(torch.isfinite(levels).all()):
        return nothing
    vectors = torch.linalg.qr(torch.as_tensor(found.vectors).double().cpu().T).Q.T
    along = (scale * levels.clamp(min=0) + pull).rsqrt()
    return _Spread(vectors, along, float(along.max()))


class _Chain:
    """One chain of Langevin proposals with Metropolis correction; places in units of `_Spread`."""

    def __init__(
        self, around: Displaced, spread: _Spread, scale: float, pull: float, generator: torch.Generator
    ) -> None:  # fmt: skip
        self.around, self.spread, self.scale, self.pull, self.generator = around, spread, scale, pull, generator
        self.place = torch.zeros(around.size, dtype=torch.float64)
        self.rise, self.slope = 0.0, self._slope(self.place, around.gradient(self.place))
        self.step = min(1.0, around.size ** (-1 / 3))  # how it shrinks with dimension; burn-in fits it
        self.accepted = 0
        self.rises: list[float] = []
        self.outs: list[float] = []

    def run(self, burn_in: int, steps: int) -> _Chain:
        for i in range(burn_in):
            share = self._advance()
            self.step *= math.exp((share - TARGET) * 2 / math.sqrt(i + 1))  # Robbins-Monro
        for _ in range(steps):
            before = self.place
            self._advance()
            self.accepted += self.place is not before
            self.rises.append(self.rise)
            self.outs.append(float(self.place @ self.slope))
        return self

    def _advance(self) -> float:
        """Propose and perhaps move; the probability with which it moved."""
        noise = torch.randn(len(self.place), generator=self.generator, dtype=torch.float64)
        there = self.place - self.step / 2 * self.slope + math.sqrt(self.step) * noise
        moved = self.around.objective(self.spread(there))
        rise = moved.value - self.around.base
        if not math.isfinite(rise):
            return 0.0
        slope = self._slope(there, moved.gradient())
        back = self.place - there + self.step / 2 * slope
        forth = there - self.place + self.step / 2 * self.slope
        log_ratio = (
            self._energy(self.place, self.rise) - self._energy(there, rise)
            + float(forth @ forth - back @ back) / (2 * self.step)
        )  # fmt: skip
        chance = math.exp(min(0.0, log_ratio)) if math.isfinite(log_ratio) else 0.0
        if float(torch.rand(1, generator=self.generator)) < chance:
            self.place, self.rise, self.slope = there, rise, slope
        return chance

    def _energy(self, place: Tensor, rise: float) -> float:
        return self.scale * rise + self.pull / 2 * float(self.spread(place).square().sum())

    def _slope(self, place: Tensor, gradient: Tensor) -> Tensor:
        return self.spread(self.scale * gradient.double().cpu() + self.pull * self.spread(place))


def _variance(values: list[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)
