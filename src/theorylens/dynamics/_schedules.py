"""Learning-rate schedules: each is a function of the step and a torch scheduler that follows it.

Source   Loshchilov, Hutter (2017), SGDR, ICLR (cosine, restarts); Goyal et al. (2017), arXiv:1706.02677 (warm-up);
         Hu et al. (2024), MiniCPM, arXiv:2404.06395 (warm-up, stable, decay); Defazio et al. (2023),
         arXiv:2310.07831 (linear decay to zero)
Breaks   a finite schedule has no value after its end: torch's cosine would rise again there, ours refuses
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    SequentialLR,
    StepLR,
)

Build = Callable[[Optimizer], LRScheduler]


@dataclass(frozen=True, kw_only=True, eq=False)
class Schedule:
    """A learning rate over the steps (or epochs) 0, 1, 2 ... of training.

    Attributes
    ----------
    name
        What it is, for reports.
    horizon
        The last step that has a learning rate; None when it goes on for ever.
    """

    name: str
    horizon: int | None
    _value: Callable[[int, float], float]
    _pieces: tuple[tuple[int, Build], ...]  # torch's schedulers with the steps at which they take over

    def at(self, t: int, lr: float) -> float:
        """Learning rate at step ``t`` when ``lr`` is the one it starts from (or warms up to).

        Raises
        ------
        ValueError
            ``t`` below 0 or after the end, ``lr`` not positive.
        """
        if not (math.isfinite(lr) and lr > 0):
            raise ValueError(f"lr must be a positive number, got {lr}")
        if t < 0:
            raise ValueError(f"the step must be zero or more, got {t}")
        if self.horizon is not None and t > self.horizon:
            raise ValueError(
                f"the {self.name} schedule ends at step {self.horizon}, asked was step {t}; plan a longer one"
            )
        return self._value(t, lr)

    def scheduler(self, optimizer: Optimizer) -> LRScheduler:
        """The torch scheduler: call ``step()`` once per step of this schedule."""
        starts, builds = zip(*self._pieces, strict=True)
        built = [build(optimizer) for build in builds]
        return built[0] if len(built) == 1 else SequentialLR(optimizer, built, milestones=list(starts[1:]))


def constant() -> Schedule:
    """The same learning rate throughout."""
    return Schedule(
        name="constant", horizon=None, _value=lambda t, lr: lr,
        _pieces=((0, lambda optimizer: ConstantLR(optimizer, factor=1.0, total_iters=0)),),
    )  # fmt: skip


def step_decay(every: int, factor: float = 0.1) -> Schedule:
    """``lr * factor ** (t // every)``, through `torch.optim.lr_scheduler.StepLR`.

    >>> round(step_decay(30).at(75, lr=0.1), 9)
    0.001
    """
    _at_least_one("every", every)
    _share("factor", factor)
    return Schedule(
        name="step decay", horizon=None, _value=lambda t, lr: lr * factor ** (t // every),
        _pieces=((0, lambda optimizer: StepLR(optimizer, step_size=every, gamma=factor)),),
    )  # fmt: skip


def exponential_decay(gamma: float) -> Schedule:
    """``lr * gamma ** t``, through `torch.optim.lr_scheduler.ExponentialLR`."""
    _share("gamma", gamma)
    return Schedule(
        name="exponential decay", horizon=None, _value=lambda t, lr: lr * gamma**t,
        _pieces=((0, lambda optimizer: ExponentialLR(optimizer, gamma=gamma)),),
    )  # fmt: skip


def cosine_annealing(horizon: int, *, lowest: float = 0.0) -> Schedule:
    """From lr to ``lowest`` along half a cosine in ``horizon`` steps; asked for more, it refuses.

    >>> round(cosine_annealing(100).at(50, lr=0.1), 9)
    0.05
    """
    _at_least_one("horizon", horizon)
    _not_negative("lowest", lowest)
    return Schedule(
        name="cosine", horizon=horizon,
        _value=lambda t, lr: lowest + (lr - lowest) * (1 + math.cos(math.pi * t / horizon)) / 2,
        _pieces=((0, lambda optimizer: _EndingCosine(optimizer, T_max=horizon, eta_min=lowest)),),
    )  # fmt: skip


def cosine_restarts(first: int, *, growth: int = 1, lowest: float = 0.0) -> Schedule:
    """Cosine cycles that start again from lr: the first of ``first`` steps, each ``growth`` times the one before."""
    _at_least_one("first", first)
    _at_least_one("growth", growth)
    _not_negative("lowest", lowest)

    def value(t: int, lr: float) -> float:
        length = first
        while t >= length:
            t, length = t - length, length * growth
        return lowest + (lr - lowest) * (1 + math.cos(math.pi * t / length)) / 2

    return Schedule(
        name="cosine with restarts", horizon=None, _value=value,
        _pieces=((0, lambda o: CosineAnnealingWarmRestarts(o, T_0=first, T_mult=growth, eta_min=lowest)),),
    )  # fmt: skip


def linear_to_zero(horizon: int) -> Schedule:
    """``lr * (1 - t / horizon)``."""
    _at_least_one("horizon", horizon)
    return Schedule(
        name="linear to zero", horizon=horizon, _value=lambda t, lr: lr * (1 - t / horizon),
        _pieces=((0, lambda optimizer: LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=horizon)),),
    )  # fmt: skip


def warmup(length: int, then: Schedule) -> Schedule:
    """``lr * (t + 1) / length`` for ``length`` steps, then another schedule from its beginning.

    >>> round(warmup(10, cosine_annealing(90)).at(5, lr=0.1), 9)
    0.06
    """
    if length < 0:
        raise ValueError(f"the warm-up must take zero steps or more, got {length}")
    if length == 0:
        return then
    rise = Schedule(
        name="warm-up", horizon=length - 1, _value=lambda t, lr: lr * (t + 1) / length,
        _pieces=((0, lambda optimizer: LinearLR(optimizer, start_factor=1 / length, total_iters=max(1, length - 1))),),
    )  # fmt: skip
    return followed(rise, length, then)


def warmup_stable_decay(rise: int, stable: int, decay: int) -> Schedule:
    """Warm-up, a constant stretch, then linear to zero (the "WSD" schedule)."""
    _at_least_one("stable", stable)
    return warmup(rise, followed(constant(), stable, linear_to_zero(decay)))


def followed(first: Schedule, after: int, then: Schedule) -> Schedule:
    """``first`` for ``after`` steps, then ``then`` from its beginning; through `SequentialLR`."""
    _at_least_one("after", after)
    if first.horizon is not None and after > first.horizon + 1:
        raise ValueError(f"the {first.name} schedule has steps 0 to {first.horizon}, so it cannot fill {after} steps")

    # Flat, because one SequentialLR cannot be a part of another.
    pieces = [(start, build) for start, build in first._pieces if start < after]
    pieces += [(after + start, build) for start, build in then._pieces]
    return Schedule(
        name=f"{first.name}, then {then.name}",
        horizon=None if then.horizon is None else after + then.horizon,
        _value=lambda t, lr: first.at(t, lr) if t < after else then.at(t - after, lr),
        _pieces=tuple(pieces),
    )


class _EndingCosine(CosineAnnealingLR):
    """Torch's cosine, which refuses the steps after its end instead of rising again."""

    def get_lr(self) -> list[float]:  # type: ignore[override]
        if self.last_epoch > self.T_max:
            raise ValueError(
                f"the cosine schedule ends at step {self.T_max}, asked was step {self.last_epoch}; plan a longer one"
            )
        return [float(lr) for lr in super().get_lr()]


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def _share(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"{name} must lie above 0 and be at most 1, got {value}")


def _not_negative(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be zero or more, got {value}")
