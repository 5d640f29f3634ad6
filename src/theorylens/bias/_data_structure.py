"""Structure of the data: does a network that assumes neighbourhoods lose when the neighbourhoods are destroyed?

Method   one fixed reordering of pixels, steps or nodes for training and held-out rows; the held-out error of a local
         candidate before and after, paired; the same for a dense one, which no fixed reordering can harm beyond chance.
         Label-preserving symmetries: training rows are shifted or flipped, held-out rows are not
Source   Zhang et al. (2017). Understanding deep learning requires rethinking generalization. ICLR (shuffled pixels);
         Chen, Dobriban, Lee (2020). A group-theoretic framework for data augmentation. JMLR 21:245
Assumes  rows are independent draws; seeds vary weights, order, subset and the reordering
Breaks   a local candidate that is no better than chance has nothing to lose
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theorylens.results import Estimate, Intervals, Message, Role, Wall

from ._candidates import Factory, candidates, shape_of
from ._comparison import outputs_for
from ._crossed import crossed_mean
from ._equivariance import shifted
from ._trials import Budget, Change, Trials, inputs_and_targets, run_trials, stacked

LOCAL = {"image": "cnn", "sequence": "cnn", "graph": "graph"}
REACH = 1  # pixels or steps by which training rows are moved at random


@dataclass(frozen=True, kw_only=True, eq=False)
class DataStructure:
    """Paired changes of the held-out error; above 0: the change hurt.

    Attributes
    ----------
    kind
        ``"image"``, ``"sequence"`` or ``"graph"``.
    error, dense_error
        Of the local and of the dense candidate on the data as they are.
    scrambled, dense_scrambled
        Change by reordering all units by one fixed reordering: for the local candidate, and for the dense control.
    transformed
        Change of the local candidate when transformed copies of the training rows join them, held-out rows and number
        of steps unchanged: below 0 the transformation keeps what decides the label and is worth augmenting with, above
        0 it costs more than it brings (it mixes classes, or the network has better use for its capacity).
    """

    kind: str
    error: Estimate
    dense_error: Estimate
    scrambled: Estimate
    dense_scrambled: Estimate
    transformed: Mapping[str, Estimate]

    @property
    def local(self) -> bool:
        """Whether neighbourhoods matter: reordering the units harms the local candidate beyond its interval."""
        return self.scrambled.lower > 0

    def payload(self) -> Intervals:
        """All changes on one axis."""
        named: dict[Message, Estimate] = {
            Message("structure.scrambled", "order destroyed, local network"): self.scrambled,
            Message("structure.dense", "order destroyed, dense network"): self.dense_scrambled,
            **{_WORDS[name]: e for name, e in self.transformed.items()},
        }
        others: tuple[Role, ...] = tuple("network" for _ in self.transformed)
        return Intervals(
            label=Message(
                "structure.label", "Change of the held-out error, 95 % intervals over trainings and examples"
            ),
            names=tuple(named),
            values=np.asarray([e.value for e in named.values()]),
            lower=np.asarray([e.lower for e in named.values()]),
            upper=np.asarray([e.upper for e in named.values()]),
            x_name=Message("structure.change", "held-out error, after minus before"),
            roles=("network", "init", *others),
            walls=(Wall(at=0.0, name=Message("structure.none", "no change")),),
        )


_WORDS = {
    "shift": Message("structure.shift", "copies shifted by one place added"),
    "flip left-right": Message("structure.flip", "copies flipped left-right added"),
    "flip up-down": Message("structure.upside", "copies flipped up-down added"),
    "turn by 90°": Message("structure.turn", "copies turned by 90° added"),
    "reverse": Message("structure.reverse", "copies in reverse added"),
}


def data_structure(
    train: Any,
    test: Any,
    loss: Any = "cross_entropy",
    *,
    factories: Mapping[str, Factory] | None = None,
    symmetries: Sequence[str] | None = None,
    parameters: int = 3000,
    budget: Budget = Budget(),  # noqa: B008 - frozen
) -> DataStructure:
    """Measure what structure the data have, by training small networks with and without it.

    Parameters
    ----------
    train, test, loss
        As for `compare_architectures`: images, sequences or graphs.
    factories
        ``{"local": ..., "dense": ...}`` replaces the library's convolutional (or graph) and dense candidates.
    symmetries
        Which transformations to try; None: all that fit the inputs, ``()``: none.
    parameters, budget
        Size of the candidates; seeds and optimisation. The largest of ``budget.sizes`` is used.

    Raises
    ------
    ValueError
        Vectors: their features have no order that could be destroyed.
    """
    rows, held = inputs_and_targets(train, "training"), inputs_and_targets(test, "held-out")
    kind = kind_of(rows[0])
    changes = _changes(rows[0], kind)
    known = [name for name in changes if name != "scramble"]
    wanted = known if symmetries is None else list(symmetries)
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"unknown symmetry {unknown[0]!r} for {kind} data; there are {', '.join(known) or 'none'}")
    library = candidates(shape_of(rows[0]), outputs_for(rows[1], held[1]), parameters, only=(LOCAL[kind], "mlp"))
    makers = {"local": library[LOCAL[kind]], "dense": library["mlp"]} | dict(factories or {})
    size, seeds = budget.sizes_of(len(rows[1]))[-1], range(budget.seeds)
    plain = [{"candidate": c} for c in ("local", "dense")]
    broken = [{"candidate": c, "both": ["scramble"]} for c in ("local", "dense")]
    added = [{"candidate": "local", "added": [name]} for name in wanted]
    cells: list[dict[str, Any]] = [*plain, *broken, *added]
    grid = [{**cell, "size": size, "seed": s} for cell in cells for s in seeds]
    errors = stacked(
        run_trials(Trials(rows, held, loss, makers, budget.optimisation, changes), grid, budget),
        (len(cells), budget.seeds),
    )
    return DataStructure(
        kind=kind,
        error=crossed_mean(errors[0], least=0.0),
        dense_error=crossed_mean(errors[1], least=0.0),
        scrambled=crossed_mean(errors[2] - errors[0]),
        dense_scrambled=crossed_mean(errors[3] - errors[1]),
        transformed={name: crossed_mean(errors[4 + k] - errors[0]) for k, name in enumerate(wanted)},
    )


def kind_of(inputs: Any) -> str:
    """What the inputs are, by their axes."""
    if not isinstance(inputs, Tensor):
        return "graph"
    if inputs.is_floating_point() and inputs.ndim in (3, 4):
        return {4: "image", 3: "sequence"}[inputs.ndim]
    raise ValueError(
        f"inputs of shape {tuple(inputs.shape)} have no units in order whose order could be destroyed; give images "
        "(n, channels, height, width), sequences (n, length, width) or graphs (features, adjacency)"
    )


def _changes(inputs: Any, kind: str) -> dict[str, Change]:
    if kind == "graph":
        return {"scramble": scrambled_nodes}
    if kind == "sequence":
        return {"scramble": scrambled_steps, "shift": moved_steps, "reverse": reversed_steps}
    found: dict[str, Change] = {
        "scramble": scrambled_pixels, "shift": moved_pixels, "flip left-right": mirrored, "flip up-down": upended
    }  # fmt: skip
    return found | ({"turn by 90°": turned} if inputs.shape[2] == inputs.shape[3] else {})


def scrambled_pixels(images: Tensor, generator: torch.Generator) -> Tensor:
    """One fixed reordering of the pixels of all images."""
    flat = images.flatten(2)
    order = torch.randperm(flat.shape[2], generator=generator)
    return flat[:, :, order].reshape(images.shape)


def scrambled_steps(sequences: Tensor, generator: torch.Generator) -> Tensor:
    """One fixed reordering of the steps of all sequences."""
    return sequences[:, torch.randperm(sequences.shape[1], generator=generator)]


def scrambled_nodes(graphs: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Features handed to other nodes, by one fixed reordering: the edges no longer join the nodes they joined."""
    features, adjacency = graphs
    return features[:, torch.randperm(features.shape[1], generator=generator)], adjacency


