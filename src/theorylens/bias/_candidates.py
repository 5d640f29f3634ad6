"""Candidate architectures of one size: small networks that differ in what they assume about the input.

mlp          every input may matter for every unit, nothing is shared
cnn          neighbours belong together, the same everywhere (1-d for sequences)
rnn          one step at a time with a state; rows of an image are its steps
transformer  every part may look at every other, positions are learnt
graph        each part hears the mean of its neighbours: pixels of a grid, steps of a sequence, nodes of a given graph
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor, nn

Factory = Callable[[], nn.Module]
HEADS = 2
TOKENS = 64  # patches of an image at most
NODES = 1024  # pixels of an image at most, for a dense grid
WIDEST = 4096


class LastState(nn.Module):
    """A GRU that answers with its last state; (n, length, width), or images whose rows are the steps."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        steps = x.transpose(1, 2).flatten(2) if x.ndim == 4 else x
        state: Tensor = self.gru(steps)[1][-1]
        return state


class Positioned(nn.Module):
    """Tokens with learnt positions through attention blocks, averaged at the end."""

    def __init__(self, tokens: int, width: int, depth: int = 2) -> None:
        super().__init__()
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, width))
        block = nn.TransformerEncoderLayer(width, HEADS, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, depth, norm=nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.blocks(tokens + self.positions).mean(1)
        return found


class Patches(nn.Module):
    """An image (n, c, h, w) as tokens (n, patches, width)."""

    def __init__(self, channels: int, width: int, side: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, width, side, side)

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.embed(images).flatten(2).transpose(1, 2)
        return tokens


class Neighbours(nn.Module):
    """relu(W x + V (mean of the neighbours)), node by node."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.own, self.near = nn.Linear(inputs, width), nn.Linear(inputs, width, bias=False)

    def forward(self, features: Tensor, mixing: Tensor) -> Tensor:
        return torch.relu(self.own(features) + self.near(mixing @ features))


class GraphNetwork(nn.Module):
    """Three rounds of message passing, then mean and maximum over the nodes.

    Takes (features, adjacency) with (n, nodes, width) and (n, nodes, nodes), or features alone when built with a fixed
    ``adjacency``; images are then nodes in rows. A mean over neighbours forgets how many there are, so the degree is
    given as a feature.
    """

    def __init__(self, inputs: int, width: int, classes: int, adjacency: Tensor | None = None) -> None:
        super().__init__()
        sizes = (inputs + 1, width, width)
        self.layers = nn.ModuleList([Neighbours(size, width) for size in sizes])
        self.out = nn.Linear(2 * width, classes)
        self.adjacency: Tensor | None
        self.register_buffer("adjacency", adjacency)

    def forward(self, graph: Tensor | Sequence[Tensor]) -> Tensor:
        if isinstance(graph, Tensor):
            features = graph.flatten(2).transpose(1, 2) if graph.ndim == 4 else graph
            adjacency = self.adjacency
            assert adjacency is not None
        else:
            features, adjacency = graph
        degrees = adjacency.sum(-1, keepdim=True)
        mixing = adjacency / degrees.clamp(min=1e-12)
        features = torch.cat([features, degrees.log1p().expand(*features.shape[:-1], 1)], -1)
        for layer in self.layers:
            features = layer(features, mixing)
        answer: Tensor = self.out(torch.cat([features.mean(-2), features.amax(-2)], -1))
        return answer


class FlatGraph(nn.Module):
    """Features and adjacency written out as one vector: what a dense network sees of a graph."""

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.dense = dense(inputs, width, classes)

    def forward(self, graph: Sequence[Tensor]) -> Tensor:
        answer: Tensor = self.dense(torch.cat([part.flatten(1) for part in graph], 1))
        return answer


def dense(inputs: int, width: int, classes: int) -> nn.Sequential:
    """Two hidden layers over the flattened input."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes)
    )


def grid(height: int, width: int) -> Tensor:
    """Adjacency of the pixels of an image, four neighbours each."""
    place = torch.arange(height * width).reshape(height, width)
    matrix = torch.zeros(height * width, height * width)
    for a, b in ((place[1:], place[:-1]), (place[:, 1:], place[:, :-1])):
        matrix[a.flatten(), b.flatten()] = matrix[b.flatten(), a.flatten()] = 1.0
    return matrix


def candidates(
    shape: Sequence[int] | Sequence[Sequence[int]],
    classes: int,
    parameters: int = 5000,
    *,
    only: Collection[str] | None = None,
) -> dict[str, Factory]:
    """Factories of candidates for inputs of ``shape``, each as close to ``parameters`` parameters as its width allows.

    Parameters
    ----------
    shape
        One input without the batch axis: (channels, height, width), (length, width), (features,), or for graphs the
        two shapes ((nodes, width), (nodes, nodes)).
    classes
        Outputs.
    only
        Names to make; None: all. Names that there are not are left out.

    Returns
    -------
    Name to factory. Vectors have no order to assume: only the mlp.

    Raises
    ------
    ValueError
        A shape that is none of these.
    """
    if classes < 1 or parameters < 1:
        raise ValueError(f"classes and parameters must be at least 1, got {classes} and {parameters}")
    wanted = {k: make for k, make in _makers(shape, classes).items() if only is None or k in only}
    return {name: Matched(make, _width(make, parameters)) for name, make in wanted.items()}


