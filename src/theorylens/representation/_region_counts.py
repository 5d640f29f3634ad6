"""How many pieces can a ReLU network have? Exact for one layer, between two bounds for several.

Method   Zaslavsky's count of the cells of hyperplanes; Montúfar's construction; Serra's recursion over dimensions
Source   Zaslavsky (1975); Montúfar, Pascanu, Cho, Bengio (2014), NIPS; Serra, Tjandraatmadja, Ramalingam (2018), ICML
Assumes  fully connected layers, max(0, x), weights in general position for the exact count
Breaks   as a description of a given network: trained ones have far fewer pieces than any of these; count those with
         `linear_pieces`
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import linprog


@dataclass(frozen=True, kw_only=True)
class RegionBounds:
    """Bounds on the largest number of linear regions over all weights of one architecture, as exact whole numbers.

    Attributes
    ----------
    lower
        Some weights reach this many (Montúfar et al. 2014); 1 when a layer is narrower than the inputs, where the
        construction says nothing.
    upper
        No weights have more (Serra et al. 2018); for one hidden layer it is reached (Zaslavsky).
    product
        No weights have more, by the coarser product of Zaslavsky counts, layer by layer.
    states
        2^units, the number of on/off patterns; not a number of functions, nor of regions.
    """

    lower: int
    upper: int
    product: int
    states: int

    @cached_property
    def log10_lower(self) -> float:
        return math.log10(self.lower)

    @cached_property
    def log10_upper(self) -> float:
        return math.log10(self.upper)


def zaslavsky(hyperplanes: int, dimension: int) -> int:
    """Cells into which hyperplanes in general position cut a space: the sum of C(n, j) for j up to the dimension.

    >>> zaslavsky(3, 2), zaslavsky(10, 2), zaslavsky(100, 3)
    (7, 56, 166751)
    """
    if hyperplanes < 0 or dimension < 1:
        raise ValueError(f"needed are hyperplanes >= 0 and a dimension >= 1, got {hyperplanes} and {dimension}")
    return sum(math.comb(hyperplanes, j) for j in range(min(hyperplanes, dimension) + 1))


def montufar_lower_bound(inputs: int, widths: Sequence[int]) -> int:
    """Regions that some weights reach: the product of floor(n_l / n_0)^n_0 below the top, times the top's cells.

    >>> montufar_lower_bound(2, (4, 4, 4)), montufar_lower_bound(1, (2, 2, 2))
    (176, 12)

    Raises
    ------
    ValueError
        Fewer than one input, layer or unit, or a layer narrower than the inputs, which the construction does not cover.
    """
    _check(inputs, widths)
    if min(widths) < inputs:
        raise ValueError(
            f"the construction needs every layer as wide as the {inputs} inputs, got widths {tuple(widths)}"
        )
    below: int = math.prod((width // inputs) ** inputs for width in widths[:-1])
    return below * zaslavsky(widths[-1], inputs)


def serra_upper_bound(inputs: int, widths: Sequence[int]) -> int:
    """Regions that no weights exceed.

    In a region where j units of a layer are on, its image has dimension at most j, so the next layers cut no more than
    that. The sum runs over the number j_l of hyperplanes that meet in layer l, with j_l at most the dimension that is
    left: min(n_0, n_1 - j_1, ..., n_(l-1) - j_(l-1), n_l).

    >>> serra_upper_bound(2, (3,)) == zaslavsky(3, 2)
    True
    """
    _check(inputs, widths)
    after = [1] * (max(inputs, *widths) + 1)  # regions that the layers above make of a d-dimensional image
    for width in reversed(widths):
        now = [0] * len(after)
        binomials = _binomials(width)
        few = list(itertools.accumulate(binomials))  # j up to width - d leave the dimension d as it is
        # j above width - d leave width - j: sums over that, from 0
        left = list(itertools.accumulate((binomials[width - d] * after[d] for d in range(width + 1)), initial=0))
        for d in range(inputs + 1):
            most = min(width, d)
            unchanged = min(most, width - d)
            if unchanged >= 0:
                now[d] = few[unchanged] * after[d]
            lowest, highest = width - most, width - max(unchanged, -1) - 1
            if highest >= lowest:
                now[d] += left[highest + 1] - left[lowest]
        after = now
    return after[inputs]


def region_bounds(inputs: int, widths: Sequence[int]) -> RegionBounds:
    """Bounds on the linear regions of fully connected ReLU networks with ``inputs`` and hidden ``widths``.

    The number of regions grows like a polynomial of the widths to the power of inputs times depth; it is not the
    number of on/off patterns of all units, which no network realises, and neither counts functions: with real weights
    the class is infinite. What bounds learning is the number of labellings of m points, `log2_dichotomies_bound`.
    """
    _check(inputs, widths)
    covered = min(widths) >= inputs
    return RegionBounds(
        lower=montufar_lower_bound(inputs, widths) if covered else 1,
        upper=serra_upper_bound(inputs, widths),
        product=math.prod(zaslavsky(width, inputs) for width in widths),
        states=1 << sum(widths),
    )


def log2_dichotomies_bound(inputs: int, widths: Sequence[int], examples: int) -> float:
    """log2 of the most labellings of ``examples`` points that fully connected ReLU networks with one output can give.

    At fixed signs of all earlier units, the units of layer l are polynomials of degree at most l in the W_l parameters
    up to it, so by Warren's theorem m points add at most 2 (2 e m n_l l / W_l)^W_l patterns (as in Bartlett, Harvey,
    Liaw, Mehrabian 2019, JMLR 20:63). In total of order W L log(m W / L): not exponential in the number of units.
    Never more than ``examples``.
    """
    if widths:
        _check(inputs, widths)
    if inputs < 1 or examples < 1:
        raise ValueError(f"needed are at least one input and one example, got {inputs} and {examples}")
    total, weights, below = 0.0, 0, inputs
    for layer, width in enumerate((*widths, 1), start=1):
        weights += width * (below + 1)
        below = width
        polynomials = examples * width
        if polynomials < weights:
            total += polynomials  # fewer signs than parameters: Warren's theorem does not apply, all may occur
        else:
            total += min(polynomials, 1 + weights * math.log2(2 * math.e * polynomials * layer / weights))
    return min(total, float(examples))


def threshold_functions(inputs: int) -> int:
    """Boolean functions of ``inputs`` binary inputs that one threshold unit computes: 4, 14, 104, 1882.

    Corner by corner of the cube, every labelling so far is extended by both labels and kept when a linear programme
    finds weights for it. Exponential; at most 4 inputs, which take about half a minute.
    """
    if not 1 <= inputs <= 4:
        raise ValueError(f"counting by linear programmes is feasible for 1 to 4 inputs, got {inputs}")
    corners = np.array([(*corner, 1.0) for corner in itertools.product((0.0, 1.0), repeat=inputs)])
    known: list[tuple[int, ...]] = [(1,)]  # changing all signs changes the label of every corner: half is enough
    for seen in range(2, len(corners) + 1):
        extended = ((*signs, s) for signs in known for s in (-1, 1))
        known = [signs for signs in extended if _separable(corners[:seen], np.array(signs))]
    return 2 * len(known)


def _binomials(n: int) -> list[int]:
    found = [1]
    for j in range(n):
        found.append(found[-1] * (n - j) // (j + 1))
    return found


def _separable(corners: np.ndarray, signs: np.ndarray) -> bool:
    """Whether some w has sign * (w . corner) >= 1 at each corner."""
    rows = -signs[:, None] * corners
    found = linprog(np.zeros(corners.shape[1]), A_ub=rows, b_ub=-np.ones(len(rows)), bounds=(None, None))
    return bool(found.status == 0)


def _check(inputs: int, widths: Sequence[int]) -> None:
    if inputs < 1 or not widths or min(widths) < 1:
        raise ValueError(
            f"needed are at least one input, one hidden layer and one unit in each, got {inputs} and {tuple(widths)}"
        )
