"""How widely does attention look, how far, and would it make its tokens alike?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from theorylens.core import Need, Subject, UnsuitableError, Work, controls, probe
from theorylens.numerics.counting import count
from theorylens.numerics.memory import to_device
from theorylens.results import (
    Assumption,
    Cell,
    Control,
    Curve,
    Estimate,
    Kind,
    Line,
    Matrix,
    Message,
    Payload,
    Result,
    Statistical,
    Status,
    Table,
    Verdict,
)

from ._attention import attention_distance, attention_entropy, collapsing_path, uniform_distance
from ._attention_weights import AttentionWeights, attention_weights
from ._images import role_of

ROWS = 64
MAP = 48  # units of the drawn map per side
FOCUSED, SPREAD = 0.5, 0.9  # shares of the largest entropy below and above which words change


@dataclass(frozen=True, kw_only=True, eq=False)
class Attention:
    """What one network's attention does on the rows looked at, layer by layer."""

    layers: tuple[AttentionWeights, ...]
    shares: tuple[Tensor, ...]  # (rows, heads) each: entropy as a share of the largest possible

    @property
    def by_row(self) -> Tensor:
        return torch.stack([s.mean(1) for s in self.shares]).mean(0)

    @property
    def square(self) -> bool:
        sizes = {tuple(x.weights.shape[-2:]) for x in self.layers}
        return len(sizes) == 1 and all(q == k for q, k in sizes)


def entropy_share(weights: Tensor) -> Tensor:
    """Entropy of each head over the largest it could have, per row: (n, heads); masked keys (weight 0) do not count.

    Queries with a single key are left out: they have nothing to choose.
    """
    open_keys = (weights > 0).sum(-1)
    most = open_keys.clamp(min=1).double().log()
    free = open_keys > 1
    found = torch.where(free, attention_entropy(weights), torch.zeros_like(most)).sum(-1)
    return found / torch.where(free, most, torch.zeros_like(most)).sum(-1).clamp(min=1e-300)


def judge(estimate: Estimate, control: Estimate | None, distance: float, uniform: float) -> tuple[
    Verdict, Message, Message
]:  # fmt: skip
    """Verdict, reason and reading: share of the largest entropy, mean distance beside that of uniform attention."""
    share = estimate.value
    reason = Message("TL506.found", "attention has {share:.0%} of the entropy of looking everywhere", share=share)
    if control is None:
        beside = Message("TL506.alone", "There is no untrained network to compare with.")
    elif estimate.lower <= control.upper and control.lower <= estimate.upper:
        text = "The untrained network has {control:.0%}, no different within the error: training did not focus it."
        beside = Message("TL506.same", text, control=control.value)
    else:
        beside = Message("TL506.changed", "The untrained network has {control:.0%}.", control=control.value)
    if share < FOCUSED:
        text = "Narrowly: {share:.0%} of the entropy of looking everywhere alike. {beside} {far}"
        id = "TL506.narrow"
    elif share < SPREAD:
        text = "Partly: {share:.0%} of the entropy of looking everywhere alike. {beside} {far}"
        id = "TL506.partly"
    else:
        text = "Almost everywhere alike: {share:.0%} of the largest entropy. {beside} {far}"
        id = "TL506.everywhere"
    far_text = "It looks {distance:.2g} units away on average; looking everywhere alike would be {uniform:.2g}."
    far = Message("TL506.far", far_text, distance=distance, uniform=uniform)
    return Verdict.DESCRIPTIVE, reason, Message(id, text, share=share, beside=beside, far=far)


def _work(subject: Subject, rung: int | None) -> Work:
    if not subject.roles:
        return Work()
    n = min(ROWS, len(subject.split(role_of(subject))))
    return Work(forwards=4.0 * n * (2 + (subject.shuffled is not None)))


@probe(code="TL506", needs={Need.MODEL}, cost=_work)
def probe_attention(subject: Subject, *, rows: int = ROWS, rng: torch.Generator) -> Result:
    """How widely does attention look, and how far?"""
    del rng  # nothing is sampled
    if not subject.roles:
        text = "there are no data to run the network on; give train= or test= to Subject"
        raise UnsuitableError(Message("TL506.no_data", text))
    role = role_of(subject)
    seen: dict[int, Attention] = {}

    def share(other: Subject) -> Estimate:
        seen[id(other)] = found = measured(other, role, rows)
        return _estimate(found.by_row)

    estimate = share(subject)
    beside = controls(subject, share)
    trained = seen[id(subject)]
    untrained = next((a for key, a in seen.items() if key != id(subject)), None) if _begun(beside) else None
    distance = _mean([attention_distance(x.weights) for x in trained.layers])
    uniform = float(np.mean([uniform_distance(*x.weights.shape[-2:]) for x in trained.layers]))
    verdict, reason, reading = judge(estimate, _begun(beside), distance, uniform)
    return Result(
        estimate=estimate,
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=(
            Assumption(
                statement=Message("TL506.named", "every attention of the network names its weights"),
                status=Status.UNCHECKED,
            ),
            Assumption(
                statement=Message("TL506.order", "units stand in the order of the sequence (for distances)"),
                status=Status.UNCHECKED,
            ),
        ),
        controls=beside,
        references=(
            "Dong, Cordonnier, Loukas (2021). Attention is not all you need: pure attention loses rank doubly"
            " exponentially with depth. ICML.",
            "Clark, Khandelwal, Levy, Manning (2019). What does BERT look at? An analysis of BERT's attention."
            " BlackboxNLP.",
        ),
        payload=_payload(trained, untrained),
        settings={"split": role, "rows": len(trained.by_row), "layers": len(trained.layers), "distance": distance,
                  "uniform distance": uniform},
    )  # fmt: skip


