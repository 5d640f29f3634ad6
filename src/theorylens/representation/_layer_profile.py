"""A network layer by layer on one page: what can be read, how many directions, which layers agree.

Design: every number is that of its own measure; this file only asks the same rows of each layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from theorylens.core import RefusedError, Subject
from theorylens.numerics.neighbours import unique_rows
from theorylens.results import Estimate, Message, Table

from ._by_depth import class_numbers, without_value
from ._depth import INPUTS, activations
from ._effective_rank import covariance_eigenvalues, participation_ratio, rankme
from ._intrinsic_dimension import FEWEST, two_nn
from ._linear_probe import linear_probe
from ._similarity import cka_matrix

ROWS = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerRow:
    """One layer: accuracy of a linear probe (half of the rows fit, half score), intrinsic dimension, soft ranks."""

    name: str
    units: int
    accuracy: Estimate
    dimension: Estimate
    participation: float
    rankme: float


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerProfile:
    """All layers, and the debiased CKA of every pair of them (NaN where a layer is constant)."""

    layers: tuple[LayerRow, ...]
    similarity: Tensor

    @property
    def table(self) -> Table:
        """The rows as words and numbers, with the similarity to the layer before."""
        columns = (
            Message("layer_profile.layer", "layer"),
            Message("layer_profile.units", "units"),
            Message("layer_profile.accuracy", "accuracy of a linear probe"),
            Message("layer_profile.dimension", "intrinsic dimension"),
            Message("layer_profile.participation", "participation ratio"),
            Message("layer_profile.rankme", "RankMe"),
            Message("layer_profile.before", "similarity with the layer before"),
        )
        rows = tuple(
            (
                r.name, r.units, r.accuracy.value, r.dimension.value, r.participation, r.rankme,
                float(self.similarity[i, i - 1]) if i else math.nan,
            )
            for i, r in enumerate(self.layers)
        )  # fmt: skip
        return Table(label=Message("layer_profile.label", "The network layer by layer"), columns=columns, rows=rows)


def layer_profile(
    subject: Subject,
    layers: Sequence[str] | None = None,
    role: str = "train",
    *,
    rng: torch.Generator,
    rows: int = ROWS,
) -> LayerProfile:
    """Measure ``layers`` of a classifier (``"(inputs)"`` and all modules in the order of use by default).

    Raises
    ------
    RefusedError
        A layer that the model does not have (its layers are named), targets that are not classes.
    """
    names = tuple(layers) if layers is not None else (INPUTS, *subject.layers)
    known = {INPUTS, *dict(subject.net.named_modules())} - {""}
    if unknown := [name for name in names if name not in known]:
        raise RefusedError(f"the model has no layer {unknown[0]!r}; it has {', '.join(sorted(known))}")
    if subject.judged.kind != "classification":
        raise RefusedError("a layer profile reads classes off each layer, so it needs a classifier")
    text = "the targets are not one class per example; give classes to read"
    labels = class_numbers(subject, role, rows, Message("layer_profile.no_classes", text))
    features = [activations(subject, name, role, rows).double() for name in names]
    order = torch.randperm(len(labels), generator=rng)
    order = order[labels[order] >= 0]
    fitted, scored = order[: len(order) // 2], order[len(order) // 2 :]
    found = tuple(_row(name, x, labels, fitted, scored) for name, x in zip(names, features, strict=True))
    return LayerProfile(layers=found, similarity=cka_matrix(features))


def _row(name: str, x: Tensor, labels: Tensor, fitted: Tensor, scored: Tensor) -> LayerRow:
    different = x[unique_rows(x).first]
    if len(different) < FEWEST:
        none = Message("layer_profile.no_dimension", "too few rows are different for a dimension")
        dimension = without_value(none)
    else:
        dimension = two_nn(different)
    eigenvalues = covariance_eigenvalues(x)
    return LayerRow(
        name=name,
        units=x.shape[1],
        accuracy=linear_probe(x[fitted], labels[fitted], x[scored], labels[scored]).accuracy,
        dimension=dimension,
        participation=participation_ratio(eigenvalues) if float(eigenvalues.sum()) > 0 else math.nan,
        rankme=rankme(x) if bool((x != 0).any()) else math.nan,
    )
