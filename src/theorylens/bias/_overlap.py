"""Overlap: which inputs occur in two splits, or twice in one, and how close the nearest other inputs are?

Method   enumeration of input hashes (exact copies); nearest-neighbour distances (near copies, descriptive)
Assumes  nothing: equal inputs have equal hashes
Breaks   near copies (resized, re-encoded, cropped) are not equal; their distances are shown, not judged
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Rows of one split whose inputs also occur in another.

    Attributes
    ----------
    rows, of
        Row numbers in the first split, ascending, and how many rows it has.
    relabelled
        How many of them have there no row with the same input and the same target.
    """

    rows: tuple[int, ...]
    of: int
    relabelled: int

    @property
    def share(self) -> float:
        return len(self.rows) / self.of


def split_overlap(
    inputs: Sequence[bytes], other_inputs: Sequence[bytes], rows: Sequence[bytes] = (), other_rows: Sequence[bytes] = ()
) -> Overlap:
    """Rows of the first split whose input hash occurs in the other; ``rows`` are hashes of inputs with targets.

    >>> split_overlap([b"a", b"b", b"a"], [b"a", b"c"]).rows
    (0, 2)
    """
    known, whole = set(other_inputs), set(other_rows)
    shared = [i for i, h in enumerate(inputs) if h in known]
    relabelled = sum(rows[i] not in whole for i in shared) if len(rows) else 0
    return Overlap(rows=tuple(shared), of=len(inputs), relabelled=relabelled)


def duplicates(inputs: Sequence[bytes], rows: Sequence[bytes] = ()) -> Overlap:
    """Rows whose input occurred earlier in the same split; ``relabelled``: with another target at its first place.

    >>> duplicates([b"a", b"b", b"a", b"a"]).rows
    (2, 3)
    """
    first: dict[bytes, int] = {}
    repeated = [i for i, h in enumerate(inputs) if first.setdefault(h, i) != i]
    relabelled = sum(rows[i] != rows[first[inputs[i]]] for i in repeated) if len(rows) else 0
    return Overlap(rows=tuple(repeated), of=len(inputs), relabelled=relabelled)


def shared_units(units: Sequence[object] | None, other: Sequence[object] | None) -> int | None:
    """Units (patients, documents) that two splits have in common; None when either did not declare them."""
    if units is None or other is None:
        return None
    return len(set(units) & set(other))


def nearest_in(points: Tensor, reference: Tensor, *, block: int = 512) -> Tensor:
    """Distance of each row of ``points`` (n, d) to its nearest row of ``reference`` (m, d); float64, shape (n,).

    Candidates by products of centred rows, the distance itself by differences, so that near copies keep their digits.
    """
    centre = reference.double().mean(0)
    x, z = points.double() - centre, reference.double() - centre
    norms, found = (z**2).sum(1), []
    for start in range(0, len(x), block):
        piece = x[start : start + block]
        proposals = (norms - 2 * piece @ z.T).topk(min(4, len(z)), dim=1, largest=False).indices
        found.append((piece[:, None] - z[proposals]).norm(dim=2).min(1).values)
    return torch.cat(found)
