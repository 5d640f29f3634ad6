"""The noise of minibatch gradients at the solution, and what steps of the given size add to the loss."""

from __future__ import annotations

import math

import numpy as np
import torch

from theorylens.core import Need, Subject, Work, controls, probe
from theorylens.landscape import StepRule, step_rule
from theorylens.results import (
    Assumption,
    Control,
    Curve,
    Estimate,
    Kind,
    Line,
    Message,
    Result,
    Statistical,
    Status,
    Table,
    Verdict,
    Wall,
)

from ._gradient_noise import KEPT, GradientNoise, noise_scale, objective_noise
from ._implicit_regulariser import ImplicitRegulariser, expected_regulariser

ROWS = 256  # per-example gradients; the interval narrows with their number
REFERENCES = (
    "McCandlish, Kaplan, Amodei, OpenAI Dota team (2018). An empirical model of large-batch training. "
    "arXiv:1812.06162.",
    "Barrett, Dherin (2021). Implicit gradient regularization. ICLR.",
    "Smith, Dherin, Barrett, De (2021). On the origin of implicit regularization in stochastic gradient descent. ICLR.",
)


def judge(found: Estimate, start: Estimate | None, batch: int | None) -> tuple[Verdict, Message, Message]:
    """Verdict, reason and reading; ``start`` is the noise scale before training, ``batch`` that of the recipe."""
    low = max(0.0, found.lower)
    if found.trouble is not None or not math.isfinite(found.value):
        reason = Message(
            "TL510.undetermined", "the gradient is not told from zero: noise scale above {low:.3g}", low=low
        )
        text = (
            "Undecided: at this solution the mean gradient is not told from zero, so a minibatch gradient is mostly"
            " noise. The noise scale is at least {low:.3g} examples. {beside}"
        )
        beside = _beside(found, start)
        return Verdict.INCONCLUSIVE, reason, Message("TL510.reading_undetermined", text, low=low, beside=beside)
    reason = Message("TL510.found", "noise equals signal at a batch of {scale:.3g} examples", scale=found.value)
    text = (
        "Up to batches of about {scale:.3g} examples: a minibatch gradient of that size has as much noise as signal."
        " {used} {beside}"
    )
    used, beside = _used(found.value, batch), _beside(found, start)
    reading = Message("TL510.reading", text, scale=found.value, used=used, beside=beside)
    return Verdict.DESCRIPTIVE, reason, reading


def _used(scale: float, batch: int | None) -> Message:
    if batch is None:
        return Message("TL510.no_batch", "Nothing is known about the batch size used.")
    share = (scale / batch) / (1 + scale / batch)
    text = "At the batch of {batch} examples used, {share:.0%} of the squared gradient is noise."
    return Message("TL510.batch", text, batch=batch, share=share)


def _beside(found: Estimate, start: Estimate | None) -> Message:
    if start is None:
        return Message("TL510.alone", "Nothing to compare it with: the network before training is not known.")
    if not math.isfinite(start.value):
        return Message("TL510.start_unknown", "Before training it could not be determined either.")
    if start.lower <= found.value <= start.upper or found.lower <= start.value <= found.upper:
        text = "That is not told apart from the {start:.3g} before training."
        return Message("TL510.as_init", text, start=start.value)
    text = "Before training it was {start:.3g}."
    return Message("TL510.init", text, start=start.value)


def _cost(subject: Subject, rung: int | None) -> Work:
    del rung
    rows = min(ROWS, len(subject.split("train")))
    parameters = list(subject.net.parameters())
    held = rows * sum(p.numel() * p.element_size() for p in parameters if p.requires_grad) <= KEPT
    runs = 3 if subject.shuffled is not None else 2
    return Work(forwards=rows, gradients=rows * (1 if held else 2), seconds=1e-3 * rows) * runs


