"""The outermost Hessian eigenvalues of a trained network beside its controls: judge and probe."""

from __future__ import annotations

import numpy as np
import torch

from theorylens.core import Need, Subject, Work, controls, probe
from theorylens.results import (
    Assumption,
    Control,
    Estimate,
    Kind,
    Levels,
    Message,
    Result,
    Spectrum,
    Status,
    Table,
    Verdict,
    Wall,
)

from ._curvature import NEGLIGIBLE, Ends, subject_ends
from ._stability import StepRule, step_rule

ROWS = 512  # training rows the loss is taken over; the C - 1 outliers need some rows of each class
TOLERANCE = 1e-2  # share of its value an eigenvalue may be off: the controls differ by more or say nothing
LEAST, MOST = 5, 20  # largest eigenvalues looked for: one per class if the classes are neither few nor many
BESIDE = 3  # largest eigenvalues of a control: none stands apart before training, so each further takes many steps
CONTROL_PRODUCTS = 30  # as seen on small networks; 46 for five values
GAP = 1.5  # an eigenvalue this many times the next one stands apart from the bulk
EDGE = 0.1  # within this share of the stability limit the sharpness is at it
REFERENCES = (
    "Sagun, Evci, Guney, Dauphin, Bottou (2017). Empirical analysis of the Hessian of over-parametrized neural "
    "networks. arXiv:1706.04454.",
    "Papyan (2019). Measurements of three-level hierarchical structure in the outliers in the spectrum of deepnet "
    "Hessians. ICML.",
    "Cohen, Kaur, Li, Kolter, Talwalkar (2021). Gradient descent on neural networks typically occurs at the edge of "
    "stability. ICLR.",
    "Dinh, Pascanu, Bengio, Bengio (2017). Sharp minima can generalize for deep nets. ICML.",
)


def judge(found: Estimate, low: Estimate, others: dict[str, Estimate]) -> tuple[Verdict, Message]:
    """``found`` and ``low``: largest and smallest eigenvalue; ``others``: the largest of each control, by role."""
    if found.trouble is not None:
        text = "no answer yet: {why}"
        return Verdict.INCONCLUSIVE, Message("TL301.unconverged", text, why=found.trouble)
    for role in ("init", "shuffled"):
        other = others.get(role)
        if other is not None and _alike(found, other):
            ids = {"init": "TL301.as_init", "shuffled": "TL301.as_shuffled"}
            texts = {
                "init": "largest eigenvalue {value:.3g}, no other than before training ({other:.3g})",
                "shuffled": "largest eigenvalue {value:.3g}, no other than after training on shuffled labels "
                "({other:.3g})",
            }
            said = Message(ids[role], texts[role], value=found.value, other=other.value)
            return Verdict.INCONCLUSIVE, said
    start = others.get("init")
    if start is None or start.value <= 0 or found.value <= 0:
        text = "largest eigenvalue {value:.3g}, smallest {low:.3g}"
        return Verdict.DESCRIPTIVE, Message("TL301.alone", text, value=found.value, low=low.value)
    text = "largest eigenvalue {value:.3g}, {ratio:.3g} times that before training; smallest {low:.3g}"
    return Verdict.DESCRIPTIVE, Message(
        "TL301.compared", text, value=found.value, ratio=found.value / start.value, low=low.value
    )


def _alike(a: Estimate, b: Estimate) -> bool:
    return b.lower <= a.value <= b.upper or a.lower <= b.value <= a.upper


def read(values: list[float], low: Estimate, classes: int | None, rule: StepRule) -> Message:
    """The reading, from the largest eigenvalues (largest first) and the smallest one."""
    return Message(
        "TL301.reading",
        "{sharpest} {outliers} {edge}",
        sharpest=_sharpest(values[0], low), outliers=_outliers(values, classes), edge=_edge(values[0], rule),
    )  # fmt: skip


