"""Choosing an architecture: candidates ranked by held-out error, beside the structure measured in the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from theorylens.results import Message

from ._candidates import Factory
from ._comparison import ArchitectureComparison, Ranked, compare_architectures
from ._data_structure import DataStructure, data_structure, kind_of
from ._trials import Budget, inputs_and_targets


@dataclass(frozen=True, kw_only=True, eq=False)
class ArchitectureChoice:
    """What `select_architecture` found.

    Attributes
    ----------
    ranking
        Candidates from the smallest held-out error on, at the largest size.
    comparison
        All learning curves.
    structure
        Structure of the data; None for vectors, which have none to test.
    """

    ranking: tuple[Ranked, ...]
    comparison: ArchitectureComparison
    structure: DataStructure | None

    @property
    def best(self) -> tuple[str, ...]:
        """The candidates that cannot be told apart from the best, the best first."""
        return tuple(r.name for r in self.ranking if r.tied)

    @property
    def said(self) -> Message:
        """The finding in one sentence."""
        first, names = self.ranking[0], self.best
        if len(names) == 1:
            text = "{name} has the smallest held-out error ({error:.2%}), apart from every other candidate"
            return Message("architectures.one", text, name=first.name, error=first.error.value)
        text = "{names} cannot be told apart with these trainings; the smallest held-out error is {error:.2%}"
        return Message("architectures.several", text, names=", ".join(names), error=first.error.value)


def select_architecture(
    train: Any,
    validation: Any,
    loss: Any = "cross_entropy",
    *,
    factories: Mapping[str, Factory] | None = None,
    only: Sequence[str] | None = None,
    symmetries: Sequence[str] | None = None,
    parameters: int = 5000,
    budget: Budget = Budget(),  # noqa: B008 - frozen
) -> ArchitectureChoice:
    """Rank architectures for these data by held-out error, beside what structure the data were measured to have.

    ``validation`` is used up by the choice: certify the winner on rows that had no part in it. Arguments as for
    `compare_architectures` and `data_structure`.
    """
    comparison = compare_architectures(
        train, validation, loss, factories=factories, only=only, parameters=parameters, budget=budget
    )
    inputs = inputs_and_targets(train, "training")[0]
    try:
        kind_of(inputs)
    except ValueError:
        structure = None
    else:
        structure = data_structure(train, validation, loss, symmetries=symmetries, parameters=parameters, budget=budget)
    return ArchitectureChoice(ranking=comparison.ranking(), comparison=comparison, structure=structure)
