"""Eigenvalues of weight matrices: power-law exponent of their tails beside the same with nothing learnt.

Method   eigenvalues of W'W / N (N the longer side) of every weight as a matrix, first axis against the rest; the tail
         fit of `power_law`; the same fit on the entries in a random order, and on the weights before training
Source   Martin, Mahoney (2021), JMLR 22:165 (the exponent as a measure); Marchenko, Pastur (1967)
Assumes  nothing of the network; a convolution is read as the matrix of its filters
Breaks   matrices of random numbers have exponents too, between 2 and 30 at usual sizes: an exponent without the one of
         the same matrix untrained says nothing
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from theorylens.core import RefusedError, key_seed
from theorylens.numerics.random_matrix import marchenko_pastur_edges
from theorylens.results import Message

from ._power_law import PowerLaw, power_law
from ._weight_matrices import named_weights

Floats = NDArray[np.float64]
LEAST = 30  # eigenvalues of a matrix worth a fit: below, exponents of random matrices scatter by more than 10
ROUNDING = 1e-12  # of the largest eigenvalue: what lies below is zero


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerSpectrum:
    """One weight.

    Attributes
    ----------
    name, shape
        Of the parameter.
    eigenvalues
        Of W'W / N, largest first, float64; empty where the weight is no matrix.
    fit
        The power law of their tail; None where there is none, and then ``skipped`` says why.
    permuted
        Exponents of the same entries in random orders, shape (permutations,): what the sizes of the entries give.
    initial
        The fit of the weight before training, where that is known.
    edge, beyond
        Upper end of the spectrum of a large random matrix with this shape and the variance of these entries, and the
        number of eigenvalues above it.
    """

    name: str
    shape: tuple[int, ...]
    eigenvalues: Floats
    fit: PowerLaw | None = None
    permuted: Floats | None = None
    initial: PowerLaw | None = None
    edge: float = math.nan
    beyond: int = 0
    skipped: Message | None = None


def weight_spectrum(
    model: nn.Module,
    *,
    reference: Mapping[str, Tensor] | None = None,
    draws: int = 200,
    permutations: int = 19,
    seed: int = 0,
    least: int = LEAST,
) -> tuple[LayerSpectrum, ...]:
    """The spectrum of every parameter of ``model``, in order, those that were skipped included.

    Parameters
    ----------
    model
        Any network; its mode does not matter.
    reference
        State dict before training.
    draws, seed
        Of `power_law`, for the network's own weights; permuted and initial weights are fitted only. The seed is also
        that of the permutations.
    permutations
        Random orders of the entries of each matrix; 0 leaves that null out.
    least
        Eigenvalues a matrix must have to be fitted, at least 10.

    Raises
    ------
    RefusedError
        A weight that is not finite.
    ValueError
        ``least`` below 10.

    >>> net = nn.Sequential(nn.Linear(60, 40), nn.ReLU(), nn.Linear(40, 3))
    >>> [(layer.name, layer.fit is not None) for layer in weight_spectrum(net, draws=0)]
    [('0.weight', True), ('0.bias', False), ('2.weight', False), ('2.bias', False)]
    """
    if least < 10:
        raise ValueError(f"least must be at least 10 eigenvalues, got {least}")
    every = named_weights(model)
    return tuple(_layer(n, w, reference, (draws, permutations, seed), least) for n, w in every)


def mean_alpha(layers: tuple[LayerSpectrum, ...]) -> float:
    """Mean exponent over the layers that were fitted; NaN when none was."""
    found = [layer.fit.alpha for layer in layers if layer.fit is not None]
    return math.fsum(found) / len(found) if found else math.nan


def _layer(
    name: str, weight: Tensor, reference: Mapping[str, Tensor] | None, drawn: tuple[int, int, int], least: int
) -> LayerSpectrum:  # fmt: skip
    draws, permutations, seed = drawn
    shape = tuple(weight.shape)
    if weight.ndim < 2:
        why = Message("weight_spectrum.vector", "no matrix: a bias or a scale")
        return LayerSpectrum(name=name, shape=shape, eigenvalues=np.zeros(0), skipped=why)
    if not bool(torch.isfinite(weight).all()):
        raise RefusedError(f"parameter {name} is not finite; load a checkpoint from before the run diverged")
    matrix = weight.flatten(1).double().cpu()
    levels = _eigenvalues(matrix)
    positive = _positive(levels)
    if len(positive) < least:
        text = "{count} eigenvalues above zero, too few for a tail (at least {least})"
        why = Message("weight_spectrum.few", text, count=len(positive), least=least)
        return LayerSpectrum(name=name, shape=shape, eigenvalues=levels, skipped=why)
    generator = torch.Generator().manual_seed(key_seed(seed, "weight spectrum", name))
    mixed = [_permuted(matrix, generator) for _ in range(permutations)]
    before = None
    if reference is not None and name in reference and tuple(reference[name].shape) == shape:
        before = _positive(_eigenvalues(reference[name].flatten(1).double().cpu()))
    ratio = min(matrix.shape) / max(matrix.shape)
    edge = marchenko_pastur_edges(ratio, float(matrix.var(correction=0)))[1]
    return LayerSpectrum(
        name=name, shape=shape, eigenvalues=levels,
        fit=power_law(positive, draws=draws, seed=key_seed(seed, "power law", name)),
        permuted=np.array([power_law(m).alpha for m in mixed]),
        initial=power_law(before) if before is not None and len(before) >= least else None,
        edge=edge, beyond=int((levels > edge).sum()),
    )  # fmt: skip


def _eigenvalues(matrix: Tensor) -> Floats:
    """Of W'W / N without the zeros that its shape forces, largest first."""
    return np.asarray(torch.linalg.svdvals(matrix).square().numpy() / max(matrix.shape))


def _permuted(matrix: Tensor, generator: torch.Generator) -> Floats:
    """Positive eigenvalues with the entries in a random order; from the smaller Gram matrix, which is several times
    faster and exact to rounding for the upper tail.
    """
    order = torch.randperm(matrix.numel(), generator=generator)
    mixed = matrix.reshape(-1)[order].reshape(matrix.shape)
    wide = mixed if mixed.shape[0] <= mixed.shape[1] else mixed.T
    return _positive(np.asarray(torch.linalg.eigvalsh(wide @ wide.T).flip(0).numpy() / max(matrix.shape)))


def _positive(levels: Floats) -> Floats:
    return np.asarray(levels[levels > ROUNDING * levels[0]]) if len(levels) and levels[0] > 0 else np.zeros(0)
