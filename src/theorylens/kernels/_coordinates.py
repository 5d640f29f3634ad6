"""Coordinate check: how much each layer's outputs change in the first steps, as the width grows.

Method   train a few steps at several widths and fit log change against log width, layer by layer
Source   Yang, Hu (2021), ICML; Yang et al. (2022), arXiv:2203.03466
Assumes  one learning rate for all widths, as the parametrisation prescribes it
Breaks   a slope near 0 in every layer is what maximal-update parametrisation promises; below 0 the layer stops learning
         features as the width grows (tangent-kernel parametrisation: -1/2), above 0 it blows up
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from theorylens.core import Split
from theorylens.results import Curve, Line, Message, Table
from theorylens.training import DivergedError, Keeping, Optimisation, fit, sweep

from ._regimes import Make


@dataclass(frozen=True, kw_only=True)
class CoordinateCheck:
    """Root mean square of each layer's outputs before training and of their change.

    Attributes
    ----------
    layers
        Names of the leaf modules, in order of use.
    runs
        Each with ``width``, ``seed``, ``size`` and ``change``, one number per layer; NaN where training diverged.
    """

    layers: tuple[str, ...]
    runs: tuple[Mapping[str, Any], ...]

    def slope(self, layer: str, value: str = "change") -> float:
        """Least-squares slope of log value against log width; NaN when fewer than two widths have a positive value."""
        kept = [(r["width"], r[value][self.layers.index(layer)]) for r in self.runs]
        kept = [(width, v) for width, v in kept if np.isfinite(v) and v > 0]
        if len({width for width, _ in kept}) < 2:
            return float("nan")
        width, found = np.log(np.array(kept, dtype=np.float64)).T
        return float(np.polyfit(width, found, 1)[0])

    def table(self) -> Table:
        """Slopes of size and change of every layer."""
        columns = (
            Message("kernels.layer", "layer"), Message("kernels.slope_size", "slope of the size"),
            Message("kernels.slope_change", "slope of the change"),
        )  # fmt: skip
        rows = tuple((layer, self.slope(layer, "size"), self.slope(layer)) for layer in self.layers)
        label = Message("kernels.coordinates", "Outputs of each layer against the width: slopes of the logarithms")
        return Table(label=label, columns=columns, rows=rows)

    def curve(self, layer: str) -> Curve:
        """Median change of one layer's outputs against the width."""
        at = self.layers.index(layer)
        x = np.array(sorted({r["width"] for r in self.runs}), dtype=np.float64)
        y = np.array([np.median([r["change"][at] for r in self.runs if r["width"] == w]) for w in x])
        change = Message("kernels.change", "root mean square change of the outputs")
        label = Message("kernels.coordinate_curve", "Change of the outputs of {layer} against the width", layer=layer)
        width = Message("kernels.width", "width")
        return Curve(
            label=label, lines=(Line(x=x, y=y, name=change),), x_name=width, y_name=change, x_log=True, y_log=True
        )  # fmt: skip


def coordinate_check(
    make: Make,
    data: Any,
    loss: str | Callable[[Any, Any], Any],
    optimisation: Optimisation,
    *,
    widths: Sequence[int],
    directory: str | Path,
    seeds: Sequence[int] = (0,),
    jobs: int | None = None,
) -> CoordinateCheck:
    """Train at several widths and measure how far each layer's outputs on the training inputs moved.

    Parameters
    ----------
    make
        ``make(width, seed) -> network``, the same layers at every width, its learning rates as its parametrisation
        prescribes them (``optimisation.optimizer`` may be a callable that makes groups).
    data
        ``(x, y)``; all rows of x are looked at.
    loss, optimisation
        A name or a function, as `training.fit` takes them; a few steps are enough.
    directory, jobs
        Of `training.sweep`.

    Raises
    ------
    ValueError
        Fewer than two widths, or no seed.
    """
    if len(set(widths)) < 2 or not seeds:
        raise ValueError(f"a coordinate check needs two widths and a seed, got {list(widths)} and {list(seeds)}")
    split = Split.of(data)
    x, y = split.take(torch.arange(len(split)))
    grid = [{"width": int(w), "seed": int(s)} for w, s in itertools.product(widths, seeds)]

    how = {field.name: getattr(optimisation, field.name) for field in fields(optimisation)}

    def cell(item: Mapping[str, Any]) -> dict[str, Any]:  # a closure: what it uses is part of its hash
        return _cell(make, x, y, loss, Optimisation(**how), item)

    found = sweep(cell, grid, directory=directory, jobs=jobs)
    runs = tuple({**item, "size": run["size"], "change": run["change"]} for item, run in zip(grid, found, strict=True))
    return CoordinateCheck(layers=tuple(found[0]["layers"]), runs=runs)


def _cell(
    make: Make, x: Tensor, y: Tensor, loss: Any, optimisation: Optimisation, item: Mapping[str, Any]
) -> dict[str, Any]:
    net = make(item["width"], item["seed"]).eval()
    before = _outputs(copy.deepcopy(net), x)
    size = [_rms(value) for value in before.values()]
    try:
        fit(net, (x, y), loss, optimisation, seed=item["seed"], keeping=Keeping(every=10**9))
    except DivergedError:
        return {"layers": list(before), "size": size, "change": [float("nan")] * len(before)}
    after = _outputs(net, x)
    return {"layers": list(before), "size": size, "change": [_rms(after[name] - before[name]) for name in before]}


def _outputs(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Outputs of the leaf modules, in order of use; a module used twice gives its last use."""
    kept: dict[str, Tensor] = {}

    def keep(name: str, found: Any) -> None:
        if isinstance(found, Tensor):
            kept.pop(name, None)
            kept[name] = found.detach().clone()

    leaves = [
        (name, module) for name, module in net.named_modules() if name and not any(True for _ in module.children())
    ]
    handles = [module.register_forward_hook(lambda m, a, out, name=name: keep(name, out)) for name, module in leaves]
    try:
        with torch.no_grad():
            net.eval()(x)
    finally:
        for handle in handles:
            handle.remove()
    return kept


def _rms(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())
