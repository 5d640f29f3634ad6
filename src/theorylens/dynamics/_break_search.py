"""The search behind `change_points`: which break explains most, and whether noise explains as much.

A break is a jump and a change of slope at one record. Its gain is measured in data whitened for AR(1) noise; the same
search runs on simulated noise, in which everything is estimated anew, so that the p-value pays for the search.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from ._smooth_law import Floats, span

SEGMENT = 0.05  # share of the record that the shortest phase must hold
SHORTEST = 3  # records in a phase
EFFECT = 0.02  # root mean square of what a change explains: 2 % of the loss; smaller ones are no phase
LOOSE = 3  # breaks allowed for when the noise is estimated: six cost twice the time and found no more
PER_BREAK = 25  # records for each of them: with fewer, taking breaks out takes the correlation out too
CALIBRATION = 40  # simulated records from which the bias and error of that correlation are taken
CAUTION = 2.0  # standard errors by which the correlation is drawn too high: at 1, 9 % false changes at 0.9
ROUNDING = 1e-7  # misfit below which a law fits to rounding
HIGHEST = 0.99  # correlation


class BreakSearch:
    """Forward selection of breaks in ``rest`` (n,), beyond the columns of ``base`` (n, p)."""

    def __init__(self, x: Floats, rest: Floats, base: Floats, scale: float) -> None:
        n = len(x)
        margin = max(SHORTEST, math.ceil(SEGMENT * n))
        self.x, self.rest, self.base, self.scale = x, rest, base, scale
        self.candidates = np.arange(margin, n - margin + 1)
        after = np.arange(n)[:, None] >= self.candidates[None]
        # Jump and kink of each candidate, shape (n, 2, candidates).
        self.pairs = np.stack([after, np.where(after, x[:, None] - x[self.candidates][None], 0.0)], axis=1)
        self.loose = min(LOOSE, max(0, n // PER_BREAK - 1))
        self._reduced: tuple[Floats, Floats, Floats] | None = None
        self.places: list[int] = []
        self.p_values: list[float] = []
        self.next_p_value = 1.0
        self.correlation = 0.0

    def run(self, level: float, most: int, simulations: int, rng: np.random.Generator) -> None:
        while len(self.places) < most:
            design = self.design(self.places)
            allowed = self.allowed(self.places)
            freedom = len(self.rest) - design.shape[1] - 2 * self.loose - 2
            if not allowed.any() or freedom < 2:
                return
            noise = _Noise(self, design, allowed, rng)
            self.correlation = noise.correlation
            seen, place = self.statistic(self.rest, design, allowed)
            if not self.large(design, place):
                return
            simulated = partial(self._simulated, noise, design, allowed)
            p = sequential_p_value(simulated, seen, simulations, level)
            if p > level:
                self.next_p_value = p
                return
            self.places.append(place)
            self.p_values.append(p)
            self.refine()

    def _simulated(self, noise: _Noise, design: Floats, allowed: NDArray[np.bool_]) -> float:
        return self.statistic(noise.draw(), design, allowed)[0]

    def design(self, places: Sequence[int]) -> Floats:
        columns = [self.base, *(self.pairs[:, :, p - self.candidates[0]] for p in places)]
        return span(np.concatenate(columns, axis=1))

    def allowed(self, places: Sequence[int]) -> NDArray[np.bool_]:
        """Candidates that leave every phase long enough."""
        margin = int(self.candidates[0])
        near = [np.abs(self.candidates - p) < margin for p in places]
        return ~np.any(near, axis=0) if near else np.ones(len(self.candidates), dtype=bool)

    def large(self, design: Floats, place: int) -> bool:
        """Whether a break explains more than rounding, and at least ``EFFECT`` of the loss."""
        left = self.rest - design @ (design.T @ self.rest)
        gain, _ = _gains(left, *self.reduced(design))
        at = place - self.candidates[0]
        return math.sqrt(max(float(gain[at]), 0.0) / len(left)) >= EFFECT * self.scale

    def reduced(self, design: Floats) -> tuple[Floats, Floats]:
        """Jumps and kinks less what the design explains of them; remembered while the design is the same."""
        if self._reduced is None or self._reduced[0] is not design:
            flat = self.pairs.reshape(len(self.x), -1)
            flat = flat - design @ (design.T @ flat)
            self._reduced = design, flat[:, : len(self.candidates)], flat[:, len(self.candidates) :]
        return self._reduced[1:]

    def rough(self, series: Floats, design: Floats) -> Floats:
        """Residuals with some further breaks taken out by least squares: what is left is noise."""
        left = series - design @ (design.T @ series)
        jumps, kinks = self.reduced(design)
        for i in range(self.loose):
            gain, usable = _gains(left, jumps, kinks)
            at = int(np.argmax(np.where(usable, gain, -1.0)))
            q, _ = np.linalg.qr(np.stack([jumps[:, at], kinks[:, at]], axis=1))
            left = left - q @ (q.T @ left)
            if i + 1 < self.loose:
                jumps, kinks = jumps - q @ (q.T @ jumps), kinks - q @ (q.T @ kinks)
        return left

    def statistic(self, series: Floats, design: Floats, allowed: NDArray[np.bool_]) -> tuple[float, int]:
        """Largest gain of a further break in whitened data over the noise, and its place; all is estimated anew."""
        noise = self.rough(series, design)
        rho = max(0.0, _correlation(noise))
        white = span(_whitened(design, rho))
        left = _whitened(series, rho)
        left = left - white @ (white.T @ left)
        flat = _whitened(self.pairs.reshape(len(self.x), -1), rho)
        flat = flat - white @ (white.T @ flat)
        m = len(self.candidates)
        gain, usable = _gains(left, flat[:, :m], flat[:, m:])
        gain = np.where(allowed & usable, gain, 0.0)
        at = int(np.argmax(gain))
        # The scale of the noise is that of the rough residuals: breaks not yet accepted must not hide this one.
        shocks = _whitened(noise, rho)
        variance = float(shocks @ shocks) / (len(left) - design.shape[1] - 2 * self.loose)
        return float(gain[at]) / max(variance, (ROUNDING * self.scale) ** 2), int(self.candidates[at])

    def refine(self) -> None:
        """Move each accepted break to its best place given the others."""
        if len(self.places) < 2:
            return
        for i in range(len(self.places)):
            others = self.places[:i] + self.places[i + 1 :]
            self.places[i] = self.statistic(self.rest, self.design(others), self.allowed(others))[1]

    def explained(self) -> Floats:
        design = self.design(self.places)
        return np.asarray(design @ (design.T @ self.rest))


class _Noise:
    """AR(1) noise like that of the record: its correlation corrected for bias, its scale followed along the run."""

    def __init__(
        self, search: BreakSearch, design: Floats, allowed: NDArray[np.bool_], rng: np.random.Generator
    ) -> None:
        self.rng, self.n = rng, len(search.rest)
        left = search.rough(search.rest, design)
        seen = _correlation(left)
        self.correlation, error = self._undone(search, design, seen)
        # Upwards by its error: a correlation that is taken too low finds changes in noise.
        self.drawn = min(HIGHEST, self.correlation + CAUTION * error)
        self.scale = _envelope(_whitened(left, max(0.0, seen)))

    def _undone(self, search: BreakSearch, design: Floats, seen: float) -> tuple[float, float]:
        """The correlation whose estimates average to the one seen, and the error of an estimate."""
        shocks = self.rng.standard_normal((CALIBRATION, self.n))
        rho = max(0.0, seen)
        for _ in range(4):
            found = [_correlation(search.rough(_filtered(each, rho), design)) for each in shocks]
            rho = min(HIGHEST, max(0.0, rho + seen - float(np.mean(found))))
        return rho, float(np.std(found))

    def draw(self) -> Floats:
        return _filtered(self.rng.standard_normal(self.n), self.drawn, self.scale)


def sequential_p_value(draw: Callable[[], float], seen: float, simulations: int, level: float) -> float:
    """p-value by simulation; stops as soon as it is sure to exceed ``level`` (Besag and Clifford)."""
    enough = math.floor(level * (simulations + 1)) + 1
    above = 0
    for i in range(simulations):
        above += draw() >= seen
        if above == enough:
            return above / (i + 1)
    return (above + 1) / (simulations + 1)


def _gains(left: Floats, jumps: Floats, kinks: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Fall of the squared error by each pair of columns, and where a pair is not degenerate."""
    a, b, c = (jumps**2).sum(0), (jumps * kinks).sum(0), (kinks**2).sum(0)
    u, v = left @ jumps, left @ kinks
    determinant = a * c - b**2
    usable = (determinant > 1e-9 * np.maximum(a * c, 1e-300)) & (a > 1e-9) & (c > 1e-12)
    safe = np.where(usable, determinant, 1.0)
    return np.where(usable, (u**2 * c - 2 * u * v * b + v**2 * a) / safe, 0.0), usable


