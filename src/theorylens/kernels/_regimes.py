"""Regime diagram: train over width, learning rate and output scale, and see which trainings were lazy, rich, divergent.

Method   every cell is a real training; what it did is measured on its tangent kernel, alignment and outputs
Source   Geiger et al. (2020), J. Stat. Mech.; Lewkowycz et al. (2020); Chizat, Oyallon, Bach (2019), NeurIPS
Assumes  full-batch gradient descent on the mean squared error
Breaks   a few seeds a cell: cells near a boundary may fall on either side
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from theorylens.core import Split
from theorylens.results import Curve, Line, Matrix, Message, Table
from theorylens.training import DivergedError, Keeping, Optimisation, fit, sweep

from ._alignment import alignment
from ._dynamics import max_stable_kernel_lr
from ._empirical import ntk
from ._laziness import laziness
from ._scaled import Scaled

Make = Callable[[int, int], nn.Module]
"""``make(width, seed) -> network``, outputs (n, C)."""

AXES = {
    "width": Message("kernels.width", "width"),
    "lr": Message("kernels.lr", "learning rate at scale 1"),
    "alpha": Message("kernels.alpha", "scale of the outputs"),
    "seed": Message("kernels.seed", "seed"),
}
MEASURED = {
    "kernel_change": Message("kernels.kernel_change", "relative change of the tangent kernel"),
    "kernel_turn": Message("kernels.kernel_turn", "one minus cosine of the centred kernels"),
    "parameter_change": Message("kernels.parameter_change", "relative change of the parameters"),
    "linear_gap": Message("kernels.linear_gap", "distance from the linearised network / way of the outputs"),
    "alignment_before": Message("kernels.alignment_before", "alignment with the targets before training"),
    "alignment_after": Message("kernels.alignment_after", "alignment with the targets after training"),
    "loss_first": Message("kernels.loss_first", "loss before training"),
    "loss_peak": Message("kernels.loss_peak", "largest loss"),
    "loss_last": Message("kernels.loss_last", "loss after training"),
    "lr_over_limit": Message("kernels.lr_over_limit", "learning rate / largest that a fixed kernel allows"),
}
REGIMES = {
    "lazy": Message("kernels.regime_lazy", "lazy"),
    "between": Message("kernels.regime_between", "between lazy and rich"),
    "rich": Message("kernels.regime_rich", "rich"),
    "catapult": Message("kernels.regime_catapult", "catapult: the loss rose, then fell"),
    "diverged": Message("kernels.regime_diverged", "diverged"),
}
SHOWN = ("kernel_change", "linear_gap", "loss_last", "lr_over_limit")


@dataclass(frozen=True, kw_only=True)
class RegimeDiagram:
    """Tidy results, one mapping per training.

    Attributes
    ----------
    runs
        Each with ``width``, ``lr``, ``alpha``, ``seed``, the regime (``"lazy"``, ``"between"``, ``"rich"``,
        ``"catapult"``: the loss rose above twice its start and came down again; ``"diverged"``), and what was
        measured: ``kernel_change`` and ``kernel_turn`` (relative and directional movement), ``parameter_change``,
        ``linear_gap`` (distance from the linearisation), ``alignment_before`` and ``_after``, ``loss_first``,
        ``_peak``, ``_last``, ``lr_over_limit`` (above 1 a fixed kernel diverges). NaN where training diverged.
    """

    runs: tuple[Mapping[str, Any], ...]

    def table(self) -> Table:
        """Every training as a row."""
        regime = Message("kernels.regime", "regime")
        columns = (*AXES.values(), regime, *(MEASURED[name] for name in SHOWN))
        rows = tuple(
            (*(run[name] for name in AXES), REGIMES[run["regime"]], *(run[name] for name in SHOWN)) for run in self.runs
        )
        label = Message("kernels.regimes", "Regime of each training")
        return Table(label=label, columns=columns, rows=rows)

    def matrix(self, rows: str = "width", columns: str = "lr", value: str = "kernel_change") -> Matrix:
        """Median of a measured value over two axes; cells in which more than half of the trainings diverged are NaN."""
        names = [sorted({run[axis] for run in self.runs}) for axis in (rows, columns)]
        cells = np.full([len(n) for n in names], np.nan)
        for i, j in itertools.product(*(range(len(n)) for n in names)):
            own = [r[value] for r in self.runs if r[rows] == names[0][i] and r[columns] == names[1][j]]
            kept = [v for v in own if np.isfinite(v)]
            if own and len(kept) >= len(own) / 2:
                cells[i, j] = float(np.median(kept))
        return Matrix(
            label=Message("kernels.regimes_matrix", "{value}, median over trainings", value=MEASURED[value]),
            x_name=AXES[columns], y_name=AXES[rows],
            values=cells, top=float(np.nanmax(cells)) if np.isfinite(cells).any() else 1.0,
            rows=tuple(f"{n:g}" for n in names[0]), columns=tuple(f"{n:g}" for n in names[1]),
        )  # fmt: skip

    def curve(self, axis: str = "alpha", value: str = "kernel_change") -> Curve:
        """Median of a measured value along one axis."""
        x = np.array(sorted({run[axis] for run in self.runs}), dtype=np.float64)
        y = np.array([np.nanmedian([r[value] for r in self.runs if r[axis] == at]) for at in x])
        label = Message("kernels.regimes_matrix", "{value}, median over trainings", value=MEASURED[value])
        line = Line(x=x, y=y, name=MEASURED[value])
        return Curve(label=label, lines=(line,), x_name=AXES[axis], y_name=MEASURED[value], x_log=True, y_log=True)

    def slope(self, axis: str = "alpha", value: str = "kernel_change") -> float:
        """Least-squares slope of log value against log axis, over the trainings that did not diverge."""
        kept = [(r[axis], r[value]) for r in self.runs if np.isfinite(r[value]) and r[value] > 0]
        if len({at for at, _ in kept}) < 2:
            raise ValueError(f"a slope needs two values of {axis} with a finite {value}, got {len(kept)} trainings")
        at, found = np.log(np.array(kept, dtype=np.float64)).T
        return float(np.polyfit(at, found, 1)[0])


def regime_diagram(
    make: Make,
    data: Any,
    *,
    widths: Sequence[int],
    lrs: Sequence[float],
    alphas: Sequence[float] = (1.0,),
    steps: int,
    directory: str | Path,
    seeds: Sequence[int] = (0,),
    jobs: int | None = None,
) -> RegimeDiagram:
    """Train over a grid of widths, learning rates, output scales and seeds, and measure each training's regime.

    Parameters
    ----------
    make
        ``make(width, seed) -> network`` with outputs (n, C); a module-level function when ``jobs`` is not 1.
    data
        ``(x, y)`` tensors, ``y`` (n, C) real targets. All rows are used for training (full batch) and for the kernel:
        tens to a few hundred.
    lrs
        Learning rates at alpha = 1; a network with outputs times alpha is trained with lr / alpha^2 (see `Scaled`).
    steps
        Gradient steps of each training.
    directory, jobs
        Of `training.sweep`: finished trainings are kept there and not repeated.

    Raises
    ------
    ValueError
        An empty axis, or a number of steps below 1.
    """
    split = Split.of(data)
    x, y = split.take(torch.arange(len(split)))
    if not (widths and lrs and alphas and seeds) or steps < 1:
        raise ValueError(
            f"every axis needs a value and steps must be at least 1, got {len(widths)} widths, {len(lrs)} learning "
            f"rates, {len(alphas)} scales, {len(seeds)} seeds, {steps} steps"
        )
    axes = itertools.product(map(int, widths), map(float, lrs), map(float, alphas), map(int, seeds))
    grid = [dict(zip(AXES, item, strict=True)) for item in axes]

    def cell(item: Mapping[str, Any]) -> dict[str, Any]:  # a closure: its data and ``make`` are part of its hash
        return _cell(make, x, y, steps, item)

    found = sweep(cell, grid, directory=directory, jobs=jobs)
    return RegimeDiagram(runs=tuple({**item, **run} for item, run in zip(grid, found, strict=True)))


def _cell(make: Make, x: Tensor, y: Tensor, steps: int, item: Mapping[str, Any]) -> dict[str, Any]:
    """One training and what it did."""
    net = Scaled(make(item["width"], item["seed"]), item["alpha"]).eval()
    kernel = ntk(net, x, output="trace")
    top = max_stable_kernel_lr(_top(net, x), reduction="mse", examples=len(x), outputs=y[0].numel())
    limit = top * item["alpha"] ** 2
    before = alignment(kernel, y)
    optimisation = Optimisation(lr=item["lr"] / item["alpha"] ** 2, batch_size=len(x), epochs=steps)
    found: dict[str, Any] = dict.fromkeys(MEASURED, float("nan"))
    found |= {"regime": "diverged", "alignment_before": before, "lr_over_limit": item["lr"] / limit}
    try:
        run = fit(net, (x, y), "mse", optimisation, seed=item["seed"], keeping=Keeping(every=steps))
    except DivergedError:
        return found
    losses = run.trace.series["batch_loss"]
    last = float(nn.functional.mse_loss(net(x), y).detach())
    found |= {"loss_first": float(losses[0]), "loss_peak": float(losses.max()), "loss_last": last}
    if not last <= losses[0]:
        return found
    moved = laziness(net, run.init, x)
    rose = losses.max() > 2 * losses[0]
    return found | {
        "regime": "catapult" if rose else moved.regime, "kernel_change": moved.kernel.relative,
        "kernel_turn": moved.kernel.centred_turn, "parameter_change": moved.parameters, "linear_gap": moved.outputs,
        "alignment_after": alignment(ntk(net, x, output="trace"), y),
    }  # fmt: skip


def _top(net: nn.Module, x: Tensor) -> float:
    """Largest eigenvalue of the tangent kernel of all outputs."""
    kernel = ntk(net, x).double()
    size = kernel.shape[0] * kernel.shape[2]
    return float(torch.linalg.eigvalsh(kernel.permute(0, 2, 1, 3).reshape(size, size))[-1])
