"""Squared gradients of single examples, summed: by a layer's two factors where these are known, else one by one.

Method   one backward pass for all examples gives every layer's output gradients; with the layer's inputs they make the
         squared norm of each example's gradient without forming it ("ghost norms"), or its squared entries
Source   Goodfellow (2015), Efficient per-example gradient computations, arXiv:1510.01799; Rochette, Manoel, Tramel
         (2019), arXiv:1912.06015 (convolutions)
Assumes  outputs of an example that depend on no other example of the batch; checked on the first batch
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from .counting import count
from .layer_calls import Call, Plan, plan, recorded
from .layers import gradient, is_product, patches, returns
from .memory import Batch, part, rows

Forward = Callable[[nn.Module, Batch], Tensor]
Keep = Literal["norm", "entries"]
COLUMNS = 1 << 26  # bytes of output gradients held at once, for several directions of the outputs
FEWEST = 32  # examples in a backward pass: fewer cost more time each
TILE = 1 << 22  # elements of an intermediate product: 16 MiB in float32


class ExampleSquares:
    """Sums over examples n and directions s of the outputs of the squared gradient of s . outputs(n).

    Parameters
    ----------
    forward
        ``forward(model, batch) -> outputs`` whose first axis is the example.
    keep
        ``"norm"``: `totals` holds one number for each parameter; ``"entries"``: one for each of its entries, flat.
    """

    def __init__(
        self, model: nn.Module, parameters: Mapping[str, nn.Parameter], forward: Forward, *, keep: Keep = "norm"
    ) -> None:
        self._model, self._forward, self._keep = model, forward, keep
        self._parameters = dict(parameters)
        self._by_layers: bool | None = None  # known after the first batch
        self._row_bytes: int | None = None  # of output gradients, one for each output; known then too
        self.totals = {
            name: p.new_zeros(1 if keep == "norm" else p.numel(), dtype=torch.float64)
            for name, p in self._parameters.items()
        }

    def add(self, batch: Batch, directions: Callable[[Tensor], Sequence[Tensor]]) -> None:
        """Add a batch; ``directions(outputs)`` gives tensors of the shape of the outputs, one direction per example.

        Raises
        ------
        HiddenLayerError
            A layer whose input is overwritten after its call, or hidden by reentrant checkpointing.
        """
        with torch.enable_grad():
            for piece in self._pieces(batch):
                self._add(piece, directions)

    def _pieces(self, batch: Batch) -> Iterator[Batch]:
        """The batch in parts for which the output gradients of most directions fit into `COLUMNS` together."""
        if self._row_bytes is None:
            outputs, calls, made = self._run(part(batch, 0, 1))
            used = {i for found in made.uses.values() for i, _ in found}
            self._row_bytes = outputs.numel() * sum(calls[i].output.numel() * outputs.element_size() for i in used)
        n, size = rows(batch), max(FEWEST, COLUMNS // max(1, self._row_bytes))
        for start in range(0, n, size):
            yield batch if n <= size else part(batch, start, start + size)

    def _add(self, batch: Batch, directions: Callable[[Tensor], Sequence[Tensor]]) -> None:
        outputs, calls, made = self._run(batch)
        if not outputs.requires_grad:
            return
        columns = directions(outputs)
        if self._by_layers is None:
            self._by_layers = self._agrees(batch, outputs, calls, made)
            if not self._by_layers:
                made = Plan({}, dict(self._parameters), ())
        if any(made.uses.values()):
            for name, found in self._layer_shares(outputs, calls, made, columns):
                self.totals[name] += found
        if made.rest:
            for name, found in self._single_shares(batch, made.rest, columns):
                self.totals[name] += found
        count(gradients=rows(batch) * len(columns))

    def _run(self, batch: Batch) -> tuple[Tensor, list[Call], Plan]:
        with recorded(self._model) as calls:
            outputs = self._forward(self._model, batch)
        if self._by_layers is False:
            return outputs, calls, Plan({}, dict(self._parameters), ())
        made = plan(calls, outputs, self._parameters, rows(batch))
        for i in {i for found in made.uses.values() for i, _ in found}:
            calls[i].unchanged_input  # noqa: B018 - refuses an input that was overwritten
        return outputs, calls, made

    def _agrees(self, batch: Batch, outputs: Tensor, calls: list[Call], made: Plan) -> bool:
        """Whether the first example alone gives the same outputs, and its layers the gradients of a plain pass."""
        one = part(batch, 0, 1)
        alone = self._forward(self._model, one)
        eps = torch.finfo(outputs.dtype).eps
        gap = float((alone[0] - outputs[0]).detach().abs().max())
        if not gap <= 1e3 * eps * max(float(outputs.detach().abs().max()), 1e-30):
            return False
        if not any(made.uses.values()):
            return True
        towards = torch.linspace(0.5, 1.5, max(alone.numel(), 1), dtype=alone.dtype, device=alone.device)
        only = torch.zeros_like(outputs)
        only[0] = towards.view_as(alone)[0]
        wanted = [self._parameters[name] for name, found in made.uses.items() if found]
        plain = torch.autograd.grad(alone, wanted, towards.view_as(alone), allow_unused=True, materialize_grads=True)
        expected = math.fsum(float(_wide(g.to_dense() if g.is_sparse else g).double().square().sum()) for g in plain)
        shares = self._layer_shares(outputs, calls, made, [only])
        built = math.fsum(float(share.sum()) for _, share in shares)
        return bool(abs(built - expected) <= min(0.1, 30 * eps**0.5) * expected)

    def _layer_shares(
        self, outputs: Tensor, calls: list[Call], made: Plan, columns: Sequence[Tensor]
    ) -> Iterator[tuple[str, Tensor]]:
        used = sorted({i for found in made.uses.values() for i, _ in found})
        layers = [calls[i].output for i in used]
        held = sum(layer.numel() * layer.element_size() for layer in layers)
        size = max(1, COLUMNS // max(1, held))
        for start in range(0, len(columns), size):
            group = columns[start : start + size]
            slopes: dict[int, Tensor] = {}
            for j, column in enumerate(group):
                found = torch.autograd.grad(outputs, layers, column.to(outputs.dtype), retain_graph=True)
                for i, slope in zip(used, found, strict=True):
                    if i not in slopes:
                        slopes[i] = _wide(slope).new_empty(len(slope), len(group), *slope.shape[1:])
                    slopes[i][:, j] = slope
                del found
            for name, uses in made.uses.items():
                if uses:
                    yield name, self._share([(calls[i], role, slopes[i]) for i, role in uses])

    def _share(self, uses: list[tuple[Call, str, Tensor]]) -> Tensor:
        """Of one parameter, whose gradient is the sum over its uses."""
        call, role, slopes = uses[0]
        if len(uses) == 1 and isinstance(call.module, nn.Embedding):
            squares, index = _looked_up(call.module, call.input, slopes)
            if self._keep == "norm":
                return squares.sum(dtype=torch.float64)
            total = squares.new_zeros(call.module.num_embeddings, squares.shape[1], dtype=torch.float64)
            return total.index_add_(0, index, squares.double()).reshape(-1)
        if len(uses) == 1 and role == "weight" and is_product(call.module):
            return _weight_share(call.module, call.input, slopes, self._keep)
        return _dense_share(uses, self._keep)

    def _single_shares(
        self, batch: Batch, rest: dict[str, nn.Parameter], columns: Sequence[Tensor]
    ) -> Iterator[tuple[str, Tensor]]:
        for i in range(rows(batch)):
            outputs = self._forward(self._model, part(batch, i, i + 1))
            for column in columns:
                slopes = torch.autograd.grad(
                    outputs, list(rest.values()), column[i : i + 1].to(outputs.dtype), retain_graph=True,
                    allow_unused=True,
                )  # fmt: skip
                for name, slope in zip(rest, slopes, strict=True):
                    if slope is not None:
                        dense = slope.to_dense() if slope.layout != torch.strided else slope
                        squares = dense.double().square().reshape(-1)
                        yield name, squares.sum() if self._keep == "norm" else squares


def _weight_share(module: nn.Module, entered: Tensor, slopes: Tensor, keep: Keep) -> Tensor:
    """Of the weight of a linear layer or convolution, from patches a (n, G, T, p) and returns g (n, k, G, T, o)."""
    g = returns(module, slopes)
    _, k, groups, places, o = g.shape
    assert isinstance(module.weight, Tensor)
    p = math.prod(module.weight.shape[1:])
    if places == 1:
        a = patches(module, entered).to(g.dtype)
        squares = g.square().sum(1)[:, :, 0], a.square()[:, :, 0]
        if keep == "norm":
            return (squares[0].sum(2) * squares[1].sum(2)).sum(dtype=torch.float64)
        return torch.einsum("ngo,ngp->gop", *squares).reshape(-1).double()
    by_places = keep == "norm" and places * (p + k * o) < p * k * o
    unit = groups * (places * max(p, k * o) + (2 * places * places if by_places else k * o * p))
    total = g.new_zeros(1 if keep == "norm" else groups * o * p, dtype=torch.float64)
    for i in _slices(len(g), unit):
        a = patches(module, entered[i]).to(g.dtype)
        b = g[i].permute(0, 2, 3, 1, 4).reshape(len(a), groups, places, k * o)
        if by_places:  # |sum_t g_t a_t'|² = sum_tu (g_t . g_u)(a_t . a_u)
            total += ((a @ a.mT) * (b @ b.mT)).sum(dtype=torch.float64)
        elif keep == "norm":
            total += (b.mT @ a).square_().sum(dtype=torch.float64)
        else:
            each = (b.mT @ a).square_().reshape(len(a), groups, k, o, p)
            total += each.sum((0, 2)).reshape(-1)
    return total


def _dense_share(uses: list[tuple[Call, str, Tensor]], keep: Keep) -> Tensor:
    """From the examples' gradients themselves, of as many examples at a time as fit into a tile."""
    call, role, slopes = uses[0]
    size = getattr(call.module, role).numel()
    total = slopes.new_zeros(1 if keep == "norm" else size, dtype=torch.float64)
    for i in _slices(len(slopes), slopes.shape[1] * size):
        gradients = [gradient(c.module, r, c.input[i], s[i]) for c, r, s in uses]
        squares = torch.stack(gradients).sum(0).square() if len(gradients) > 1 else gradients[0].square()
        total += squares.sum(dtype=torch.float64) if keep == "norm" else squares.sum((0, 1), dtype=torch.float64)
    return total


def _looked_up(module: nn.Embedding, index: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """Squared gradients of the rows that each example looked up, shape (m, size), and which rows these are."""
    n, k = slopes.shape[:2]
    places = index.reshape(n, -1).long()
    g = slopes.reshape(n, k, -1, module.embedding_dim).transpose(1, 2)
    if module.padding_idx is not None:
        g = g * (places != module.padding_idx)[:, :, None, None]
    pair = places + module.num_embeddings * torch.arange(n, device=places.device)[:, None]
    distinct, where = torch.unique(pair.reshape(-1), return_inverse=True)
    summed = g.new_zeros(len(distinct), k, module.embedding_dim).index_add_(0, where, g.flatten(0, 1))
    return summed.square().sum(1), distinct % module.num_embeddings


def _slices(n: int, unit: int) -> Iterator[slice]:
    step = max(1, TILE // max(1, unit))
    for start in range(0, n, step):
        yield slice(start, start + step)


def _wide(tensor: Tensor) -> Tensor:
    """Half-precision gradients in float32: their squares would overflow or drown."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
