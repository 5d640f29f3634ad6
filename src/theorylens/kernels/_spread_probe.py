"""TL406: how much the tangent kernel of the start depends on the draw of the initial weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from theorylens.core import Need, Subject, UnsuitableError, Work, global_randomness_kept, probe
from theorylens.results import (
    Assumption,
    Cell,
    Curve,
    Estimate,
    Kind,
    Line,
    Message,
    Result,
    Statistical,
    Status,
    Table,
    Unknown,
    Verdict,
)

from ._alignment import checked_kernel
from ._subset import chosen_rows, trace_kernel

ROWS = 50
LEVEL = 0.95
FIXED = 0.1  # the draw changes the kernel by less than a tenth: predictions from one kernel hold for others
RANDOM = 0.3
REFERENCES = (
    "Jacot, Gabriel, Hongler (2018). Neural tangent kernel: convergence and generalization in neural networks. NIPS.",
    "Hanin, Nica (2020). Finite depth and width corrections to the neural tangent kernel. ICLR.",
)


def kernel_spread(kernels: Sequence[Tensor]) -> Estimate:
    """Relative standard deviation of a random kernel, sqrt(E ||K - E K||^2) / ||E K||, with a 95 % interval.

    Parameters
    ----------
    kernels
        Independent draws of a kernel on the same examples, each (n, n).

    Returns
    -------
    Estimate
        Bias of the norm of the mean removed; the interval is a jackknife over draws, on the logarithm.

    Raises
    ------
    ValueError
        Fewer than two draws, kernels that are not symmetric or of different sizes.
    """
    stack = [checked_kernel(k) for k in kernels]
    if len(stack) < 2 or len({k.shape for k in stack}) > 1:
        raise ValueError(f"needed are two kernels of one size, got {[tuple(k.shape) for k in stack]}")
    draws = torch.stack(stack).flatten(1)
    inner = (draws @ draws.T).cpu().numpy()
    n, own, total = len(inner), inner.diagonal(), float(inner.sum())
    value = float(_relative(n, np.array(own.sum()), np.array(total)))
    if not math.isfinite(value):
        trouble = Message("TL406.noise", "the draws differ by more than their mean; take more draws")
        return Estimate(value=math.nan, uncertainty=Unknown(why=trouble), trouble=trouble)
    if value == 0:
        method = Message("TL406.same", "all draws are equal")
        return Estimate(value=0.0, uncertainty=Statistical(lower=0.0, upper=0.0, level=LEVEL, method=method))
    without = _relative(n - 1, own.sum() - own, total - 2 * inner.sum(1) + own) if n > 2 else np.array([math.nan])
    logs = np.log(np.where(without > 0, without, math.nan))
    if not np.isfinite(logs).all():
        return Estimate(value=value, uncertainty=Unknown(why=Message("TL406.few", "too few draws for an interval")))
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * math.sqrt((n - 1) * float(logs.var()))
    method = Message("TL406.jackknife", "jackknife over {draws:d} draws of the initial weights", draws=n)
    lower, upper = value * math.exp(-half), value * math.exp(half)
    return Estimate(value=value, uncertainty=Statistical(lower=lower, upper=upper, level=LEVEL, method=method))


def _relative(n: int, own: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """From the sums of squared norms and of all inner products of n draws; NaN when the mean is lost in the noise."""
    variance = ((own - pairs / n) / (n - 1)).clip(min=0)
    mean = pairs / n**2 - variance / n
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = np.sqrt(np.where(mean > 0, variance / mean, np.nan))
    return np.where(variance <= 1e-14 * own / n, 0.0, found)


def judge(found: Estimate) -> tuple[Verdict, Message, Message]:
    """Words for the relative spread; always descriptive unless there is no number."""
    value = found.value
    if isinstance(found.uncertainty, Unknown):
        reason = Message("TL406.unknown", "not enough draws to tell")
        return Verdict.INCONCLUSIVE, reason, reason
    if found.upper < FIXED:
        reason = Message("TL406.fixed", "the kernel of the start hardly depends on the draw")
        text = (
            "Hardly: from one draw of the initial weights to the next the tangent kernel changes by {value:.2g} of its "
            "norm. The network is wide enough for one kernel to stand for all starts."
        )
        return Verdict.DESCRIPTIVE, reason, Message("TL406.fixed_long", text, value=value)
    if found.lower > RANDOM:
        reason = Message("TL406.random", "each start has its own kernel")
        text = (
            "Much: from one draw of the initial weights to the next the tangent kernel changes by {value:.2g} of its "
            "norm. The network is too narrow, or too deep for its width, for the kernel of infinite width to describe "
            "one start."
        )
        return Verdict.DESCRIPTIVE, reason, Message("TL406.random_long", text, value=value)
    reason = Message("TL406.between", "the kernel of the start depends on the draw to a degree")
    text = (
        "Somewhat: from one draw of the initial weights to the next the tangent kernel changes by {value:.2g} of its "
        "norm."
    )
    return Verdict.DESCRIPTIVE, reason, Message("TL406.between_long", text, value=value)


@probe(
    code="TL406", needs={Need.MODEL, Need.TRAIN}, rungs=(16, 32, 64),
    cost=lambda subject, rung: Work(
        gradients=((rung or 16) + 1) * min(ROWS, len(subject.split("train"))) * (subject.classes or 1),
        forwards=min(2000, len(subject.split("train"))),
    ),
)  # fmt: skip
def probe_kernel_spread(subject: Subject, *, rng: torch.Generator, draws: int) -> Result:
    """How much does the tangent kernel of the start depend on the draw of the initial weights?

    Relative standard deviation of the trace kernel on at most 50 training rows over independent default
    initialisations of this network.
    """
    rows = chosen_rows(subject, ROWS)
    kernels = [trace_kernel(redrawn(subject.net, rng), subject, rows) for _ in range(draws)]
    if not max(float(k.norm()) for k in kernels) > 0:
        raise UnsuitableError(Message("TL406.zero", "the tangent kernel is zero: no gradient reaches the outputs"))
    estimate = kernel_spread(kernels)
    verdict, reason, reading = judge(estimate)
    mean = torch.stack(kernels).mean(0)
    now = float((trace_kernel(subject.net, subject, rows) - mean).norm() / mean.norm())
    assumption = Assumption(
        statement=Message("TL406.a_default", "training started from the layers' default initialisation"),
        status=Status.UNCHECKED,
    )
    return Result(
        estimate=estimate, kind=Kind.DESCRIPTION, verdict=verdict, reason=reason, reading=reading,
        assumptions=(assumption,), references=REFERENCES, payload=(_curve(kernels, mean), _table(estimate, now)),
        settings={"rows": len(rows)},
    )  # fmt: skip


def redrawn(net: nn.Module, rng: torch.Generator) -> nn.Module:
    """A copy of the network with default initial weights drawn from ``rng``."""
    seed = int(torch.randint(2**62, (), generator=rng))
    other = copy.deepcopy(net)
    with global_randomness_kept(seed):
        for name, module in other.named_modules():
            reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if callable(reset):
                reset()
            elif any(True for _ in module.parameters(recurse=False)):
                text = "{name} ({kind}) cannot re-initialise its parameters; give it a method reset_parameters"
                raise UnsuitableError(Message("TL406.no_reset", text, name=name or "model", kind=type(module).__name__))
    return other


def _curve(kernels: list[Tensor], mean: Tensor) -> Curve:
    """Size of each kernel along the eigenvectors of their mean: mean over draws and one standard deviation."""
    vectors = torch.linalg.eigh(mean).eigenvectors.flip(1)
    sizes = torch.stack([((k @ vectors) * vectors).sum(0) for k in kernels]) / (mean.trace() / len(mean))
    centre, spread = sizes.mean(0).clamp(min=1e-12), sizes.std(0)
    return Curve(
        label=Message("TL406.curve", "The kernel along the eigenvectors of its mean, one deviation up and down"),
        lines=(
            Line(x=np.arange(1.0, len(mean) + 1), y=centre.numpy(), name=Message("TL406.line", "over initialisations"),
                 role="init", lower=(centre - spread).clamp(min=1e-12).numpy(), upper=(centre + spread).numpy()),
        ),
        x_name=Message("TL406.rank", "rank"), y_name=Message("TL406.level", "eigenvalue / mean eigenvalue"), y_log=True,
    )  # fmt: skip


def _table(found: Estimate, now: float) -> Table:
    distance = Message("TL406.column_value", "distance / norm of the mean kernel")
    columns = (Message("TL406.column_what", "what"), distance)
    rows: list[tuple[Cell, ...]] = [
        (Message("TL406.row_spread", "a start from the mean over starts"), found.value),
        (Message("TL406.row_now", "the trained network from the mean over starts"), now),
    ]
    label = Message("TL406.table", "What the draw changes, and what training changed")
    return Table(label=label, columns=columns, rows=tuple(rows))
