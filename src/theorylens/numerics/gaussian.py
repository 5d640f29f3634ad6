"""Gaussian expectations of activations: the functions by name, and a rule for one standard normal variable.

Method   double-exponential rule on both half-lines: it crowds its points at zero, where sigmoid-like slopes of large
         variance and kinks live
Breaks   a kink anywhere but at zero is integrated only to the spacing of the points there
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Elementwise = Callable[[Tensor], Tensor]
Floats = NDArray[np.float64]

ACTIVATIONS: dict[str, Elementwise] = {
    "identity": lambda x: x,
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "elu": F.elu,
    "softplus": F.softplus,
}
REACH = 12.0  # the Gaussian beyond weighs 1e-31


def elementwise(activation: str | Elementwise) -> Elementwise:
    """The function of a name, or the function given.

    Raises
    ------
    ValueError
        A name that is not in `ACTIVATIONS`.
    """
    if not isinstance(activation, str):
        return activation
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"unknown activation {activation!r}; known are {', '.join(sorted(ACTIVATIONS))}, or give a function"
        )
    return ACTIVATIONS[activation]


def gaussian_rule() -> tuple[Floats, Floats]:
    """Points and weights of E[g(z)] = sum of weight * g(point) for a standard normal z; symmetric, weights add to 1."""
    t = np.arange(-4.0, 4.0 + 1e-9, 0.0125)
    decay = np.exp(-np.pi * np.sinh(t))
    z = REACH / (1 + decay)
    step = 0.0125 * REACH * np.pi * np.cosh(t) * decay / (1 + decay) ** 2
    weights = step * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    weights /= 2 * weights.sum()  # the last digits of the rule: total probability is one
    return np.concatenate([-z[::-1], z]), np.concatenate([weights[::-1], weights])
