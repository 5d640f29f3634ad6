"""The probe of the trace: beside the network before training, and what to make of the difference."""

from __future__ import annotations

import numpy as np
import torch

from theorylens.core import Need, Subject, Work, controls, probe
from theorylens.numerics.memory import part
from theorylens.results import (
    Assumption,
    Control,
    Estimate,
    Exact,
    Intervals,
    Kind,
    Message,
    Result,
    Statistical,
    Status,
    Table,
    Unknown,
    Verdict,
    Wall,
)

from ._gauss_newton import task_of
from ._piecewise import DRAWS, obstacle
from ._piecewise import ROWS as COMPARED
from ._trace import EXACT, FEW, Route, fits, traced

ROWS = 512  # training rows the loss is taken over
REFERENCES = (
    "Hutchinson (1990). A stochastic estimator of the trace of the influence matrix for Laplacian smoothing splines. "
    "Communications in Statistics B 19:433-450.",
    "Schraudolph (2002). Fast curvature matrix-vector products for second-order gradient descent. Neural Computation "
    "14:1723-1738.",
    "Dinh, Pascanu, Bengio, Bengio (2017). Sharp minima can generalize for deep nets. ICML.",
    "Jiang, Neyshabur, Mobahi, Krishnan, Bengio (2020). Fantastic generalization measures and where to find them. "
    "ICLR.",
)


def judge(found: Estimate, others: dict[str, Estimate]) -> tuple[Verdict, Message]:
    """``others``: the trace of each control, by role."""
    for each in (found, *others.values()):
        if isinstance(each.uncertainty, Unknown):
            text = "trace {value:.3g}, not compared: {why}"
            return Verdict.INCONCLUSIVE, Message("TL302.unknown", text, value=found.value, why=each.uncertainty.why)
    start, noise = others.get("init"), others.get("shuffled")
    if start is not None and _alike(found, start):
        text = "trace {value:.3g}, not told apart from that before training ({other:.3g})"
        return Verdict.INCONCLUSIVE, Message("TL302.as_init", text, value=found.value, other=start.value)
    if noise is not None and _alike(found, noise):
        text = "trace {value:.3g}, not told apart from that after training on shuffled labels ({other:.3g})"
        return Verdict.INCONCLUSIVE, Message("TL302.as_shuffled", text, value=found.value, other=noise.value)
    if start is None or start.value <= 0 or found.value <= 0:
        return Verdict.DESCRIPTIVE, Message("TL302.alone", "trace {value:.3g}", value=found.value)
    text = "trace {value:.3g}, {ratio:.3g} times that before training"
    return Verdict.DESCRIPTIVE, Message("TL302.compared", text, value=found.value, ratio=found.value / start.value)


def _alike(a: Estimate, b: Estimate) -> bool:
    """Whether one may be the other. A difference of exact numbers below rounding of single precision is none."""
    near = abs(a.value - b.value) <= 1e-5 * max(abs(a.value), abs(b.value))
    return near or b.lower <= a.value <= b.upper or a.lower <= b.value <= a.upper


def read(found: Estimate, others: dict[str, Estimate], parameters: int) -> Message:
    """The reading: the mean curvature, then what the controls leave of it."""
    return Message("TL302.reading", "{mean} {beside}", mean=_mean(found, parameters), beside=_beside(found, others))


def _mean(found: Estimate, parameters: int) -> Message:
    text = (
        "By {mean:.3g} on average over {parameters:,} directions: a random step of length r in the weights changes "
        "the loss by r² times {half:.2g} on average."
    )
    mean = found.value / parameters
    return Message("TL302.mean", text, mean=mean, parameters=parameters, half=mean / 2)


def _beside(found: Estimate, others: dict[str, Estimate]) -> Message:
    start, noise = others.get("init"), others.get("shuffled")
    if start is None:
        text = "Nothing to compare it with: the network before training is not known."
        return Message("TL302.no_control", text)
    if any(isinstance(each.uncertainty, Unknown) for each in (found, *others.values())):
        return Message("TL302.not_compared", "How far a number is off is not known, so they are not compared.")
    if _alike(found, start):
        return Message(
            "TL302.equal",
            "It cannot be told apart from that before training, so it says nothing about what was learnt.",
        )
    if noise is not None and _alike(found, noise):
        text = (
            "It cannot be told apart from that after training on shuffled labels, so it says nothing about the labels."
        )
        return Message("TL302.equal_shuffled", text)
    if found.value > start.value:
        text = "Training made the loss sharper on average; sharpness alone does not explain generalisation."
        return Message("TL302.sharper", text)
    text = "Training made the loss flatter on average; flatness alone does not explain generalisation."
    return Message("TL302.flatter", text)


def _cost(subject: Subject, rung: int | None) -> Work:
    rows = min(ROWS, len(subject.split("train")))
    varied = [p for p in subject.net.parameters() if p.requires_grad]
    size = sum(p.numel() for p in varied)
    runs = 3 if subject.shuffled is not None else 2
    if size <= FEW:
        return Work(forwards=rows, gradients=rows, hvps=rows * size) * runs
    outputs, linear = subject.once("landscape.trace.route", lambda: _route(subject))
    passes, draws = 3 + (outputs or 0), 0 if linear else (rung or 0) * (1 if outputs is None else 2)
    compared = min(rows, COMPARED) * 2 * min(DRAWS, len(varied)) if linear else 0
    return Work(forwards=2 * rows, gradients=rows * passes, hvps=rows * draws + compared) * runs


