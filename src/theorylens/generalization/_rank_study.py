"""Rank study: many small networks trained to the same training loss, and how measures order their gaps.

Source   Jiang, Neyshabur, Mobahi, Krishnan, Bengio (2020), ICLR; Dziugaite et al. (2020), NeurIPS
Assumes  a grid whose axes are what one would like a measure to answer for; every network stopped at the same training
         loss, the others are counted and left out
Breaks   conclusions are about this grid and these data: no measure was right everywhere in larger studies
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from theorylens.core import Split, global_randomness_kept, key_seed
from theorylens.results import Cell, Intervals, Message, Table
from theorylens.training import Optimisation, fit, sweep

from ._measure_names import NAMES
from ._measure_study import forest
from ._measures import generalization_measures
from ._rank_statistics import Ranking, clear_pairs, rank_statistics
from ._scratch import kept_or_temporary

Floats = NDArray[np.float64]
Setting = Mapping[str, Any]
Make = Callable[[Setting], nn.Module]
"""``make(setting) -> network`` before training, initialised under a global seed of its own."""

STOP = 0.02  # training loss: low enough that all are fitted, high enough for dropout to get there
EARLY = 0.1  # training loss up to which the measure ``steps`` counts
STEPS = Message("measure.steps", "steps to a training loss of 0.1")
LEFT_OUT = ("sharpness", "adaptive_sharpness", "effective_parameters")  # not of the studies reproduced, and costly
RANKED = tuple(name for name in NAMES if name not in LEFT_OUT)
TUNED = frozenset(f.name for f in fields(Optimisation))


@dataclass(frozen=True, kw_only=True, eq=False)
class RankStudy:
    """Networks that reached the training loss, their measures and gaps, and how the ones order the others.

    Attributes
    ----------
    settings
        Of every network that is counted, one word per axis and ``seed``.
    discarded
        Settings of those that did not reach the training loss, with ``train_loss``, or diverged.
    values
        By name of the measure, shape (networks,), NaN where it is not defined.
    gaps, errors
        Test minus training error and the binomial standard error of the test error, shape (networks,).
    train_loss
        At the end, shape (networks,).
    rankings
        By name of the measure; those constant or not defined for some network are left out.
    clear
        Pairs of networks whose gaps differ by more than two standard errors, and all pairs.
    """

    settings: tuple[dict[str, Any], ...]
    discarded: tuple[dict[str, Any], ...]
    values: dict[str, Floats]
    gaps: Floats
    errors: Floats
    train_loss: Floats
    rankings: dict[str, Ranking]
    clear: tuple[int, int]

    def forest(self) -> Intervals:
        """The picture: Kendall's tau of one measure a line, largest first."""
        return forest({name: r.tau for name, r in self.rankings.items()}, len(self.gaps))

    def table(self) -> Table:
        """Tau, psi, psi along every axis and sign error of every measure, largest tau first."""
        order = sorted(self.rankings, key=lambda name: -self.rankings[name].tau.value)
        axes = sorted({axis for r in self.rankings.values() for axis in r.axes})
        tau, psi = Message("measure.tau", "Kendall's tau"), Message("measure.psi", "granulated psi")
        wrong = Message("measure.sign_error", "sign error")
        columns = [
            Message("measure.column", "measure"), tau, *_limits(tau), psi, *_limits(psi),
            *(Message("measure.along", "psi along {axis}", axis=axis) for axis in axes), wrong, *_limits(wrong),
        ]  # fmt: skip
        rows: list[tuple[Cell, ...]] = []
        for name in order:
            r = self.rankings[name]
            along = [r.axes[axis].value if axis in r.axes else "-" for axis in axes]
            rows.append(
                (STEPS if name == "steps" else NAMES[name], *_cells(r.tau), *_cells(r.psi), *along,
                 *_cells(r.sign_error))
            )  # fmt: skip
        text = (
            "How {count} measures order {networks} networks ({discarded} did not reach the training loss); the sign "
            "error is over {clear} of {pairs} pairs"
        )
        label = Message(
            "measure.table", text, count=len(order), networks=len(self.gaps), discarded=len(self.discarded),
            clear=self.clear[0], pairs=self.clear[1],
        )  # fmt: skip
        return Table(label=label, columns=tuple(columns), rows=tuple(rows))


