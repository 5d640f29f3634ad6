"""Many small trainings on one data set: the errors of each on the same held-out rows."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from theorylens.core import Split, global_randomness_kept, key_seed
from theorylens.training import Keeping, Optimisation, fit, sweep

from ._candidates import Factory, parameter_count
from ._equivariance import decisions, shifted

Floats = NDArray[np.float64]
SHIFTS = (0, 1, 2, 3)  # places by which inputs are moved to see how steady the decisions are


def small_optimisation() -> Optimisation:
    """Adam, 15 passes in batches of 32: what small candidates need on small data."""
    return Optimisation(optimizer="adam", lr=1e-2, batch_size=32, epochs=15, schedule="cosine")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much to train.

    Parameters
    ----------
    sizes
        Training examples per trial; None: a quarter, a half and all of them.
    seeds
        Trainings per candidate and size, at least 2; intervals from 2 or 3 are wide.
    optimisation
        Of a training on all examples; smaller sizes take as many steps.
    directory
        Where finished trainings are kept, so that a rerun goes on; None: nowhere.
    jobs
        Processes.
    """

    sizes: Sequence[int] | None = None
    seeds: int = 5
    optimisation: Optimisation = field(default_factory=small_optimisation)
    directory: str | Path | None = None
    jobs: int = 1

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise ValueError(f"an interval over seeds needs at least 2 seeds, got {self.seeds}")

    def sizes_of(self, rows: int) -> tuple[int, ...]:
        """Sizes in ascending order, checked against the number of training rows."""
        sizes = sorted(set(self.sizes if self.sizes is not None else (rows // 4, rows // 2, rows)))
        if not sizes or sizes[0] < 2 or sizes[-1] > rows:
            raise ValueError(f"sizes must lie between 2 and the {rows} training examples, got {list(sizes)}")
        return tuple(sizes)


def inputs_and_targets(data: Any, what: str) -> tuple[Any, Tensor]:
    """All rows of a split as (inputs, targets); inputs one tensor, or (features, adjacency).

    Raises
    ------
    ValueError
        When the rows are not pairs of these.
    """
    split = Split.of(data)
    batch = split.take(range(len(split)))
    pair = isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[1], Tensor)
    if not pair or not (isinstance(batch[0], Tensor) or _is_graph(batch[0])):
        raise ValueError(
            f"the {what} data are not pairs (inputs, targets) with inputs one tensor or (features, adjacency); give "
            "such pairs"
        )
    inputs = batch[0] if isinstance(batch[0], Tensor) else tuple(batch[0])
    return inputs, batch[1]


def _is_graph(inputs: Any) -> bool:
    pair = isinstance(inputs, tuple | list) and len(inputs) == 2 and all(isinstance(x, Tensor) for x in inputs)
    return pair and inputs[0].ndim == 3 and inputs[1].ndim == 3 and inputs[1].shape[1] == inputs[1].shape[2]


def rows_of(inputs: Any, index: Tensor) -> Any:
    """The chosen rows of a tensor or a tuple of them."""
    return pytree.tree_map(lambda leaf: leaf[index], inputs)


def joined(one: Any, other: Any) -> Any:
    """The rows of both."""
    return pytree.tree_map(lambda a, b: torch.cat([a, b]), one, other)


Change = Callable[[Any, torch.Generator], Any]
"""``change(inputs, generator)``: all inputs with something done to them, the generator keyed by the seed."""


class Trials:
    """``trial(item)``: one training; item holds candidate, size, seed and the names of what is done to the inputs."""

    def __init__(
        self, train: Any, test: Any, loss: Any, factories: Mapping[str, Factory], optimisation: Optimisation,
        changes: Mapping[str, Change] | None = None,
    ) -> None:  # fmt: skip
        self.train, self.test, self.loss = train, test, loss
        self.factories = dict(factories)
        self.optimisation = vars(optimisation)
        self.changes = dict(changes or {})

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        seed, size = int(item["seed"]), int(item["size"])
        inputs, targets = self.train
        order = torch.randperm(len(targets), generator=_generator(seed, "rows"))[:size]
        x, y = rows_of(inputs, order), targets[order]
        held, answers = self.test
        for name in item.get("both", ()):  # training and held-out rows alike, by one draw
            x, held = (self.changes[name](part, _generator(seed, name)) for part in (x, held))
        for name in item.get("added", ()):  # transformed copies of the training rows join them
            x, y = joined(x, self.changes[name](x, _generator(seed, name))), torch.cat([y, y])
        model, errors = self._trained(str(item["candidate"]), x, y, held, answers, seed)
        moved = steadiness(model, held) if item.get("moved") else []
        return {"errors": errors, "moved": moved, "parameters": parameter_count(model)}

    def _trained(self, name: str, x: Any, y: Tensor, held: Any, answers: Tensor, seed: int) -> tuple[nn.Module, Floats]:
        full = Optimisation(**self.optimisation)
        steps = full.epochs * -(-len(self.train[1]) // full.batch_size)
        epochs = max(1, round(steps / -(-len(y) // full.batch_size)))
        how = Optimisation(**{**self.optimisation, "epochs": epochs})
        with global_randomness_kept(key_seed(seed, name)):
            model = self.factories[name]()
        fitted = fit(model, (x, y), self.loss, how, seed=seed, keeping=Keeping(every=1 << 40))
        subject = fitted.subject(test=(held, answers))
        scores = subject.scores("test")
        errors = scores.errors if scores.errors is not None else scores.losses
        return model, errors.numpy()


def steadiness(model: Any, inputs: Any) -> list[float]:
    """Share of decisions changed when images or sequences move by 0, 1, 2, 3 places; empty for other inputs."""
    if not isinstance(inputs, Tensor) or inputs.ndim not in (3, 4) or not inputs.is_floating_point():
        return []
    images = inputs if inputs.ndim == 4 else inputs[:, None]  # a sequence moves along its first axis, length

    def run(x: Tensor) -> Tensor:
        answer: Tensor = model(x if inputs.ndim == 4 else x[:, 0])
        return answer

    with torch.no_grad():
        if run(images[:2]).ndim != 2:
            return []
    before = decisions(run, images)
    places = [s for s in SHIFTS if s < images.shape[2 if inputs.ndim == 3 else 3]]
    moved = [shifted(images, s, 0) if inputs.ndim == 3 else shifted(images, 0, s) for s in places]
    return [float((decisions(run, x) != before).double().mean()) for x in moved]


def _generator(seed: int, name: str) -> torch.Generator:
    return torch.Generator().manual_seed(key_seed(seed, name))


def run_trials(trials: Trials, grid: Sequence[dict[str, Any]], budget: Budget) -> list[dict[str, Any]]:
    """Every item of ``grid`` through the one map over trainings."""
    with _folder(budget.directory) as folder:
        return sweep(trials, grid, directory=folder, jobs=budget.jobs)


@contextlib.contextmanager
def _folder(directory: str | Path | None) -> Iterator[str | Path]:
    if directory is not None:
        yield directory
        return
    with tempfile.TemporaryDirectory() as made:
        yield made


def stacked(results: Sequence[dict[str, Any]], shape: tuple[int, ...]) -> Floats:
    """Errors of a full grid as an array of ``shape`` and the held-out rows."""
    return np.stack([np.asarray(r["errors"], dtype=np.float64) for r in results]).reshape(*shape, -1)
