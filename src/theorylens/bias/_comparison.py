"""Comparing architectures on the user's data: learning curves of candidates of one size, with intervals.

Method   every candidate on the same nested subsets and seeds; errors on the same held-out rows; paired differences
Source   d'Ascoli et al. (2021). ConViT. ICML (bias as sample efficiency); Tolstikhin et al. (2021). MLP-Mixer. NeurIPS
Assumes  held-out rows are independent draws that no candidate was tuned on
Breaks   one optimisation for all: a candidate that would need another learning rate is measured with this one. The
         error of the winner is biased low by the choice: certify it on rows that were not used here
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from theorylens.core import RefusedError, Split
from theorylens.results import Curve, Estimate, Intervals, Line, Message, Payload, Table

from ._candidates import Factory, candidate_names, candidates, shape_of
from ._crossed import crossed_mean
from ._trials import SHIFTS, Budget, Trials, inputs_and_targets, run_trials, stacked

PER_PANEL = 3  # lines a curve can show


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One candidate at one size.

    Attributes
    ----------
    error
        Held-out error, 95 % interval over trainings and held-out rows.
    behind
        Paired difference to the best candidate, at a level that is joint over all pairs; None for the best itself.
    tied
        Whether it cannot be told apart from the best.
    """

    name: str
    error: Estimate
    behind: Estimate | None

    @property
    def tied(self) -> bool:
        return self.behind is None or self.behind.lower <= 0


