"""Which layer call carries which parameter: read off a forward pass and the autograd graph it leaves.

A layer's two factors (what went in, what comes back) give its Jacobian only when every use of its parameters went
through recorded calls. The graph knows: each use of a parameter is one edge into its accumulation node. A parameter
with more edges than recorded calls (a functional use, attention's packed projections, a recurrent cell) is left to
per-example gradients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from .layers import has_known_gradient


class HiddenLayerError(ValueError):
    """A layer's call cannot be read off: its input was overwritten, or checkpointing hides it from the graph."""


@dataclass(frozen=True, eq=False)
class Call:
    """One use of a layer: what went in and what came out, before anybody could change it in place."""

    name: str
    module: nn.Module
    input: Tensor
    output: Tensor
    version: int

    @property
    def unchanged_input(self) -> Tensor:
        """The input, refused when something overwrote it after the call: training would fail there too."""
        if self.input._version != self.version:
            raise HiddenLayerError(
                f"the input of {self.name or 'the model'} ({type(self.module).__name__}) is changed in place after the "
                "layer used it, so its gradient is lost; replace the in-place operation by an ordinary one"
            )
        return self.input

    @property
    def shape(self) -> tuple[object, ...]:
        """What must be the same for every example: the layer and the sizes behind the example axis."""
        return self.name, self.input.shape[1:], self.output.shape[1:]


@contextmanager
def recorded(model: nn.Module) -> Iterator[list[Call]]:
    """The calls of layers with a known gradient, in order, while the context is open."""
    calls: list[Call] = []
    known = [(name, module) for name, module in model.named_modules() if has_known_gradient(module)]
    handles = [
        module.register_forward_hook(partial(_keep, calls, name), with_kwargs=True, prepend=True)
        for name, module in known
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _keep(calls: list[Call], name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
    entered = args[0] if args else kwargs.get("input")
    if not isinstance(entered, Tensor) or not isinstance(output, Tensor):
        return None
    calls.append(Call(name, module, entered.detach(), output, entered._version))
    return output.clone()  # an in-place activation would otherwise overwrite what was recorded


@dataclass(frozen=True, eq=False)
class Plan:
    """How each wanted parameter is differentiated.

    Attributes
    ----------
    uses
        Parameter name to its (call number, role) pairs, role ``"weight"`` or ``"bias"``.
    rest
        Parameters that need per-example gradients.
    shapes
        `Call.shape` of all calls, to see whether another batch took the same path.
    """

    uses: dict[str, list[tuple[int, str]]]
    rest: dict[str, nn.Parameter]
    shapes: tuple[tuple[object, ...], ...]


def plan(calls: Sequence[Call], outputs: Tensor, parameters: dict[str, nn.Parameter], examples: int) -> Plan:
    """Assign every parameter to its calls, or to per-example gradients when not all of its uses were recorded."""
    nodes, edges = _graph(outputs)
    uses: dict[str, list[tuple[int, str]]] = {}
    rest: dict[str, nn.Parameter] = {}
    for name, parameter in parameters.items():
        found = [
            (i, role)
            for i, call in enumerate(calls)
            for role in ("weight", "bias")
            if getattr(call.module, role, None) is parameter and call.output.grad_fn in nodes
        ]
        by_example = all(len(calls[i].input) == len(calls[i].output) == examples for i, _ in found)
        if edges[id(parameter)] == len(found) and by_example:
            uses[name] = found
        else:
            rest[name] = parameter
    return Plan(uses, rest, tuple(call.shape for call in calls))


def _graph(outputs: Tensor) -> tuple[set[object], Counter[int]]:
    """Nodes behind the outputs, and the number of edges into each leaf tensor."""
    nodes: set[object] = set()
    edges: Counter[int] = Counter()
    stack: list[Any] = [outputs.grad_fn] if outputs.grad_fn is not None else []
    while stack:
        node = stack.pop()
        if node in nodes:
            continue
        nodes.add(node)
        if "CheckpointFunction" in type(node).__name__:
            raise HiddenLayerError(
                "the model uses reentrant activation checkpointing, which hides its layers from the autograd graph; "
                "pass use_reentrant=False to torch.utils.checkpoint or switch checkpointing off"
            )
        for following, _ in node.next_functions:
            if following is None:
                continue
            if (leaf := getattr(following, "variable", None)) is not None:
                edges[id(leaf)] += 1
            stack.append(following)
    return nodes, edges
