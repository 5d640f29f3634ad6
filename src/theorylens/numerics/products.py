"""Products with matrices of second derivatives, summed over batches, from graphs that are kept between products.

The graph behind one batch is built once and kept while the kept graphs fit into a budget of memory; the rest is built
again for every product. Batches are added in float64, so neither their size nor the budget changes an answer.

Blocks of vectors were measured and are not offered: under vmap or ``is_grads_batched`` a convolutional network's
product costs 1.5 to 2 times as much per vector as one at a time (5.1 against 2.4 gradients, one CPU thread) at ten
times the memory, a dense network's the same (1.6 for 4 vectors and 2.4 for 16 against 1.4), and ``is_grads_batched``
fails in the second derivative of GroupNorm.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils import _pytree as pytree

from .counting import count
from .graph import differentiable_once, graph_bytes
from .memory import Batch, divisible, fitting, is_out_of_memory, part, rows
from .second import NoSecondDerivativeError, second_derivatives

if TYPE_CHECKING:
    from .objective import Objective

MEMORY = 1 << 29  # bytes of graphs that an operator may retain: half a GiB
# Bytes that a product reads from one graph on a CPU: beyond, they leave the caches. A convolutional network's product
# took .64, .54, .50, .48, .50, .61 s from graphs of 7, 13, 27, 53, 107 and 213 MiB; 512 examples in all.
PIECE = 1 << 25
PILOT = 64  # examples of a graph by which the size of the pieces is set; so few are not worth splitting


@runtime_checkable
class Graph(Protocol):
    """What is kept of one piece of the data."""

    @property
    def examples(self) -> int: ...

    @property
    def roots(self) -> Sequence[Tensor]:
        """Tensors whose graphs hold all that is kept alive."""
        ...


G = TypeVar("G", bound=Graph)


class KeptProducts(ABC, Generic[G]):
    """An `Operator` that is a sum over batches, each with a graph that is kept when it fits into ``memory`` bytes.

    Besides, one batch is in the making, whose graph takes two to four times what a gradient of it holds. With
    ``memory=0`` nothing is kept and batches are taken in quarters: a product then peaks below two gradients.
    When memory runs out, the kept graphs go first, then batches are halved. Parameters that were written to since the
    graphs were built make them go too: a product is that of the parameters as they are. On a CPU large batches are
    taken in pieces whose graphs stay near the processor. Batches that are no sums of their parts (`Objective.additive`)
    stay whole.
    """

    def __init__(self, objective: Objective, *, memory: int = MEMORY) -> None:
        self.objective = objective
        self.memory = memory
        self.products = 0
        self._kept: dict[int, list[G]] = {}  # of the batches that fit, in pieces
        self._kept_bytes = 0
        self._batches: int | None = None  # known after the first product
        self._versions: tuple[int, ...] = ()
        self._bytes: float | None = None  # of the graph of one example

    @property
    def size(self) -> int:
        return self.objective.size

    @property
    def dtype(self) -> torch.dtype:
        return self.objective.dtype

    @property
    def device(self) -> torch.device:
        return self.objective.device

    def matvec(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]:
        """The matrix times ``vector`` over all batches, added in float64.

        Raises
        ------
        NoSecondDerivativeError
            When an operator of the network can be differentiated only once; it is named.
        """
        if (versions := tuple(p._version for p in self.objective.model.parameters())) != self._versions:
            self._kept.clear()
            self._kept_bytes, self._batches, self._versions = 0, None, versions
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
        return (total / self._divisor).to(self.dtype)

    def __matmul__(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]:
        return self.matvec(vector)

    @property
    def _divisor(self) -> float:
        return 1.0

    @abstractmethod
    def _build(self, batch: Batch) -> G:
        """The graph of a piece of the data."""

    @abstractmethod
    def _times(self, graph: G, direction: list[Tensor]) -> Tensor:
        """Share of a piece in the product, flat; the graph must live on."""

    def _product(self, direction: list[Tensor]) -> Float[Tensor, "p"]:
        total = torch.zeros(self.size, dtype=torch.float64, device=self.device)
        if self._batches is not None and len(self._kept) == self._batches:  # the data need not be read
            for graphs in self._kept.values():
                for graph in graphs:
                    total += self._counted(graph, direction)
            return total
        seen = 0
        for i, batch in enumerate(self.objective.on_device()):
            if i in self._kept:
                for graph in self._kept[i]:
                    total += self._counted(graph, direction)
            else:
                for share in self._shares(batch, direction, i):
                    total += share
            seen += 1
        self._batches = seen
        return total

    def _shares(self, batch: Batch, direction: list[Tensor], i: int) -> Iterator[Tensor]:
        """Shares of the pieces of batch ``i`` in the product; their graphs are kept when all fit."""
        graphs: list[G] | None = [] if self._batches is None and self.memory > 0 else None
        held = 0
        for piece in self._pieces(batch):
            for graph, share in fitting(partial(self._fresh, direction=direction), piece):
                held += self._measure(graph, piece) if graphs is not None else 0
                if graphs is not None and graph.examples == rows(piece) and self._kept_bytes + held <= self.memory:
                    graphs.append(graph)
                else:
                    graphs = None
                del graph  # not alive beside the next one
                yield share
        if graphs is not None:
            self._kept[i] = graphs
            self._kept_bytes += held

    def _pieces(self, batch: Batch) -> Iterator[Batch]:
        """A batch whole, in quarters when no graph may be kept, or in pieces of `PIECE` bytes; then of equal size."""
        n = rows(batch)
        most = n if self.memory > 0 else -(-n // 4)
        fine = self.device.type == "cpu" and n > PILOT
        if (fine or most < n) and divisible(batch) and self.objective.additive:
            size = min(most, self._allowed(batch)) if fine else most
            size = -(-n // math.ceil(n / size))
            for start in range(0, n, size):
                yield part(batch, start, start + size)
        else:
            yield batch

    def _allowed(self, batch: Batch) -> int:
        """Examples of a piece whose graph stays near the processor, by the graph of a few."""
        if self._bytes is None:
            few = part(batch, 0, PILOT)
            graph = next(fitting(self._build, few))
            self._bytes = self._measure(graph, few) / graph.examples
            count(gradients=graph.examples)
        # Each piece also adds one vector of all parameters in float64: it should read several times that.
        return max(int(max(PIECE, 64 * self.size) / max(self._bytes, 1.0)), PILOT // 4)

    def _fresh(self, piece: Batch, direction: list[Tensor]) -> tuple[G, Tensor]:
        """A new graph and the product of a piece."""
        graph = self._build(piece)
        count(gradients=rows(piece))
        return graph, self._counted(graph, direction)

    def _measure(self, graph: G, piece: Batch) -> int:
        """Bytes that the graph keeps alive beyond the network and the data."""
        living = [*self.objective.model.parameters(), *self.objective.model.buffers(), *pytree.tree_leaves(piece)]
        return graph_bytes(graph.roots, without=[t for t in living if isinstance(t, Tensor)])

    def _counted(self, graph: G, direction: list[Tensor]) -> Tensor:
        product = self._times(graph, direction)
        count(hvps=graph.examples)
        return product

    def _refuse_once_differentiable(self, values: Tensor) -> None:
        if self._batches is None and (name := differentiable_once([values])) is not None:
            raise NoSecondDerivativeError(name)


@dataclass(frozen=True, eq=False)
class Slopes:
    """Gradients of one piece of the data with the graph behind them; only those that depend on the parameters."""

    slopes: tuple[Tensor, ...]
    places: tuple[int, ...]
    examples: int

    @property
    def roots(self) -> Sequence[Tensor]:
        return self.slopes


class Hessian(KeptProducts[Slopes]):
    """Products with the Hessian of an `Objective`, by differentiating its gradient.

    A product costs about 1.4 (dense layers) to 2.5 (convolutions) gradients from a kept graph and about one forward
    and backward more from a rebuilt one; see `KeptProducts` for what is kept.
    """

    def _build(self, batch: Batch) -> Slopes:
        leaves = list(self.objective.parameters.values())
        loss = self.objective.chunk_loss(batch)
        self._refuse_once_differentiable(loss)
        slopes = torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True)
        curved = [(s, place) for place, s in enumerate(slopes) if s is not None and s.requires_grad]
        return Slopes(tuple(s for s, _ in curved), tuple(place for _, place in curved), rows(batch))

    def _times(self, graph: Slopes, direction: list[Tensor]) -> Tensor:
        leaves = list(self.objective.parameters.values())
        products: tuple[Tensor, ...] = tuple(torch.zeros_like(p) for p in leaves)
        if graph.slopes:  # none where the loss is linear in every parameter
            products = torch.autograd.grad(
                graph.slopes, leaves, grad_outputs=[direction[place] for place in graph.places],
                retain_graph=True, allow_unused=True, materialize_grads=True,
            )  # fmt: skip
        return flatten(products)


def flatten(pieces: Iterable[Tensor]) -> Float[Tensor, "p"]:
    """One flat vector from tensors in the order given."""
    return torch.cat([piece.reshape(-1) for piece in pieces])
