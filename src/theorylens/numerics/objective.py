"""The empirical risk as a function of the parameters, and the only loop over batches in the library.

Losses are summed over examples and divided once by the loss's own denominator (examples, tokens, class weights), so
that neither the batch size nor a ragged last batch can change an answer. Hessian products differentiate the
gradient: double backward is the one route that torch 2.13 gets right through LayerNorm, GroupNorm and attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .counting import count
from .memory import Batch, divisible, fitting, part, rows, to_device
from .products import MEMORY, Hessian, flatten

__all__ = ["MEMORY", "Hessian", "LossSum", "Objective", "flatten"]

TRIED = 16  # examples whose loss is compared with those of their halves

LossSum = Callable[[nn.Module, Batch], tuple[Tensor, Tensor]]
"""``(model, batch) -> (weighted sum of the losses, sum of the weights)``, both scalar tensors."""


@dataclass(frozen=True, eq=False)
class Objective:
    """Loss of ``model`` over ``batches`` as a function of the parameters that require a gradient.

    Attributes
    ----------
    model
        Used as it is, in the mode it is in; never copied, never written to.
    batches
        Read again for every pass, in the same order.
    loss
        Sum of weighted losses and sum of weights of a batch.
    mean
        Divide by the total weight (True), or leave the sum (False).
    """

    model: nn.Module
    batches: Iterable[Batch]
    loss: LossSum
    mean: bool = True
    names: Sequence[str] | None = None

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that are varied, by name; tied ones once."""
        known = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        chosen = known if self.names is None else {name: known[name] for name in self.names if name in known}
        if self.names is not None and len(chosen) < len(self.names):
            absent = sorted(set(self.names) - set(known))
            raise ValueError(f"no trainable parameters named {absent}; there are {sorted(known)}")
        if not chosen:
            raise ValueError("the model has no parameter that requires a gradient; set requires_grad on those to vary")
        return chosen

    @cached_property
    def size(self) -> int:
        return sum(p.numel() for p in self.parameters.values())

    @property
    def device(self) -> torch.device:
        return next(iter(self.parameters.values())).device

    @property
    def dtype(self) -> torch.dtype:
        return next(iter(self.parameters.values())).dtype

    @cached_property
    def examples(self) -> int:
        return self._first_pass[2]

    @cached_property
    def denominator(self) -> float:
        """Total weight of the loss over all batches; 1 when the loss is a sum."""
        return self._first_pass[1] if self.mean else 1.0

    @cached_property
    def value(self) -> float:
        """The loss, accumulated in float64."""
        return self._first_pass[0] / self.denominator

    @cached_property
    def _first_pass(self) -> tuple[float, float, int]:
        total, weight, examples = 0.0, 0.0, 0
        with torch.no_grad():
            for batch in self.on_device():
                for loss, share in fitting(lambda piece: self.loss(self.model, piece), batch):
                    total += float(loss.double())
                    weight += float(share.double())
                examples += rows(batch)
        if examples == 0:
            raise ValueError("there are no examples to average over; give at least one batch")
        if self.mean and not weight > 0:
            raise ValueError(f"the loss weights of {examples} examples add up to {weight}; at least one must count")
        count(forwards=examples)
        return total, weight, examples

    @cached_property
    def additive(self) -> bool:
        """Whether batches may be split: a few examples have the losses and weights of their halves together.

        Not where examples meet (contrastive losses, batch statistics, graphs), nor where a part of a batch is none.
        """
        few = next((batch for batch in self.on_device() if rows(batch) > 1), None)
        if few is None or not divisible(few):
            return False
        n = min(rows(few), TRIED)
        count(forwards=2 * n)
        try:
            with torch.no_grad():
                whole, *halves = (
                    torch.stack([t.double().cpu() for t in self.loss(self.model, part(few, start, stop))])
                    for start, stop in ((0, n), (0, n // 2), (n // 2, n))
                )
        except (RuntimeError, IndexError, ValueError):  # a part that the model cannot take
            return False
        # Half of the digits: rounding of single outputs is far below, what examples do to each other far above.
        slack = torch.finfo(self.dtype).eps ** 0.5 * torch.stack([whole.abs(), *(h.abs() for h in halves)]).sum(0)
        return bool(((halves[0] + halves[1] - whole).abs() <= slack).all())

    def on_device(self) -> Iterator[Batch]:
        """The batches, moved to the parameters' device."""
        for batch in self.batches:
            yield to_device(batch, self.device)

    def chunk_loss(self, batch: Batch) -> Tensor:
        """Share of one batch in the loss, as a scalar with a graph."""
        loss = self.loss(self.model, batch)[0] / self.denominator
        if not loss.requires_grad:
            raise ValueError(
                "the loss does not depend on the parameters in a differentiable way; "
                "use a loss made of differentiable operations and parameters that require a gradient"
            )
        return loss

    def gradient(self) -> Float[Tensor, "p"]:
        """Gradient of the loss over all batches, flat, in the order of ``parameters``; batches are added in float64."""
        total = torch.zeros(self.size, dtype=torch.float64, device=self.device)
        leaves = list(self.parameters.values())

        def slope(piece: Batch) -> Tensor:
            return flatten(
                torch.autograd.grad(self.chunk_loss(piece), leaves, allow_unused=True, materialize_grads=True)
            )

        with torch.enable_grad():
            for batch in self.on_device():
                for piece in fitting(slope, batch):
                    total += piece
                count(gradients=rows(batch))
        return total.to(self.dtype)

    def hessian(self, *, memory: int = MEMORY) -> Hessian:
        """The Hessian of the loss as an operator; graphs are kept between products up to ``memory`` bytes."""
        return Hessian(self, memory=memory)

    def unflatten(self, vector: Float[Tensor, "p"]) -> list[Tensor]:
        """Views of a flat vector in the shapes of ``parameters``."""
        if vector.shape != (self.size,):
            raise ValueError(f"a vector of shape {tuple(vector.shape)} does not match {self.size} parameters")
        pieces = torch.split(vector, [p.numel() for p in self.parameters.values()])
        return [piece.view_as(p) for piece, p in zip(pieces, self.parameters.values(), strict=True)]