@dataclass(frozen=True, kw_only=True, eq=False)
class ArchitectureComparison:
    """Errors of every training.

    Attributes
    ----------
    errors
        Per held-out row: (candidates, sizes, seeds, rows).
    moved
        Share of decisions that change when the input moves by 0, 1, 2, ... places, by the networks trained on most
        examples: (candidates, shifts), mean over seeds; no columns where inputs do not move.
    parameters
        Of each candidate.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    errors: Float[np.ndarray, "candidates sizes seeds rows"]
    moved: Float[np.ndarray, "candidates shifts"]
    parameters: tuple[int, ...]

    def error(self, name: str, size: int) -> Estimate:
        """Mean held-out error of ``name`` trained on ``size`` examples."""
        return crossed_mean(self._of(name, size), least=0.0)

    def difference(self, name: str, other: str, size: int, *, level: float = 0.95) -> Estimate:
        """Error of ``name`` minus error of ``other``, paired by seed and by held-out row."""
        return crossed_mean(self._of(name, size) - self._of(other, size), level=level)

    def _of(self, name: str, size: int) -> Float[np.ndarray, "seeds rows"]:
        if name not in self.names or size not in self.sizes:
            raise ValueError(f"no candidate {name!r} at {size} examples; there are {self.names} at {self.sizes}")
        found: np.ndarray = self.errors[self.names.index(name), self.sizes.index(size)]
        return found

    def ranking(self, size: int | None = None) -> tuple[Ranked, ...]:
        """Candidates from the smallest error on; by default at the largest size.

        The best is chosen by the data, so differences are at the level 1 - 0.05 / (number of all pairs).
        """
        size = self.sizes[-1] if size is None else size
        order = sorted(self.names, key=lambda name: self.error(name, size).value)
        pairs = max(1, len(list(combinations(self.names, 2))))
        return tuple(
            Ranked(
                name=name,
                error=self.error(name, size),
                behind=None if name == order[0] else self.difference(name, order[0], size, level=1 - 0.05 / pairs),
            )
            for name in order
        )

    def curves(self) -> tuple[Curve, ...]:
        """Learning curves, up to three candidates a panel, the best first."""
        names = [r.name for r in self.ranking()]
        return tuple(self._panel(names[i : i + PER_PANEL]) for i in range(0, len(names), PER_PANEL))

    def _panel(self, names: Sequence[str]) -> Curve:
        lines = []
        for name in names:
            found = [self.error(name, size) for size in self.sizes]
            lines.append(
                Line(
                    x=np.asarray(self.sizes, dtype=np.float64),
                    y=np.asarray([e.value for e in found]),
                    lower=np.asarray([e.lower for e in found]),
                    upper=np.asarray([e.upper for e in found]),
                    name=Message("architectures.name", "{name}", name=name),
                )
            )
        return Curve(
            label=Message("architectures.curve", "Held-out error of candidates of one size by training examples"),
            lines=tuple(lines),
            x_name=Message("architectures.examples", "training examples"),
            y_name=Message("architectures.error", "held-out error"),
            x_log=True,
        )

    def steadiness(self) -> tuple[Curve, ...]:
        """Measured equivariance of the trained candidates: decisions changed by a shift; empty where nothing moves."""
        if not self.moved.shape[1]:
            return ()
        names = [r.name for r in self.ranking()]
        x = np.asarray(SHIFTS[: self.moved.shape[1]], dtype=np.float64)
        return tuple(
            Curve(
                label=Message("architectures.moved", "Share of decisions that change when the input moves"),
                lines=tuple(
                    Line(x=x, y=self.moved[self.names.index(n)], name=Message("architectures.name", "{name}", name=n))
                    for n in names[i : i + PER_PANEL]
                ),
                x_name=Message("architectures.places", "places"),
                y_name=Message("architectures.changed", "share changed"),
            )
            for i in range(0, len(names), PER_PANEL)
        )

    def payload(self) -> tuple[Payload, ...]:
        """Ranking, learning curves, steadiness and the table, to look at."""
        return (_forest(self.ranking()), *self.curves(), *self.steadiness(), self.table())

    def table(self) -> Table:
        """Every error at every size."""
        rows = [
            (name, size, self.parameters[k], found.value, found.lower, found.upper)
            for k, name in enumerate(self.names)
            for size in self.sizes
            for found in [self.error(name, size)]
        ]
        return Table(
            label=Message("architectures.table", "Held-out error by candidate and number of training examples"),
            columns=(
                Message("architectures.candidate", "candidate"),
                Message("architectures.examples", "training examples"),
                Message("architectures.parameters", "parameters"),
                Message("architectures.error", "held-out error"),
                Message("architectures.lower", "from"),
                Message("architectures.upper", "to"),
            ),
            rows=tuple(rows),
        )


def _forest(ranking: Sequence[Ranked]) -> Intervals:
    return Intervals(
        label=Message("architectures.ranking", "Held-out error of each candidate, 95 % intervals"),
        names=tuple(r.name for r in ranking),
        values=np.asarray([r.error.value for r in ranking]),
        lower=np.asarray([r.error.lower for r in ranking]),
        upper=np.asarray([r.error.upper for r in ranking]),
        x_name=Message("architectures.error", "held-out error"),
    )


def compare_architectures(
    train: Any,
    test: Any,
    loss: Any = "cross_entropy",
    *,
    factories: Mapping[str, Factory] | None = None,
    only: Sequence[str] | None = None,
    parameters: int = 5000,
    budget: Budget = Budget(),  # noqa: B008 - frozen
) -> ArchitectureComparison:
    """Train candidates on nested subsets of ``train`` and judge them on ``test``.

    Parameters
    ----------
    train, test
        Pairs (inputs, targets): images (n, channels, height, width), sequences (n, length, width), vectors, or graphs
        ((n, nodes, width), (n, nodes, nodes)). ``test`` must not be what certificates rest on: choosing uses it up.
    loss
        Anything a `Task` takes. The error is 0-1 for classification, else the loss of each row.
    factories
        Own candidates by name, added to the library's for this shape: functions without arguments that make an
        untrained network (random weights come from the seed). An own candidate replaces a library one of its name.
    only
        Names to compare; None: all.
    parameters
        Size the library's candidates are matched to.
    budget
        Sizes, seeds, optimisation.

    Raises
    ------
    ValueError
        Data that are no such pairs, sizes beyond the data, or fewer than 2 seeds.
    """
    rows, held = inputs_and_targets(train, "training"), inputs_and_targets(test, "held-out")
    if not set(_joined_rows(train)).isdisjoint(_joined_rows(test)):
        raise RefusedError("some held-out rows are also training rows; errors on them say nothing; remove them")
    shape, own = shape_of(rows[0]), dict(factories or {})
    wanted = list(dict.fromkeys(only if only is not None else (*candidate_names(shape), *own)))
    if unknown := [name for name in wanted if name not in (*candidate_names(shape), *own)]:
        raise ValueError(f"no candidate {unknown[0]!r}; there are {', '.join((*candidate_names(shape), *own))}")
    library = candidates(shape, outputs_for(rows[1], held[1]), parameters, only=set(wanted) - set(own))
    makers = {name: own[name] if name in own else library[name] for name in wanted}
    for name, make in makers.items():
        if not callable(make) or isinstance(make, nn.Module):
            raise ValueError(f"candidate {name!r} is no factory; give a function that makes an untrained network")
    sizes, seeds = budget.sizes_of(len(rows[1])), range(budget.seeds)
    trials = Trials(rows, held, loss, makers, budget.optimisation)
    grid = [
        {"candidate": c, "size": size, "seed": s, "moved": size == sizes[-1]}
        for c in makers for size in sizes for s in seeds
    ]  # fmt: skip
    found = run_trials(trials, grid, budget)
    shape = (len(makers), len(sizes), budget.seeds)
    largest = [r["moved"] for r, item in zip(found, grid, strict=True) if item["moved"]]
    moved = np.asarray(largest, dtype=np.float64).reshape(len(makers), budget.seeds, -1).mean(1)
    counted = np.asarray([r["parameters"] for r in found]).reshape(shape)[:, 0, 0]
    return ArchitectureComparison(
        names=tuple(makers), sizes=sizes, errors=stacked(found, shape), moved=moved,
        parameters=tuple(int(n) for n in counted),
    )  # fmt: skip


def _joined_rows(data: Any) -> list[bytes]:
    return Split.of(data).row_hashes


def outputs_for(*targets: Tensor) -> int:
    """Classes of whole-number targets, values per row of the others."""
    first = targets[0]
    if first.is_floating_point():
        return int(first.shape[1]) if first.ndim > 1 else 1
    return max(int(t.max()) for t in targets) + 1
