"""Classifiers whose true error is known, not estimated: what a certificate must cover."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from theorylens.core import Subject


@dataclass(frozen=True, kw_only=True, eq=False)
class BernoulliClassifier:
    """A network that errs on a new example with probability exactly ``error``, independently of the input."""

    subject: Subject
    error: float


def bernoulli_classifier(error: float, n: int = 500, seed: int = 0, *, train: int = 0) -> BernoulliClassifier:
    """Inputs uniform on [-1, 1]; the network answers their sign; the label is the other class with chance ``error``.

    No input occurs twice. ``n`` rows are the test split, ``train`` further rows the training split (none by default).

    >>> bernoulli_classifier(0.1, 50).subject.roles
    ('test',)
    """
    if not 0 <= error <= 1:
        raise ValueError(f"an error rate lies in [0, 1], got {error}")
    rng = torch.Generator().manual_seed(seed)
    x = 2 * torch.rand(n + train, 1, dtype=torch.float64, generator=rng) - 1
    flipped = torch.rand(n + train, generator=rng) < error
    y = ((x[:, 0] > 0) ^ flipped).long()
    net = _sign(torch.ones(1, dtype=torch.float64))
    subject = Subject(
        model=net, loss="cross_entropy", test=(x[:n], y[:n]), train=(x[n:], y[n:]) if train else None,
        name="Bernoulli classifier",
    )  # fmt: skip
    return BernoulliClassifier(subject=subject, error=error)


@dataclass(frozen=True, kw_only=True, eq=False)
class GaussianBlobs:
    """Two round Gaussians and the network that separates them best.

    Attributes
    ----------
    subject
        The Bayes classifier as a linear layer, with train and test splits; float64.
    error
        Its true error, the least possible: Phi(-distance / 2).
    """

    subject: Subject
    error: float


def gaussian_blobs(n: int = 500, d: int = 2, distance: float = 2.0, seed: int = 0) -> GaussianBlobs:
    """Classes N(-m, I) and N(m, I) in ``d`` dimensions, equally likely, with 2 |m| = ``distance``; n rows a split.

    >>> round(gaussian_blobs(distance=2.0).error, 6)
    0.158655
    """
    if distance < 0:
        raise ValueError(f"a distance is at least 0, got {distance}")
    rng = torch.Generator().manual_seed(seed)
    direction = torch.randn(d, dtype=torch.float64, generator=rng)
    direction /= direction.norm()
    y = torch.randint(0, 2, (2 * n,), generator=rng)
    x = torch.randn(2 * n, d, dtype=torch.float64, generator=rng) + (y - 0.5)[:, None] * distance * direction
    subject = Subject(
        model=_sign(distance * direction), loss="cross_entropy", train=(x[:n], y[:n]), test=(x[n:], y[n:]),
        name="Gaussian blobs",
    )  # fmt: skip
    return GaussianBlobs(subject=subject, error=0.5 * math.erfc(distance / 2 / math.sqrt(2)))


def _sign(direction: Tensor) -> nn.Module:
    """Two logits whose difference is the product with ``direction``."""
    net = nn.Linear(len(direction), 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        net.weight.copy_(torch.stack([-direction / 2, direction / 2]))
    return net