@probe(code="TL510", needs={Need.MODEL, Need.TRAIN}, cost=_cost)
def probe_gradient_noise(subject: Subject, *, rng: torch.Generator, rows: int = ROWS) -> Result:
    """How noisy are minibatch gradients at the solution, and up to which batch size does averaging pay?

    Gradient noise scale of up to 256 training rows, with the same rows for the controls.
    """
    del rng  # every row is used, nothing is sampled
    noises: list[GradientNoise] = []

    def measure(other: Subject) -> Estimate:
        noises.append(objective_noise(other.objective("train", limit=rows)))
        return noise_scale(noises[-1])

    found = measure(subject)
    beside = controls(subject, measure)
    goal = subject.objective("train", limit=rows)
    rule, batch = step_rule(subject), _batch(subject)
    start = next((c.estimate for c in beside if c.role == "init"), None)
    verdict, reason, reading = judge(found, start, batch)
    used = noises[0].examples
    added = _added(noises[0], rule, batch, goal.value)
    return Result(
        estimate=found,
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=_assumptions(used, subject),
        controls=beside,
        references=REFERENCES,
        payload=(_curve(found, beside, batch), _table(noises[0], added, goal.value)),
        settings={"rows": used, "batch size": batch, "lr": rule.lr, "parameters": goal.size},
    )


def _batch(subject: Subject) -> int | None:
    settings = (subject.recipe.settings if subject.recipe is not None else None) or {}
    size = settings.get("batch_size")
    return size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else None


def _added(noise: GradientNoise, rule: StepRule, batch: int | None, loss: float) -> ImplicitRegulariser | None:
    """What plain steps of the known size add to the loss; None when size or batch is unknown, or steps are rescaled."""
    if rule.lr is None or not rule.plain or rule.momentum or batch is None or batch > noise.examples:
        return None
    return expected_regulariser(noise, lr=rule.lr, batch_size=batch, loss=loss)


def _assumptions(used: int, subject: Subject) -> tuple[Assumption, ...]:
    split = subject.split("train")
    whole = Assumption(
        statement=Message("TL510.assume.rows", "the rows used stand for the whole training split"),
        status=Status.MET if used == len(split) else Status.UNCHECKED,
        evidence=Message("TL510.assume.rows.evidence", "{used} of {n} rows", used=used, n=len(split)),
    )
    free = Assumption(
        statement=Message("TL510.assume.units", "rows are independent draws of their source (for the interval)"),
        status=Status.BROKEN if split.distinct_units < len(split) else Status.UNCHECKED,
    )
    return whole, free


def _share(scale: float, sizes: np.ndarray) -> np.ndarray:
    """Share of the squared minibatch gradient that is noise at each batch size."""
    return sizes * 0 + 1.0 if not math.isfinite(scale) else scale / (scale + sizes)


def _curve(found: Estimate, beside: tuple[Control, ...], batch: int | None) -> Curve:
    sizes = np.unique(np.geomspace(1, max(1024, 4 * (batch or 1)), 40).round())
    lines = [_line(found, sizes, Message("TL510.name", "trained"), None)]
    lines += [_line(c.estimate, sizes, c.name, c) for c in beside]
    return Curve(
        label=Message("TL510.figure", "Share of the squared minibatch gradient that is noise, by batch size"),
        lines=tuple(lines),
        x_name=Message("TL510.figure.x", "batch size"),
        y_name=Message("TL510.figure.y", "share of noise"),
        x_log=True,
        walls=(Wall(at=0.5, name=Message("TL510.wall", "noise equals signal")),),
    )


def _line(estimate: Estimate, sizes: np.ndarray, name: Message, control: Control | None) -> Line:
    banded = isinstance(estimate.uncertainty, Statistical)
    return Line(
        x=sizes, y=_share(estimate.value, sizes), name=name, role="network" if control is None else control.role,
        lower=_share(estimate.lower, sizes) if banded else None,
        upper=_share(estimate.upper, sizes) if banded else None,
    )  # fmt: skip


def _table(noise: GradientNoise, added: ImplicitRegulariser | None, loss: float) -> Table:
    rows: list[tuple[Message, float]] = [
        (Message("TL510.row.loss", "training loss"), loss),
        (Message("TL510.row.mean", "squared gradient of these rows"), noise.squared_mean),
        (Message("TL510.row.source", "squared gradient of their source, unbiased"), noise.squared_gradient),
        (Message("TL510.row.trace", "trace of the covariance of one row's gradient"), noise.covariance_trace),
    ]
    if added is not None:
        rows += [
            (Message("TL510.row.full", "added to the loss by full-batch steps, (η/4) |∇L|²"), added.full_batch),
            (Message("TL510.row.noise", "added by minibatches, (η/4) E |∇L_k − ∇L|²"), added.noise),
        ]
    return Table(
        label=Message("TL510.table", "Gradient and noise, and what steps of the recipe's size add to the loss"),
        columns=(Message("TL510.table.what", "quantity"), Message("TL510.table.value", "value")),
        rows=tuple(rows),
    )