def _correlation(left: Floats) -> float:
    """Of each residual with the next; it may be negative, because fitting takes correlation out."""
    total = float(left[:-1] @ left[:-1])
    return min(HIGHEST, max(-HIGHEST, float(left[1:] @ left[:-1]) / total)) if total > 0 else 0.0


def _whitened(columns: Floats, rho: float) -> Floats:
    """Prais-Winsten: what AR(1) noise of this correlation turns into white noise."""
    return np.concatenate([math.sqrt(1 - rho**2) * columns[:1], columns[1:] - rho * columns[:-1]])


def _filtered(shocks: Floats, rho: float, scale: Floats | float = 1.0) -> Floats:
    """Stationary AR(1) noise from shocks."""
    scaled = shocks * scale
    scaled[0] = scaled[0] / math.sqrt(1 - rho**2)
    return np.asarray(lfilter([1.0], [1.0, -rho], scaled), dtype=np.float64)


def _envelope(white: Floats) -> Floats:
    """Root mean square of the shocks nearby: the noise of a loss grows or shrinks along training."""
    width = max(5, len(white) // 4)
    padded = np.pad(white**2, width // 2, mode="reflect")
    local = np.convolve(padded, np.ones(width) / width, mode="valid")[: len(white)]
    return np.sqrt(np.maximum(local, 1e-12 * max(float(local.max()), 1e-300)))