def rank_study(
    grid: Mapping[str, Sequence[Any]],
    train: Any,
    test: Any,
    *,
    make: Make,
    loss: str = "cross_entropy",
    optimisation: Optimisation = Optimisation(epochs=150, stop_at=STOP),  # noqa: B008 - frozen
    names: Collection[str] = RANKED,
    seeds: Sequence[int] = (0,),
    draws: int = 32,
    bootstrap: int = 1000,
    directory: str | Path | None = None,
    jobs: int | None = None,
) -> RankStudy:
    """Train a network in every cell of a grid to the same training loss and rank measures by their order of the gaps.

    Parameters
    ----------
    grid
        By name of the axis, its values: numbers and words, or dicts that set several things at once (learning rate and
        momentum, say). What is set under a name of `training.Optimisation` replaces it; all settings go to ``make``.
    train, test
        ``(inputs, targets)``.
    make
        See `Make`; a function that can be sent to other processes unless ``jobs`` is 1.
    loss
        A named loss of `Task` with an error per example.
    optimisation
        What the grid does not set; ``stop_at`` is the training loss, in evaluation mode, at which all stop.
    names
        Of `generalization_measures`; ``steps``, to a training loss of 0.1, is added.
    seeds
        Networks in every cell; no axis, so psi compares networks of one seed.
    draws
        Of the noise in the measures.
    bootstrap
        Samples of networks, at least 100.
    directory, jobs
        Of `training.sweep`: finished networks are kept in ``directory`` and not trained again.

    Raises
    ------
    ValueError
        An empty axis, an optimisation without ``stop_at``, a loss without error, or fewer than 4 networks that reached
        the training loss.
    SweepError
        A training failed other than by not reaching the loss.
    """
    cells = _cells_of(grid, seeds)
    if optimisation.stop_at is None:
        raise ValueError("the optimisation needs stop_at: networks compared at different training losses differ in it")
    wanted = tuple(names)

    def one(item: dict[str, Any]) -> dict[str, Any]:  # a closure: data and settings are part of its hash
        return _one(make, train, test, loss, optimisation, wanted, draws, item)

    with kept_or_temporary(directory) as folder:
        found = sweep(one, cells, directory=folder, jobs=jobs)
    reached = [f["train_loss"] <= optimisation.stop_at for f in found]
    kept = [f for f, good in zip(found, reached, strict=True) if good]
    if len(kept) < 4:
        raise ValueError(
            f"{len(kept)} of {len(found)} networks reached a training loss of {optimisation.stop_at:g}, needed are 4; "
            "train longer or stop at a higher loss"
        )
    settings = [c for c, good in zip(cells, reached, strict=True) if good]
    values = {name: np.array([f["measures"][name] for f in kept]) for name in (*wanted, "steps")}
    gaps = np.array([f["test_error"] - f["train_error"] for f in kept])
    errors = np.array([math.sqrt(f["test_error"] * (1 - f["test_error"]) / f["test_rows"]) for f in kept])
    usable = {n: v for n, v in values.items() if not np.isnan(v).any() and len(np.unique(v)) > 1}
    axes = {axis: [s[axis] for s in settings] for axis in grid if len(grid[axis]) > 1}
    rankings = rank_statistics(
        usable, gaps, errors=errors, axes=axes, blocks=[s["seed"] for s in settings], draws=bootstrap
    )  # fmt: skip
    return RankStudy(
        settings=tuple(settings), values=values, gaps=gaps, errors=errors, rankings=rankings,
        train_loss=np.array([f["train_loss"] for f in kept]), clear=clear_pairs(gaps, errors),
        discarded=tuple(
            {**c, "train_loss": f["train_loss"]} for c, f, good in zip(cells, found, reached, strict=True) if not good
        ),
    )  # fmt: skip


def _cells_of(grid: Mapping[str, Sequence[Any]], seeds: Sequence[int]) -> list[dict[str, Any]]:
    if empty := [axis for axis, values in grid.items() if not len(values)]:
        raise ValueError(f"the axes {empty} have no value; give at least one each")
    if not seeds or "seed" in grid:
        raise ValueError("give at least one seed, and seeds by their own argument, not as an axis")
    names = list(grid)
    return [
        {**dict(zip(names, values, strict=True)), "seed": int(seed)}
        for values in itertools.product(*grid.values())
        for seed in seeds
    ]


def _one(
    make: Make, train: Any, test: Any, loss: str, optimisation: Optimisation, names: Sequence[str], draws: int,
    item: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    flat: dict[str, Any] = {}
    for axis, value in item.items():
        flat |= value if isinstance(value, Mapping) else {axis: value}
    seed = int(flat["seed"])
    with global_randomness_kept(key_seed(seed, "rank study", *sorted(map(repr, flat.items())))):
        net = make(flat)
    how = replace(optimisation, **{name: value for name, value in flat.items() if name in TUNED})
    fitted = fit(net, train, loss, how, seed=seed)
    subject = fitted.subject(test=Split.of(test))
    scores = {role: subject.scores(role).errors for role in ("train", "test")}
    if scores["train"] is None or scores["test"] is None:
        raise ValueError(f"the loss {loss} has no error; use cross_entropy or binary_cross_entropy")
    losses, steps = fitted.history.series["train_loss"], fitted.history.steps
    measures = generalization_measures(
        net, fitted.train, subject.judged, reference=fitted.init, names=names, draws=draws
    ) if losses[-1] <= (how.stop_at or 0.0) else {}  # fmt: skip
    return {
        "train_loss": float(losses[-1]), "measures": {**measures, "steps": _steps_to(losses, steps)},
        "train_error": float(scores["train"].mean()), "test_error": float(scores["test"].mean()),
        "test_rows": len(scores["test"]), "seconds": fitted.seconds,
    }  # fmt: skip


def _steps_to(losses: Floats, steps: Any) -> float:
    """Steps to a training loss of 0.1, between two records by its logarithm; NaN if it was never reached."""
    below = np.flatnonzero(np.asarray(losses) <= EARLY)
    if not len(below):
        return math.nan
    k = int(below[0])
    if k == 0 or not losses[k] > 0:
        return float(steps[k])
    share = math.log(losses[k - 1] / EARLY) / math.log(losses[k - 1] / losses[k])
    return float(steps[k - 1] + share * (steps[k] - steps[k - 1]))


def _limits(name: Message) -> tuple[Message, Message]:
    return (
        Message("measure.lower", "{name}, from", name=name), Message("measure.upper", "{name}, to", name=name)
    )  # fmt: skip


def _cells(estimate: Any) -> tuple[Cell, Cell, Cell]:
    return ("-", "-", "-") if estimate is None else (estimate.value, estimate.lower, estimate.upper)
