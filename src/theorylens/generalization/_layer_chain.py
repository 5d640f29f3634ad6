"""What a network does to its input, layer by layer: the order in which its modules are called, not registered.

Method   the graph of torch.fx; activations, pooling and flattening written as functions become the modules they are
Assumes  a forward pass that does not depend on values; hooks that change what a layer returns are not seen
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

# What tracing raises where the way through the network depends on values, or on Python objects that are not tensors.
_UNTRACED = (
    fx.proxy.TraceError, TypeError, ValueError, NotImplementedError, RuntimeError, AttributeError, AssertionError,
    LookupError,
)  # fmt: skip
_ACTIVATIONS: dict[Any, Callable[[], nn.Module]] = {
    F.relu: nn.ReLU, torch.relu: nn.ReLU, "relu": nn.ReLU, "relu_": nn.ReLU, F.tanh: nn.Tanh, torch.tanh: nn.Tanh,
    "tanh": nn.Tanh, F.sigmoid: nn.Sigmoid, torch.sigmoid: nn.Sigmoid, "sigmoid": nn.Sigmoid, F.gelu: nn.GELU,
    F.silu: nn.SiLU, F.softplus: nn.Softplus, F.dropout: nn.Identity, "contiguous": nn.Identity,
}  # fmt: skip
_POOLS: dict[Any, type[nn.Module]] = {
    F.max_pool1d: nn.MaxPool1d, F.max_pool2d: nn.MaxPool2d, F.max_pool3d: nn.MaxPool3d, F.avg_pool1d: nn.AvgPool1d,
    F.avg_pool2d: nn.AvgPool2d, F.avg_pool3d: nn.AvgPool3d, F.adaptive_avg_pool1d: nn.AdaptiveAvgPool1d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d, F.adaptive_avg_pool3d: nn.AdaptiveAvgPool3d, torch.flatten: nn.Flatten,
    "flatten": nn.Flatten, F.leaky_relu: nn.LeakyReLU, F.elu: nn.ELU,
}  # fmt: skip
for _name in ("max_pool1d", "max_pool2d", "max_pool3d"):  # tracing meets the functions behind the boolean dispatch too
    _POOLS[getattr(torch, _name)] = _POOLS[getattr(F, _name)]


def traced(model: nn.Module) -> fx.GraphModule:
    """The graph of a network; refuses, by name, one whose forward pass cannot be read off."""
    model, tracer = unwrapped(model), _Tracer()
    try:
        return fx.GraphModule(model, tracer.trace(model))
    except _UNTRACED as error:
        said = str(error).split("\n")[0][:120]
        raise ValueError(
            f"the order and the use of the layers of {type(model).__name__} are not known: {said}"
        ) from error


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        del module_qualified_name
        return is_layer(m)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network behind `torch.compile`, with the same parameters."""
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else model


def is_layer(model: nn.Module) -> bool:
    """Whether what it does was written in torch: a layer, its weights parametrised or not, and no `nn.Sequential`."""
    forward = type(model).forward
    return forward is not nn.Sequential.forward and forward.__module__.startswith("torch.nn.")


def chain(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers of a network in the order of their calls, one behind the other; a layer called twice is there twice.

    Raises
    ------
    ValueError
        A forward pass that is no plain chain (a sum, a branch, a functional layer), naming the first such place.
    """
    model = unwrapped(model)
    if is_layer(model):
        return [("", model)]
    if type(model).forward is nn.Sequential.forward:
        found: list[tuple[str, nn.Module]] = []
        for name, child in model._modules.items():  # children() leaves out the second use of a layer
            if child is not None:
                found += [(f"{name}.{inner}" if inner else name, layer) for inner, layer in chain(child)]
        return found
    return _steps(type(model).__name__, traced(model))


def _steps(what: str, graph: fx.GraphModule) -> list[tuple[str, nn.Module]]:
    found: list[tuple[str, nn.Module]] = []
    last: fx.Node | None = None
    sizes: set[fx.Node] = set()
    for node in graph.graph.nodes:
        if is_size(node, sizes):
            sizes.add(node)
            continue
        inputs = [n for n in node.all_input_nodes if n not in sizes]
        if (node.op == "placeholder") is not (last is None) or (last is not None and inputs != [last]):
            raise ValueError(f"{what} is no chain of layers: {node.name} does not take just what the layer before gave")
        if node.op == "output":
            if node.args[0] is not last:
                raise ValueError(f"{what} is no chain of layers: it returns more than one tensor")
        elif node.op != "placeholder":
            found.append((str(node.target) if node.op == "call_module" else node.name, as_module(node, graph, sizes)))
        last = node
    return found


def is_size(node: fx.Node, sizes: set[fx.Node]) -> bool:
    """Whether a step only asks for the shape of a tensor, or takes a number out of one that was asked for."""
    if node.target == "size" or (node.target is getattr and node.args[1] == "shape"):
        return True
    return node.target is operator.getitem and node.args[0] in sizes


def as_module(node: fx.Node, graph: fx.GraphModule, sizes: set[fx.Node]) -> nn.Module:
    """The module that does what a step of the graph does."""
    if node.op == "call_module":
        return graph.get_submodule(str(node.target))
    target, options = node.target, {k: v for k, v in node.kwargs.items() if k not in ("inplace", "training")}
    rest = list(node.args[1:])
    if target in _ACTIVATIONS:
        return _ACTIVATIONS[target]()
    if target in ("view", "reshape") or target is torch.reshape:
        given = list(rest[0]) if len(rest) == 1 and isinstance(rest[0], (tuple, list)) else rest
        if len(given) == 2 and given[1] == -1 and (given[0] in sizes or given[0] == -1):
            return nn.Flatten()
    if target in _POOLS and not any(isinstance(v, fx.Node) for v in [*rest, *options.values()]):
        if _POOLS[target] is nn.Flatten and not (rest or options):
            raise ValueError(f"{node.name} flattens the example axis away; flatten from axis 1 on")
        return _POOLS[target](*rest, **options)  # the arguments of function and module are in the same order
    name = str(getattr(target, "__name__", target))
    raise ValueError(f"what {name} ({node.name}) does to the norms that go through it is not known")
