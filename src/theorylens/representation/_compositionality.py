"""Compositionality: are representations built of the parts that their inputs are built of?

Method   TRE: the best sum of one vector per primitive against the representation; topographic similarity: rank
         correlation of distances between representations and between descriptions; both with a permutation p-value
Source   Andreas (2019), ICLR; Brighton, Kirby (2006), Artificial Life 12:229; Mantel (1967), Cancer Res. 27:209
Assumes  under the null: representations do not depend on the descriptions
Breaks   with as many primitives as rows any representation is such a sum; compare with the permutations
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from ._matrices import real_rows

PERMUTATIONS = 199


@dataclass(frozen=True, kw_only=True, eq=False)
class Compositional:
    """A measured compositionality.

    Attributes
    ----------
    value
        Tree reconstruction error (mean squared distance) or rank correlation.
    relative
        The error over the variance of the representations: 0 for an exact sum, 1 when the primitives say nothing; the
        correlation itself for topographic similarity.
    null
        ``value`` with representations permuted among the inputs, float64.
    p_value
        (1 + permutations at least as compositional) / (1 + permutations).
    """

    value: float
    relative: float
    null: Tensor
    p_value: float


def tree_reconstruction_error(
    representations: Tensor,
    derivations: Sequence[Sequence[Hashable]],
    *,
    rng: torch.Generator,
    permutations: int = PERMUTATIONS,
) -> Compositional:
    """Smallest mean squared distance of representations (n, d) from sums of one vector per primitive.

    ``derivations[i]`` lists the primitives of input i; the composition is addition, so that the minimum over the
    vectors is a least-squares problem, solved exactly.

    Raises
    ------
    ValueError
        No derivations or empty ones, another number of them than rows, representations that are all equal.
    """
    rows = real_rows(representations, "representations")
    if len(derivations) != len(rows) or not all(len(parts) for parts in derivations):
        raise ValueError(
            f"{len(rows)} representations need as many derivations with at least one primitive, got {len(derivations)}"
        )
    names = {name: i for i, name in enumerate(dict.fromkeys(p for parts in derivations for p in parts))}
    uses = torch.zeros(len(rows), len(names), dtype=torch.float64)
    for i, parts in enumerate(derivations):
        for part in parts:
            uses[i, names[part]] += 1
    # What is left of rows after projecting on the columns of `uses` is their distance to the best sums.
    left, scales, _ = torch.linalg.svd(uses, full_matrices=False)
    span = left[:, scales > scales[0] * 1e-10]
    variance = float(((rows - rows.mean(0)) ** 2).sum() / len(rows))
    if variance <= 1e-24 * float((rows**2).sum() / len(rows)) or variance == 0:
        raise ValueError(f"all {len(rows)} representations are equal; give representations that differ")

    def error(x: Tensor) -> float:
        return float(((x - span @ (span.T @ x)) ** 2).sum() / len(x))

    value = error(rows)
    null = torch.tensor(
        [error(rows[torch.randperm(len(rows), generator=rng)]) for _ in range(permutations)], dtype=torch.float64
    )
    slack = 1e-12 * variance
    p_value = (1 + int((null <= value + slack).sum())) / (1 + permutations)
    return Compositional(value=value, relative=value / variance, null=null, p_value=p_value)


def topographic_similarity(
    representations: Tensor, attributes: Tensor, *, rng: torch.Generator, permutations: int = PERMUTATIONS
) -> Compositional:
    """Spearman correlation of Euclidean distances between rows with the number of attributes in which they differ.

    ``attributes`` holds whole numbers, shape (n, attributes).

    Raises
    ------
    ValueError
        Shapes that do not match, fewer than 4 rows, representations or attributes that are all equal.
    """
    rows = real_rows(representations, "representations", fewest=4)
    if attributes.ndim != 2 or attributes.is_floating_point() or len(attributes) != len(rows):
        raise ValueError(
            f"attributes must be whole numbers of shape ({len(rows)}, attributes), got {attributes.dtype}"
            f" {tuple(attributes.shape)}"
        )
    near = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").numpy()
    differ = (attributes[:, None] != attributes[None]).sum(2).double().numpy()
    upper = np.triu_indices(len(rows), 1)
    if np.ptp(near[upper]) == 0 or np.ptp(differ[upper]) == 0:
        raise ValueError("all rows are equally far apart, so their distances have no order; give rows that differ")
    # Ranks do not change when rows are permuted, so they are taken once.
    ranks = np.zeros_like(near)
    ranks[upper] = rankdata(near[upper])
    ranks += ranks.T
    described = rankdata(differ[upper])
    described = (described - described.mean()) / described.std()
    mean, spread = ranks[upper].mean(), ranks[upper].std()

    def correlation(order: Tensor) -> float:
        permuted = ranks[order.numpy()][:, order.numpy()][upper]
        return float(((permuted - mean) / spread * described).mean())

    value = correlation(torch.arange(len(rows)))
    null = torch.tensor(
        [correlation(torch.randperm(len(rows), generator=rng)) for _ in range(permutations)], dtype=torch.float64
    )
    p_value = (1 + int((null >= value - 1e-12).sum())) / (1 + permutations)
    return Compositional(value=value, relative=value, null=null, p_value=p_value)
