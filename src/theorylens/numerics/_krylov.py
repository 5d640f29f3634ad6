"""An orthonormal basis grown by products with an operator, and the matrix of the operator in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
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
class Chain:
    """One Krylov sequence: the vectors ``first`` to ``last`` of the basis, each from the product of the one before.

    ``tail`` is the norm of the part of the last product that points out of the basis.
    """

    first: int
    last: int
    tail: float = 0.0
    ended: bool = False
    broken: bool = False


class Basis:
    """Orthonormal vectors, one more with every `step`, and the symmetric matrix of the operator in them.

    A chain that breaks down, or that `restart` ends, is followed by one from a fresh random start orthogonal to the
    basis. Within a chain the matrix is tridiagonal; later chains touch earlier ones only at their ends.
    """

    def __init__(self, operator: Counted, generator: torch.Generator) -> None:
        self._operator = operator
        self._generator = generator
        self._eps = torch.finfo(operator.dtype).eps
        self._blocks: list[Tensor] = []
        self._next: Tensor | None = None
        self._matrix = np.zeros((0, 0))
        self._slack: list[float] = []  # norm of what the matrix leaves out of each product
        self._scale = 0.0  # norm of the largest product: a lower bound on the operator's norm
        self._asymmetry = 0.0  # largest norm of a product's coefficients that symmetry rules out
        self._stray = 0.0  # the same per dimension
        self.steps = 0
        self.chains: list[Chain] = []

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
        if not self.chains or self.chains[-1].ended:
            self._next = self._fresh()
            self.chains.append(Chain(self.steps, self.steps))
        assert self._next is not None
        vector = self._append(self._next)
        chain = self.chains[-1]
        # A copy: some operators return their argument or a buffer of their own.
        rest = self._operator.matvec(vector).detach().clone()
        length = float(torch.linalg.vector_norm(rest))
        self._scale = max(self._scale, length)
        rest, found = self._orthogonal(rest)
        self._record(chain, found, length)
        chain.last = self.steps - 1
        chain.tail = float(torch.linalg.vector_norm(rest))
        if self.steps == self.size or chain.tail <= self._noise():
            self._slack[-1] += chain.tail
            chain.tail, chain.broken = 0.0, True
            self.restart()
        else:
            self._next = rest.div_(chain.tail)

    def restart(self) -> None:
        """End the present chain; the next step begins another."""
        self.chains[-1].ended = True
        self._next = None

    def ritz(self, chain: Chain | None = None) -> RitzValues:
        """Ritz values of the whole basis; of one chain: those of the operator in the complement of the earlier ones."""
        part = slice(chain.first, chain.last + 1) if chain else slice(0, self.steps)
        values, columns = np.linalg.eigh(self._matrix[part, part])
        outside = np.zeros(len(values))
        for each in [chain] if chain else self.chains:
            outside += each.tail * np.abs(columns[each.last - part.start])
        return RitzValues(values, outside, np.array(self._slack[part]) @ np.abs(columns))

    def vectors(self, chosen: NDArray[np.intp]) -> Tensor:
        """Unit Ritz vectors as rows, for indices into the values of `ritz`."""
        coordinates = np.linalg.eigh(self._matrix)[1][:, chosen].T.copy()
        wanted = torch.from_numpy(coordinates).to(self._operator.device, self._operator.dtype)
        rows = torch.zeros(len(chosen), self.size, dtype=self._operator.dtype, device=self._operator.device)
        for block, piece in zip(self._filled(), torch.split(wanted, self._rows(), dim=1), strict=True):
            rows.addmm_(piece, block)
        return rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True))

    def _record(self, chain: Chain, found: Floats, length: float) -> None:
        """Enter a product's coefficients into the matrix; what does not fit there becomes slack."""
        now = self.steps - 1
        matrix = np.zeros((self.steps, self.steps))
        matrix[:now, :now] = self._matrix
        matrix[now, now] = found[now]
        for end in (each.last for each in self.chains[:-1]):
            matrix[now, end] = matrix[end, now] = found[end]
        if now > chain.first:
            matrix[now, now - 1] = matrix[now - 1, now] = chain.tail
        self._matrix = matrix
        unexpected = found - matrix[now]
        surplus = float(np.linalg.norm(unexpected))
        self._asymmetry = max(self._asymmetry, surplus)
        if stray := np.count_nonzero(unexpected[: max(0, now - 1)]):
            self._stray = max(self._stray, float(np.linalg.norm(unexpected[: now - 1])) / math.sqrt(stray))
        self._slack.append(surplus + self._eps * length)

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
