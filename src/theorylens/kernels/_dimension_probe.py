"""TL402: the effective dimension of the tangent kernel after training and before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from theorylens.core import Need, Subject, UnsuitableError, Work, probe
from theorylens.results import (
    Assumption,
    Cell,
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

from ._effective_dimension import dimension_at, kernel_eigenvalues
from ._jackknife import with_interval
from ._subset import LIMIT, Rows, chosen_rows, kernel_work, networks_with_controls, tangent_kernel

RIDGE = 0.01
"""Ridge in units of the mean eigenvalue. Relative, so that rescaling the outputs changes nothing; one percent, so that
a direction counts when it has at least a hundredth of an even share."""
RIDGES = (1.0, 0.1, 0.01, 0.001)
REFERENCES = (
    "Zhang (2005). Learning bounds for kernel regression using effective data dimensionality. Neural Computation 17.",
    "Caponnetto, De Vito (2007). Optimal rates for the regularized least-squares algorithm. "
    "Foundations of Computational Mathematics 7.",
)


@dataclass(frozen=True, eq=False)
class Dimension:
    """Effective dimension of one network; ``levels`` are eigenvalues in units of their mean, largest first."""

    estimate: Estimate
    levels: Tensor


def judge(found: Estimate, n: int, init: Estimate | None, start: Message | None) -> tuple[Verdict, Message, Message]:
    """Words for the dimension, and whether it differs from the one before training; always descriptive."""
    text = "{value:.1f} of {n:d} directions are learnt at this ridge"
    reason = Message("TL402.reason", text, value=found.value, n=n)
    if init is None or start is None:
        text = (
            "About {value:.1f} of {n:d} directions carry more than a hundredth of an even share of the tangent kernel; "
            "what training changed is unknown, because the network cannot be re-initialised."
        )
        return Verdict.DESCRIPTIVE, reason, Message("TL402.alone", text, value=found.value, n=n)
    values: dict[str, float | int | Message] = {"value": found.value, "n": n, "init": init.value, "start": start}
    if found.lower <= init.upper and init.lower <= found.upper:
        text = (
            "About {value:.1f} of {n:d} directions; before training ({start}) it was {init:.1f}, not told apart: "
            "training did not visibly change how many directions are learnt."
        )
        return Verdict.DESCRIPTIVE, reason, Message("TL402.same", text, **values)
    if found.value < init.value:
        text = (
            "About {value:.1f} of {n:d} directions, fewer than the {init:.1f} before training ({start}): training "
            "concentrated the tangent kernel."
        )
        return Verdict.DESCRIPTIVE, reason, Message("TL402.fewer", text, **values)
    text = (
        "About {value:.1f} of {n:d} directions, more than the {init:.1f} before training ({start}): training spread "
        "the kernel."
    )
    return Verdict.DESCRIPTIVE, reason, Message("TL402.more", text, **values)


@probe(
    code="TL402", needs={Need.MODEL, Need.TRAIN},
    cost=lambda subject, rung: (
        kernel_work(subject, networks_with_controls(subject))
        + Work(flops=networks_with_controls(subject) * 20.0 * min(LIMIT, len(subject.split("train"))) ** 3)
    ),
)  # fmt: skip
def probe_effective_dimension(subject: Subject, *, rng: torch.Generator) -> Result:
    """In how many directions does the network learn?

    Sum of l / (l + r) over the eigenvalues l of the trace kernel on at most 150 training rows, not centred, with the
    ridge r one percent of the mean eigenvalue. Control: the initial network on the same rows.
    """
    del rng  # the rows are keyed by content
    rows = chosen_rows(subject)
    found = measured(subject, rows)
    controls: list[Control] = []
    drawn = [Levels(values=found.levels.numpy(), name=Message("TL402.network", "after training"))]
    table = [(drawn[0].name, found)]
    start = subject.initial()
    if start is not None:
        with start.subject.studied():
            before = measured(start.subject, rows)
        controls.append(Control(role="init", name=start.name, estimate=before.estimate))
        drawn.append(Levels(values=before.levels.numpy(), name=start.name, role="init"))
        table.append((start.name, before))
    if subject.shuffled is not None:
        with subject.shuffled.studied():
            other = measured(subject.shuffled, chosen_rows(subject.shuffled))
        name = Message("TL402.shuffled", "trained on shuffled labels")
        controls.append(Control(role="shuffled", name=name, estimate=other.estimate))
        drawn.append(Levels(values=other.levels.numpy(), name=name, role="shuffled"))
        table.append((name, other))
    before_or_none = controls[0].estimate if start is not None else None
    verdict, reason, reading = judge(
        found.estimate, len(rows), before_or_none, start.name if start is not None else None
    )
    spectrum = Spectrum(
        label=Message("TL402.spectrum", "Eigenvalues of the tangent kernel in units of their mean"),
        levels=tuple(drawn), y_name=Message("TL402.level", "eigenvalue / mean eigenvalue"), y_log=True,
        walls=(Wall(at=RIDGE, name=Message("TL402.ridge", "ridge: counts one half")),),
    )  # fmt: skip
    return Result(
        estimate=found.estimate, kind=Kind.DESCRIPTION, verdict=verdict, reason=reason, reading=reading,
        assumptions=_assumptions(rows), controls=tuple(controls), references=REFERENCES,
        payload=(spectrum, _table(table)), settings={"rows": len(rows), "ridge / mean eigenvalue": RIDGE},
    )  # fmt: skip


def measured(subject: Subject, rows: Rows) -> Dimension:
    """Effective dimension of one network on ``rows`` with its error bar over rows."""
    kernel = tangent_kernel(subject, rows)
    if not float(kernel.trace()) > 0:
        text = "the tangent kernel is zero on {n:d} training rows: no gradient reaches the outputs"
        raise UnsuitableError(Message("TL402.zero", text, n=len(rows)))

    levels = relative_levels(kernel)
    without = dimension_without_each(kernel) if len(rows) > 1 else np.zeros(0)
    estimate = with_interval(dimension_at(levels, RIDGE), without, rows.strata, (0.0, float(len(rows))))
    return Dimension(estimate, levels)


def dimension_without_each(kernel: Tensor) -> np.ndarray:
    """The dimension with each row left out, its ridge relative to the rows that remain, from one eigendecomposition.

    With M = (K + r)^-1 the inverse of K + r without row i has trace tr M - (M^2)_ii / M_ii.
    """
    n = len(kernel)
    levels, vectors = torch.linalg.eigh((kernel + kernel.T) / 2)
    levels = levels.clamp(min=0)
    ridge = RIDGE * (kernel.trace() - kernel.diagonal()) / (n - 1)  # (n,): one for each row left out
    inverse = 1 / (levels + ridge.clamp(min=1e-300)[:, None])  # (row left out, eigenvalue)
    share = vectors**2
    lost = (share * inverse**2).sum(1) / (share * inverse).sum(1)
    found: np.ndarray = (n - 1 - ridge * (inverse.sum(1) - lost)).numpy()
    return found


def relative_levels(kernel: Tensor) -> Tensor:
    """Eigenvalues divided by their mean, largest first."""
    levels = kernel_eigenvalues(kernel)
    return levels / levels.mean()


def _assumptions(rows: Rows) -> tuple[Assumption, ...]:
    statement = Message("TL402.a_rows", "the number is for so many rows: more rows give a larger one")
    evidence = Message("TL402.e_rows", "{n:d} rows chosen by content", n=len(rows))
    return (Assumption(statement=statement, status=Status.MET, evidence=evidence),)


def _table(networks: list[tuple[Message, Dimension]]) -> Table:
    name = Message("TL402.column_ridge", "ridge / mean eigenvalue")
    columns = (name, *(label for label, _ in networks))
    rows: list[tuple[Cell, ...]] = [(r, *(dimension_at(d.levels, r) for _, d in networks)) for r in RIDGES]
    label = Message("TL402.table", "Effective dimension at other ridges")
    return Table(label=label, columns=columns, rows=tuple(rows))
