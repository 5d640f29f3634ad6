"""Gradients by depth of one network, with what mean-field theory predicts from its weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from theorylens.core import Subject, UnsuitableError
from theorylens.numerics import Batch, rows, to_device
from theorylens.results import Estimate, Message, Statistical, Unknown

from ._layer_signals import LayerSignal, layer_signals
from ._mean_field import NoFixedPointError, chi, mean_field

ROWS = 256
PIECE = 64  # rows whose activations are recorded at once
EFFECTIVE = 20  # rows that must carry the gradients between them for an error bar to mean anything
LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Profile:
    """Layers in the order of use, rows pooled over pieces of the batch."""

    layers: tuple[LayerSignal, ...]

    @property
    def steps(self) -> int:
        return len(self.layers) - 1

    @property
    def gradients(self) -> NDArray[np.float64]:
        """Mean squared gradient norm at each layer, shape (layers,)."""
        return np.array([layer.gradient.mean() for layer in self.layers])

    @property
    def predicted(self) -> list[float | None]:
        """Factor of the squared gradient from layer l + 1 back to layer l; None where the step is not a plain one."""
        found: list[float | None] = []
        for layer, following in zip(self.layers, self.layers[1:], strict=False):
            phi = layer.activation
            if phi is None:
                found.append(None)
            else:
                found.append(float(chi(phi, following.sigma_w2, layer.q).mean()) * layer.taps)
        return found

    @property
    def fixed_point(self) -> list[float | None]:
        """chi_1 at q* of each step's activation and of the next layer's variances; None where there is none."""
        found: list[float | None] = []
        for layer, following in zip(self.layers, self.layers[1:], strict=False):
            phi = layer.activation
            try:
                found.append(None if phi is None else mean_field(phi, following.sigma_w2, following.sigma_b2).chi)
            except NoFixedPointError:
                found.append(None)
        return found

    @property
    def rate(self) -> Estimate:
        """Geometric mean per step of the factor of the squared gradient, from the last layer back to the first."""
        return rate_per_step(self.layers[0].gradient, self.layers[-1].gradient, self.steps)


def profile(subject: Subject) -> Profile:
    """Gradients by depth on at most 256 training rows, chosen by content; the same rows for every network."""
    split, task = subject.split("train"), subject.judged
    chosen = split.subset(ROWS)

    def measured(batch: Batch) -> list[LayerSignal]:
        return layer_signals(subject.net, to_device(batch, subject.device), task.loss_sum)

    pieces = [measured(split.take(index)) for index in torch.split(chosen, PIECE)]
    if len({tuple(layer.name for layer in piece) for piece in pieces}) > 1:
        text = "different rows take different paths through the network, so there is no order of layers"
        raise UnsuitableError(Message("TL701.paths", text))
    layers = tuple(_pooled([piece[i] for piece in pieces]) for i in range(len(pieces[0])))
    if len(layers) < 2:
        text = "gradients by depth need two linear or convolutional layers that the loss reaches, found {n:d}"
        raise UnsuitableError(Message("TL701.shallow", text, n=len(layers)))
    if not layers[-1].gradient.sum() > 0:
        text = "the loss has no gradient at the last layer on {n:d} training rows, so there is nothing to carry back"
        raise UnsuitableError(Message("TL701.flat", text, n=rows(split.take(chosen))))
    return Profile(layers)


def rate_per_step(first: NDArray[np.float64], last: NDArray[np.float64], steps: int) -> Estimate:
    """(mean of ``first`` / mean of ``last``)^(1 / steps) with a jackknife interval over rows, in logarithms."""
    n = len(first)
    if not first.sum() > 0:
        why = Message("TL701.dead", "no gradient reaches the first layer: units are saturated or dead")
        return Estimate(value=0.0, uncertainty=Unknown(why=why))
    value = math.exp(math.log(first.mean() / last.mean()) / steps)
    effective = min(float(x.sum() ** 2 / (x**2).sum()) for x in (first, last))
    if effective < EFFECTIVE:
        text = "{effective:.0f} rows carry most of the gradient, too few for an error bar"
        return Estimate(value=value, uncertainty=Unknown(why=Message("TL701.few", text, effective=effective)))
    without = (np.log(first.sum() - first) - np.log(last.sum() - last)) / steps
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * math.sqrt((n - 1) * float(without.var()))
    method = Message("TL701.jackknife", "jackknife over rows; sampling of rows only, the weights are as they are")
    interval = Statistical(
        lower=value * math.exp(-half), upper=value * math.exp(half), level=LEVEL, method=method
    )  # fmt: skip
    return Estimate(value=value, uncertainty=interval)


def _pooled(pieces: list[LayerSignal]) -> LayerSignal:
    """One layer over all rows; a step counts as plain when it is the same plain step in every piece."""
    first = pieces[0]
    same = all((p.step, round(p.slope, 4)) == (first.step, round(first.slope, 4)) for p in pieces)
    return LayerSignal(
        first.name, first.module, np.concatenate([p.q for p in pieces]), np.concatenate([p.gradient for p in pieces]),
        first.step if same else None, first.slope, first.between, first.taps,
    )  # fmt: skip
