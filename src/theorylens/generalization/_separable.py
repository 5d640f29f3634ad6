"""Whether a hyperplane through the origin leaves all given points on one side, without any rounding.

Method   Gordan's alternative: either some w has w.x > 0 for every point x, or the points have a combination with
         weights at least 0, not all 0, that vanishes. Rational arithmetic, simplex method with Bland's rule
Source   Gordan (1873), Math. Ann. 6:23; Bland (1977), Math. Oper. Res. 2:103
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

Row = list[Fraction]


def strictly_separable(points: Sequence[Sequence[float]]) -> bool:
    """Whether some w has w.x > 0 for every x of ``points``; each float is taken as the number that it is.

    >>> strictly_separable([[1.0, 0.0], [-1.0, 1e-30]]), strictly_separable([[1.0, 0.0], [-1.0, 0.0]])
    (True, False)
    """
    count = len(points)
    equations = _independent([[Fraction(x) for x in column] for column in zip(*points, strict=True)], count)
    if len(equations) == count:
        return True  # only the weights 0 give 0
    # Weights that sum to 1; one artificial variable per equation is the first basis, their sum is to vanish.
    table = [[*row, Fraction(0)] for row in equations] + [[Fraction(1)] * (count + 1)]
    cost = [sum((row[j] for row in table), Fraction(0)) for j in range(count + 1)]
    basis = [count + i for i in range(len(table))]
    while cost[-1] > 0:
        enters = next((j for j in range(count) if cost[j] > 0), None)
        if enters is None:
            return True
        allowed = [i for i, row in enumerate(table) if row[enters] > 0]
        leaves = min(allowed, key=lambda i: (table[i][-1] / table[i][enters], basis[i]))
        table[leaves] = [x / table[leaves][enters] for x in table[leaves]]
        for row in (*(r for i, r in enumerate(table) if i != leaves), cost):
            if factor := row[enters]:
                row[:] = [x - factor * y for x, y in zip(row, table[leaves], strict=True)]
        basis[leaves] = enters
    return False


def _independent(rows: list[Row], most: int) -> list[Row]:
    """Rows that span the same as ``rows``, each with a 1 where the others have 0; at most ``most`` there are."""
    found: list[tuple[int, Row]] = []
    for row in rows:
        for place, known in found:
            if factor := row[place]:
                row = [x - factor * y for x, y in zip(row, known, strict=True)]
        place = next((j for j, x in enumerate(row) if x), -1)
        if place < 0:
            continue
        row = [x / row[place] for x in row]
        found = [(p, [x - k[place] * y for x, y in zip(k, row, strict=True)]) for p, k in found]
        found.append((place, row))
        if len(found) == most:
            break
    return [row for _, row in found]
