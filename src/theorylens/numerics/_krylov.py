"""An orthonormal basis grown by products with an operator, and the tridiagonal matrix the operator is in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from .operator import Counted

Floats = NDArray[np.float64]
ROUNDING = 8.0  # times eps times the largest product: what a careful operator's rounding amounts to
BLOCK = 1 << 24  # entries of the basis allocated at once


class RitzValues(NamedTuple):
    """Ritz values with the two parts of their residuals: what points out of the basis, and what was left out of T."""

    values: Floats
    outside: Floats
    slack: Floats

    @property
    def residuals(self) -> Floats:
        return self.outside + self.slack

    @property
    def errors(self) -> Floats:
        """min(residual, residual² / gap) where the nearest other value is farther than the residual.

        The square rests on the value being the Rayleigh quotient of its vector, which holds up to the slack.
        """
        residuals = self.residuals
        if len(self.values) < 2:
            return residuals
        order = np.argsort(self.values, kind="stable")
        steps, reach = np.diff(self.values[order]), residuals[order]
        left = np.concatenate([[np.inf], steps - reach[:-1]])
        right = np.concatenate([steps - reach[1:], [np.inf]])
        gap = np.empty_like(residuals)
        gap[order] = np.minimum(left, right)
        far = gap > residuals
        squared = residuals**2 / np.where(far, gap, np.inf) + self.slack
        return np.where(far, np.minimum(residuals, squared), residuals)


@dataclass
class Sequence:
    """One Krylov sequence: a tridiagonal block of the projected operator, in float64.

    ``slack[j]`` is the norm of what the recurrence left out of the j-th product, ``tail`` the norm of the part of the
    last product that points out of the basis.
    """

    diagonal: list[float] = field(default_factory=list)
    off: list[float] = field(default_factory=list)
    slack: list[float] = field(default_factory=list)
    tail: float = 0.0
    closed: bool = False

    def decomposition(self) -> tuple[Floats, Floats]:
        """Ritz values, and their vectors in this block's coordinates as columns."""
        values, columns = eigh_tridiagonal(np.array(self.diagonal), np.array(self.off))
        return np.asarray(values, np.float64), np.asarray(columns, np.float64)

    def ritz(self) -> RitzValues:
        values, columns = self.decomposition()
        return RitzValues(values, self.tail * np.abs(columns[-1]), np.array(self.slack) @ np.abs(columns))


