"""An orthonormal basis grown by products with an operator, and the matrix the operator is in it.

Band Lanczos: each product, less its part in the basis, is one more direction. With one start the matrix is
tridiagonal; with a block of b starts its band is b wide and an eigenvalue shows up to b copies of itself.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh, eigh_tridiagonal
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


class Basis:
    """Orthonormal vectors: those that were multiplied, and after them those that wait for it.

    Every `step` multiplies the next one and appends what is new in its product. When nothing waits, the space is
    invariant (a breakdown) and the next step starts a new sequence in its complement. Where memory is short `compress`
    keeps some Ritz vectors only (thick restart: Wu, Simon 2000, SIAM J. Matrix Anal. Appl. 22:602).
    """

    def __init__(self, operator: Counted, generator: torch.Generator, *, block: int = 1) -> None:
        self._operator = operator
        self._generator = generator
        self.block = block
        self._eps = torch.finfo(operator.dtype).eps
        self._stored: list[Tensor] = []
        self._scale = 0.0  # norm of the largest product: a lower bound on the operator's norm
        self._asymmetry = 0.0  # largest norm of a product's coefficients that symmetry rules out
        self._stray = 0.0  # the same per dimension
        self._matrix = np.zeros((0, 0))  # entry (i, j), i >= j: part along vector i of the product with vector j
        self._slack: list[float] = []  # per product the norm of what the matrix leaves out
        self._starts: list[int] = []  # the first vector of each sequence
        self._thick = False
        self.rows = 0
        self.steps = 0
        self.restarts = 0

    @property
    def size(self) -> int:
        return self._operator.size

    @property
    def dtype(self) -> torch.dtype:
        return self._operator.dtype

    @property
    def closed(self) -> bool:
        """Whether the space is invariant."""
        return self.steps == self.rows

    @property
    def rounding(self) -> float:
        """The smallest error worth asking for."""
        return ROUNDING * self._eps * self._scale * math.sqrt(self.steps)

    @property
    def asymmetry(self) -> float:
        return self._asymmetry / self._scale if self._scale else 0.0

    def step(self) -> None:
        """One product, and one more vector unless the product has nothing new."""
        if self.closed:
            self._starts.append(self.steps)
            for _ in range(min(self.block, self.size - self.rows)):
                self._append(self._fresh())
        # A copy: some operators return their argument or a buffer of their own.
        rest = self._operator.matvec(self._row(self.steps)).detach().clone()
        length = float(torch.linalg.vector_norm(rest))
        self._scale = max(self._scale, length)
        rest, found = self._orthogonal(rest)
        self._record(found, length)
        tail = float(torch.linalg.vector_norm(rest))
        if self.rows == self.size or tail <= self._noise():
            self._slack[-1] += tail
        else:
            self._append(rest.div_(tail))
            self._matrix[self.rows - 1, self.steps] = tail
        self.steps += 1
        self.restarts += self.closed and self.steps < self.size

    def ritz(self, *, last: bool = False) -> RitzValues:
        """Those of all sequences one after the other, or of the last alone."""
        chosen = range(len(self._starts))[-1 if last else 0 :]
        each = [self._ritz_of(i) for i in chosen]
        return RitzValues(*(np.concatenate(part) for part in zip(*each, strict=True)))

    def decomposition(self, sequence: int) -> tuple[Floats, Floats]:
        """Ritz values of one sequence, and their vectors in its coordinates as columns."""
        start, stop = self._span(sequence)
        part = self._matrix[start:stop, start:stop]
        if start == stop:
            return np.zeros(0), part
        if self.block == 1 and not self._thick:
            values, columns = eigh_tridiagonal(part.diagonal(), part.diagonal(-1))
        else:
            values, columns = eigh(part, lower=True)
        return np.asarray(values, np.float64), np.asarray(columns, np.float64)

    def vectors(self, chosen: NDArray[np.intp]) -> Tensor:
        """Unit Ritz vectors as rows, for indices into the values of `ritz`."""
        wanted = torch.from_numpy(self._coordinates()[:, chosen].T.copy())
        wanted = wanted.to(self._operator.device, self._operator.dtype)
        rows = torch.zeros(len(chosen), self.size, dtype=self._operator.dtype, device=self._operator.device)
        start = 0
        for stored in self._filled(self.steps):
            rows.addmm_(wanted[:, start : start + len(stored)], stored)
            start += len(stored)
        return rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True))

    def compress(self, chosen: NDArray[np.intp]) -> None:
        """Keep the Ritz vectors chosen (indices into the values of `ritz`) and the vectors that wait."""
        ritz = self.ritz()
        chosen = np.sort(chosen)
        coordinates = self._coordinates()[:, chosen]
        waiting = self.rows - self.steps
        pointing = self._matrix[self.steps : self.rows, : self.steps] @ coordinates
        whole = np.zeros((self.rows, len(chosen) + waiting))
        whole[: self.steps, : len(chosen)] = coordinates
        whole[self.steps :, len(chosen) :] = np.eye(waiting)
        self._turn(whole)
        bounds = np.cumsum([0] + [self._span(i)[1] - self._span(i)[0] for i in range(len(self._starts))])
        self._starts = list(dict.fromkeys(int((chosen < bound).sum()) for bound in bounds[:-1]))
        self._slack = ritz.slack[chosen].tolist()
        self._matrix = np.zeros((0, 0))
        self.steps, self.rows = len(chosen), len(chosen) + waiting
        self._make_room()
        self._matrix[: self.steps, : self.steps] = np.diag(ritz.values[chosen])
        self._matrix[self.steps : self.rows, : self.steps] = pointing
        self._thick = True

    def _span(self, sequence: int) -> tuple[int, int]:
        ends = [*self._starts, self.steps]
        return ends[sequence], ends[sequence + 1]

    def _ritz_of(self, sequence: int) -> RitzValues:
        start, stop = self._span(sequence)
        values, columns = self.decomposition(sequence)
        pointing = self._matrix[self.steps : self.rows, start:stop] @ columns
        return RitzValues(
            values, np.linalg.norm(pointing, axis=0), np.array(self._slack[start:stop]) @ np.abs(columns)
        )  # fmt: skip

    def _coordinates(self) -> Floats:
        """Ritz vectors of all sequences as columns, in the coordinates of the vectors that were multiplied."""
        whole = np.zeros((self.steps, self.steps))
        for i in range(len(self._starts)):
            start, stop = self._span(i)
            whole[start:stop, start:stop] = self.decomposition(i)[1]
        return whole

    def _turn(self, columns: Floats) -> None:
        """Replace the first vectors by combinations of all, few entries at a time so that nothing is held twice."""
        turn = torch.from_numpy(columns.T.copy()).to(self._operator.device, self._operator.dtype)
        width = max(1, BLOCK // self.rows)
        for left in range(0, self.size, width):
            pieces = [stored[:, left : left + width] for stored in self._filled(self.rows)]
            turned = turn @ torch.cat(pieces)
            start = 0
            for piece in pieces:
                part = turned[start : start + len(piece)]
                piece[: len(part)] = part
                start += len(piece)

    def _record(self, found: Floats, length: float) -> None:
        """Enter a product's coefficients into the matrix; what symmetry rules out becomes slack."""
        self._make_room()
        now = self.steps
        expected = self._matrix[now, :now]
        unexpected = found[:now] - expected
        surplus = float(np.linalg.norm(unexpected))
        self._asymmetry = max(self._asymmetry, surplus)
        if len(stray := unexpected[expected == 0]):
            self._stray = max(self._stray, float(np.linalg.norm(stray)) / math.sqrt(len(stray)))
        self._matrix[now : self.rows, now] = found[now:]
        self._slack.append(surplus + self._eps * length)

    def _orthogonal(self, vector: Tensor) -> tuple[Tensor, Floats]:
        """``vector`` less its part in the basis, in place, and the coefficients of that part.

        Two passes are enough (Parlett, section 6.9) unless the second still halves the vector: then what is left is
        mostly rounding and needs another.
        """
        found = np.zeros(self.rows)
        for passes in range(5):
            before = float(torch.linalg.vector_norm(vector))
            start = 0
            for stored in self._filled(self.rows):
                part = torch.mv(stored, vector)
                vector.addmv_(stored.T, part, alpha=-1)
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
        """Below this length a new direction is rounding.

        The products show their own noise: parts along old directions that an exact product could not have. Outside
        the basis there is as much per dimension.
        """
        return max(ROUNDING * self._eps * self._scale, 2 * self._stray * math.sqrt(self.size))

    def _per_store(self) -> int:
        return max(1, min(64, BLOCK // self.size))

    def _filled(self, rows: int) -> list[Tensor]:
        per = self._per_store()
        return [stored[: rows - i * per] for i, stored in enumerate(self._stored) if rows > i * per]

    def _row(self, i: int) -> Tensor:
        return self._stored[i // self._per_store()][i % self._per_store()]

    def _append(self, vector: Tensor) -> None:
        per = self._per_store()
        if self.rows == len(self._stored) * per:
            self._stored.append(torch.empty(per, self.size, dtype=vector.dtype, device=vector.device))
        self.rows += 1
        self._row(self.rows - 1).copy_(vector)
        self._make_room()

    def _make_room(self) -> None:
        """A matrix for all vectors and one more."""
        had = len(self._matrix)
        if self.rows + 1 > had:
            grown = np.zeros((max(64, 2 * (self.rows + 1)),) * 2)
            grown[:had, :had] = self._matrix
            self._matrix = grown
