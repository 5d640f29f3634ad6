"""Overlap: which inputs occur in two splits, or twice in one, and how close the nearest other inputs are?

Method   enumeration of input hashes (exact copies); nearest-neighbour distances (near copies, descriptive)
Assumes  nothing: equal inputs have equal hashes
Breaks   near copies (resized, re-encoded, cropped) are not equal; their distances are shown, not judged
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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
