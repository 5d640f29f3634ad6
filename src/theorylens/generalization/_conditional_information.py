"""How much of the order of the gaps does a measure tell beyond what the settings of the grid tell already?

Method   for a pair of networks, V: the sign of the measure's difference, G: that of the gaps'; I(V; G | U) / H(G | U)
         with U the settings of both networks in some axes; the least over all choices of at most two axes
Source   Jiang, Neyshabur, Mobahi, Krishnan, Bengio (2020), ICLR, section 4
Assumes  a grid with several networks for each pair of settings: with few pairs in a group information is overrated
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_AXES = 2


def conditional_information(values: Any, gaps: Any, axes: Mapping[str, Sequence[Any]] | None = None) -> float | None:
    """Least normalised conditional mutual information between the orders of ``values`` and ``gaps``, in [0, 1].

    Parameters
    ----------
    values, gaps
        One number per network, without NaN; pairs with equal gaps are left out.
    axes
        By name of the axis, the setting of every network.

    Returns
    -------
    1 when the measure settles the order of the gaps whatever the settings, 0 when it adds nothing for some choice of at
    most two axes. None where no choice leaves an order open.

    >>> conditional_information([1.0, 2.0, 3.0], [0.1, 0.2, 0.3])
    1.0
    """
    v, g = np.asarray(values, dtype=np.float64), np.asarray(gaps, dtype=np.float64)
    if v.ndim != 1 or v.shape != g.shape or len(v) < 2 or np.isnan(v).any() or np.isnan(g).any():
        raise ValueError(
            f"needed are two lists of the same length, at least 2, without NaN, got {v.shape} and {g.shape}"
        )
    settings = {name: _codes(each) for name, each in (axes or {}).items()}
    if any(len(code) != len(v) for code in settings.values()):
        raise ValueError(f"every axis needs one setting per network, {len(v)}")
    i, j = np.nonzero(g[:, None] != g)  # both orders of every pair
    found = []
    for many in range(min(MOST_AXES, len(settings)) + 1):
        for chosen in combinations(settings, many):
            group = np.zeros(len(i), dtype=np.int64)
            for name in chosen:
                code = settings[name]
                levels = int(code.max()) + 1
                group = (group * levels + code[i]) * levels + code[j]
            found.append(_normalised((v[i] > v[j]) * 2 + (v[i] == v[j]), g[i] > g[j], group))
    known = [each for each in found if each is not None]
    return min(known) if known else None


def _normalised(v: NDArray[Any], g: NDArray[Any], group: NDArray[np.int64]) -> float | None:
    """I(v; g | group) / H(g | group), probabilities being shares of pairs; None where H is 0."""
    group = np.unique(group, return_inverse=True)[1]
    table = np.zeros((int(group.max(initial=-1)) + 1, 3, 2))
    np.add.at(table, (group, v.astype(np.int64), g.astype(np.int64)), 1.0)
    total = float(table.sum())

    def entropy(counts: NDArray[np.float64]) -> float:
        p = counts[counts > 0] / total
        return -math.fsum((p * np.log(p)).tolist())

    of_group = entropy(table.sum((1, 2)))
    left = entropy(table.sum(1)) - of_group  # H(g | group)
    if not left > 1e-12:
        return None
    shared = left + entropy(table.sum(2)) - entropy(table)  # + H(v, group) - H(v, g, group)
    return min(1.0, max(0.0, shared / left))


def _codes(settings: Sequence[Any]) -> NDArray[np.int64]:
    """Numbers from 0 for settings of any kind, equal where they look the same."""
    return np.asarray(np.unique([repr(each) for each in settings], return_inverse=True)[1], dtype=np.int64)