def _outliers(values: list[float], classes: int | None) -> Message:
    c = classes or 0
    if 3 <= c <= len(values) and values[c - 1] > 0:
        step = values[c - 2] / values[c - 1]
        if step >= GAP:
            text = (
                "{n} directions stand apart: eigenvalue {n} is {step:.2g} times the next, one direction fewer than "
                "the {classes} classes."
            )
            return Message("TL301.outliers", text, n=c - 1, step=step, classes=c)
        text = (
            "No gap sets {n} directions apart, as {classes} classes often do: eigenvalue {n} is {step:.2g} times the "
            "next."
        )
        return Message("TL301.no_outliers", text, n=c - 1, step=step, classes=c)
    text = "Between {last:.3g} and {first:.3g} lie the {k} largest eigenvalues."
    return Message("TL301.range", text, last=values[-1], first=values[0], k=len(values))


def _sharpest(top: float, low: Estimate) -> Message:
    if low.trouble is not None:
        text = "By up to {top:.3g}; whether downwards too is open, for the smallest eigenvalue did not converge."
        return Message("TL301.low_unknown", text, top=top)
    if low.upper < -NEGLIGIBLE * abs(top):
        text = "By up to {top:.3g}, and downwards too: an eigenvalue of {low:.3g} exists, so this is no minimum."
        return Message("TL301.negative", text, top=top, low=low.value)
    text = "By up to {top:.3g}, and nowhere downwards beyond the error of {error:.1g}."
    return Message("TL301.no_negative", text, top=top, error=low.upper - low.value)


def _edge(top: float, rule: StepRule) -> Message:
    if not rule.plain:
        text = "The limit 2/lr does not apply to an optimiser that rescales the gradient."
        return Message("TL301.rescaled", text)
    if rule.limit is None:
        return Message("TL301.no_lr", "Nothing is known about the learning rate, so no limit 2/lr is drawn.")
    values = {"share": top / rule.limit, "limit": rule.limit}
    if values["share"] > 1 + EDGE:
        text = (
            "The largest is {share:.2g} times the stability limit {limit:.3g} of full-batch steps at the last "
            "learning rate: above it."
        )
        return Message("TL301.edge.above", text, **values)
    if values["share"] >= 1 - EDGE:
        text = (
            "The largest is {share:.2g} of the stability limit {limit:.3g} of full-batch steps at the last learning "
            "rate: at the edge of stability."
        )
        return Message("TL301.edge.at", text, **values)
    text = (
        "The largest is {share:.2g} of the stability limit {limit:.3g} of full-batch steps at the last learning "
        "rate: below it."
    )
    return Message("TL301.edge.below", text, **values)


def wanted(classes: int | None) -> int:
    """How many of the largest eigenvalues to look for."""
    return max(LEAST, min(MOST, classes or 0))


def network_ends(subject: Subject, rows: int) -> Ends:
    """Both ends of the spectrum of the trained network, as the probes of this chapter share them."""
    return subject_ends(subject, k=wanted(subject.classes), rows=rows, tolerance=TOLERANCE)


def products(subject: Subject) -> int:
    """Products that the search on the trained network takes, as seen on small networks."""
    return min(12 + 2 * wanted(subject.classes), _size(subject))


def _size(subject: Subject) -> int:
    return sum(p.numel() for p in subject.net.parameters() if p.requires_grad)


def _cost(subject: Subject, rung: int | None) -> Work:
    del rung
    rows = min(ROWS, len(subject.split("train")))
    runs = 2 if subject.shuffled is not None else 1
    taken = products(subject) + runs * min(CONTROL_PRODUCTS, _size(subject))
    # Two passes of orthogonalisation against the whole basis of each search.
    flops = 4.0 * _size(subject) * taken**2 / (1 + runs)
    return Work(forwards=rows * (1 + runs), gradients=2 * rows * (1 + runs), hvps=taken * rows, flops=flops)


