"""TL110: effective parameters of the trained network beside its controls, at one precision. Judge and probe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from theorylens.core import Need, RefusedError, Split, Subject, UnsuitableError, Work, controls, probe
from theorylens.kernels import effective_dimension
from theorylens.numerics import to_device
from theorylens.results import (
    Assumption,
    Cell,
    Curve,
    Estimate,
    Exact,
    Kind,
    Levels,
    Line,
    Message,
    Result,
    Spectrum,
    Status,
    Table,
    Verdict,
    Wall,
)

from ._effective_parameters import evidence_precision, ggn_eigenvalues

LIMIT = 150  # training rows
SIZE = 1000  # rows x outputs: the eigenvalues of a matrix of that size take about half a second
FEWEST = 10  # rows: with fewer the number says how many rows there were
ALIKE = 0.01  # relative: closer numbers of two networks are printed alike
OTHER_START = 0.5  # relative, against an initialisation that is not its own: two random draws differ by up to a third
SPAN, POINTS = 3.0, 25  # the curve goes so many powers of ten to both sides of the precision
REFERENCES = (
    "MacKay (1992). Bayesian interpolation. Neural Computation 4:415-447.",
    "Moody (1992). The effective number of parameters: an analysis of generalization and regularization in nonlinear "
    "learning systems. NeurIPS.",
    "Maddox, Benton, Wilson (2020). Rethinking parameter counting in deep models: effective dimensionality revisited. "
    "arXiv:2003.02139.",
)


def judge(
    value: float, rows: int, parameters: int, others: dict[str, float], *, own: bool = True
) -> tuple[Verdict, Message]:  # fmt: skip
    """``others``: the number of each control, by role; ``own``: whether that at initialisation is the own start."""
    for role in ("init", "shuffled"):
        other = others.get(role)
        if other is not None and _alike(value, other, own or role == "shuffled"):
            texts = {
                "init": "{value:.1f} effective parameters, not told apart from initialisation ({other:.1f})",
                "shuffled": "{value:.1f} effective parameters, no other than after training on shuffled labels "
                "({other:.1f})",
            }
            ids = {"init": "TL110.as_init", "shuffled": "TL110.as_shuffled"}
            return Verdict.INCONCLUSIVE, Message(ids[role], texts[role], value=value, other=other)
    text = "{value:.1f} of {parameters:,} parameters are determined by {rows} training examples"
    return Verdict.DESCRIPTIVE, Message("TL110.reason", text, value=value, parameters=parameters, rows=rows)


def read(value: float, rows: int, parameters: int, init: float | None, *, own: bool = True) -> Message:
    """The number, then what training did to it."""
    text = (
        "About {value:.1f} of {parameters:,}: so many directions do {rows} training examples determine more sharply "
        "than the size of the weights does."
    )
    first = Message("TL110.count", text, value=value, parameters=parameters, rows=rows)
    return Message("TL110.reading", "{first} {beside}", first=first, beside=_beside(value, init, own))


def _beside(value: float, init: float | None, own: bool) -> Message:
    if init is None:
        return Message("TL110.no_init", "Nothing to compare it with: the network before training is not known.")
    if not own:
        text = (
            "A default initialisation, not its own, gives {init:.1f} at the same precision: another random draw, so "
            "small differences say nothing about training."
        )
        return Message("TL110.default", text, init=init)
    if _alike(value, init, own):
        text = "Before training it is the same, so it says nothing about what was learnt."
        return Message("TL110.same", text)
    if value < init:
        text = (
            "Before training it is {init:.1f} at the same precision: training left fewer directions that these "
            "examples pin down, which goes with simpler solutions in some settings and explains nothing by itself."
        )
        return Message("TL110.fewer", text, init=init)
    text = (
        "Before training it is {init:.1f} at the same precision: training made more directions matter on these "
        "examples."
    )
    return Message("TL110.more", text, init=init)


def _alike(a: float, b: float, own: bool) -> bool:
    return abs(a - b) <= (ALIKE if own else OTHER_START) * max(abs(a), abs(b))


def chosen_rows(subject: Subject, outputs: int) -> Tensor:
    """Rows of the training split, so few that rows x outputs stays within `SIZE`."""
    limit = min(LIMIT, SIZE // outputs)
    rows = subject.split("train").subset(limit)
    if len(rows) < FEWEST:
        text = "{rows} training rows of {outputs} outputs: needed are at least {fewest} rows at up to {size} numbers"
        values = {"rows": len(rows), "outputs": outputs, "fewest": FEWEST, "size": SIZE}
        raise UnsuitableError(Message("TL110.few", text, **values))
    return rows


def curvature_levels(subject: Subject, rows: Tensor) -> Tensor:
    """Eigenvalues of the Gauss-Newton matrix of the loss summed over these rows; squared error in units of its mean."""
    task = subject.judged
    batch = to_device(subject.split("train").take(rows), subject.device)
    if task.kind == "regression":
        with torch.no_grad():
            outputs, targets = task.forward(subject.net, batch)
        variance = float((outputs - targets.view_as(outputs)).double().square().mean())
        if not variance > 0:
            text = "the training targets are met exactly, so their noise has no size to weigh the curvature with"
            raise UnsuitableError(Message("TL110.no_noise", text))
        task = replace(task, loss=_SquaredError(variance))
    elif task.kind != "classification":
        text = "effective parameters need a classifier or a regression, the task is {kind}"
        raise UnsuitableError(Message("TL110.task", text, kind=str(task.kind)))
    elif not task.per_example:
        text = "the loss gives one number for a whole batch; return one value per example"
        raise UnsuitableError(Message("TL110.scalar", text))
    try:
        return ggn_eigenvalues(subject.net, Split(batch), task)
    except RefusedError as error:
        text = "there is no Gauss-Newton matrix of this network: {why}"
        raise UnsuitableError(Message("TL110.refused", text, why=str(error))) from error


class _SquaredError:
    """Negative log-likelihood of a Gaussian up to a constant, per example."""

    def __init__(self, variance: float) -> None:
        self.variance = variance

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets.view_as(outputs)).square().reshape(len(outputs), -1).sum(1) / (2 * self.variance)


def _outputs(subject: Subject) -> int:
    found = subject.predictions("train", limit=32)[0]
    return int(found.shape[1]) if found.ndim == 2 else 1


def _cost(subject: Subject, rung: int | None) -> Work:
    del rung
    outputs = subject.classes or 1
    rows = min(LIMIT, max(1, SIZE // outputs), len(subject.split("train")))
    networks = 1 + (subject.initial() is not None) + (subject.shuffled is not None)
    size = float(rows * outputs)
    work = Work(forwards=3.0 * rows, gradients=rows * outputs, flops=10 * size**3)
    return work * networks + Work(forwards=32)


@probe(
    code="TL110", needs={Need.MODEL, Need.TRAIN}, cost=_cost, name="generalization.effective_parameters"
)  # fmt: skip
def probe_effective_parameters(subject: Subject, *, rng: torch.Generator) -> Result:
    """How many of its parameters do the training examples really determine?

    Sum of l / (l + a) over the eigenvalues of the Gauss-Newton matrix of the loss summed over at most 150 training
    rows; a is MacKay's fixed point for the trained network, and the same for its controls.
    """
    del rng  # the rows are keyed by content
    rows = chosen_rows(subject, _outputs(subject))
    levels = curvature_levels(subject, rows)
    weights = [p.detach().double() for p in subject.net.parameters() if p.requires_grad]
    squared, parameters = float(sum((w * w).sum() for w in weights)), sum(w.numel() for w in weights)
    if not (float(levels.max()) > 0 and squared > 0):
        text = "the loss does not bend on {rows} training rows: they determine no direction"
        raise UnsuitableError(Message("TL110.flat", text, rows=len(rows)))
    precision = evidence_precision(levels, squared)
    spectra: list[Tensor] = []

    def measure(other: Subject) -> Estimate:
        spectra.append(curvature_levels(other, rows))
        return Estimate(value=effective_dimension(spectra[-1], precision), uncertainty=Exact())

    found = Estimate(value=effective_dimension(levels, precision), uncertainty=Exact())
    beside = controls(subject, measure)
    others = {str(c.role): c.estimate.value for c in beside}
    start = subject.initial()
    own = start is not None and start.own
    verdict, reason = judge(found.value, len(rows), parameters, others, own=own)
    named = [(Message("TL110.network", "trained"), "network", levels)]
    named += [(c.name, c.role, s) for c, s in zip(beside, spectra, strict=True)]
    return Result(
        estimate=found, kind=Kind.INDICATOR, verdict=verdict, reason=reason,
        reading=read(found.value, len(rows), parameters, others.get("init"), own=own),
        assumptions=_assumptions(len(rows), len(subject.split("train"))), controls=beside, references=REFERENCES,
        payload=(_curve(named, precision), _spectrum(named, precision), _table(named, precision)),
        settings={"rows": len(rows), "precision": precision, "parameters": parameters},
    )  # fmt: skip


def _assumptions(used: int, rows: int) -> tuple[Assumption, ...]:
    said = Message("TL110.assume.rows", "the number is for so many rows: more rows determine more directions")
    evidence = Message("TL110.assume.rows.evidence", "{used} of {rows} rows chosen by content", used=used, rows=rows)
    prior = Message(
        "TL110.assume.prior", "the weights are weighed by a Gaussian as wide as they are, the same for all of them"
    )
    likelihood = Message("TL110.assume.nats", "the loss of an example is a negative log-likelihood")
    return (
        Assumption(statement=said, status=Status.MET, evidence=evidence), Assumption(statement=prior),
        Assumption(statement=likelihood),
    )  # fmt: skip


Named = list[tuple[Message, str, Tensor]]


def _curve(named: Named, precision: float) -> Curve:
    at = precision * np.logspace(-SPAN, SPAN, POINTS)
    lines = tuple(
        Line(x=at, y=np.array([effective_dimension(s, float(a)) for a in at]), name=name, role=role)  # type: ignore[arg-type]
        for name, role, s in named
    )
    return Curve(
        label=Message("TL110.curve", "Effective parameters against the precision of the prior on the weights"),
        lines=lines, x_name=Message("TL110.precision", "precision a"), x_log=True,
        y_name=Message("TL110.parameters", "effective parameters"),
    )  # fmt: skip


def _spectrum(named: Named, precision: float) -> Spectrum:
    levels = tuple(
        Levels(values=s[s > 0].numpy(), name=name, role=role)  # type: ignore[arg-type]
        for name, role, s in named
        if bool((s > 0).any())
    )
    wall = Wall(at=precision, name=Message("TL110.wall", "precision: counts one half"))
    return Spectrum(
        label=Message("TL110.spectrum", "Eigenvalues of the Gauss-Newton matrix of the summed loss"),
        levels=levels, y_name=Message("TL110.level", "eigenvalue"), y_log=True, walls=(wall,),
    )  # fmt: skip


def _table(named: Named, precision: float) -> Table:
    columns = (
        Message("TL110.column.name", "network"), Message("TL110.column.tenth", "at a tenth of the precision"),
        Message("TL110.column.at", "at the precision"), Message("TL110.column.ten", "at ten times the precision"),
        Message("TL110.column.top", "largest eigenvalue"),
    )  # fmt: skip
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (name, *(effective_dimension(s, precision * f) for f in (0.1, 1.0, 10.0)), float(s.max()))
        for name, _, s in named
    )
    return Table(label=Message("TL110.table", "Effective parameters"), columns=columns, rows=rows)
