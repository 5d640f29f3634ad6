"""What each operation does to values that are piecewise polynomials of the weights, read off a network's traced graph.

A value keeps its degree under reshaping and sums, gains one from a layer with weights, and a piecewise linear
activation with b breakpoints costs b sign tests per unit, a maximum over k values k (k - 1)/2. The operations that are
understood are listed here; any other is named and refused: a silent guess would make the bound wrong.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.utils import parametrize
from torch.utils import _pytree as pytree

from theorylens.core import UnsuitableError
from theorylens.results import Message

_LINEAR = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.Embedding,
)  # fmt: skip
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_FIXED = (
    nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AvgPool1d,
    nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.ZeroPad1d,
    nn.ZeroPad2d, nn.PixelShuffle,
)  # fmt: skip
BREAKPOINTS: dict[type[nn.Module], int] = {
    nn.ReLU: 1, nn.LeakyReLU: 1, nn.ReLU6: 2, nn.Hardtanh: 2, nn.Hardsigmoid: 2, nn.Threshold: 1, nn.Hardshrink: 2,
    nn.Softshrink: 2, nn.RReLU: 1,
}  # fmt: skip
_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_SAME = {
    "view", "reshape", "flatten", "permute", "transpose", "contiguous", "squeeze", "unsqueeze", "mean", "sum", "size",
    "t", "expand", "float", "chunk", "split", "clone",
}  # fmt: skip
_SUMS = {operator.add, operator.sub, operator.iadd, operator.isub, torch.add, torch.sub, operator.neg, torch.cat}
_PRODUCTS = {operator.mul, operator.imul, torch.mul, operator.matmul, torch.matmul}
_KEEPS = {operator.getitem, torch.flatten, torch.reshape, torch.mean, torch.sum, torch.squeeze, torch.unsqueeze,
          torch.permute, torch.transpose, F.dropout, F.avg_pool2d, F.adaptive_avg_pool2d, F.pad, getattr}  # fmt: skip
_CUT: dict[Any, int] = {
    torch.relu: 1, F.relu: 1, F.leaky_relu: 1, F.relu6: 2, F.hardtanh: 2, torch.abs: 1, "relu": 1, "relu_": 1, "abs": 1,
    "clamp": 2, torch.clamp: 2, F.threshold: 1,
}  # fmt: skip
_LAYER_INPUTS = ("input", "weight", "bias")
_LAYERS = {F.linear, F.conv1d, F.conv2d, F.conv3d}
_ORDER = (nn.Softmax, nn.LogSoftmax, F.softmax, F.log_softmax, "softmax", "log_softmax")  # as the last step only
# What tracing raises where the way through the network depends on values, or on Python objects that are not tensors.
_UNTRACED = (
    fx.proxy.TraceError, TypeError, ValueError, NotImplementedError, RuntimeError, AttributeError, AssertionError,
    LookupError,
)  # fmt: skip
_MAXIMA = {F.max_pool1d: 1, F.max_pool2d: 2, F.max_pool3d: 3}


@dataclass(frozen=True)
class Value:
    """Degree in the weights, and the weights it depends on: name to number."""

    degree: int
    weights: dict[str, int]

    @property
    def size(self) -> int:
        return sum(self.weights.values())


@dataclass(frozen=True)
class Stage:
    """Sign tests made at one place for every example: ``tests`` polynomials of ``degree`` in ``weights`` variables."""

    name: str
    tests: int
    degree: int
    weights: int
    units: int


class Reading:
    """One walk through the graph of a network in evaluation mode on one example."""

    def __init__(self, model: nn.Module, example: tuple[Any, ...]) -> None:
        model = getattr(model, "_orig_mod", model)  # of torch.compile, which is not traced
        try:
            self.traced = fx.symbolic_trace(model)
        except _UNTRACED as error:
            text = "the network chooses its way while it runs ({error}); a bound needs a fixed graph of operations"
            raise UnsuitableError(Message("capacity.untraced", text, error=str(error).split("\n")[0][:120])) from error
        for name, module in self.traced.named_modules():
            if isinstance(module, _NORMS) and module.running_mean is None:  # it divides by what it sees
                raise _unknown(name, type(module).__name__)
        try:
            with torch.no_grad():
                ShapeProp(self.traced).propagate(*example)
        except RuntimeError as error:
            text = (
                "the traced network does not run as the network itself does; a bound needs a fixed graph of operations"
            )
            raise UnsuitableError(Message("capacity.unlike", text)) from error
        self.modules = dict(self.traced.named_modules())
        self.names = {id(t): n for n, t in [*model.named_parameters(), *model.named_buffers()]}
        self.stages: list[Stage] = []
        self.values: dict[fx.Node, Value] = {}
        for node in self.traced.graph.nodes:
            self.values[node] = self._value(node)

    @property
    def output(self) -> tuple[Value, int]:
        """The value of the network's output and how many numbers it has for one example."""
        node = next(n for n in self.traced.graph.nodes if n.op == "output")
        source = node.args[0]
        if not isinstance(source, fx.Node):
            raise UnsuitableError(Message("capacity.outputs", "the network returns several things; give one output"))
        return self.values[source], _numel(source)

    # ---- one node --------------------------------------------------------------------------------------------------

    def _value(self, node: fx.Node) -> Value:
        # As often as it is used: in x * x the degree of x counts twice.
        inputs = [self.values[n] for n in pytree.tree_leaves((node.args, node.kwargs)) if isinstance(n, fx.Node)]
        joined = Value(max((v.degree for v in inputs), default=0), _union(inputs))
        if node.op in ("placeholder", "output"):
            return joined
        if node.op == "get_attr":
            return self._own(node)
        if node.op == "call_module":
            return self._module(node, self.modules[str(node.target)], joined)
        return self._call(node, inputs, joined)

    def _own(self, node: fx.Node) -> Value:
        found: Any = self.traced
        for part in str(node.target).split("."):
            found = getattr(found, part)
        name = self.names.get(id(found), str(node.target))
        return Value(1, {name: found.numel()})

    def _module(self, node: fx.Node, module: nn.Module, joined: Value) -> Value:
        weights = self._weights(str(node.target), module)
        if isinstance(module, _LINEAR):
            return Value(joined.degree + 1, {**joined.weights, **weights})
        if isinstance(module, _NORMS):
            # With its statistics, however they came about, it is a factor and a shift per channel.
            return Value(joined.degree + 1, {**joined.weights, str(node.target): 2 * module.num_features})
        if type(module) in BREAKPOINTS:
            return self._cut(node, joined, BREAKPOINTS[type(module)])
        if isinstance(module, nn.PReLU):
            cut = self._cut(node, joined, 1)
            return Value(cut.degree + 1, {**cut.weights, **weights})
        if isinstance(module, nn.Hardswish):
            cut = self._cut(node, joined, 2)
            return Value(2 * cut.degree, cut.weights)
        if isinstance(module, _POOLS):
            dimensions = int(type(module).__name__[-2])
            return self._maximum(node, joined, _window(module.kernel_size, dimensions))
        if isinstance(module, _FIXED) or (type(module) in _ORDER and _is_last(node)):
            return joined
        raise _unknown(str(node.target), type(module).__name__)

    def _weights(self, place: str, module: nn.Module) -> dict[str, int]:
        """Free numbers of a layer. Parametrized tensors count in full: how few numbers made them bounds nothing."""
        if not parametrize.is_parametrized(module):
            return {self.names[id(p)]: p.numel() for p in module.parameters()}
        made: Any = module.parametrizations
        free = {self.names[id(p)]: p.numel() for p in module.parameters(recurse=False)}
        return {**free, **{f"{place}.{name}": getattr(module, name).numel() for name in made}}

    def _call(self, node: fx.Node, inputs: list[Value], joined: Value) -> Value:
        target: Any = node.target
        if target in _CUT:
            return self._cut(node, joined, _CUT[target])
        if target in _MAXIMA:
            kernel = node.kwargs.get("kernel_size", node.args[1] if len(node.args) > 1 else 2)
            return self._maximum(node, joined, _window(kernel, _MAXIMA[target]))
        if target in _LAYERS:
            given = [
                node.kwargs.get(n, node.args[i] if i < len(node.args) else None) for i, n in enumerate(_LAYER_INPUTS)
            ]
            x, weight, bias = (self.values[a].degree if isinstance(a, fx.Node) else 0 for a in given)
            return Value(max(x + weight, bias), joined.weights)
        if target in _PRODUCTS or target == "mul" or target == "matmul":
            return Value(sum(v.degree for v in inputs), joined.weights)
        if target in _SUMS or target in _KEEPS or target in _SAME or target in ("add", "sub"):
            return joined
        if target in _ORDER and _is_last(node):
            return joined
        if target in (operator.truediv, torch.div) and len(inputs) == 1 and not isinstance(node.args[1], fx.Node):
            return joined
        raise _unknown(node.name, str(getattr(target, "__name__", target)))

    def _cut(self, node: fx.Node, value: Value, breakpoints: int) -> Value:
        units = _numel(node)
        self._test(node, value, units * breakpoints, units)
        return value

    def _maximum(self, node: fx.Node, value: Value, window: int) -> Value:
        units = _numel(node)
        self._test(node, value, units * window * (window - 1) // 2, units)
        return value

    def _test(self, node: fx.Node, value: Value, tests: int, units: int) -> None:
        if value.degree and tests:  # what does not depend on the weights is the same everywhere
            name = str(node.target) if node.op == "call_module" else node.name
            self.stages.append(Stage(name, tests, value.degree, value.size, units))


def _is_last(node: fx.Node) -> bool:
    """Whether only the output uses it: an increasing function of the scores then changes no answer."""
    return all(user.op == "output" for user in node.users)


def _union(values: list[Value]) -> dict[str, int]:
    return {name: size for value in values for name, size in value.weights.items()}


def _numel(node: fx.Node) -> int:
    meta = node.meta.get("tensor_meta")
    if meta is None or not hasattr(meta, "shape"):
        raise _unknown(node.name, "an operation on several tensors")
    return math.prod(meta.shape)


def _window(kernel: Any, dimensions: int) -> int:
    return int(kernel) ** dimensions if isinstance(kernel, int) else math.prod(int(k) for k in kernel)


def _unknown(place: str, what: str) -> UnsuitableError:
    text = (
        "{what} (at {place}) is not piecewise polynomial in the weights, or not known to be; no growth bound is given"
    )
    return UnsuitableError(Message("capacity.unknown_operation", text, what=what, place=place))


def first_example(batch_inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The first row of every tensor."""
    return tuple(x[:1] if isinstance(x, Tensor) and x.ndim else x for x in batch_inputs)