@probe(code="TL301", needs={Need.MODEL, Need.TRAIN}, cost=_cost, name="landscape.eigenvalues")
def probe_eigenvalues(subject: Subject, *, rng: torch.Generator, rows: int = ROWS) -> Result:
    """How sharply does the training loss bend at the solution, and does it bend downwards anywhere?

    Largest eigenvalues of the Hessian of the training loss (at least 5, one per class up to 20) and the smallest;
    the 3 largest and the smallest of each control.
    """
    del rng  # the start of Lanczos is keyed by its name, so that the controls and other probes share it
    ends = network_ends(subject, rows)
    found, low = ends.top.estimate(), ends.bottom.estimate()
    used = min(rows, len(subject.split("train")))
    measured: list[Ends] = []

    def largest(other: Subject) -> Estimate:
        measured.append(subject_ends(other, k=BESIDE, rows=rows, tolerance=TOLERANCE))
        return measured[-1].top.estimate()

    beside = controls(subject, largest)
    spectra = list(zip(beside, measured, strict=True))
    rule = step_rule(subject)
    verdict, reason = judge(found, low, {c.role: c.estimate for c in beside})
    return Result(
        estimate=found,
        kind=Kind.INDICATOR,
        verdict=verdict,
        reason=reason,
        reading=read(ends.top.values.tolist(), low, subject.classes, rule),
        assumptions=_assumptions(used, len(subject.split("train")), rule, ends.top.complete),
        controls=beside,
        references=REFERENCES,
        payload=(_spectrum(ends, spectra, rule), _table(ends, spectra)),
        settings={"rows": used, "k": len(ends.top), "tolerance": TOLERANCE, "parameters": ends.top.parameters},
    )


def _assumptions(used: int, rows: int, rule: StepRule, complete: bool) -> tuple[Assumption, ...]:
    whole = Assumption(
        statement=Message("TL301.assume.rows", "the curvature is that of the loss over the whole training split"),
        status=Status.MET if used == rows else Status.UNCHECKED,
        evidence=Message(
            "TL301.assume.rows.evidence",
            "{used} of {rows} rows were used; the interval covers the iteration, not this choice",
            used=used, rows=rows,
        ),
    )  # fmt: skip
    smooth = Assumption(
        statement=Message("TL301.assume.smooth", "the loss is twice differentiable at the parameters"),
    )
    copies = Assumption(
        statement=Message(
            "TL301.assume.copies", "no eigenvalue below the largest is repeated, or its copies are found"
        ),
        status=Status.MET if complete else Status.UNCHECKED,
    )
    if rule.limit is None:
        return whole, smooth, copies
    status = {True: Status.MET, False: Status.BROKEN, None: Status.UNCHECKED}[rule.full_batch]
    full = Message("TL301.assume.full_batch", "the stability limit is that of steps along the full gradient")
    return whole, smooth, copies, Assumption(statement=full, status=status)


def _spectrum(ends: Ends, spectra: list[tuple[Control, Ends]], rule: StepRule) -> Spectrum:
    levels = [Levels(values=ends.top.values, error=ends.top.residuals, name=Message("TL301.network", "trained"))]
    levels += [
        Levels(values=e.top.values, error=e.top.residuals, name=c.name, role=c.role) for c, e in spectra
    ]  # fmt: skip
    every = np.concatenate([level.values for level in levels])
    wide = bool((every > 0).all() and every.max() > 100 * every.min())
    walls: tuple[Wall, ...] = ()
    # A wall far outside of the spectrum would flatten it.
    if rule.limit is not None and (wide or rule.limit < 5 * every.max()):
        walls = (Wall(at=rule.limit, name=Message("TL301.wall", "stability limit")),)
    return Spectrum(
        label=Message("TL301.figure", "The largest eigenvalues of the Hessian of the training loss"),
        levels=tuple(levels),
        y_name=Message("TL301.figure.y", "eigenvalue"),
        y_log=wide,
        walls=walls,
    )


def _table(ends: Ends, spectra: list[tuple[Control, Ends]]) -> Table:
    named = [(Message("TL301.network", "trained"), ends), *((c.name, e) for c, e in spectra)]
    return Table(
        label=Message("TL301.table", "Both ends of the spectrum; an eigenvalue lies within the residual of each value"),
        columns=(
            Message("TL301.table.who", "network"), Message("TL301.table.top", "largest"),
            Message("TL301.table.residual", "residual"), Message("TL301.table.low", "smallest"),
            Message("TL301.table.residual", "residual"), Message("TL301.table.products", "products"),
        ),
        rows=tuple(
            (
                name, float(e.top.values[0]), float(e.top.residuals[0]), float(e.bottom.values[0]),
                float(e.bottom.residuals[0]), e.top.products,
            )
            for name, e in named
        ),
    )  # fmt: skip
