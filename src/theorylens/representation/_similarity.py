"""Centred kernel alignment: are two sets of features of the same rows alike up to rotation and scale?

Method   linear CKA, as defined or with the diagonal left out so that independent features give zero on average
Source   Kornblith, Norouzi, Lee, Hinton (2019), ICML; debiased: Song et al. (2012), JMLR 13, as a cosine of U-centred
         Gram matrices (Székely, Rizzo 2014)
Assumes  rows are paired
Breaks   as defined, with fewer rows than units: 0.74 for independent features of 40 rows and 100 units; not invariant
         to invertible linear maps
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from theorylens.results import Estimate, Message

from ._half_samples import half_samples
from ._matrices import real_rows

VANISHED = 1e-12  # features this much smaller after centring were constant up to rounding


def linear_cka(first: Tensor, second: Tensor, *, debiased: bool = False) -> float:
    """Similarity of features (n, p) and (n, q) of the same n rows.

    As defined it is |X'Y|² / (|X'X| |Y'Y|) of the centred features, in [0, 1]: 1 for a rotation, scaling or shift.
    ``debiased`` needs n >= 4 and may be slightly negative.

    >>> a = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 0.0]])
    >>> b = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> round(linear_cka(a, b), 12)
    0.6

    Raises
    ------
    ValueError
        Other numbers of rows, values that are not finite, features that are constant.
    """
    x, y = _pair(first, second, debiased)
    value = _cka(centred_gram(x, debiased=debiased), centred_gram(y, debiased=debiased))
    if value != value:
        raise ValueError(f"one of the features is the same on all {len(x)} rows; give features that vary")
    return value


def cka(first: Tensor, second: Tensor) -> Estimate:
    """Debiased `linear_cka` with a 95 % interval over rows, from halves of them."""
    x, y = _pair(first, second, debiased=True)
    value = linear_cka(x, y, debiased=True)
    a, b = _gram(x), _gram(y)

    def on(kept: Tensor) -> float:
        return _cka(_u_centred(a[kept][:, kept]), _u_centred(b[kept][:, kept]))

    trouble = None
    if len(x) < 30:
        trouble = Message("cka.few", "{n} rows are few for a similarity; give 30 or more", n=len(x))
    return Estimate(value=value, uncertainty=half_samples(value, on, len(x), within=(-1.0, 1.0)), trouble=trouble)


def cka_matrix(layers: Sequence[Tensor], others: Sequence[Tensor] | None = None, *, debiased: bool = True) -> Tensor:
    """`linear_cka` of every layer with every layer (or every one of ``others``); NaN where one is constant."""
    left = [centred_gram(real_rows(x, "features", 4), debiased=debiased) for x in layers]
    right = left if others is None else [centred_gram(real_rows(x, "features", 4), debiased=debiased) for x in others]
    if len({len(gram) for gram in (*left, *right)}) != 1:
        raise ValueError("all layers need the features of the same rows")
    return torch.tensor([[_cka(a, b) for b in right] for a in left], dtype=torch.float64)


def centred_gram(features: Tensor, *, debiased: bool) -> Tensor:
    """Inner products of centred rows, float64; U-centred with a zero diagonal when ``debiased``. Zero if constant."""
    x = features.double()
    if float((x - x.mean(0)).norm()) <= VANISHED * float(x.norm()):
        return torch.zeros(len(x), len(x), dtype=torch.float64)
    gram = _gram(x)
    return _u_centred(gram) if debiased else gram


def _gram(x: Tensor) -> Tensor:
    away = (x - x.mean(0)).double()
    away = away / away.norm().clamp(min=torch.finfo(torch.float64).tiny)
    gram: Tensor = away @ away.T
    return gram


def _u_centred(gram: Tensor) -> Tensor:
    n = len(gram)
    off = gram - torch.diag(gram.diagonal())
    row = off.sum(0)
    unbiased: Tensor = off - (row[:, None] + row) / (n - 2) + row.sum() / ((n - 1) * (n - 2))
    return unbiased - torch.diag(unbiased.diagonal())


def _cka(a: Tensor, b: Tensor) -> float:
    norms = float(a.norm() * b.norm())
    return float((a * b).sum()) / norms if norms > 0 else float("nan")


def _pair(first: Tensor, second: Tensor, debiased: bool) -> tuple[Tensor, Tensor]:
    fewest = 4 if debiased else 2
    x, y = real_rows(first, "features", fewest), real_rows(second, "features", fewest)
    if len(x) != len(y):
        raise ValueError(f"the features have {len(x)} and {len(y)} rows; give both on the same rows")
    return x, y
