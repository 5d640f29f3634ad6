"""Which Ritz values of a basis are wanted, and when they may be believed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._krylov import Basis, RitzValues

Floats = NDArray[np.float64]
# The residual must come down to this part of the tolerance. Two eigenvalues that Lanczos has not yet told apart show a
# residual of the order of their distance, and residual²/gap cannot see it: over 400 to 600 spectra (bulk with outliers,
# normal, cubed normal; k up to 10; tolerance 1e-3) stopping by residual²/gap lost an eigenvalue in 7 % of the runs, by
# the residual in 1 %, by a tenth of it in 0.3 %, for 30, 32 and 35 steps. A second start in the complement, run until
# it could tell, took two to three times the steps.
RESOLUTION = 0.1


@dataclass(frozen=True, kw_only=True)
class Ends:
    """Which Ritz values are wanted, and whether they may be believed.

    With ``spread`` the tolerance of the smallest is relative to the largest less the smallest.
    """

    top: int
    bottom: int
    ascending: bool
    tolerance: float
    spread: bool = False

    def wanted(self, values: Floats) -> NDArray[np.intp]:
        """Indices into ``values`` in the order of the answer."""
        order = np.argsort(-values, kind="stable")
        bottom = order[len(order) - self.bottom :]
        return np.concatenate([order[: self.top], bottom[::-1] if self.ascending else bottom])

    def kept(self, basis: Basis, room: int) -> NDArray[np.intp]:
        """What a restart keeps: the outermost values of the wanted ends, those wanted and more."""
        values = basis.ritz().values
        room = min(room, len(values) - 1)
        order = np.argsort(-values, kind="stable")
        share = self.top / (self.top + self.bottom)
        top = min(max(self.top, round(room * share)), room - self.bottom)
        return np.concatenate([order[:top], order[len(order) - (room - top) :]])

    def settled(self, basis: Basis) -> bool:
        k = self.top + self.bottom
        if basis.steps < k:
            return False
        # Before a breakdown one value more than asked for: the outermost unwanted one is there to measure a gap.
        if basis.steps == k and not basis.closed:
            return False
        ritz = basis.ritz()
        if not self.within(ritz, basis)[self.wanted(ritz.values)].all():
            return False
        return basis.restarts == 0 or self.searched(ritz.values, basis)

    def searched(self, values: Floats, basis: Basis) -> bool:
        """After a breakdown: has the space outside the basis no value left that belongs to the answer?

        It has none beyond the outermost of the present sequence, whose start was generic there.
        """
        own = basis.ritz(last=True)
        if not len(own.values):
            return False
        sure = self.within(own, basis)
        order = np.sort(values)
        ends = [(1.0, order[-self.top])] * (self.top > 0) + [(-1.0, order[self.bottom - 1])] * (self.bottom > 0)
        for sign, edge in ends:
            outermost = int(np.argmax(sign * own.values))
            beyond = sign * (own.values[outermost] - edge)
            if not sure[outermost] or beyond > self._allowed(edge, basis):
                return False
        return True

    def counted(self, values: Floats, basis: Basis) -> bool:
        """Whether each value, except an end's last, was seen less often than the starts would have shown it."""
        order = np.sort(values)[::-1]
        for end in (order[: self.top], order[len(order) - self.bottom :][::-1]):
            for value in end[:-1]:
                alike = np.abs(values - value) <= self._allowed(value, basis)
                last = abs(end[-1] - value) <= self._allowed(value, basis)
                if not last and alike.sum() >= basis.block:
                    return False
        return True

    def within(self, ritz: RitzValues, basis: Basis) -> NDArray[np.bool_]:
        allowed = np.asarray(self._allowed(ritz.values, basis))
        if self.spread:
            low = int(np.argmin(ritz.values))
            allowed[low] = self._allowed(ritz.values.max() - ritz.values.min(), basis)
        return np.asarray(ritz.residuals <= allowed)

    def _allowed(self, values: Floats | np.float64, basis: Basis) -> Floats | np.float64:
        return np.maximum(RESOLUTION * self.tolerance * np.abs(values), basis.rounding)
