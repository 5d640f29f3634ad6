"""Functions on the Boolean cube: their Fourier weight by degree, the order in which a run learns it, and complexity.

Method   fast Walsh-Hadamard transform; Lempel-Ziv complexity of the table of values
Source   O'Donnell (2014), Analysis of Boolean Functions; Lempel, Ziv (1976), IEEE Trans. Inf. Theory 22:75; Kaspar,
         Schuster (1987), Phys. Rev. A 36:842; Valle-Pérez, Camargo, Louis (2019), ICLR
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from theorylens.core import global_randomness_kept
from theorylens.results import Estimate, Message, Points, Unknown

from ._learning_order import rank_correlation

Floats = NDArray[np.float64]
LARGEST = 20  # inputs: a million values


def boolean_cube(inputs: int) -> Float[Tensor, "m d"]:
    """All 2^d points of {-1, 1}^d; row i holds the bits of i from the highest, 1 as -1."""
    if not 1 <= inputs <= LARGEST:
        raise ValueError(f"inputs must be between 1 and {LARGEST}, got {inputs}")
    bits = (torch.arange(2**inputs)[:, None] >> torch.arange(inputs - 1, -1, -1)) & 1
    return 1.0 - 2.0 * bits


def fourier_coefficients(values: Any) -> Floats:
    """Coefficients of the parities, shape of ``values`` (..., 2^d): entry S is the mean of f times the parity of S.

    >>> fourier_coefficients([1, -1, -1, 1]).tolist()  # the parity of both inputs
    [0.0, 0.0, 0.0, 1.0]
    """
    f = np.array(values, dtype=np.float64)
    d = _inputs(f)
    for bit in range(d):
        pairs = f.reshape(*f.shape[:-1], -1, 2, 2**bit)
        top, bottom = pairs[..., 0, :], pairs[..., 1, :]
        f = np.stack([top + bottom, top - bottom], axis=-2).reshape(f.shape)
    return np.asarray(f / f.shape[-1])


def degree_weights(values: Any) -> Floats:
    """Sum of the squared coefficients of each degree, shape (..., d + 1); they add up to the mean square of f."""
    squares = fourier_coefficients(values) ** 2
    d = _inputs(squares)
    degrees = np.array([int(s).bit_count() for s in range(2**d)])
    return np.stack([squares[..., degrees == k].sum(-1) for k in range(d + 1)], axis=-1)


def degree_errors(predictions: Any, target: Any) -> Floats:
    """Share of the target's weight of each degree not yet learnt, shape (records, d + 1).

    ``predictions`` (records, 2^d) of a run on ``target`` (2^d,): weight of their difference over that of the target;
    NaN for degrees the target does not have.
    """
    p, t = np.atleast_2d(np.asarray(predictions, dtype=np.float64)), np.asarray(target, dtype=np.float64)
    if p.shape[1:] != t.shape:
        raise ValueError(f"predictions (records, 2^d) and target (2^d,) do not fit: {p.shape}, {t.shape}")
    held = degree_weights(t)
    some = held > 1e-12 * held.sum()
    return np.where(some, degree_weights(p - t) / np.where(some, held, 1), np.nan)


def lempel_ziv_words(bits: Any) -> int:
    """Words in the history of a sequence by Lempel and Ziv (1976): the shortest new ones, left to right.

    >>> lempel_ziv_words("0001101001000101")
    6
    """
    text = bits if isinstance(bits, str) else "".join("1" if b else "0" for b in np.asarray(bits).ravel() > 0)
    n, start, words = len(text), 0, 0
    if n == 0:
        raise ValueError("an empty sequence has no complexity; give at least one value")
    while start < n:
        length = 1
        # A word grows while it occurs earlier, overlap with itself allowed.
        while start + length <= n and text.find(text[start : start + length], 0, start + length - 1) != -1:
            length += 1
        words += 1
        start += length
    return words


def lempel_ziv_complexity(values: Any) -> float:
    """Complexity of a table of binary values in bits: words times log2 of the length, both directions averaged.

    log2(n) for a constant, as Valle-Pérez et al. have it.
    """
    bits = np.asarray(values).ravel() > 0
    n = len(bits)
    if n < 2:
        raise ValueError(f"a table needs at least 2 values, got {n}")
    if bits.all() or not bits.any():
        return math.log2(n)
    return math.log2(n) * (lempel_ziv_words(bits) + lempel_ziv_words(bits[::-1])) / 2


@dataclass(frozen=True, kw_only=True, eq=False)
class FunctionPrior:
    """Functions that random networks compute, most frequent first.

    Attributes
    ----------
    frequencies
        Share of the draws of each function, shape (functions,).
    complexities
        Lempel-Ziv complexity of each, shape (functions,).
    correlation
        Rank correlation of frequency and complexity over functions: negative when simple ones are frequent.
    """

    frequencies: Floats
    complexities: Floats
    correlation: Estimate

    def points(self) -> Points:
        """Log frequency over complexity."""
        shown = slice(0, 2000)
        return Points(
            label=Message("boolean.prior", "How often random networks compute a function, by its complexity"),
            x=self.complexities[shown],
            y=np.log10(self.frequencies[shown]),
            x_name=Message("boolean.complexity", "Lempel-Ziv complexity in bits"),
            y_name=Message("boolean.frequency", "log10 of the share of the networks"),
        )


def function_prior(make: Callable[[], nn.Module], inputs: int, draws: int, *, seed: int = 0) -> FunctionPrior:
    """Draw networks and record the Boolean function each computes: the sign of its output on all of {-1, 1}^d.

    Parameters
    ----------
    make
        Builds a freshly initialised network from (m, d) to one output per row.
    inputs, draws
        d, up to 20; networks, at least 100.
    """
    if draws < 100:
        raise ValueError(f"frequencies need at least 100 draws, got {draws}")
    cube = boolean_cube(inputs)
    seen: dict[bytes, int] = {}
    with global_randomness_kept(seed), torch.no_grad():
        for _ in range(draws):
            outputs = make()(cube)
            if outputs.numel() != len(cube):
                raise ValueError(f"make must build networks with one output, got shape {tuple(outputs.shape)}")
            key = np.packbits((outputs.reshape(-1) > 0).numpy()).tobytes()
            seen[key] = seen.get(key, 0) + 1
    ordered = sorted(seen.items(), key=lambda item: (-item[1], item[0]))
    tables = [np.unpackbits(np.frombuffer(key, dtype=np.uint8), count=len(cube)) for key, _ in ordered]
    complexities = np.array([lempel_ziv_complexity(table) for table in tables])
    frequencies = np.array([count / draws for _, count in ordered])
    if len(ordered) < 4 or len(set(complexities)) < 2 or len(set(frequencies)) < 2:
        raise ValueError(f"{draws} networks computed {len(ordered)} functions with nothing to compare; take more")
    rho = rank_correlation(frequencies, complexities)
    text = "the functions seen are not independent draws, and rare ones are missing"
    why = Message("boolean.seen", text)
    return FunctionPrior(
        frequencies=frequencies, complexities=complexities,
        correlation=Estimate(value=rho, uncertainty=Unknown(why=why)),
    )  # fmt: skip


def _inputs(values: Floats) -> int:
    n = values.shape[-1] if values.ndim else 0
    d = n.bit_length() - 1
    if n < 2 or n != 2**d or d > LARGEST:
        raise ValueError(f"a function on the Boolean cube has 2^d values, d from 1 to {LARGEST}, got {n}")
    return d