def _route(subject: Subject) -> tuple[int | None, bool]:
    """Outputs of an example, None where their number is too large, and whether nothing needs to be drawn."""
    goal = subject.objective("train", limit=1)
    with subject.studied(), torch.enable_grad():
        task = task_of(goal)
        if task is None:
            return None, False
        outputs, targets = task.forward(goal.model, part(next(iter(goal.on_device())), 0, 1))
        if not fits(outputs):
            return None, False
        return outputs[0].numel(), obstacle(goal, task, outputs, targets) is None


@probe(code="TL302", needs={Need.MODEL, Need.TRAIN}, cost=_cost, rungs=(16, 32, 64, 128, 256), name="landscape.trace")
def probe_trace(subject: Subject, *, rng: torch.Generator, draws: int, rows: int = ROWS) -> Result:
    """How much does the training loss bend on average over all directions?

    Trace of the Hessian of the training loss: exact where it can be had, else with the same random products for the
    network and its controls.
    """
    state = rng.get_state()
    routes: list[Route] = []

    def measure(other: Subject) -> Estimate:
        goal = other.objective("train", limit=rows)
        made = traced(goal, draws=draws, generator=torch.Generator().set_state(state))
        routes.append(made.route)
        return made.estimate

    found = measure(subject)
    beside = controls(subject, measure)
    others: dict[str, Estimate] = {c.role: c.estimate for c in beside}
    parameters = subject.objective("train", limit=rows).size
    verdict, reason = judge(found, others)
    used = min(rows, len(subject.split("train")))
    return Result(
        estimate=found,
        kind=Kind.INDICATOR,
        verdict=verdict,
        reason=reason,
        reading=read(found, others, parameters),
        assumptions=_assumptions(used, len(subject.split("train")), routes[0]),
        controls=beside,
        references=REFERENCES,
        payload=(_intervals(found, beside), _table(found, beside, parameters)),
        settings={
            "rows": used,
            "draws": None if routes[0] in EXACT else draws,
            "parameters": parameters,
            "route": routes[0],
        },
    )


def _assumptions(used: int, rows: int, route: Route) -> tuple[Assumption, ...]:
    choice = Assumption(
        statement=Message("TL302.assume.rows", "the curvature is that of the loss over the whole training split"),
        status=Status.MET if used == rows else Status.UNCHECKED,
        evidence=Message(
            "TL302.assume.rows.evidence",
            "{used} of {rows} rows were used; the interval covers the draws, not this choice", used=used, rows=rows,
        ),
    )  # fmt: skip
    smooth = Assumption(
        statement=Message("TL302.assume.smooth", "the loss is twice differentiable at the parameters"),
    )
    if route == "diagonal":
        return choice, smooth
    if route == "piecewise linear":
        linear = Assumption(
            statement=Message(
                "TL302.assume.piecewise",
                "the outputs are piecewise linear in each parameter, so the trace is exactly that of the Gauss-Newton "
                "matrix",
            ),
            status=Status.MET,
            evidence=Message(
                "TL302.assume.piecewise.evidence",
                "every operation between parameters and outputs is, and products with both matrices agree on {rows} "
                "rows within up to {draws} parameter tensors", rows=min(used, COMPARED), draws=DRAWS,
            ),
        )  # fmt: skip
        return choice, smooth, linear
    normal = Assumption(
        statement=Message("TL302.assume.normal", "the draws are close to normal, as when many directions share it"),
    )
    return choice, smooth, normal


def _intervals(found: Estimate, beside: tuple[Control, ...]) -> Intervals:
    estimates = [found, *(c.estimate for c in beside)]
    known = [isinstance(e.uncertainty, Exact | Statistical) for e in estimates]
    return Intervals(
        label=Message("TL302.figure", "Trace of the Hessian of the training loss"),
        names=(Message("TL302.name", "trained"), *(c.name for c in beside)),
        values=np.array([e.value for e in estimates]),
        lower=np.array([e.lower if k else e.value for e, k in zip(estimates, known, strict=True)]),
        upper=np.array([e.upper if k else e.value for e, k in zip(estimates, known, strict=True)]),
        x_name=Message("TL302.figure.x", "trace"),
        roles=("network", *(c.role for c in beside)),
        walls=(Wall(at=0.0, name=Message("TL302.wall", "flat")),),
    )


def _table(found: Estimate, beside: tuple[Control, ...], parameters: int) -> Table:
    named = [(Message("TL302.network", "trained"), found), *((c.name, c.estimate) for c in beside)]
    return Table(
        label=Message("TL302.table", "The trace and its share per parameter"),
        columns=(
            Message("TL302.table.who", "network"), Message("TL302.table.trace", "trace"),
            Message("TL302.table.mean", "per parameter"),
        ),
        rows=tuple((name, e.value, e.value / parameters) for name, e in named),
    )  # fmt: skip