def candidate_names(shape: Sequence[int] | Sequence[Sequence[int]]) -> tuple[str, ...]:
    """Names of the candidates that there are for inputs of ``shape``."""
    return tuple(_makers(shape, 1))


class Matched:
    """A factory at its width; a class of its own so that it can be hashed and sent to other processes."""

    def __init__(self, make: Callable[[int], nn.Module], width: int) -> None:
        self.make, self.width = make, width

    def __call__(self) -> nn.Module:
        return self.make(self.width)


def _makers(shape: Sequence[int] | Sequence[Sequence[int]], classes: int) -> dict[str, Callable[[int], nn.Module]]:
    if shape and isinstance(shape[0], Sequence):
        nodes, inputs = shape[0]
        flat = nodes * inputs + nodes * nodes
        return {
            "mlp": lambda w: FlatGraph(flat, w, classes),
            "graph": lambda w: GraphNetwork(inputs, w, classes),
        }
    sizes = [s for s in shape if isinstance(s, int)]
    whole = math.prod(sizes)
    mlp: dict[str, Callable[[int], nn.Module]] = {"mlp": lambda w: dense(whole, w, classes)}
    if len(sizes) == 1:
        return mlp
    if len(sizes) == 2:
        return mlp | _for_sequences(sizes[0], sizes[1], classes)
    if len(sizes) == 3:
        return mlp | _for_images(sizes[0], sizes[1], sizes[2], classes)
    raise ValueError(
        f"inputs of shape {tuple(sizes)} are neither vectors, sequences (length, width) nor images (channels, height, "
        "width); give your own candidates"
    )


def _for_sequences(length: int, inputs: int, classes: int) -> dict[str, Callable[[int], nn.Module]]:
    line, pooled = torch.diag(torch.ones(length - 1), 1), min(2, length)
    return {
        "cnn": lambda w: nn.Sequential(
            Turned(), nn.Conv1d(inputs, w, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2 if length >= 4 else 1),
            nn.Conv1d(w, w, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool1d(pooled), nn.Flatten(),
            nn.Linear(w * pooled, classes),
        ),
        "rnn": lambda w: nn.Sequential(LastState(inputs, w), nn.Linear(w, classes)),
        "transformer": lambda w: nn.Sequential(
            nn.Linear(inputs, w * HEADS), Positioned(length, w * HEADS), nn.Linear(w * HEADS, classes)
        ),
        "graph": lambda w: GraphNetwork(inputs, w, classes, line + line.T),
    }  # fmt: skip


def _for_images(channels: int, height: int, width: int, classes: int) -> dict[str, Callable[[int], nn.Module]]:
    pooled = (min(2, height), min(2, width))
    side = max(1, math.ceil(math.sqrt(height * width / TOKENS)), min(height, width) // 4)
    tokens = (height // side) * (width // side)
    found: dict[str, Callable[[int], nn.Module]] = {
        "cnn": lambda w: nn.Sequential(
            nn.Conv2d(channels, w, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2 if min(height, width) >= 4 else 1),
            nn.Conv2d(w, w, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(pooled), nn.Flatten(),
            nn.Linear(w * math.prod(pooled), classes),
        ),
        "rnn": lambda w: nn.Sequential(LastState(channels * width, w), nn.Linear(w, classes)),
        "transformer": lambda w: nn.Sequential(
            Patches(channels, w * HEADS, side), Positioned(tokens, w * HEADS), nn.Linear(w * HEADS, classes)
        ),
    }  # fmt: skip
    if height * width <= NODES:
        squares = grid(height, width)
        found["graph"] = lambda w: GraphNetwork(channels, w, classes, squares)
    return found


class Turned(nn.Module):
    """(n, length, width) as (n, width, length), which convolutions expect."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


def _width(make: Callable[[int], nn.Module], parameters: int) -> int:
    """The width whose number of parameters is nearest, by bisection: the count grows with the width."""
    low, high = 1, WIDEST
    while high - low > 1:
        middle = (low + high) // 2
        if parameter_count(_empty(make, middle)) <= parameters:
            low = middle
        else:
            high = middle
    return min((low, high), key=lambda w: abs(parameter_count(_empty(make, w)) - parameters))


def _empty(make: Callable[[int], nn.Module], width: int) -> nn.Module:
    with torch.device("meta"):
        return make(width)


def parameter_count(model: nn.Module) -> int:
    """Numbers that training may change."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def shape_of(inputs: Tensor | Sequence[Tensor]) -> tuple[int, ...] | tuple[tuple[int, ...], ...]:
    """The shape of one input of a batch."""
    if isinstance(inputs, Tensor):
        return tuple(inputs.shape[1:])
    return tuple(tuple(part.shape[1:]) for part in inputs)
