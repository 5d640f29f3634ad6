"""TL105: a bound from the architecture alone: in how many ways could any of its networks answer this many examples?

Method   growth function of the answers, bounded from the traced graph; Vapnik's gap for all networks at once
Source   Bartlett, Harvey, Liaw, Mehrabian (2019), JMLR 20(63); Vapnik (1998), section 4
Assumes  architecture fixed before the examples; real weights of any size
Breaks   nothing; with more weights than examples it is true and vacuous, which says nothing about the network
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from theorylens.core import Need, Subject, UnsuitableError, Work, probe
from theorylens.numerics.counting import count
from theorylens.numerics.memory import to_device
from theorylens.results import (
    Assumption,
    Cell,
    Certificate,
    Curve,
    Estimate,
    Kind,
    Line,
    Message,
    Predictor,
    Result,
    Statistical,
    Table,
    Verdict,
    Wall,
)

from ._evidence import Evidence, drawn, error_controls, evidence, hashes, ledger, upward
from ._finite_class import weight_bits
from ._network_growth import NetworkGrowth, feature_rank, network_growth, vc_dimension
from ._sample_theorems import smallest_sample
from ._test_error import DELTA
from ._vc_dimension import VcDimension, largest_shattered
from ._vc_gap import growth_gap

SEEN = 512  # training examples whose last-layer features are looked at for the lower end
GROWTH_SECONDS = 1.3  # about what some 250 growth functions take, mostly exact Sauer-Shelah sums
WANTED = 0.1  # the gap for which the number of examples is said
THEOREM = Message("theorem.capacity", "Vapnik's gap with the growth function of the architecture")
REFERENCES = (
    "Bartlett, Harvey, Liaw, Mehrabian (2019). Nearly-tight VC-dimension and pseudodimension bounds for piecewise "
    "linear neural networks. JMLR 20(63):1-17.",
    "Vapnik (1998). Statistical Learning Theory. Wiley.",
)


def judge(bound: float, trivial: float, upper: int, n: int) -> tuple[Verdict, Message]:
    """Vacuous is the rule for networks with more weights than examples, and no fault of theirs."""
    if bound >= trivial:
        text = (
            "the architecture may answer up to {upper:,} points in all ways, too many for {n:,} examples: true, and no "
            "better than a constant guess"
        )
        return Verdict.VACUOUS, Message("TL105.vacuous", text, upper=upper, n=n)
    text = "the bound of {bound:.2%} lies below {trivial:.2%}, the error of a constant guess"
    return Verdict.HOLDS, Message("TL105.holds", text, bound=upward(bound, share=True), trivial=trivial)


def _cost(subject: Subject, rung: int | None) -> Work:
    n = len(subject.split("train"))
    return Work(forwards=3.0 * n + min(n, SEEN) + 2, seconds=GROWTH_SECONDS)


@probe(code="TL105", needs={Need.MODEL, Need.TRAIN}, cost=_cost, name="generalization.capacity")
def probe_capacity(
    subject: Subject, *, rng: torch.Generator, delta: float = DELTA, comparisons: int = 1
) -> Result:  # fmt: skip
    """What do the training examples guarantee for every network of this architecture at once?

    ``comparisons`` architectures judged on the same training split share ``delta``.
    """
    del rng  # nothing is sampled
    found = _suitable(evidence(subject, "train"))
    inputs, features = _looked_at(subject)
    growth = network_growth(subject.net, *inputs)
    upper, share = largest_shattered(growth), delta / comparisons
    lower = 0 if features is None else feature_rank(features[0], bias=features[1])
    bound, n = _bound(found, growth, share)
    verdict, reason = judge(bound, found.trivial, upper, n)
    wanted = smallest_sample(lambda m: growth_gap(m, growth, share, "vapnik"), WANTED)
    name = subject.judged.error_name
    return Result(
        estimate=_estimate(found, growth, share, name),
        kind=Kind.CERTIFICATE,
        verdict=verdict,
        reason=reason,
        reading=_reading(verdict, lower, upper, n, wanted),
        assumptions=_assumptions(found, n),
        controls=error_controls(
            subject, ("train",), lambda other: _estimate(_suitable(evidence(other, "train")), growth, share, name)
        ),
        references=REFERENCES,
        payload=(_curve(found, growth, n, share), _table(growth, subject, lower, upper, n, wanted)),
        certificate=Certificate(
            theorem=THEOREM.text, bound=bound, empirical=_mean(found), n=n, delta=delta,
            ledger=ledger(delta, comparisons, Message("ledger.train", "draw of the training examples")),
            comparisons=comparisons, loss=name, loss_range=found.error_range, trivial=found.trivial, split="train",
            hashes=hashes(subject), predictor=Predictor.THIS_MODEL,
        ),
        settings={
            "delta": delta, "comparisons": comparisons, "units": n, "trivial": found.trivial, "vc_lower": lower,
            "vc_upper": upper, "weights": growth.weights, "depth": growth.depth, "examples_for_gap": wanted,
        },
    )  # fmt: skip


def architecture_dimension(subject: Subject) -> VcDimension:
    """`vc_dimension` of a subject's network, called as its task calls it, with the features of its last layer.

    Raises
    ------
    UnsuitableError
        See `network_growth`; also for a network that is called with named arguments.
    """
    inputs, features = _looked_at(subject)
    if features is None:
        return vc_dimension(subject.net, *inputs)
    return vc_dimension(subject.net, *inputs, features=features[0], bias=features[1])


def _suitable(found: Evidence) -> Evidence:
    if not found.answers.binary or found.answers.classes is None:
        text = "capacity counts answers that are right or wrong; give a task of plain classification"
        raise UnsuitableError(Message("TL105.no_classes", text))
    if len(np.unique(found.units)) < len(found.units):
        text = "several rows form one unit, for which the answers are not right or wrong; give one row per unit"
        raise UnsuitableError(Message("TL105.units", text))
    return found


def _mean(found: Evidence) -> float:
    return max(s.mean for s in found.samples)


def _bound(found: Evidence, growth: NetworkGrowth, delta: float) -> tuple[float, int]:
    """The larger of the bounds from the ways to count rows, and its number of examples."""
    ways = [(min(1.0, s.mean + growth_gap(s.n, growth, delta, "vapnik")), s.n) for s in found.samples]
    return max(ways)[0], min(n for _, n in ways)


def _estimate(found: Evidence, growth: NetworkGrowth, delta: float, name: str) -> Estimate:
    method = Message("method.all_weights", "holds for all weights of this architecture at once, one-sided")
    bound, _ = _bound(found, growth, delta)
    interval = Statistical(lower=-math.inf, upper=bound, level=1 - delta, method=method)
    return Estimate(value=_mean(found), uncertainty=interval, unit=name)


def _looked_at(subject: Subject) -> tuple[tuple[Any, ...], tuple[Tensor, bool] | None]:
    """What the network is called with, and what its last layer sees if that layer gives the outputs, with its bias."""
    split = subject.split("train")
    calls: list[tuple[Any, ...]] = []
    seen: list[tuple[Tensor, Any]] = []
    features: list[Tensor] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if kwargs or not args:
            text = "the network is called with named arguments ({names}); give a forward that passes them by position"
            raise UnsuitableError(Message("TL105.named_arguments", text, names=", ".join(kwargs) or "none"))
        calls.append(args)

    last = dict(subject.net.named_modules())[subject.layers[-1]] if subject.layers else subject.net
    handle = subject.net.register_forward_pre_hook(note, with_kwargs=True)
    head = last.register_forward_hook(lambda m, a, o: seen.append((a[0].detach(), o)))
    try:
        with subject.studied(), torch.no_grad():
            for index in torch.split(split.subset(SEEN), subject.batch_size):
                seen.clear()
                outputs, _ = subject.judged.forward(subject.net, to_device(split.take(index), subject.device))
                count(forwards=len(index))
                if len(seen) == 1 and seen[0][1] is outputs and seen[0][0].ndim == 2:
                    features.append(seen[0][0].float().cpu())
    finally:
        for each in (handle, head):
            each.remove()
    if not isinstance(last, nn.Linear) or sum(map(len, features)) < min(SEEN, len(split)):
        return calls[0], None
    return calls[0], (torch.cat(features), last.bias is not None)


def _reading(verdict: Verdict, lower: int, upper: int, n: int, wanted: int) -> Message:
    values = {"n": n, "upper": upper, "wanted": wanted}
    if verdict is Verdict.HOLDS:
        text = "Something: {n:,} examples outweigh an architecture that answers at most {upper:,} points in all ways."
        return Message("TL105.reading.holds", text, n=n, upper=upper)
    if lower >= n:
        text = (
            "Nothing, and no better theorem of this kind could: the last layer alone can answer all {n:,} examples in "
            "any way. A gap of 0.1 for all weights at once would take {wanted:,} examples by this theorem."
        )
        return Message("TL105.reading.all", text, n=n, wanted=wanted)
    text = (
        "Nothing here, which is no fault of the network: between {lower:,} and {upper:,} points can be answered in all "
        "ways, against {n:,} examples; a gap of 0.1 for all weights at once would take {wanted:,}."
    )
    return Message("TL105.reading", text, lower=lower, **values)


def _assumptions(found: Evidence, n: int) -> tuple[Assumption, ...]:
    fixed = "architecture, number format and preprocessing were fixed without the training examples"
    return Assumption(statement=Message("assume.fixed", fixed)), drawn(found, n)


def _curve(found: Evidence, growth: NetworkGrowth, n: int, delta: float) -> Curve:
    """The bound at this training error for any number of examples: where it would start to say something."""
    far = max(16 * n, 4 * smallest_sample(lambda m: growth_gap(m, growth, delta, "vapnik"), WANTED))
    sizes = np.unique(np.geomspace(max(1, n // 4), far, 80).round())

    def at(m: float) -> float:
        return min(1.0, _mean(found) + growth_gap(int(m), growth, delta, "vapnik"))

    line = Line(
        x=sizes, y=np.array([at(m) for m in sizes]), role="theory",
        name=Message("line.capacity", "bound at this training error"),
    )  # fmt: skip
    here = Line(x=np.array([float(n)]), y=np.array([at(n)]), name=Message("line.network", "this network"))
    label = "Bound for all weights at once against the number of examples; below the trivial level it says something"
    walls = (Wall(at=found.trivial, name=Message("wall.trivial", "trivial level")),)
    return Curve(
        label=Message("TL105.curve", label), lines=(line, here), x_name=Message("axis.samples", "examples"),
        y_name=Message("axis.bound", "bound"), x_log=True, walls=walls,
    )  # fmt: skip


def _table(growth: NetworkGrowth, subject: Subject, lower: int, upper: int, n: int, wanted: int) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = (
        (Message("capacity.examples", "training examples"), n),
        (Message("capacity.weights", "weights"), growth.weights),
        (Message("capacity.depth", "layers of weights"), growth.depth),
        (Message("capacity.units", "activation units"), growth.units),
        (Message("capacity.lower", "points answered in all ways, at least (last layer)"), lower),
        (Message("capacity.upper", "points answered in all ways, at most (sign patterns)"), upper),
        (Message("capacity.bits", "the same, at most, counting the bits of the weights"), weight_bits(subject.net)),
        (Message("capacity.wanted", "examples for a gap of 0.1"), wanted),
    )
    columns = Message("table.quantity", "quantity"), Message("table.value", "value")
    return Table(
        label=Message("TL105.table", "What this architecture could do, whatever its weights"),
        columns=columns,
        rows=rows,
    )
