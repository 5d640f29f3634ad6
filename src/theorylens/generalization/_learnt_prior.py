"""What a recipe can certify from the training examples alone: a prior learnt on one part, a bound on the other.

Method   the recipe trains a prior network on a share of the units; the risk of networks drawn around it (or around a
         posterior trained on all of them) is bounded on the units left out, by PAC-Bayes-kl with the exact constant
Source   Ambroladze, Parrado-Hernandez, Shawe-Taylor (2006), NeurIPS; Dziugaite et al. (2021), AISTATS
Assumes  the recipe sees nothing of the units left out: no shared preprocessing, no choice of settings made with them
Breaks   when the settings were chosen by their bounds without being counted
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from theorylens.core import Split, key_seed


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Row numbers of a training split: what the prior may see, and one row per unit for the bound."""

    prior: tuple[int, ...]
    bound: tuple[int, ...]


def parts(split: Split, rows: NDArray[np.int64], share: float, *, seed: int = 0) -> Parts:
    """Divide the units of ``split`` at random; the same for every order of the rows of a seed.

    Rows of one unit stay together, and so do rows with the same input. The prior gets all rows of its units, the
    bound one row of each of its units, so that they are independent.

    Parameters
    ----------
    rows
        Numbers of the rows that may serve for the bound: those with a target.
    share
        Of the units that the prior may see, strictly between 0 and 1.

    Raises
    ------
    ValueError
        A share outside (0, 1), or fewer than two units on either side.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of the prior must lie strictly between 0 and 1, got {share}")
    group = _together(split)
    generator = np.random.default_rng(key_seed("learnt prior", split.content, share, seed))
    names = _named(split, group)
    order = generator.permutation(len(names))
    place = np.empty(len(names), dtype=np.int64)
    place[np.argsort(names, kind="stable")] = order  # by content: the order of the file decides nothing
    count = round(share * len(names))
    if count < 2 or len(names) - count < 2:
        raise ValueError(
            f"a share of {share} of {len(names)} independent units leaves fewer than two for the prior or the bound"
        )
    left = [row for row in rows if place[group[row]] >= count]
    shuffled = generator.permutation(np.asarray(sorted(left, key=lambda row: split.row_hashes[row]), dtype=np.int64))
    first: dict[int, int] = {}
    for row in shuffled:
        first.setdefault(int(group[row]), int(row))
    prior = np.flatnonzero(place[group] < count)
    return Parts(prior=tuple(map(int, prior)), bound=tuple(sorted(first.values())))


def _together(split: Split) -> NDArray[np.int64]:
    """Number of the group of each row: rows of one unit, and rows with one input, are in one group."""
    units = split.unit_numbers
    seen: dict[bytes, int] = {}
    inputs = np.asarray([seen.setdefault(h, len(seen)) for h in split.input_hashes])
    links = coo_array(
        (np.ones(len(units)), (units, inputs + units.max() + 1)), shape=(units.max() + 1 + len(seen),) * 2
    )
    _, labels = connected_components(links, directed=False)
    return np.unique(labels[units], return_inverse=True)[1].astype(np.int64)


def _named(split: Split, group: NDArray[np.int64]) -> list[bytes]:
    """The least row hash of each group: a name that does not depend on the order of the rows."""
    names: list[bytes | None] = [None] * (int(group.max()) + 1)
    for number, row_hash in zip(group, split.row_hashes, strict=True):
        known = names[number]
        names[number] = row_hash if known is None else min(known, row_hash)
    return [name for name in names if name is not None]
