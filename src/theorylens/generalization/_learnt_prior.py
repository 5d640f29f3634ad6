"""What a recipe can certify from the training examples alone: a prior learnt on one part, a bound on the other.

Method   the recipe trains a prior network on a share of the units; the risk of networks drawn around it (or around a
         posterior trained on all of them) is bounded on the units left out, by PAC-Bayes-kl with the exact constant
Source   Ambroladze, Parrado-Hernandez, Shawe-Taylor (2006), NeurIPS; Dziugaite et al. (2021), AISTATS
Assumes  the recipe sees nothing of the units left out: no shared preprocessing, no choice of settings made with them
Breaks   when the settings were chosen by their bounds without being counted
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from theorylens.core import Split, key_seed

from ._alike import linked, near_pairs


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Row numbers of a training split: what the prior may see, and one row per unit for the bound."""

    prior: tuple[int, ...]
    bound: tuple[int, ...]


def parts(split: Split, rows: NDArray[np.int64], share: float, *, seed: int = 0) -> Parts:
    """Divide the units of ``split`` at random; the same for every order of the rows of a seed.

    Rows of one unit stay together, and so do rows with the same input or near copies of it. The prior gets all rows of
    its units, the bound one row of each of its units, so that they are independent.

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
    first, second = portions(split, rows, (share, 1 - share), seed=seed)
    return Parts(prior=first.rows, bound=second.units)


@dataclass(frozen=True, kw_only=True)
class Portion:
    """One portion of a training split: all rows of its units, and one row per unit that may serve for a bound."""

    rows: tuple[int, ...]
    units: tuple[int, ...]


def portions(
    split: Split, rows: NDArray[np.int64], shares: Sequence[float], *, seed: int = 0
) -> tuple[Portion, ...]:  # fmt: skip
    """Divide the units of ``split`` at random into portions; the same for every order of the rows of a seed.

    Rows of one unit are in one portion, and so are rows with the same input or near copies of it; no two portions have
    a unit in common.

    Parameters
    ----------
    rows
        Numbers of the rows that may serve for a bound: those with a target.
    shares
        Of the units, for each portion; positive, adding up to 1.

    Raises
    ------
    ValueError
        Fewer than two shares, shares that are not positive or do not add up to 1, or a portion with fewer than two
        units.
    """
    if len(shares) < 2 or not all(share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"shares of two or more portions, positive and adding up to 1, are needed; got {list(shares)}")
    group = _together(split)
    generator = np.random.default_rng(key_seed("learnt prior", split.content, shares[0], seed))
    names = _named(split, group)
    order = generator.permutation(len(names))
    place = np.empty(len(names), dtype=np.int64)
    place[np.argsort(names, kind="stable")] = order  # by content: the order of the file decides nothing
    ends = [round(sum(shares[: i + 1]) * len(names)) for i in range(len(shares))]
    begins = [0, *ends[:-1]]
    if min(end - begin for begin, end in zip(begins, ends, strict=True)) < 2:
        raise ValueError(
            f"shares of {', '.join(f'{s:g}' for s in shares)} of {len(names)} independent units leave fewer than two "
            "for a portion: a prior and a bound need two at least"
        )
    shuffled = generator.permutation(np.asarray(sorted(rows, key=lambda row: split.row_hashes[row]), dtype=np.int64))
    first: dict[int, int] = {}
    for row in shuffled:
        first.setdefault(int(group[row]), int(row))
    return tuple(
        Portion(
            rows=tuple(map(int, np.flatnonzero((place[group] >= begin) & (place[group] < end)))),
            units=tuple(sorted(row for unit, row in first.items() if begin <= place[unit] < end)),
        )
        for begin, end in zip(begins, ends, strict=True)
    )


def first_rows(split: Split, rows: NDArray[np.int64]) -> tuple[int, ...]:
    """One of ``rows`` for each independent unit, by content: rows of one unit, or with one input, are one unit."""
    group = _together(split)
    first: dict[int, int] = {}
    for row in sorted(map(int, rows), key=lambda row: split.row_hashes[row]):
        first.setdefault(int(group[row]), row)
    return tuple(sorted(first.values()))


def _together(split: Split) -> NDArray[np.int64]:
    """Number of the group of each row: rows of one unit, and rows with one input or nearly, are in one group."""
    units = split.unit_numbers
    seen: dict[bytes, int] = {}
    inputs = np.asarray([seen.setdefault(h, len(seen)) for h in split.input_hashes])
    first = np.unique(inputs, return_index=True)[1][inputs]
    groups = linked(units.astype(np.int64), np.arange(len(units)), first)
    return linked(groups, *near_pairs(split))


def _named(split: Split, group: NDArray[np.int64]) -> list[bytes]:
    """The least row hash of each group: a name that does not depend on the order of the rows."""
    names: list[bytes | None] = [None] * (int(group.max()) + 1)
    for number, row_hash in zip(group, split.row_hashes, strict=True):
        known = names[number]
        names[number] = row_hash if known is None else min(known, row_hash)
    return [name for name in names if name is not None]
