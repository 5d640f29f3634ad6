"""TL405: kernel regression with the tangent kernel of the start, judged on rows it leaves out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from theorylens.core import Need, Subject, UnsuitableError, Work, probe
from theorylens.results import (
    Assumption,
    Cell,
    Control,
    Curve,
    Estimate,
    Kind,
    Message,
    Result,
    Statistical,
    Status,
    Table,
    Unknown,
    Verdict,
)

from ._cross_validation import generalised_cross_validation
from ._eigenlearning import learning_curve, learning_curve_payload
from ._jackknife import LEVEL, leave_one_out, with_interval
from ._subset import LIMIT, Rows, chosen_rows, kernel_work, tangent_kernel

RIDGE = 0.01  # in units of the mean eigenvalue, so that rescaling the outputs changes nothing
PERMUTATIONS = 200
SIZES = (0.1, 0.2, 0.3, 0.5)  # of the rows, for the learning curve; theory needs n well below the population
SUBSETS = 10
FEWEST = 10
REFERENCES = (
    "Jacot, Gabriel, Hongler (2018). Neural tangent kernel: convergence and generalization in neural networks. NIPS.",
    "Golub, Heath, Wahba (1979). Generalized cross-validation as a method for choosing a good ridge parameter. "
    "Technometrics 21.",
    "Simon, Dickens, Karkada, DeWeese (2023). The eigenlearning framework: a conservation law perspective on kernel "
    "ridge regression and wide neural networks. TMLR.",
)


@dataclass(frozen=True, eq=False)
class Regressed:
    """Left-out squared error of kernel regression over that of the mean, and what else is said of one kernel."""

    estimate: Estimate
    wrong: float | None
    generalised: float


def judge(
    found: Estimate, null: Estimate, wrong: float | None, network: float | None, examples: int, n: int
) -> tuple[Verdict, Message, Message]:
    """Words for the unexplained share; ``wrong`` and ``network`` are error rates of the regression and the network."""
    if isinstance(found.uncertainty, Unknown):
        reason = Message("TL405.unknown", "too few rows to tell")
        text = (
            "Undecided: kernel regression with the kernel of the start leaves {value:.0%} of the targets' variance "
            "unexplained on rows it did not see, on too few rows to tell it from chance."
        )
        return Verdict.INCONCLUSIVE, reason, Message("TL405.unknown_long", text, value=found.value)
    if found.upper >= null.lower:
        reason = Message("TL405.chance", "not told apart from shuffled targets")
        text = (
            "No better than chance, as far as these rows tell: kernel regression with the kernel of the start leaves "
            "{value:.0%} of the targets' variance unexplained on rows it did not see; with shuffled targets it leaves "
            "{null:.0%}."
        )
        return Verdict.INCONCLUSIVE, reason, Message("TL405.chance_long", text, value=found.value, null=null.value)
    explained = 1 - found.value
    reason = Message("TL405.explains", "the kernel of the start explains {explained:.0%} on left-out rows",
                     explained=explained)  # fmt: skip
    if wrong is None:
        text = (
            "{explained:.0%} of the targets' variance is explained on rows it did not see, from {n:d} rows and without "
            "any learning of features."
        )
        return Verdict.DESCRIPTIVE, reason, Message("TL405.explains_long", text, explained=explained, n=n)
    if network is None:
        text = (
            "{wrong:.0%} wrong on rows it did not see, from {n:d} rows and without any learning of features. There is "
            "no test split to compare the network on."
        )
        return Verdict.DESCRIPTIVE, reason, Message("TL405.wrong_long", text, wrong=wrong, n=n)
    text = (
        "{wrong:.0%} wrong on rows it did not see, from {n:d} rows and without any learning of features; the network, "
        "trained on {examples:d}, gets {network:.0%} of the test rows wrong. The two differ in the number of rows, in "
        "the rows judged and in learnt features; the learning curve shows the first."
    )
    values = {"wrong": wrong, "network": network, "examples": examples, "n": n}
    return Verdict.DESCRIPTIVE, reason, Message("TL405.compared_long", text, **values)


@probe(
    code="TL405", needs={Need.MODEL, Need.TRAIN},
    cost=lambda subject, rung: (
        kernel_work(subject, 2)
        + Work(flops=3.0 * min(LIMIT, len(subject.split("train"))) ** 4, seconds=1.0,
               forwards=len(subject.split("test")) if subject.has("test") else 0)
    ),
)  # fmt: skip
def probe_kernel_regression(subject: Subject, *, rng: torch.Generator) -> Result:
    """How well does kernel regression with the tangent kernel of the start predict the targets?

    Leave-one-out squared error of ridge regression with the trace kernel before training on at most 150 training
    rows, relative to that of the mean; the ridge is one percent of the mean eigenvalue. Control: shuffled targets.
    """
    rows = chosen_rows(subject)
    start = subject.initial()
    if start is None:
        text = "the network cannot be re-initialised, so there is no kernel of the start; give init= to Subject"
        raise UnsuitableError(Message("TL405.no_init", text))
    with start.subject.studied():
        kernel = tangent_kernel(start.subject, rows)
    y = centred_targets(rows)
    _usable(kernel, y)
    found, null = regressed(kernel, y, rows), shuffled(kernel, y, rng)
    after = tangent_kernel(subject, rows)
    trained = regressed(after, y, rows) if float(after.norm()) > 0 else None
    network = _test_error(subject)
    verdict, reason, reading = judge(
        found.estimate, null, found.wrong, network, len(subject.split("train")), len(rows)
    )  # fmt: skip
    control = Control(role="theory", name=Message("TL405.null", "same kernel, shuffled targets"), estimate=null)
    return Result(
        estimate=found.estimate, kind=Kind.DESCRIPTION, verdict=verdict, reason=reason, reading=reading,
        assumptions=_assumptions(start.own), controls=(control,), references=REFERENCES,
        payload=(_curve(kernel, y, rng), _table(start.name, found, trained, network)),
        settings={"rows": len(rows), "ridge / mean eigenvalue": RIDGE, "permutations": PERMUTATIONS},
    )  # fmt: skip


def centred_targets(rows: Rows) -> Tensor:
    """One-hot classes or real targets (n, d) in float64, minus their mean."""
    y = rows.targets
    hot = torch.nn.functional.one_hot(y).double() if not y.is_floating_point() else y.double().reshape(len(y), -1)
    return hot - hot.mean(0)


def unexplained(kernel: Tensor, y: Tensor) -> float:
    """Left-out squared error over the squared distance from the mean, which is subtracted first."""
    if float(kernel.norm()) == 0:
        return float("nan")
    centred = y - y.mean(0)
    total = float(centred.square().sum())
    return float(residuals(kernel, centred).square().sum()) / total if total > 0 else float("nan")


def residuals(kernel: Tensor, y: Tensor) -> Tensor:
    """Left-out residuals at the relative ridge, unchecked."""
    return _left_out(kernel) @ y


def _left_out(kernel: Tensor) -> Tensor:
    """The matrix that takes targets to their left-out residuals."""
    ridge = RIDGE * kernel.trace() / len(kernel)
    inverse: Tensor = torch.linalg.inv(kernel + ridge * torch.eye(len(kernel), dtype=kernel.dtype))
    return inverse / inverse.diagonal()[:, None]


def regressed(kernel: Tensor, y: Tensor, rows: Rows) -> Regressed:
    """Everything said of one kernel."""
    value = unexplained(kernel, y)
    without = leave_one_out(lambda kept: unexplained(kernel[kept][:, kept], y[kept]), len(y))
    estimate = with_interval(value, without, rows.strata, (0.0, np.inf))
    ridge = RIDGE * float(kernel.trace()) / len(kernel)
    generalised = generalised_cross_validation(kernel, y, ridge) / float(y.square().mean(0).sum())
    wrong = None
    if not rows.targets.is_floating_point():
        guess = (y - residuals(kernel, y)).argmax(1)
        wrong = float((guess != rows.targets).double().mean())
    return Regressed(estimate, wrong, generalised)


def shuffled(kernel: Tensor, y: Tensor, rng: torch.Generator) -> Estimate:
    """Mean and 95 % range of the unexplained share with permuted targets."""
    left = _left_out(kernel)
    total = float(y.square().sum())
    orders = [torch.randperm(len(y), generator=rng) for _ in range(PERMUTATIONS)]
    draws = [float((left @ y[order]).square().sum()) / total for order in orders]
    lower, upper = (float(v) for v in np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    method = Message("TL405.permutations", "range over {draws:d} permutations of the targets", draws=PERMUTATIONS)
    uncertainty = Statistical(lower=lower, upper=upper, level=LEVEL, method=method)
    return Estimate(value=float(np.mean(draws)), uncertainty=uncertainty)


def _usable(kernel: Tensor, y: Tensor) -> None:
    if len(y) < FEWEST:
        text = "{n:d} training rows are too few for kernel regression; at least {least:d} are needed"
        raise UnsuitableError(Message("TL405.few", text, n=len(y), least=FEWEST))
    if float(kernel.norm()) == 0 or float(y.norm()) == 0:
        text = "the kernel of the start is zero or the targets are constant: there is nothing to predict"
        raise UnsuitableError(Message("TL405.nothing", text))


def _test_error(subject: Subject) -> float | None:
    if not subject.has("test") or subject.judged.kind != "classification":
        return None
    errors = subject.scores("test").errors
    return None if errors is None else float(errors.mean())


def _curve(kernel: Tensor, y: Tensor, rng: torch.Generator) -> Curve:
    """Error on all rows of regression from some of them, measured and predicted by eigenlearning."""
    n, ridge = len(y), RIDGE * float(kernel.trace()) / len(kernel)
    sizes = sorted({max(3, round(share * n)) for share in SIZES})
    total = float(y.square().mean(0).sum())
    measured = []
    for size in sizes:
        errors = []
        for _ in range(SUBSETS):
            kept = torch.randperm(n, generator=rng)[:size]
            eye = torch.eye(size, dtype=kernel.dtype)
            weights = torch.linalg.solve(kernel[kept][:, kept] + ridge * eye, y[kept])
            errors.append(float((kernel[:, kept] @ weights - y).square().sum(1).mean()))
        measured.append(math.fsum(errors) / SUBSETS / total)
    predicted = learning_curve(kernel, y, sizes, ridge) / total
    return learning_curve_payload(sizes, np.array(measured), predicted)


def _assumptions(own: bool) -> tuple[Assumption, ...]:
    if own:
        statement = Message("TL405.a_own", "the initial weights given are those the training started from")
        return (Assumption(statement=statement, status=Status.UNCHECKED),)
    statement = Message("TL405.a_default", "the kernel of another default initialisation stands for that of the start")
    return (Assumption(statement=statement, status=Status.UNCHECKED),)


def _table(start: Message, found: Regressed, trained: Regressed | None, network: float | None) -> Table:
    columns = (
        Message("TL405.column_what", "predictor"), Message("TL405.column_left", "unexplained, left-out rows"),
        Message("TL405.column_gcv", "by generalised cross-validation"), Message("TL405.column_wrong", "wrong"),
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = [
        (Message("TL405.row_start", "kernel before training ({start})", start=start), *_cells(found))
    ]
    if trained is not None:
        rows.append(
            (Message("TL405.row_trained", "kernel after training, which has seen these targets"), *_cells(trained))
        )
    if network is not None:
        rows.append((Message("TL405.row_network", "the network, on the test rows"), "", "", network))
    return Table(
        label=Message("TL405.table", "Kernel regression beside the network"), columns=columns, rows=tuple(rows)
    )


def _cells(found: Regressed) -> tuple[Cell, Cell, Cell]:
    return found.estimate.value, found.generalised, "" if found.wrong is None else found.wrong