def measured(subject: Subject, role: str, rows: int) -> Attention:
    """Attention of the network on a keyed choice of rows.

    Raises
    ------
    UnsuitableError
        Without attention, or when some query has no key to look at.
    """
    split = subject.split(role)
    batch = to_device(split.take(split.subset(rows)), subject.device)
    layers = attention_weights(subject.net, lambda: subject.judged.forward(subject.net, batch))
    n = min(rows, len(split))
    count(forwards=n)
    kept = tuple(x for x in layers if len(x.weights) == n and x.weights.shape[-1] > 1)
    if not kept:
        text = (
            "the network was not seen to attend: no nn.MultiheadAttention, scaled_dot_product_attention or softmax over"
            " keys took part"
        )
        raise UnsuitableError(Message("TL506.unsuitable", text))
    if not all(bool(torch.isfinite(x.weights).all()) for x in kept):
        text = "some queries have no key to look at (all of them masked), so their attention is not defined"
        raise UnsuitableError(Message("TL506.masked", text))
    kept = tuple(AttentionWeights(x.name, x.weights.cpu()) for x in kept)
    return Attention(layers=kept, shares=tuple(entropy_share(x.weights) for x in kept))


def _estimate(by_row: Tensor) -> Estimate:
    n, value = len(by_row), float(by_row.mean())
    method = Message("TL506.interval", "Student's t over {n} examples", n=n)
    half = float(stats.t.isf(0.025, n - 1)) * float(by_row.std()) / math.sqrt(n) if n > 1 else math.inf
    limits = Statistical(lower=max(0.0, value - half), upper=min(1.0, value + half), level=0.95, method=method)
    return Estimate(value=value, uncertainty=limits, unit="share of the largest entropy")


def _begun(beside: tuple[Control, ...]) -> Estimate | None:
    return next((c.estimate for c in beside if c.role == "init"), None)


def _mean(each: list[Tensor]) -> float:
    return float(np.mean([float(x.mean()) for x in each]))


def _payload(trained: Attention, untrained: Attention | None) -> tuple[Payload, ...]:
    found: list[Payload] = [
        _curve(
            trained, untrained, lambda a: [float(s.mean()) for s in a.shares], None,
            Message("TL506.entropy", "Entropy of the attention of each layer, as a share of the largest possible"),
            Message("TL506.share", "share of the largest entropy"),
        ),
        _curve(
            trained, untrained, lambda a: [float(attention_distance(x.weights).mean()) for x in a.layers],
            [uniform_distance(*x.weights.shape[-2:]) for x in trained.layers],
            Message("TL506.distance", "Mean distance from each unit to what it looks at"),
            Message("TL506.units", "units"),
        ),
    ]  # fmt: skip
    if trained.square and len(trained.layers) > 1:
        found.append(
            _curve(
                trained, untrained, lambda a: collapsing_path([x.weights for x in a.layers]), None,
                Message("TL506.rank", "How far the product of attention up to each layer is from rank one"),
                Message("TL506.residual", "distance from rank one"), log=True,
            )
        )  # fmt: skip
    return (*found, _map(trained.layers[-1].weights), _table(trained))


def _curve(
    trained: Attention, untrained: Attention | None, of: object, theory: list[float] | None, label: Message,
    y_name: Message, *, log: bool = False,
) -> Curve:  # fmt: skip
    assert callable(of)
    x = np.arange(1, len(trained.layers) + 1, dtype=np.float64)
    lines = [Line(x=x, y=np.asarray(of(trained)), name=Message("TL506.trained", "trained"))]
    if untrained is not None:
        lines.append(Line(x=x, y=np.asarray(of(untrained)), name=Message("TL506.init", "untrained"), role="init"))
    if theory is not None:
        name = Message("TL506.uniform", "everywhere alike")
        lines.append(Line(x=x, y=np.asarray(theory), name=name, role="theory"))
    return Curve(
        label=label, lines=tuple(lines), x_name=Message("TL506.layer", "attention layer"), y_name=y_name, y_log=log
    )


def _map(weights: Tensor) -> Matrix:
    mean = weights.mean((0, 1))
    step = max(1, -(-max(mean.shape) // MAP))
    if step > 1:
        mean = nn.functional.avg_pool2d(mean[None, None], step, ceil_mode=True)[0, 0]
    return Matrix(
        label=Message("TL506.map", "Attention of the last layer, mean over heads and examples"),
        values=mean.numpy(),
        top=float(mean.max()),
        x_name=Message("TL506.key", "looked at"),
        y_name=Message("TL506.query", "looking"),
    )


def _table(trained: Attention) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for x, share in zip(trained.layers, trained.shares, strict=True):
        far = attention_distance(x.weights).mean((0, 2))
        rows += [(x.name, h + 1, float(share[:, h].mean()), float(far[h])) for h in range(share.shape[1])]
    return Table(
        label=Message("TL506.table", "Attention head by head"),
        columns=(
            Message("TL506.name", "layer"),
            Message("TL506.head", "head"),
            Message("TL506.share", "share of the largest entropy"),
            Message("TL506.mean_distance", "mean distance, units"),
        ),
        rows=tuple(rows),
    )
