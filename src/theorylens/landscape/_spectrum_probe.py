"""The whole Hessian spectrum of a trained network beside its controls: judge and probe."""

from __future__ import annotations

import numpy as np
import torch

from theorylens.core import Need, Subject, Work, controls, probe
from theorylens.results import (
    Assumption,
    Control,
    Curve,
    Estimate,
    Kind,
    Levels,
    Line,
    Message,
    Result,
    Spectrum,
    Status,
    Table,
    Verdict,
)

from ._curvature import subject_ends
from ._density import DRAWS, SpectralDensity, goal_density, known_trace
from ._outermost import ROWS, TOLERANCE, products, wanted

POINTS = 161  # of the curve
STEPS = 20  # products per draw: moments of the spectrum to degree 39
BLUR = 1 / 60  # width of the smoothing as a share of the picture: what 20 steps resolve
SAME = 0.05  # share by which an effective rank may differ from another and say the same
REFERENCES = (
    "Ghorbani, Krishnan, Xiao (2019). An investigation into neural net optimization via Hessian eigenvalue density. "
    "ICML.",
    "Papyan (2019). Measurements of three-level hierarchical structure in the outliers in the spectrum of deepnet "
    "Hessians. ICML.",
    "Roy, Vetterli (2007). The effective rank: a measure of effective dimensionality. EUSIPCO.",
    "Dinh, Pascanu, Bengio, Bengio (2017). Sharp minima can generalize for deep nets. ICML.",
)


def judge(found: Estimate, others: dict[str, Estimate], parameters: int) -> tuple[Verdict, Message]:
    """``found``: the effective rank; ``others``: that of each control, by role."""
    start, noise = others.get("init"), others.get("shuffled")
    if start is not None and _alike(found, start):
        text = "curvature spread over about {rank:.3g} directions, not told apart from before training ({other:.3g})"
        return Verdict.INCONCLUSIVE, Message("TL304.as_init", text, rank=found.value, other=start.value)
    if noise is not None and _alike(found, noise):
        text = (
            "curvature spread over about {rank:.3g} directions, not told apart from after training on shuffled labels "
            "({other:.3g})"
        )
        return Verdict.INCONCLUSIVE, Message("TL304.as_shuffled", text, rank=found.value, other=noise.value)
    if start is None:
        text = "curvature spread over about {rank:.3g} of {parameters:,} directions"
        return Verdict.DESCRIPTIVE, Message("TL304.alone", text, rank=found.value, parameters=parameters)
    text = "curvature spread over about {rank:.3g} of {parameters:,} directions, {other:.3g} before training"
    said = Message("TL304.compared", text, rank=found.value, parameters=parameters, other=start.value)
    return Verdict.DESCRIPTIVE, said


def _alike(a: Estimate, b: Estimate) -> bool:
    near = abs(a.value - b.value) <= SAME * max(abs(a.value), abs(b.value))
    return near or b.lower <= a.value <= b.upper or a.lower <= b.value <= a.upper


def read(
    rank: Estimate, flat: Estimate, outliers: int, classes: int | None, parameters: int, before: int | None = None
) -> Message:
    """The reading: how many directions share the curvature, what stands out (``before`` training too), what is flat."""
    text = (
        "About {rank:.3g} of {parameters:,} (from {low:.3g} to {high:.3g}), by the entropy of the eigenvalues' sizes. "
        "{outliers} {flat:.0%} of all directions bend by less than a thousandth of the sharpest."
    )
    return Message(
        "TL304.reading", text, rank=rank.value, parameters=parameters, low=max(rank.lower, 1.0), high=rank.upper,
        outliers=_outliers(outliers, classes, before), flat=flat.value,
    )  # fmt: skip


def _outliers(n: int, classes: int | None, before: int | None) -> Message:
    if not n:
        return Message("TL304.no_outliers", "No gap sets the largest eigenvalues apart from the rest.")
    if classes is not None and classes > 2 and n == classes - 1:
        if before == n:
            text = (
                "{n} eigenvalues stand apart, one fewer than the {classes} classes, but as many did before training: "
                "the outputs make them, not what was learnt."
            )
            return Message("TL304.outliers.before", text, n=n, classes=classes)
        text = "{n} eigenvalues stand apart, one fewer than the {classes} classes, as in many classifiers."
        return Message("TL304.outliers.classes", text, n=n, classes=classes)
    if n == 1:
        return Message("TL304.outlier", "The largest eigenvalue stands apart from the rest.")
    return Message("TL304.outliers", "The {n} largest eigenvalues stand apart from the rest.", n=n)


def _size(subject: Subject) -> int:
    return sum(p.numel() for p in subject.net.parameters() if p.requires_grad)


def _cost(subject: Subject, rung: int | None) -> Work:
    del rung
    rows, size = min(ROWS, len(subject.split("train"))), _size(subject)
    beside = 2 if subject.shuffled is not None else 1
    # Before training few eigenvalues stand apart, so as many take about twice the steps.
    searched = products(subject) + 2 * beside * products(subject)
    drawn = (1 + beside) * min(DRAWS * STEPS, size)
    flops = 2.0 * size * (searched**2 / (1 + beside) + drawn * STEPS)
    outputs = subject.classes or 1  # a backward pass for each, where they give the trace
    return Work(
        forwards=rows * (1 + beside), gradients=(3 + outputs) * rows * (1 + beside), hvps=(searched + drawn) * rows,
        flops=flops,
    )  # fmt: skip


