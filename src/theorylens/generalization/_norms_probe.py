"""TL111: stable ranks of the weight matrices, and the norms that bounds are made of, beside their controls."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from theorylens.core import Need, Subject, UnsuitableError, Work, controls, probe
from theorylens.results import (
    Assumption,
    Cell,
    Curve,
    Estimate,
    Exact,
    Kind,
    Line,
    Message,
    Result,
    Table,
    Verdict,
)

from ._layer_norms import CONV, TRANSPOSED
from ._norms import spectral_complexity, squared_path_norm
from ._weight_matrices import stable_rank, weight_matrices

ALIKE = 0.01  # relative: closer numbers are printed alike
OTHER_START = 0.5  # relative, against an initialisation that is not its own: two random draws differ by up to a third
CONVOLUTION_SECONDS = 0.1  # about what Lanczos takes for the norm of one convolution
REFERENCES = (
    "Neyshabur, Tomioka, Srebro (2015). Norm-based capacity control in neural networks. COLT.",
    "Bartlett, Foster, Telgarsky (2017). Spectrally-normalized margin bounds for neural networks. NeurIPS.",
    "Jiang, Neyshabur, Mobahi, Krishnan, Bengio (2020). Fantastic generalization measures and where to find them. "
    "ICLR.",
)


@dataclass(frozen=True, eq=False)
class Norms:
    """Norms of one network; NaN where a layer, or how the layers are joined, is not known to a norm."""

    ranks: Mapping[str, float]
    spectral: float
    complexity: float
    moved: float
    path: float
    length: float
    distance: float

    @property
    def rank(self) -> float:
        return math.fsum(self.ranks.values()) / len(self.ranks)


def norms(subject: Subject, start: Mapping[str, Tensor] | None) -> Norms:
    """Norms of the weights of a network, distances from ``start``, its state before training, where that is known."""
    net = subject.net
    matrices = {n: m for n, m in weight_matrices(net).items() if bool((m != 0).any())}
    if not matrices:
        text = "the network has no weight matrix that is not zero"
        raise UnsuitableError(Message("TL111.none", text))
    shape = _input_shape(subject)
    spectral = _or_nan(lambda: _spectral(net, shape, None))
    moved = (math.nan, math.nan) if start is None else _or_nan(lambda: _spectral(net, shape, start))
    path = _or_nan(lambda: (_log10(squared_path_norm(net, shape)), 0.0))
    weights = {n: p.detach().double().cpu() for n, p in net.named_parameters()}
    distance = math.nan
    if start is not None:
        distance = _length({n: w - start[n].double().cpu() for n, w in weights.items() if n in start})
    return Norms(
        {n: stable_rank(m) for n, m in matrices.items()}, *spectral, moved[1], path[0], _length(weights), distance
    )  # fmt: skip


def judge(value: float, others: dict[str, float], *, own: bool = True) -> tuple[Verdict, Message]:
    """``value`` and ``others``: mean stable rank of the network and, by role, of its controls.

    ``own``: whether the control at initialisation is the network's own start.
    """
    for role in ("init", "shuffled"):
        other = others.get(role)
        if other is not None and _alike(value, other, own or role == "shuffled"):
            ids = {"init": "TL111.as_init", "shuffled": "TL111.as_shuffled"}
            texts = {
                "init": "stable rank {value:.3g} on average, not told apart from initialisation ({other:.3g})",
                "shuffled": "stable rank {value:.3g} on average, no other than after training on shuffled labels "
                "({other:.3g})",
            }
            return Verdict.INCONCLUSIVE, Message(ids[role], texts[role], value=value, other=other)
    if (init := others.get("init")) is None:
        return Verdict.DESCRIPTIVE, Message("TL111.alone", "stable rank {value:.3g} on average", value=value)
    text = "stable rank {value:.3g} on average, {init:.3g} at initialisation"
    return Verdict.DESCRIPTIVE, Message("TL111.reason", text, value=value, init=init)


def read(value: float, init: float | None, complexity: tuple[float, float], *, own: bool = True) -> Message:
    """``complexity``: log10 of the spectral complexity of the network and of its initial state, NaN where unknown."""
    text = "Over {value:.3g} directions each on average (stable rank). {training} {norms}"
    return Message(
        "TL111.reading", text, value=value, training=_training(value, init, own), norms=_complexity(*complexity)
    )  # fmt: skip


def _training(value: float, init: float | None, own: bool) -> Message:
    if init is None:
        return Message("TL111.no_init", "Nothing to compare it with: the network before training is not known.")
    if not own:
        text = (
            "At a default initialisation, not its own, it is {init:.3g}: another random draw, so small differences "
            "say nothing about training."
        )
        return Message("TL111.default", text, init=init)
    if _alike(value, init, own):
        return Message("TL111.same", "Before training it is the same, so it says nothing about what was learnt.")
    if value < init:
        text = "Training concentrated them: it is {init:.3g} before; compare networks of one shape only."
        return Message("TL111.fewer", text, init=init)
    text = "Training spread them: it is {init:.3g} before; compare networks of one shape only."
    return Message("TL111.more", text, init=init)


def _complexity(value: float, init: float) -> Message:
    if math.isnan(value):
        text = "The spectral complexity is not given: the layers are no plain chain of known ones."
        return Message("TL111.no_chain", text)
    text = "The spectral complexity is 10^{value:.1f}, without the constants of its bound: a measure, no bound."
    if math.isnan(init):
        return Message("TL111.complexity", text, value=value)
    text = (
        "The spectral complexity is 10^{value:.1f}, 10^{init:.1f} at initialisation, without the constants of its "
        "bound: a measure, no bound."
    )
    return Message("TL111.complexity.init", text, value=value, init=init)


def _cost(subject: Subject, rung: int | None) -> Work:
    del rung
    networks = 1 + (subject.initial() is not None) + (subject.shuffled is not None)
    flops = sum(10.0 * m.numel() * min(m.shape) for m in weight_matrices(subject.net).values())
    layers = sum(isinstance(m, (*CONV, *TRANSPOSED)) for m in subject.net.modules())
    return Work(flops=flops, seconds=0.01 + 2 * CONVOLUTION_SECONDS * layers) * networks


@probe(code="TL111", needs={Need.MODEL, Need.TRAIN}, cost=_cost, name="generalization.norms")
def probe_norms(subject: Subject, *, rng: torch.Generator) -> Result:
    """Over how many directions do the weight matrices spread, and how large are the norms that bounds are made of?

    Stable rank of every weight matrix, mean over matrices; where the layers are known the path norm, and for a
    plain chain of them the spectral complexity.
    """
    del rng  # Lanczos starts from a key of its own
    initial = subject.initial()
    start = dict(initial.subject.net.state_dict()) if initial is not None and initial.own else None
    found = norms(subject, start)
    measured: list[Norms] = []

    def measure(other: Subject) -> Estimate:
        measured.append(norms(other, start))
        return Estimate(value=measured[-1].rank, uncertainty=Exact())

    beside = controls(subject, measure)
    others = {str(c.role): c.estimate.value for c in beside}
    own = initial is not None and initial.own
    verdict, reason = judge(found.rank, others, own=own)
    named = [(Message("TL111.network", "trained"), "network", found)]
    named += [(c.name, c.role, m) for c, m in zip(beside, measured, strict=True)]
    before = measured[0].complexity if "init" in others else math.nan
    return Result(
        estimate=Estimate(value=found.rank, uncertainty=Exact()), kind=Kind.INDICATOR, verdict=verdict, reason=reason,
        reading=read(found.rank, others.get("init"), (found.complexity, before), own=own), assumptions=_assumptions(),
        controls=beside, references=REFERENCES, payload=(_curve(named), _table(named)),
        settings={"matrices": len(found.ranks)},
    )  # fmt: skip


def _assumptions() -> tuple[Assumption, ...]:
    said = Message("TL111.assume.shape", "compared networks have one architecture: norms grow with width and depth")
    return (Assumption(statement=said),)


Named = list[tuple[Message, str, Norms]]


def _curve(named: Named) -> Curve:
    """Stable rank by position of the matrix in the network."""
    lines = tuple(
        Line(
            x=np.arange(1.0, len(n.ranks) + 1), y=np.array(list(n.ranks.values())), name=name,
            role=role,  # type: ignore[arg-type]
        )
        for name, role, n in named
    )  # fmt: skip
    return Curve(
        label=Message("TL111.curve", "Stable rank of each weight matrix, in the order in which they are registered"),
        lines=lines, x_name=Message("TL111.position", "weight matrix"), y_name=Message("TL111.rank", "stable rank"),
    )  # fmt: skip


def _table(named: Named) -> Table:
    def row(name: Message, value: Callable[[Norms], float]) -> tuple[Cell, ...]:
        return (name, *(v if math.isfinite(v := value(n)) else "-" for _, _, n in named))

    rows = (
        row(Message("TL111.row.rank", "mean stable rank"), lambda n: n.rank),
        row(Message("TL111.row.spectral", "log10 of the product of spectral norms"), lambda n: n.spectral),
        row(Message("TL111.row.complexity", "log10 of the spectral complexity, from zero"), lambda n: n.complexity),
        row(Message("TL111.row.moved", "log10 of the spectral complexity, from initialisation"), lambda n: n.moved),
        row(Message("TL111.row.path", "log10 of the squared path norm"), lambda n: n.path),
        row(Message("TL111.row.length", "length of the weight vector"), lambda n: n.length),
        row(Message("TL111.row.distance", "its distance from initialisation"), lambda n: n.distance),
    )
    columns = (Message("TL111.column", "measure"), *(name for name, _, _ in named))
    label = Message("TL111.table", "Norms of the weights; without the constants of the bounds they are measures")
    return Table(label=label, columns=columns, rows=rows)


def _spectral(net: nn.Module, shape: tuple[int, ...], start: Mapping[str, Tensor] | None) -> tuple[float, float]:
    found = spectral_complexity(net, shape, start)
    return found.spectral, found.complexity


def _or_nan(compute: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    """The measure is not defined for every network; then the others still are."""
    try:
        return compute()
    except (ValueError, RuntimeError):  # a layer that is not known, or a shape that the model itself rearranges
        return math.nan, math.nan


def _input_shape(subject: Subject) -> tuple[int, ...]:
    batch = subject.split("train").take(range(1))
    first = next((x for x in pytree.tree_leaves(batch) if isinstance(x, Tensor)), None)
    return () if first is None else tuple(first.shape[1:])


def _length(tensors: Mapping[str, Tensor]) -> float:
    return math.sqrt(math.fsum(float(t.square().sum()) for t in tensors.values()))


def _log10(value: float) -> float:
    return math.log10(value) if value > 0 else -math.inf


def _alike(a: float, b: float, own: bool) -> bool:
    return abs(a - b) <= (ALIKE if own else OTHER_START) * max(abs(a), abs(b))
