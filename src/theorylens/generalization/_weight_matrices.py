"""The weights of a network as matrices, as its layers use them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


def stable_rank(matrix: Tensor) -> float:
    """Squared Frobenius norm over squared spectral norm: between 1 and the rank, and blind to small singular values.

    >>> stable_rank(torch.diag(torch.tensor([3.0, 4.0])))
    1.5625
    """
    if matrix.ndim != 2 or not matrix.numel():
        raise ValueError(f"a matrix is needed, got shape {tuple(matrix.shape)}; use weight.flatten(1)")
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError("the matrix has entries that are not finite")
    levels = torch.linalg.svdvals(matrix.detach().double())
    if not float(levels[0]) > 0:
        raise ValueError("a matrix of zeros has no stable rank")
    return float((levels / levels[0]).square().sum())


def named_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every weight by name, in order, each once: as a parameter, or where it is parametrised as what comes out of that.

    Of a layer with weight normalisation, say, that is its weight and not the length and the direction it is made of.
    """
    seen: set[int] = set()
    for place, module in model.named_modules():
        if ".parametrizations." in f".{place}.":
            continue
        made = _made(module)
        parts = {f"{name}_{part}" for name in made for part in ("g", "v", "orig")}
        given = {n: p for n, p in module._parameters.items() if p is not None and n not in parts and id(p) not in seen}
        seen |= {id(p) for p in given.values()}
        for name, weight in {**made, **given}.items():
            yield (f"{place}.{name}" if place else name), weight.detach()


def _made(module: nn.Module) -> dict[str, Tensor]:
    """Weights that a layer computes from others, by `parametrize` or by a hook that sets them before each call."""
    if parametrize.is_parametrized(module):
        with torch.no_grad():
            return {name: getattr(module, name) for name in module.parametrizations}  # type: ignore[union-attr]
    names = [str(getattr(hook, "name", "")) for hook in module._forward_pre_hooks.values()]
    return {name: found for name in names if isinstance(found := module.__dict__.get(name), Tensor)}


def weight_matrices(model: nn.Module) -> dict[str, Tensor]:
    """Weights with two or more axes as matrices, the first axis against the rest, by name."""
    found = {n: w.flatten(1) for n, w in named_weights(model) if w.ndim >= 2}
    return {n: m for n, m in found.items() if m.numel()}
