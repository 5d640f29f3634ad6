"""TL401: the tangent kernel against the labels, beside the kernel before training and shuffled labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from theorylens.core import Need, Subject, Work, probe
from theorylens.results import (
    Assumption,
    Cell,
    Control,
    Estimate,
    Kind,
    Matrix,
    Message,
    Result,
    Statistical,
    Status,
    Table,
    Unknown,
    Verdict,
)

from ._jackknife import LEVEL, leave_one_out, with_interval
from ._subset import Rows, chosen_rows, kernel_work, networks_with_controls, tangent_kernel

PERMUTATIONS = 400  # the 97.5 % point is then known to about three quarters of a percent
SHOWN = 50  # rows of a drawn kernel; more would be a grey carpet
REFERENCES = (
    "Cortes, Mohri, Rostamizadeh (2012). Algorithms for learning kernels based on centered alignment. JMLR 13:795-828.",
    "Jacot, Gabriel, Hongler (2018). Neural tangent kernel: convergence and generalization in neural networks. NIPS.",
    "Baratin et al. (2021). Implicit regularization via neural feature alignment. AISTATS.",
)


@dataclass(frozen=True, eq=False)
class Aligned:
    """Alignment of one network with its leave-one-out values, so that differences on the same rows have error bars."""

    estimate: Estimate
    without: np.ndarray
    kernel: Tensor
    rows: Rows


def judge(
    found: Estimate, shuffled_targets: Estimate, init: Estimate | None, growth: Estimate | None,
    shuffled: Estimate | None = None,
) -> tuple[Verdict, Message, Message]:  # fmt: skip
    """Verdict, short reason and reading from bare numbers; ``growth`` is now minus initial on the same rows."""
    value = found.value
    if found.trouble is not None or isinstance(shuffled_targets.uncertainty, Unknown):
        reason = Message("TL401.undefined", "the alignment cannot be estimated on these rows")
        return Verdict.INCONCLUSIVE, reason, reason
    if value <= shuffled_targets.upper:
        reason = Message("TL401.chance", "no more aligned than with shuffled labels")
        text = (
            "No: the alignment is {value:.2f}, and the same kernel gives up to {upper:.2f} with shuffled labels, "
            "so it says nothing about these labels."
        )
        return (
            Verdict.INCONCLUSIVE,
            reason,
            Message("TL401.chance_long", text, value=value, upper=shuffled_targets.upper),
        )
    if init is None or growth is None:
        reason = Message("TL401.no_init", "aligned beyond chance; whether training did it is unknown")
        text = (
            "Beyond chance: the alignment is {value:.2f}. The network cannot be re-initialised, so what training added "
            "is unknown; give init= to Subject."
        )
        return Verdict.INCONCLUSIVE, reason, Message("TL401.no_init_long", text, value=value)
    if isinstance(growth.uncertainty, Unknown) or growth.lower <= 0 <= growth.upper:
        reason = Message("TL401.unchanged", "not told apart from its initialisation")
        text = (
            "No change: the alignment is {value:.2f} and was {init:.2f} at initialisation, a difference within its "
            "error bar. A number equal to its control explains nothing."
        )
        return Verdict.INCONCLUSIVE, reason, Message("TL401.unchanged_long", text, value=value, init=init.value)
    return _judge_changed(value, found, init.value, growth, shuffled)


def _judge_changed(
    value: float, found: Estimate, init: float, growth: Estimate, shuffled: Estimate | None
) -> tuple[Verdict, Message, Message]:
    if growth.value < 0:
        reason = Message("TL401.fell", "training turned the kernel away from the labels")
        text = "No: the alignment fell from {init:.2f} at initialisation to {value:.2f}."
        return Verdict.DESCRIPTIVE, reason, Message("TL401.fell_long", text, value=value, init=init)
    if shuffled is not None and shuffled.upper >= found.lower:
        reason = Message("TL401.memorised", "a network trained on shuffled labels aligns as much")
        text = (
            "Yes, but: the alignment rose from {init:.2f} to {value:.2f}; a network trained on shuffled labels reaches "
            "{shuffled:.2f} with its own labels, so here alignment does not tell learning from memorising."
        )
        message = Message("TL401.memorised_long", text, value=value, init=init, shuffled=shuffled.value)
        return Verdict.INCONCLUSIVE, reason, message
    reason = Message("TL401.rose", "training aligned the kernel with the labels")
    text = (
        "Yes: the alignment rose from {init:.2f} at initialisation to {value:.2f}: examples with one label share "
        "more of their gradient than before. It goes with feature learning and bounds nothing by itself."
    )
    return Verdict.DESCRIPTIVE, reason, Message("TL401.rose_long", text, value=value, init=init)


@probe(
    code="TL401", needs={Need.MODEL, Need.TRAIN},
    cost=lambda subject, rung: kernel_work(subject, networks_with_controls(subject)) + Work(seconds=1.5),
)  # fmt: skip
def probe_alignment(subject: Subject, *, rng: torch.Generator) -> Result:
    """Does the tangent kernel call those examples similar that have the same label?

    Debiased centred alignment of the trace kernel with the targets on at most 150 training rows, classes weighted
    equally where labels are known. Controls: the same labels shuffled, the initial network on the same rows, and the
    network trained on shuffled labels, with the labels it was trained on.
    """
    rows = chosen_rows(subject)
    found = measured(subject, rows)
    null = shuffled_targets(found, rng)
    start = subject.initial()
    before, growth = None, None
    if start is not None:
        with start.subject.studied():
            before = measured(start.subject, rows)
        difference = found.estimate.value - before.estimate.value
        growth = _estimate(difference, found.without - before.without, rows, (-2.0, 2.0))
    other = None
    if subject.shuffled is not None:
        with subject.shuffled.studied():
            other = measured(subject.shuffled, chosen_rows(subject.shuffled))
    verdict, reason, reading = judge(
        found.estimate, null, None if before is None else before.estimate, growth,
        None if other is None else other.estimate,
    )  # fmt: skip
    names = {"theory": Message("TL401.null", "same kernel, shuffled labels")}
    controls = [Control(role="theory", name=names["theory"], estimate=null)]
    if start is not None and before is not None:
        controls.append(Control(role="init", name=start.name, estimate=before.estimate))
    if other is not None:
        name = Message("TL401.shuffled", "trained on shuffled labels, with those labels")
        controls.append(Control(role="shuffled", name=name, estimate=other.estimate))
    drawn = [_drawn(found, Message("TL401.matrix", "Tangent kernel after training, rows sorted by label"))]
    if before is not None:
        drawn.append(_drawn(before, Message("TL401.matrix_init", "Tangent kernel at initialisation, same rows")))
    return Result(
        estimate=found.estimate, kind=Kind.INDICATOR, verdict=verdict, reason=reason, reading=reading,
        assumptions=_assumptions(rows), controls=tuple(controls), references=REFERENCES,
        payload=(_table(found.estimate, controls), *drawn),
        settings={"rows": len(rows), "rows drawn by class": rows.by_class, "permutations": PERMUTATIONS},
    )  # fmt: skip


def measured(subject: Subject, rows: Rows) -> Aligned:
    """Alignment of one network on ``rows``, with its error bar."""
    kernel = tangent_kernel(subject, rows)
    value = rows.aligned(kernel, torch.arange(len(rows))) if len(rows) >= 4 else float("nan")
    without = leave_one_out(lambda kept: rows.aligned(kernel, kept), len(rows)) if len(rows) > 4 else np.zeros(0)
    return Aligned(_estimate(value, without, rows, (-1.0, 1.0)), without, kernel, rows)


def shuffled_targets(found: Aligned, rng: torch.Generator) -> Estimate:
    """Mean and 95 % range of the alignment of the same kernel with permuted targets."""
    rows, n = found.rows, len(found.rows)
    every = torch.arange(n)
    draws = [
        rows.aligned(found.kernel, every, rows.targets[torch.randperm(n, generator=rng)]) for _ in range(PERMUTATIONS)
    ]
    if n < 4 or not np.isfinite(draws).all():
        why = Message("TL401.no_null", "the alignment with shuffled labels is undefined on these rows")
        return Estimate(value=0.0, uncertainty=Unknown(why=why))
    lower, upper = (float(x) for x in np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    method = Message("TL401.permutations", "range over {draws:d} permutations of the labels", draws=PERMUTATIONS)
    return Estimate(
        value=float(np.mean(draws)), uncertainty=Statistical(lower=lower, upper=upper, level=LEVEL, method=method)
    )


def _estimate(value: float, without: np.ndarray, rows: Rows, within: tuple[float, float]) -> Estimate:
    if not np.isfinite(value):
        trouble = Message(
            "TL401.trouble", "the kernel or the targets do not vary enough on {n} rows; give more training rows",
            n=len(rows),
        )  # fmt: skip
        return Estimate(value=float("nan"), uncertainty=Unknown(why=trouble), trouble=trouble)
    return with_interval(min(within[1], max(within[0], value)), without, rows.strata, within)


def _assumptions(rows: Rows) -> tuple[Assumption, ...]:
    drawn = Message("TL401.a_rows", "the rows stand for the training data")
    if rows.by_class:
        evidence = Message(
            "TL401.e_class", "{n:d} rows, the same number from each class, chosen by content", n=len(rows)
        )
    else:
        evidence = Message("TL401.e_random", "{n:d} rows chosen by content, not by class", n=len(rows))
    still = Message("TL401.a_eval", "the kernel is that of the network in evaluation mode, not of its training steps")
    return (
        Assumption(statement=drawn, status=Status.MET, evidence=evidence),
        Assumption(statement=still, status=Status.UNCHECKED),
    )


def _table(found: Estimate, controls: list[Control]) -> Table:
    columns = (
        Message("TL401.column_what", "network and labels"), Message("TL401.column_value", "alignment"),
        Message("TL401.column_lower", "lower end"), Message("TL401.column_upper", "upper end"),
    )  # fmt: skip
    named = [(Message("TL401.network", "after training, true labels"), found)]
    named += [(control.name, control.estimate) for control in controls]
    rows: list[tuple[Cell, ...]] = [(name, e.value, e.lower, e.upper) for name, e in named]
    return Table(label=Message("TL401.table", "Alignment beside its controls"), columns=columns, rows=tuple(rows))


def _drawn(found: Aligned, label: Message) -> Matrix:
    """Cosines of the kernel, averaged over blocks of neighbouring rows."""
    scale = found.kernel.diagonal().clamp(min=1e-300).sqrt()
    cosines = found.kernel / scale[:, None] / scale
    groups = np.array_split(np.arange(len(cosines)), min(SHOWN, len(cosines)))
    mean = torch.stack([cosines[group].mean(0) for group in map(torch.as_tensor, groups)])
    mean = torch.stack([mean[:, group].mean(1) for group in map(torch.as_tensor, groups)], dim=1)
    side = Message("TL401.side", "training rows, sorted by label")
    return Matrix(label=label, values=mean.numpy(), top=1.0, x_name=side, y_name=side)
