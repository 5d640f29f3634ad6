"""Straight pieces of a network between pairs of examples, beside the untrained network."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch.utils import _pytree as pytree

from theorylens.core import RUNGS, Need, Subject, UnsuitableError, Work, controls, probe
from theorylens.numerics.counting import count
from theorylens.results import (
    Assumption,
    Control,
    Curve,
    Estimate,
    Exact,
    Intervals,
    Kind,
    Line,
    Message,
    Result,
    Role,
    Statistical,
    Status,
    Verdict,
)

from ._depth import inputs_of, widths
from ._linear_pieces import NotPiecewiseLinearError, Pieces, linear_pieces

LEVEL = 0.95
TENTHS = 10
WIDEST = 40_000  # activations per example: every kink costs a row of them in float64


@dataclass(frozen=True, eq=False)
class Counted:
    """Pieces along the same segments for one network."""

    found: tuple[Pieces, ...]

    @property
    def mean(self) -> Estimate:
        """Mean over segments, with Student's t; exact when there is one segment or all agree."""
        values = np.array([p.pieces for p in self.found], dtype=float)
        spread = float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
        if spread == 0:
            return Estimate(value=float(values.mean()), uncertainty=Exact(), unit="pieces")
        half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * spread
        method = Message("TL205.interval", "Student's t over {n} pairs of examples", n=len(values))
        mean = float(values.mean())
        return Estimate(
            value=mean, unit="pieces",
            uncertainty=Statistical(lower=max(1.0, mean - half), upper=mean + half, level=LEVEL, method=method),
        )  # fmt: skip

    @property
    def density(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Mean number of bends of a segment in each tenth of it."""
        bends = torch.cat([p.bends for p in self.found]).numpy()
        return np.histogram(bends, bins=TENTHS, range=(0.0, 1.0))[0] / len(self.found)


def judge(found: Estimate, init: Estimate | None) -> tuple[Verdict, Message, Message]:
    """Verdict, reason and reading for the mean number of pieces between two examples."""
    value = found.value
    text = "{value:.1f} straight pieces on average between two examples"
    reason = Message("TL205.found", text, value=value)
    if init is None:
        beside = Message("TL205.alone", "There is no untrained network to compare with.")
    elif found.lower <= init.upper and init.lower <= found.upper:
        text = "The untrained network has {init:.1f}, no different within the error: training explains none of it."
        beside = Message("TL205.same", text, init=init.value)
    elif init.value < value:
        text = "The untrained network has {init:.1f}, so training bent the function more."
        beside = Message("TL205.more", text, init=init.value)
    else:
        text = "The untrained network has {init:.1f}, so training straightened the function."
        beside = Message("TL205.fewer", text, init=init.value)
    text = (
        "{value:.1f} straight pieces on average lead from one example to another, counted exactly; what the"
        " architecture could have at most says nothing about it. {beside}"
    )
    return Verdict.DESCRIPTIVE, reason, Message("TL205.reading", text, value=value, beside=beside)


def _role(subject: Subject) -> str:
    return "test" if subject.test is not None else subject.roles[0]


def _work(subject: Subject, rung: int | None) -> Work:
    if subject.model is None or not subject.roles:
        return Work()
    sizes, lines = widths(subject, _role(subject)), rung or RUNGS[0]
    units = sum(size for name, size in sizes.items() if name in subject.layers)
    if units > WIDEST:
        return Work(forwards=float(lines))
    # About an eighth of all activations is a kink on the way; each operation that bends asks for all of them again.
    passes = 0.125 * units * (1 + len(subject.layers) / 3)
    return Work(forwards=2 * lines * passes, seconds=0.002 * lines) * (2 + (subject.shuffled is not None))


@probe(code="TL205", needs={Need.MODEL}, cost=_work, rungs=RUNGS[:4])
def probe_linear_pieces(subject: Subject, *, draws: int, rng: torch.Generator) -> Result:
    """Into how many straight pieces does the network cut the way from one example to another?"""
    role = _role(subject)
    starts, ends = _pairs(subject, role, draws, rng)
    sizes = widths(subject, role)
    units = sum(size for name, size in sizes.items() if name in subject.layers)
    if units > WIDEST:
        text = "{units} activations per example make too many kinks to count exactly; up to {most} it takes seconds"
        raise UnsuitableError(Message("TL205.wide", text, units=units, most=WIDEST))
    kept: dict[int, Counted] = {}

    def compute(other: Subject) -> Estimate:
        kept[id(other)] = Counted(_count(other, role, starts, ends))
        return kept[id(other)].mean

    estimate = compute(subject)
    beside = controls(subject, compute)
    start = next((c.estimate for c in beside if c.role == "init"), None)
    verdict, reason, reading = judge(estimate, start)
    name = Message("TL205.network", "trained")
    networks: list[tuple[Message, Role, Counted]] = [(name, "network", kept[id(subject)])]
    networks += [(c.name, c.role, k) for c, k in zip(beside, list(kept.values())[1:], strict=True)]
    return Result(
        estimate=estimate,
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=(_straight(), _pairs_independent()),
        controls=beside,
        references=(
            "Hanin, Rolnick (2019). Complexity of linear regions in deep networks. ICML.",
            "Montúfar, Pascanu, Cho, Bengio (2014). On the number of linear regions of deep neural networks. NIPS.",
            "Serra, Tjandraatmadja, Ramalingam (2018). Bounding and counting linear regions of deep neural networks."
            " ICML.",
        ),
        payload=(_curve(networks), _intervals(name, estimate, beside)),
        settings={"split": role, "pairs": len(starts), "activations per example": units},
    )


def _pairs(subject: Subject, role: str, draws: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Row numbers of both ends of at most ``draws`` pairs, no row twice."""
    split = subject.split(role)
    rows = split.subset(2 * draws)
    if len(rows) < 2:
        raise UnsuitableError(Message("TL205.one", "one example has no way to another; give at least two"))
    rows = rows[torch.randperm(len(rows), generator=rng)]
    half = len(rows) // 2
    sample = inputs_of(split.take(rows[:1]))
    if not sample.is_floating_point():
        text = "the inputs are whole numbers, between which there is no straight way; it takes real inputs"
        raise UnsuitableError(Message("TL205.whole", text))
    return rows[:half], rows[half : 2 * half]


def _count(subject: Subject, role: str, starts: Tensor, ends: Tensor) -> tuple[Pieces, ...]:
    model, task, split = copy.deepcopy(subject.net).double().eval(), subject.judged, subject.split(role)
    found: list[Pieces] = []
    for i, j in zip(starts.tolist(), ends.tolist(), strict=True):
        batch, other = split.take([i]), split.take([j])
        a, b = inputs_of(batch), inputs_of(other)
        if a.shape != b.shape:
            raise UnsuitableError(Message("TL205.shapes", "examples have different shapes; it takes one shape for all"))
        forward = _along(lambda full: task.forward(model, full)[0], batch, a, subject.device)
        try:
            found += linear_pieces(forward, a.double().to(subject.device), b.double().to(subject.device))
        except NotPiecewiseLinearError:
            text = "the network is not piecewise linear; pieces are counted for ReLU, leaky ReLU, clamping, max-pooling"
            raise UnsuitableError(Message("TL205.smooth", text)) from None
    return tuple(found)


def _along(
    forward: Callable[[Any], Any], batch: Any, inputs: Tensor, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """Inputs (p, ...) to outputs, with everything else of the example repeated."""

    def outputs(x: Tensor) -> Tensor:
        def fill(leaf: Any) -> Any:
            if leaf is inputs:
                return x
            if isinstance(leaf, Tensor) and leaf.ndim and len(leaf) == 1:
                return leaf.expand(len(x), *leaf.shape[1:]).to(device)
            return leaf * len(x) if isinstance(leaf, list) and len(leaf) == 1 else leaf

        count(forwards=len(x))
        found = forward(pytree.tree_map(fill, batch, is_leaf=lambda leaf: isinstance(leaf, list)))
        return next(leaf for leaf in pytree.tree_leaves(found) if isinstance(leaf, Tensor))

    return outputs


def _straight() -> Assumption:
    statement = Message("TL205.straight", "the network is piecewise linear")
    text = "the output was straight between all kinks found, to nine digits"
    return Assumption(statement=statement, status=Status.MET, evidence=Message("TL205.checked", text))


def _pairs_independent() -> Assumption:
    text = "the examples are independent draws; points between them need not look like data"
    return Assumption(statement=Message("TL205.pairs", text), status=Status.UNCHECKED)


def _curve(networks: list[tuple[Message, Role, Counted]]) -> Curve:
    middle = (np.arange(TENTHS) + 0.5) / TENTHS
    return Curve(
        label=Message("TL205.curve", "Where on the way from one example to another the network bends"),
        lines=tuple(Line(x=middle, y=c.density, name=name, role=role) for name, role, c in networks),
        x_name=Message("TL205.position", "position between the examples"),
        y_name=Message("TL205.bends", "bends in a tenth of the way"),
    )


def _intervals(name: Message, estimate: Estimate, beside: tuple[Control, ...]) -> Intervals:
    rows: list[tuple[Message, Role, Estimate]] = [
        (name, "network", estimate),
        *((c.name, c.role, c.estimate) for c in beside),
    ]
    return Intervals(
        label=Message("TL205.intervals", "Straight pieces between two examples, mean with its 95 % interval"),
        names=tuple(n for n, _, _ in rows),
        values=np.asarray([e.value for _, _, e in rows]),
        lower=np.asarray([e.lower for _, _, e in rows]),
        upper=np.asarray([e.upper for _, _, e in rows]),
        x_name=Message("TL205.pieces", "straight pieces"),
        roles=tuple(role for _, role, _ in rows),
    )
