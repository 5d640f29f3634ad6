"""The empirical risk as a function of the parameters, and the only loop over batches in the library.

Losses are summed over examples and divided once by the loss's own denominator (examples, tokens, class weights), so
that neither the batch size nor a ragged last batch can change an answer. Hessian products differentiate the
gradient: double backward is the one route that torch 2.13 gets right through LayerNorm, GroupNorm and attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .counting import count
from .graph import differentiable_once, graph_bytes
from .memory import Batch, fitting, is_out_of_memory, rows, to_device
from .second import NoSecondDerivativeError, second_derivatives

LossSum = Callable[[nn.Module, Batch], tuple[Tensor, Tensor]]
"""``(model, batch) -> (weighted sum of the losses, sum of the weights)``, both scalar tensors."""

MEMORY = 1 << 29  # bytes of graphs that a Hessian operator may retain: half a GiB


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


@dataclass(frozen=True, eq=False)
class _Graph:
    """Gradients of one piece of the data with the graph behind them; only those that depend on the parameters."""

    slopes: tuple[Tensor, ...]
    places: tuple[int, ...]
    examples: int


class Hessian:
    """Products with the Hessian of an `Objective`, by differentiating its gradient.

    The graph of the gradient of each batch is built once and kept while the kept graphs fit into ``memory`` bytes; the
    remaining batches are rebuilt for every product. A product costs about 1.4 (dense layers) to 2.5 (convolutions)
    gradients from a kept graph and about one forward and backward more from a rebuilt one. When memory runs out, the
    kept graphs go first, then batches are halved.
    """

    def __init__(self, objective: Objective, *, memory: int = MEMORY) -> None:
        self.objective = objective
        self.memory = memory
        self.products = 0
        self._kept: dict[int, _Graph] = {}
        self._kept_bytes = 0
        self._batches: int | None = None  # known after the first product

    @property
    def size(self) -> int:
        return self.objective.size

    @property
    def dtype(self) -> torch.dtype:
        return self.objective.dtype

    @property
    def device(self) -> torch.device:
        return self.objective.device

    def matvec(self, vector: Float[Tensor, "p"]) -> Float[Tensor, "p"]:
        """``H @ vector`` over all batches, added in float64.

        Raises
        ------
        NoSecondDerivativeError
            When an operator of the network can be differentiated only once; it is named.
        """
        pieces = self.objective.unflatten(vector.to(self.device))
        leaves = self.objective.parameters.values()
        direction = [piece.to(p.dtype) for piece, p in zip(pieces, leaves, strict=True)]
        with second_derivatives(), torch.enable_grad():
            try:
                total = self._product(direction)
            except RuntimeError as error:
                if not (self._kept and is_out_of_memory(error)):
                    raise
                self.memory = 0
                self._kept.clear()
                total = None
            if total is None:  # outside of the handler, which keeps the frames of the failed attempt alive
                total = self._product(direction)
        self.products += 1
        return total.to(self.dtype)

    def __matmul__(self, vector: Float[Tensor, "p"]) -> Float[Tensor, "p"]:
        return self.matvec(vector)

    def _product(self, direction: list[Tensor]) -> Float[Tensor, "p"]:
        total = torch.zeros(self.size, dtype=torch.float64, device=self.device)
        if self._batches is not None and len(self._kept) == self._batches:  # the data need not be read
            for graph in self._kept.values():
                total += self._times(graph, direction)
            return total
        seen = 0
        for i, batch in enumerate(self.objective.on_device()):
            if i in self._kept:
                total += self._times(self._kept[i], direction)
            else:
                for piece in fitting(partial(self._fresh, direction=direction, i=i, whole=rows(batch)), batch):
                    total += piece
            seen += 1
        self._batches = seen
        return total

    def _fresh(self, piece: Batch, direction: list[Tensor], i: int, whole: int) -> Tensor:
        """The product of a piece of batch ``i`` from a new graph, which is kept when it is all of it and fits."""
        graph = self._build(piece)
        product = self._times(graph, direction)
        if self._batches is None and graph.examples == whole:
            living = [*self.objective.model.parameters(), *self.objective.model.buffers(), *pytree.tree_leaves(piece)]
            size = graph_bytes(graph.slopes, without=[t for t in living if isinstance(t, Tensor)])
            if self._kept_bytes + size <= self.memory:
                self._kept[i] = graph
                self._kept_bytes += size
        return product

    def _build(self, batch: Batch) -> _Graph:
        leaves = list(self.objective.parameters.values())
        loss = self.objective.chunk_loss(batch)
        if self._batches is None and (name := differentiable_once([loss])) is not None:
            raise NoSecondDerivativeError(name)
        slopes = torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True)
        curved = [(s, place) for place, s in enumerate(slopes) if s is not None and s.requires_grad]
        count(gradients=rows(batch))
        return _Graph(tuple(s for s, _ in curved), tuple(place for _, place in curved), rows(batch))

    def _times(self, graph: _Graph, direction: list[Tensor]) -> Tensor:
        leaves = list(self.objective.parameters.values())
        products: tuple[Tensor, ...] = tuple(torch.zeros_like(p) for p in leaves)
        if graph.slopes:  # none where the loss is linear in every parameter
            products = torch.autograd.grad(
                graph.slopes, leaves, grad_outputs=[direction[place] for place in graph.places],
                retain_graph=True, allow_unused=True, materialize_grads=True,
            )  # fmt: skip
        count(hvps=graph.examples)
        return flatten(products)


def flatten(pieces: Iterable[Tensor]) -> Float[Tensor, "p"]:
    """One flat vector from tensors in the order given."""
    return torch.cat([piece.reshape(-1) for piece in pieces])
