"""Inner products of Jacobians, layer by layer, from whichever form is cheaper.

`Outer` keeps the two factors of a layer and multiplies Gram matrices of each; `Dense` keeps per-example gradients.
With T places, p inputs, o outputs, k network outputs, a pair of examples costs T²(p + ko) + Tk²o multiplications in
the first form (the last term only for the full kernel) and kop, or k²op for the full kernel, in the second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Output = Literal["full", "trace", "diag", "pseudo"]
TILE = 1 << 24  # elements of an intermediate product: 64 MiB in float32


@dataclass(frozen=True, eq=False)
class Outer:
    """Jacobian of one layer as its factors.

    Attributes
    ----------
    a
        Patches (n, groups, places, inputs), or looked-up row numbers (n, 1, places) as int64.
    g
        Output gradients (n, k, groups, places, outputs).
    weight, bias
        Which of the two parameters count.
    padding
        Row number of an embedding that never learns.
    """

    a: Tensor
    g: Tensor
    weight: bool
    bias: bool
    padding: int | None = None

    def rows(self, start: int, stop: int) -> Outer:
        return Outer(self.a[start:stop], self.g[start:stop], self.weight, self.bias, self.padding)

    def similarity(self, other: Outer, group: int) -> Tensor:
        """Inner products of the patches of one group, plus one for the bias, shape (n1, places, n2, places)."""
        left, right = self.a[:, group], other.a[:, group]
        if not self.weight:
            shape = (len(left), left.shape[1], len(right), right.shape[1])
            return torch.ones(shape, dtype=self.g.dtype, device=self.g.device)
        if not left.is_floating_point():
            same = left[:, :, None, None] == right
            if self.padding is not None:
                same = same & (right != self.padding)
            return same.to(self.g.dtype)
        n1, places, p = left.shape
        product = (left.reshape(-1, p) @ right.reshape(-1, p).T).reshape(n1, places, len(right), -1)
        return product + 1 if self.bias else product

    def gram(self, other: Outer, output: Output) -> Tensor:
        n1, n2, (k, groups, places, size) = len(self.g), len(other.g), self.g.shape[1:]
        shape = (n1, n2, k, k) if output == "full" else (n1, n2, k) if output == "diag" else (n1, n2)
        total = torch.zeros(shape, dtype=self.g.dtype, device=self.g.device)
        unit = places * places * (2 if output != "full" else 1) + (k * places * size if output == "full" else 0)
        for i, j in tiles(n1, n2, unit):
            left, right = self.rows(i.start, i.stop), other.rows(j.start, j.stop)
            for group in range(groups):
                total[i, j] += _contract(
                    left.similarity(right, group), left.g[:, :, group], right.g[:, :, group], output
                )
        return total


@dataclass(frozen=True, eq=False)
class Dense:
    """Per-example gradients of some parameters, shape (n, k, size)."""

    jacobian: Tensor

    def rows(self, start: int, stop: int) -> Dense:
        return Dense(self.jacobian[start:stop])

    def gram(self, other: Dense, output: Output) -> Tensor:
        (n1, k, size), n2 = self.jacobian.shape, len(other.jacobian)
        left, right = self.jacobian, other.jacobian
        if output == "full":
            product = left.reshape(n1 * k, size) @ right.reshape(n2 * k, size).T
            return product.reshape(n1, k, n2, k).transpose(1, 2)
        if output == "diag":
            return torch.bmm(left.transpose(0, 1), right.permute(1, 2, 0)).permute(1, 2, 0)
        return left.reshape(n1, -1) @ right.reshape(n2, -1).T


Factor = Outer | Dense


def _contract(a: Tensor, g1: Tensor, g2: Tensor, output: Output) -> Tensor:
    """Sum over places t, s of a[i,t,j,s] <g1[i,c,t], g2[j,d,s]>; a (n1,T,n2,T), g (n,k,T,o)."""
    (n1, k, places, size), n2 = g1.shape, len(g2)
    if output == "full":
        if places == 1:
            product = (g1.reshape(-1, size) @ g2.reshape(-1, size).T).reshape(n1, k, n2, k)
            return (product * a.reshape(n1, 1, n2, 1)).transpose(1, 2)
        # First sum over s: T k o (T + k) multiplications a pair instead of T² k² o.
        inner = torch.bmm(a.permute(2, 0, 1, 3).reshape(n2, n1 * places, places), _by_place(g2))
        inner = inner.reshape(n2, n1, places, k, size).permute(1, 0, 3, 2, 4).reshape(n1, n2 * k, places * size)
        return torch.bmm(g1.reshape(n1, k, -1), inner.transpose(1, 2)).reshape(n1, k, n2, k).transpose(1, 2)
    if output == "diag":
        each = [_contract(a, g1[:, c : c + 1], g2[:, c : c + 1], "trace") for c in range(k)]
        return torch.stack(each, dim=2)
    product = _by_place(g1).reshape(n1 * places, -1) @ _by_place(g2).reshape(n2 * places, -1).T
    return (product.reshape(n1, places, n2, places) * a).sum((1, 3))


def _by_place(g: Tensor) -> Tensor:
    """(n, k, places, outputs) as (n, places, k * outputs)."""
    return g.transpose(1, 2).reshape(len(g), g.shape[2], -1)


def tiles(n1: int, n2: int, unit: int) -> Iterator[tuple[slice, slice]]:
    """Cut an n1 by n2 rectangle so that no tile holds more than `TILE` elements when a cell needs ``unit``."""
    cells = max(1, TILE // max(1, unit))
    wide = min(n2, cells)
    high = min(n1, max(1, cells // wide))
    for i in range(0, n1, high):
        for j in range(0, n2, wide):
            yield slice(i, min(i + high, n1)), slice(j, min(j + wide, n2))


def factors_are_cheaper(n1: int, n2: int, k: int, places: int, inputs: int, outputs: int, output: Output) -> bool:
    """Whether `Outer` takes fewer multiplications than building and multiplying per-example gradients."""
    full = output == "full"
    outer = places**2 * (inputs + k * outputs) + (places * k * k * outputs if full else 0)
    dense = (k * k if full else k) * outputs * inputs
    build = (n1 + n2) * k * places * outputs * inputs
    return n1 * n2 * outer <= n1 * n2 * dense + build


def gram(left: list[Factor], right: list[Factor], output: Output) -> Tensor:
    """Sum of the Gram blocks of all layers; both lists come from one plan, so their forms agree."""
    pairs = list(zip(left, right, strict=True))
    total = _pair(*pairs[0], output).clone()
    for one, other in pairs[1:]:
        total += _pair(one, other, output)
    return total


def _pair(one: Factor, other: Factor, output: Output) -> Tensor:
    if isinstance(one, Outer) and isinstance(other, Outer):
        return one.gram(other, output)
    if isinstance(one, Dense) and isinstance(other, Dense):
        return one.gram(other, output)
    raise TypeError(f"factors of one layer must have one form, got {type(one).__name__} and {type(other).__name__}")