class Basis:
    """Orthonormal vectors, one more with every `step`; after a breakdown the next step starts a new sequence."""

    def __init__(self, operator: Counted, generator: torch.Generator) -> None:
        self._operator = operator
        self._generator = generator
        self._eps = torch.finfo(operator.dtype).eps
        self._blocks: list[Tensor] = []
        self._next: Tensor | None = None
        self._scale = 0.0  # norm of the largest product: a lower bound on the operator's norm
        self._asymmetry = 0.0  # largest norm of a product's coefficients that symmetry rules out
        self._stray = 0.0  # the same per dimension
        self.steps = 0
        self.restarts = 0
        self.sequences: list[Sequence] = []

    @property
    def size(self) -> int:
        return self._operator.size

    @property
    def rounding(self) -> float:
        """The smallest error worth asking for."""
        return ROUNDING * self._eps * self._scale * math.sqrt(self.steps)

    @property
    def asymmetry(self) -> float:
        return self._asymmetry / self._scale if self._scale else 0.0

    def step(self) -> None:
        """One product, one more vector."""
        if not self.sequences or self.sequences[-1].closed:
            self.sequences.append(Sequence())
            self._next = self._fresh()
        assert self._next is not None
        vector = self._append(self._next)
        sequence = self.sequences[-1]
        # A copy: some operators return their argument or a buffer of their own.
        rest = self._operator.matvec(vector).detach().clone()
        length = float(torch.linalg.vector_norm(rest))
        self._scale = max(self._scale, length)
        rest, found = self._orthogonal(rest)
        self._record(sequence, found, length)
        sequence.tail = float(torch.linalg.vector_norm(rest))
        whole = self.steps == self.size
        if whole or sequence.tail <= self._noise():
            sequence.slack[-1] += sequence.tail
            sequence.tail, sequence.closed = 0.0, True
            self.restarts += not whole
            self._next = None
        else:
            self._next = rest.div_(sequence.tail)

    def ritz(self) -> RitzValues:
        """Those of all sequences, one after the other."""
        each = [sequence.ritz() for sequence in self.sequences]
        return RitzValues(*(np.concatenate(part) for part in zip(*each, strict=True)))

    def vectors(self, chosen: NDArray[np.intp]) -> Tensor:
        """Unit Ritz vectors as rows, for indices into the values of `ritz`."""
        coordinates = np.zeros((self.steps, self.steps))
        start = 0
        for sequence in self.sequences:
            stop = start + len(sequence.diagonal)
            coordinates[start:stop, start:stop] = sequence.decomposition()[1]
            start = stop
        wanted = torch.from_numpy(coordinates[:, chosen].T.copy()).to(self._operator.device, self._operator.dtype)
        rows = torch.zeros(len(chosen), self.size, dtype=self._operator.dtype, device=self._operator.device)
        for block, piece in zip(self._filled(), torch.split(wanted, self._rows(), dim=1), strict=True):
            rows.addmm_(piece, block)
        return rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True))

    def _record(self, sequence: Sequence, found: Floats, length: float) -> None:
        """Enter a product's coefficients into the tridiagonal block; what does not fit there becomes slack."""
        unexpected = found.copy()
        unexpected[-1] = 0.0
        if sequence.diagonal:
            unexpected[-2] -= sequence.tail
            sequence.off.append(sequence.tail)
        surplus = float(np.linalg.norm(unexpected))
        self._asymmetry = max(self._asymmetry, surplus)
        if len(stray := unexpected[:-2]):
            self._stray = max(self._stray, float(np.linalg.norm(stray)) / math.sqrt(len(stray)))
        sequence.diagonal.append(float(found[-1]))
        sequence.slack.append(surplus + self._eps * length)

    def _orthogonal(self, vector: Tensor) -> tuple[Tensor, Floats]:
        """``vector`` less its part in the basis, in place, and the coefficients of that part.

        Two passes are enough (Parlett, section 6.9) unless the second still halves the vector: then what is left is
        mostly rounding and needs another.
        """
        found = np.zeros(self.steps)
        for passes in range(5):
            before = float(torch.linalg.vector_norm(vector))
            start = 0
            for block in self._filled():
                part = torch.mv(block, vector)
                vector.addmv_(block.T, part, alpha=-1)
                found[start : start + len(part)] += part.double().cpu().numpy()
                start += len(part)
            if passes and float(torch.linalg.vector_norm(vector)) > before / 2:
                break
        return vector, found

    def _fresh(self) -> Tensor:
        """A random unit vector orthogonal to the basis."""
        kind = torch.promote_types(self._operator.dtype, torch.float32)  # no half-precision draws
        source = self._generator
        drawn = torch.randn(self.size, generator=source, device=source.device, dtype=kind)
        vector, _ = self._orthogonal(drawn.to(self._operator.device, self._operator.dtype))
        return vector.div_(torch.linalg.vector_norm(vector))

    def _noise(self) -> float:
        """Below this length a new direction is rounding, the Krylov space invariant.

        The products show their own noise: parts along old directions that an exact product could not have. Outside
        the basis there is as much per dimension.
        """
        return max(ROUNDING * self._eps * self._scale, 2 * self._stray * math.sqrt(self.size))

    def _rows(self) -> int:
        return max(1, min(64, BLOCK // self.size))

    def _filled(self) -> list[Tensor]:
        rows = self._rows()
        return [block[: self.steps - i * rows] for i, block in enumerate(self._blocks)]

    def _append(self, vector: Tensor) -> Tensor:
        rows = self._rows()
        if self.steps == len(self._blocks) * rows:
            self._blocks.append(torch.empty(rows, self.size, dtype=vector.dtype, device=vector.device))
        place = self._blocks[-1][self.steps % rows]
        place.copy_(vector)
        self.steps += 1
        return place
