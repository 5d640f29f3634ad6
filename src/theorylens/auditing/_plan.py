"""From a budget to a plan: which probes, at which rung, decided once before anything runs."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from theorylens.core import Probe, Subject, Work
from theorylens.numerics import NoSecondDerivativeError
from theorylens.numerics.memory import to_device
from theorylens.numerics.objective import Objective

from ._probes import HEADLINE_CODE

SHARE = 0.9  # of the budget is planned; the rest is for the report and for estimates that run over
HVP_IN_GRADIENTS = 2.5  # at most: 1.4 was measured for dense layers, 2.5 for convolutions (research of 2026-11)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Seconds per example for a forward, a gradient and a Hessian product, and per floating-point operation."""

    forward: float
    gradient: float
    hvp: float
    flop: float

    def seconds(self, work: Work) -> float:
        passes = work.forwards * self.forward + work.gradients * self.gradient + work.hvps * self.hvp
        return passes + work.flops * self.flop + work.seconds


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What runs. ``rungs`` holds the number of draws of each planned probe (0 when it samples nothing)."""

    rungs: Mapping[str, int]
    seconds: Mapping[str, float] = field(default_factory=dict)  # estimated, for every selected probe
    shuffled: bool = False

    @property
    def total(self) -> float:
        return sum(self.seconds[code] for code in self.rungs)


def parse_budget(budget: str | float | None) -> float | None:
    """Seconds from ``"60s"``, ``"5m"``, ``"1.5h"`` or a number; None is no limit.

    Raises
    ------
    ValueError
        When the text is not a positive time.
    """
    if budget is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h)?\s*", str(budget))
    seconds = float(match[1]) * {None: 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if not seconds > 0:
        raise ValueError(f"cannot read the budget {budget!r}; give a time such as '60s', '5m' or '1h'")
    return seconds


def measure_speed(subject: Subject) -> Speed:
    """Time one batch forwards, its gradient, a Hessian product and a matrix product; about a second in all."""
    if subject.model is None:
        return Speed(forward=1e-7, gradient=1e-7, hvp=1e-7, flop=_flop_time())
    split = subject.split(subject.roles[0])
    n = min(len(split), subject.batch_size)
    batch = to_device(split.take(range(n)), subject.device)

    def forward() -> None:
        with torch.no_grad():
            subject.judged.loss_sum(subject.net, batch)

    objective = Objective(subject.net, [batch], subject.judged.loss_sum, subject.judged.mean)
    with subject.studied():
        per_forward = _time(forward) / n
        if not any(p.requires_grad for p in subject.net.parameters()):
            return Speed(forward=per_forward, gradient=2 * per_forward, hvp=5 * per_forward, flop=_flop_time())
        per_gradient = _time(lambda: objective.gradient()) / n
        per_product = _product_time(objective) / n
    # A busy machine slows one timing and not the other: the ratio stays where it was ever seen.
    hvp = min(max(per_product, per_gradient), HVP_IN_GRADIENTS * per_gradient)
    return Speed(forward=per_forward, gradient=per_gradient, hvp=hvp, flop=_flop_time())


def _product_time(objective: Objective) -> float:
    """Seconds of a product as an iteration makes it, with its graph kept; infinite where there is none."""
    curvature = objective.hessian()
    direction = torch.ones(curvature.size, dtype=curvature.dtype, device=curvature.device)
    try:
        return _time(lambda: curvature.matvec(direction))
    except NoSecondDerivativeError:
        return math.inf


def _time(run: Callable[[], object]) -> float:
    run()
    spent = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
        if sum(spent) > 1.0:
            break
    return min(spent)  # a busy machine makes some of them slow, none of them fast


def _flop_time() -> float:
    a = torch.ones(384, 384, dtype=torch.float64)
    return _time(lambda: a @ a) / (2 * 384**3)


def make_plan(subject: Subject, probes: Sequence[Probe], budget: float | None, speed: Speed) -> Plan:
    """Choose probes and rungs: everything at its top rung without a budget.

    With one, the headline is in; the others join from the cheapest at their first rung while they fit, and what is left
    raises rungs, cheapest step first.
    """
    able = [p for p in probes if p.missing(subject) is None]
    if budget is None:
        rungs = {p.code: (p.rungs[-1] if p.rungs else 0) for p in able}
        return Plan(rungs=rungs, seconds={p.code: _estimate(subject, p, rungs[p.code], speed) for p in able})
    first = {p.code: (p.rungs[0] if p.rungs else 0) for p in able}
    seconds = {p.code: _estimate(subject, p, first[p.code], speed) for p in able}
    left, rungs = SHARE * budget, {}
    for p in sorted(able, key=lambda p: (p.code != HEADLINE_CODE, seconds[p.code])):
        if p.code == HEADLINE_CODE or seconds[p.code] <= left:
            rungs[p.code] = first[p.code]
            left -= seconds[p.code]
    while step := _cheapest_step(subject, able, rungs, seconds, speed, left):
        code, rung, cost = step
        left -= cost - seconds[code]
        rungs[code], seconds[code] = rung, cost
    return Plan(rungs={p.code: rungs[p.code] for p in able if p.code in rungs}, seconds=seconds)


def _cheapest_step(
    subject: Subject, able: Sequence[Probe], rungs: Mapping[str, int], seconds: Mapping[str, float], speed: Speed,
    left: float,
) -> tuple[str, int, float] | None:  # fmt: skip
    steps = []
    for p in able:
        higher = [r for r in p.rungs if p.code in rungs and r > rungs[p.code]]
        if higher:
            cost = _estimate(subject, p, higher[0], speed)
            if cost - seconds[p.code] <= left:
                steps.append((cost - seconds[p.code], p.code, higher[0], cost))
    if not steps:
        return None
    _, code, rung, cost = min(steps)
    return code, rung, cost


def _estimate(subject: Subject, p: Probe, rung: int, speed: Speed) -> float:
    return speed.seconds(p.cost(subject, rung or None))