@probe(code="TL304", needs={Need.MODEL, Need.TRAIN}, cost=_cost, name="landscape.spectral_density")
def probe_spectral_density(subject: Subject, *, rng: torch.Generator, rows: int = ROWS) -> Result:
    """Over how many directions is the curvature of the training loss spread?

    Density of the Hessian's eigenvalues by Lanczos quadrature, its outliers one by one, and the effective rank.
    """
    state = rng.get_state()
    measured: list[SpectralDensity] = []

    def measure(other: Subject) -> Estimate:
        # As many eigenvalues of the controls: what stands apart is compared.
        ends = subject_ends(other, k=wanted(subject.classes), rows=rows, tolerance=TOLERANCE)
        goal = other.objective("train", limit=rows)
        drawn = torch.Generator().set_state(state)  # the same draws for the network and its controls
        found = goal_density(goal, ends, draws=DRAWS, steps=STEPS, trace=known_trace(goal), generator=drawn)
        measured.append(found)
        return measured[-1].effective_rank

    found = measure(subject)
    beside = controls(subject, measure)
    density = measured[0]
    parameters, used = density.quadrature.size, min(rows, len(subject.split("train")))
    verdict, reason = judge(found, {c.role: c.estimate for c in beside}, parameters)
    named = list(zip([None, *beside], measured, strict=True))
    return Result(
        estimate=found,
        kind=Kind.INDICATOR,
        verdict=verdict,
        reason=reason,
        reading=read(found, density.flat_share, density.outliers, subject.classes, parameters, _before(named)),
        assumptions=_assumptions(used, len(subject.split("train")), density),
        controls=beside,
        references=REFERENCES,
        payload=(_curve(named), _levels(named), _table(named)),
        settings={"rows": used, "draws": DRAWS, "steps": STEPS, "parameters": parameters},
    )


def _assumptions(used: int, rows: int, density: SpectralDensity) -> tuple[Assumption, ...]:
    whole = Assumption(
        statement=Message("TL304.assume.rows", "the curvature is that of the loss over the whole training split"),
        status=Status.MET if used == rows else Status.UNCHECKED,
        evidence=Message(
            "TL304.assume.rows.evidence",
            "{used} of {rows} rows were used; the interval covers the draws, not this choice", used=used, rows=rows,
        ),
    )  # fmt: skip
    smooth = Assumption(
        statement=Message("TL304.assume.smooth", "the loss is twice differentiable at the parameters"),
    )
    steps = Assumption(
        statement=Message(
            "TL304.assume.steps", "eigenvalues closer together than the draws resolve share directions alike"
        ),
        status=Status.MET if density.quadrature.exact else Status.UNCHECKED,
    )
    return whole, smooth, steps


Named = list[tuple[Control | None, SpectralDensity]]


def _before(named: Named) -> int | None:
    """How many eigenvalues stood apart before training, if that network is known."""
    return next((d.outliers for control, d in named if control is not None and control.role == "init"), None)


def _curve(named: Named) -> Curve:
    """Densities on one axis; the vertical one is logarithmic, for one direction of thousands is seen only so."""
    low = min(float(d.ends.bottom.values[0]) for _, d in named)
    high = max(float(d.ends.top.values[0]) for _, d in named)
    span = (high - low) or 1.0
    grid = np.linspace(low - 0.05 * span, high + 0.05 * span, POINTS)
    width = BLUR * span
    lines = []
    for control, density in named:
        floor = 0.05 / (density.quadrature.size * width)  # an eighth of the peak of a single eigenvalue
        mean, lower, upper = (np.maximum(part, floor) for part in density.density(grid, width))
        name = Message("TL304.network", "trained") if control is None else control.name
        role = "network" if control is None else control.role
        lines.append(Line(x=grid, y=mean, lower=lower, upper=upper, name=name, role=role))
    return Curve(
        label=Message("TL304.figure", "Density of the Hessian's eigenvalues of the training loss"),
        lines=tuple(lines),
        x_name=Message("TL304.figure.x", "eigenvalue"),
        y_name=Message("TL304.figure.y", "density"),
        y_log=True,
    )


def _levels(named: Named) -> Spectrum:
    """The largest eigenvalues one by one, which the density shows as specks."""
    levels = []
    for control, density in named:
        name = Message("TL304.network", "trained") if control is None else control.name
        role = "network" if control is None else control.role
        top = density.ends.top
        levels.append(Levels(values=top.values, error=top.residuals, name=name, role=role))
    return Spectrum(
        label=Message("TL304.levels", "The largest eigenvalues one by one"),
        levels=tuple(levels),
        y_name=Message("TL304.figure.x", "eigenvalue"),
    )


def _table(named: Named) -> Table:
    def row(control: Control | None, d: SpectralDensity) -> tuple[Message | float | int, ...]:
        name = Message("TL304.network", "trained") if control is None else control.name
        return (
            name, d.effective_rank.value, d.outliers, d.flat_share.value, float(d.ends.bottom.values[0]),
            float(d.ends.top.values[0]), d.trace.value,
        )  # fmt: skip

    return Table(
        label=Message("TL304.table", "The spectrum in a few numbers"),
        columns=(
            Message("TL304.table.who", "network"), Message("TL304.table.rank", "effective rank"),
            Message("TL304.table.outliers", "standing apart"), Message("TL304.table.flat", "flat share"),
            Message("TL304.table.low", "smallest"), Message("TL304.table.top", "largest"),
            Message("TL304.table.trace", "trace"),
        ),
        rows=tuple(row(control, density) for control, density in named),
    )  # fmt: skip
