"""What second-order optimisers see of a loss: its value, gradient and Hessian products at the present parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from theorylens.numerics.second import second_derivatives

Closure = Callable[[], Tensor]
KINK = "look for a root, norm or logarithm of zero; the parameters are as they were"


class ClosureGraph:
    """The loss that ``closure`` returns, as a function of ``parameters``, with the graph of its gradient kept.

    An `Operator`: ``matvec`` is the Hessian of this loss, on the batch that the closure used.

    Attributes
    ----------
    leaves
        The parameters on which the loss depends, in order: the coordinates of ``gradient`` and ``matvec``. Others stay
        out, so that no random direction moves them.
    loss, gradient
        The value, and the gradient as a flat vector.
    products
        Hessian products taken.
    """

    def __init__(self, closure: Closure, parameters: Sequence[Tensor]) -> None:
        given = list(parameters)
        self.products = 0
        with second_derivatives(), torch.enable_grad():
            loss = closure()
            if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
                raise ValueError(
                    f"the closure returned {_what(loss)}; it must return the loss as a scalar tensor with its graph: "
                    "no .item(), no .detach()"
                )
            try:
                slopes = torch.autograd.grad(loss, given, create_graph=True, allow_unused=True)
            except RuntimeError as error:
                if "second time" not in str(error):
                    raise
                raise ValueError(
                    "the closure called backward() and freed the graph; return the loss without calling backward(), "
                    "this optimiser differentiates it itself"
                ) from error
        self.loss = float(loss.detach())
        if not torch.isfinite(loss.detach()).all():
            raise ValueError(f"the loss is {self.loss}; load parameters from before it diverged, or lower the steps")
        if any(s is not None and s.layout is not torch.strided for s in slopes):
            raise ValueError(
                "a gradient is sparse, and torch cannot differentiate it once more; build the embedding with "
                "sparse=False"
            )
        self.leaves = [p for s, p in zip(slopes, given, strict=True) if s is not None]
        if not self.leaves:
            raise ValueError("the loss depends on no parameter of this optimiser; give it those of the model in use")
        self._slopes = [s for s in slopes if s is not None]
        self.gradient = torch.cat([s.detach().reshape(-1) for s in self._slopes])
        if not bool(torch.isfinite(self.gradient).all()):
            raise ValueError(f"the gradient is not finite where the loss is {self.loss:.4g}; {KINK}")

    @property
    def size(self) -> int:
        return len(self.gradient)

    @property
    def dtype(self) -> torch.dtype:
        return self.gradient.dtype

    @property
    def device(self) -> torch.device:
        return self.gradient.device

    def matvec(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]:
        """The product of the Hessian and ``vector``, by differentiating the gradient once more."""
        pieces = split_like(vector, self.leaves)
        curved = [(s, v) for s, v in zip(self._slopes, pieces, strict=True) if s.requires_grad]
        self.products += 1
        if not curved:  # linear in every parameter
            return torch.zeros_like(vector)
        with second_derivatives():
            found = torch.autograd.grad(
                [s for s, _ in curved], self.leaves, grad_outputs=[v.to(s.dtype) for s, v in curved],
                retain_graph=True, allow_unused=True, materialize_grads=True,
            )  # fmt: skip
        return torch.cat([f.reshape(-1) for f in found])

    def __matmul__(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]:
        return self.matvec(vector)


def split_like(vector: Float[Tensor, "p"], parameters: Sequence[Tensor]) -> list[Tensor]:
    """A flat vector as pieces of the shapes of ``parameters``."""
    pieces = torch.split(vector, [p.numel() for p in parameters])
    return [piece.view_as(p) for piece, p in zip(pieces, parameters, strict=True)]


@torch.no_grad()
def move(parameters: Sequence[Tensor], vector: Float[Tensor, "p"], scale: float = 1.0) -> None:
    """Add ``scale * vector`` to the parameters in place."""
    for p, piece in zip(parameters, split_like(vector, parameters), strict=True):
        p.add_(piece.to(p.dtype), alpha=scale)


@torch.no_grad()
def put(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy ``values`` back into the parameters: bit for bit, which subtracting a step is not."""
    for p, value in zip(parameters, values, strict=True):
        p.copy_(value)


@contextmanager
def unmoved_on_error(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[None]:
    """Whatever is raised inside, an interrupt too, finds the parameters at ``values``."""
    try:
        yield
    except BaseException:
        put(parameters, values)
        raise


def loss_of(closure: Closure) -> float:
    """The loss alone."""
    with torch.no_grad():
        return float(closure())


def trainable(groups: Sequence[dict[str, Any]]) -> list[Tensor]:
    """The parameters of all groups that require a gradient, in order."""
    found = [p for group in groups for p in group["params"] if p.requires_grad]
    if not found:
        raise ValueError("no parameter requires a gradient; set requires_grad on those to vary")
    return found


def _what(loss: object) -> str:
    if not isinstance(loss, Tensor):
        return f"a {type(loss).__name__}"
    return f"a tensor of shape {tuple(loss.shape)}" + ("" if loss.requires_grad else " without a graph")