def moved_pixels(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by up to one pixel in each direction, edges repeated."""
    by = torch.randint(-REACH, REACH + 1, (len(images), 2), generator=generator)
    moved = images.clone()
    for down, right in torch.unique(by, dim=0).tolist():
        chosen = (by == torch.tensor([down, right])).all(1)
        moved[chosen] = shifted(images[chosen], down, right)
    return moved


def moved_steps(sequences: Tensor, generator: torch.Generator) -> Tensor:
    """Each sequence moved by up to one step, ends repeated."""
    by, moved = torch.randint(-REACH, REACH + 1, (len(sequences),), generator=generator), sequences.clone()
    for step in range(-REACH, REACH + 1):
        moved[by == step] = shifted(sequences[by == step][:, None], step, 0)[:, 0]
    return moved


def reversed_steps(sequences: Tensor, generator: torch.Generator) -> Tensor:
    """Every sequence backwards."""
    del generator
    return sequences.flip(1)


def mirrored(images: Tensor, generator: torch.Generator) -> Tensor:
    """Every image flipped left-right."""
    del generator
    return images.flip(-1)


def upended(images: Tensor, generator: torch.Generator) -> Tensor:
    """Every image flipped up-down."""
    del generator
    return images.flip(-2)


def turned(images: Tensor, generator: torch.Generator) -> Tensor:
    """Every image turned by a quarter."""
    del generator
    return images.rot90(1, (-2, -1))
