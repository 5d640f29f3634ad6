"""What each operation of a network does to the order of units: the rules that `unit_groups` walks by."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import fx, nn

from ._unit_flow import CHANNELS, LAST, Flow, UnitAxis, refused

if TYPE_CHECKING:
    from ._unit_groups import Tracing

Rule = Callable[["Tracing", fx.Node, list[Flow]], Flow | None]


def _axis(t: Tracing, node: fx.Node, parameter: str, axis: int, *, size: int, flow: Flow | None = None) -> UnitAxis:
    """The axis of a parameter as one of units; entries beyond one a unit come from flattening."""
    name = t.name_of(node, parameter)
    if name is None:
        raise refused(node, f"it has no {parameter} to follow units by")
    units = t.units(flow.group).size if flow is not None else size
    if units is None or units == size:
        return UnitAxis(name=name, axis=axis)
    assert flow is not None
    if not flow.flat or size % units:
        raise refused(node, f"it reads {size} values of {units} units")
    times = size // units
    return UnitAxis(name=name, axis=axis, after=times) if flow.layout == CHANNELS else UnitAxis(
        name=name, axis=axis, before=times
    )  # fmt: skip


def _read(t: Tracing, node: fx.Node, flow: Flow, axis: int, size: int) -> None:
    """A weight reads the units along its ``axis``."""
    found = t.write(flow.group, _axis(t, node, "weight", axis, size=size, flow=flow), node)
    units = t.units(flow.group)
    units.readers.add(found)
    if flow.seen is not None:
        units.probes.add(flow.seen)
    if flow.gains is None:
        units.homogeneous = False
    else:
        units.gains |= flow.gains


def _produce(t: Tracing, node: fx.Node, axis: int, size: int, layout: str) -> Flow:
    """A weight and its bias compute new units."""
    key = t.new(size)
    written = [t.write(key, _axis(t, node, "weight", axis, size=size), node)]
    if t.name_of(node, "bias") is not None:
        written.append(t.write(key, _axis(t, node, "bias", 0, size=size), node))
    return Flow(t.find(key), layout, gains=frozenset(written))


def _linear(t: Tracing, node: fx.Node, flows: list[Flow]) -> Flow:
    module = t.module(node)
    assert isinstance(module, nn.Linear)
    if flows[0].layout == CHANNELS and not flows[0].flat:
        raise refused(node, "a dense layer reads the last axis of a value whose units are channels")
    _read(t, node, flows[0], 1, module.in_features)
    return _produce(t, node, 0, module.out_features, LAST)


def _convolution(t: Tracing, node: fx.Node, flows: list[Flow]) -> Flow:
    module, flow = t.module(node), flows[0]
    assert isinstance(module, nn.modules.conv._ConvNd)
    transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)
    if flow.layout == LAST and not t.units(flow.group).fixed:
        raise refused(node, "a convolution reads channels of a value whose units are along its last axis")
    into, out = (0, 1) if transposed else (1, 0)
    if module.groups == 1:
        _read(t, node, flow, into, module.in_channels)
        return replace(_produce(t, node, out, module.out_channels, CHANNELS), rank=module.weight.ndim)
    if module.groups == module.in_channels == module.out_channels:  # depthwise: each channel by itself
        written = [t.write(flow.group, _axis(t, node, "weight", 0, size=module.out_channels, flow=flow), node)]
        if t.name_of(node, "bias") is not None:
            written.append(t.write(flow.group, _axis(t, node, "bias", 0, size=module.out_channels, flow=flow), node))
        return replace(flow, group=t.find(flow.group), gains=None)
    raise refused(node, f"its {module.groups} groups of channels bind the order of units")


def _normalised(t: Tracing, node: fx.Node, flows: list[Flow]) -> Flow:
    """Batch and instance normalisation: each unit by itself."""
    module, flow = t.module(node), flows[0]
    size = int(getattr(module, "num_features", 0))
    if flow.layout == LAST and not flow.flat:
        flow = replace(flow, layout=CHANNELS) if t.units(flow.group).fixed else flow
    written = []
    for name in ("weight", "bias", "running_mean", "running_var"):
        if t.name_of(node, name) is not None:
            written.append((name, t.write(flow.group, _axis(t, node, name, 0, size=size, flow=flow), node)))
    own = frozenset(axis for name, axis in written if name in ("weight", "bias"))
    return replace(flow, group=t.find(flow.group), gains=own or None)


def _layer_norm(t: Tracing, node: fx.Node, flows: list[Flow]) -> Flow:
    module, flow = t.module(node), flows[0]
    shape = tuple(getattr(module, "normalized_shape", ()))
    if len(shape) != 1 or (flow.layout == CHANNELS and not flow.flat):
        raise refused(node, "it normalises over more than the axis of the units")
    return _equivariant(t, node, flow, shape[0])


def _group_norm(t: Tracing, node: fx.Node, flows: list[Flow]) -> Flow:
    module = t.module(node)
    assert isinstance(module, nn.GroupNorm)
    if module.num_groups not in (1, module.num_channels):
        raise refused(node, f"its {module.num_groups} groups of channels bind the order of units")
    return _equivariant(t, node, flows[0], module.num_channels)


def _equivariant(t: Tracing, node: fx.Node, flow: Flow, size: int) -> Flow:
    """Scale and shift per unit after something that does not see their order."""
    written = []
    for name in ("weight", "bias"):
        if t.name_of(node, name) is not None:
            written.append(t.write(flow.group, _axis(t, node, name, 0, size=size, flow=flow), node))
    return replace(flow, group=t.find(flow.group), gains=frozenset(written) or None)


def _prelu(t: Tracing, node: fx.Node, flows: list[Flow]) -> Flow:
    module, flow = t.module(node), flows[0]
    assert isinstance(module, nn.PReLU)
    if module.num_parameters > 1:
        t.write(flow.group, _axis(t, node, "weight", 0, size=module.num_parameters, flow=flow), node)
    return replace(flow, group=t.find(flow.group))


def _embedding(t: Tracing, node: fx.Node, flows: list[Flow]) -> Flow:
    del flows
    module = t.module(node)
    assert isinstance(module, nn.Embedding)
    t.write(t.new(module.num_embeddings, fixed=True), _axis(t, node, "weight", 0, size=module.num_embeddings), node)
    key = t.new(module.embedding_dim)
    return Flow(t.find(key), LAST, gains=frozenset({t.write(key, _axis(t, node, "weight", 1,
                                                               size=module.embedding_dim), node)}))  # fmt: skip


def _same(t: Tracing, node: fx.Node, flows: list[Flow]) -> Flow:
    """Elementwise and positively homogeneous, or a pooling: units stay, and so does what they are proportional to."""
    del t, node
    return flows[0]


def _bent(t: Tracing, node: fx.Node, flows: list[Flow]) -> Flow:
    """Elementwise, but not homogeneous."""
    del t, node
    return replace(flows[0], gains=None)


def _pooled(t: Tracing, node: fx.Node, flows: list[Flow]) -> Flow:
    if flows[0].layout == LAST and not t.units(flows[0].group).fixed:
        raise refused(node, "pooling runs over the axis of the units")
    return flows[0]


def _flattened(t: Tracing, node: fx.Node, flows: list[Flow]) -> Flow:
    """Everything but the examples into one axis."""
    if node.op == "call_module":
        module = t.module(node)
        assert isinstance(module, nn.Flatten)
        plain = module.start_dim == 1 and module.end_dim == -1
    else:
        given = [*node.args[1:], *node.kwargs.values()]
        plain = given in ([1], [1, -1])
    if not plain:
        raise refused(node, "it does not flatten all axes but the first into one")
    return replace(flows[0], flat=True)


def _viewed(t: Tracing, node: fx.Node, flows: list[Flow]) -> Flow:
    """``x.view(len(x), -1)`` and its like; other shapes mix units."""
    shape = node.args[1:] if len(node.args) > 2 else node.args[1]
    if isinstance(shape, tuple | list) and len(shape) == 2 and shape[1] == -1:
        return replace(flows[0], flat=True)
    raise refused(node, f"it reshapes to {shape}")


def _averaged(t: Tracing, node: fx.Node, flows: list[Flow]) -> Flow:
    """Mean or maximum over places."""
    over = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    axes = {over} if isinstance(over, int) else set(over) if isinstance(over, tuple | list) else {0}
    flow = flows[0]
    if flow.layout == CHANNELS and not flow.flat and flow.rank is not None:
        places = {axis % flow.rank for axis in axes}
        if not places & {0, 1}:
            return flow if node.kwargs.get("keepdim") else replace(flow, flat=True)
    elif axes <= {-2}:
        return flow
    raise refused(node, "it averages over units or examples, or over an axis of which that is not known")


def _sum(t: Tracing, node: fx.Node, flows: list[Flow]) -> Flow:
    """A sum of values: their units are one group. A number added to one is an elementwise shift."""
    if len(flows) == 1:
        return flows[0] if len(node.all_input_nodes) == 2 and node.args[0] is node.args[1] else _bent(t, node, flows)
    one, two = _tied(t, node, flows)
    gains = None if one.gains is None or two.gains is None else one.gains | two.gains
    return replace(one, group=t.find(one.group), gains=gains)


def _product(t: Tracing, node: fx.Node, flows: list[Flow]) -> Flow:
    """A product of values ties their units; one with a number leaves them."""
    if len(flows) == 1:
        numbers = [a for a in node.args if isinstance(a, int | float)]
        return flows[0] if numbers and numbers[0] > 0 and math.isfinite(numbers[0]) else _bent(t, node, flows)
    one, _ = _tied(t, node, flows)
    return replace(one, group=t.find(one.group), gains=None)


def _tied(t: Tracing, node: fx.Node, flows: list[Flow]) -> tuple[Flow, Flow]:
    one, two = flows[:2]
    if len(flows) > 2 or (one.layout != two.layout and not (t.units(one.group).fixed or t.units(two.group).fixed)):
        raise refused(node, "it combines values whose units are along different axes")
    if one.flat != two.flat:
        raise refused(node, "it combines a flattened value with one that is not")
    kept = (two, one) if t.units(one.group).fixed else (one, two)
    t.tie(one.group, two.group)
    return kept


def _shape(t: Tracing, node: fx.Node, flows: list[Flow]) -> None:
    """Sizes carry no units."""
    del t, node, flows


_PER_UNIT = (nn.modules.batchnorm._NormBase,)
_HOMOGENEOUS = (
    nn.ReLU, nn.LeakyReLU, nn.RReLU, nn.Identity, nn.Dropout, nn.AlphaDropout, nn.FeatureAlphaDropout,
)  # fmt: skip
_BENT = (
    nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.CELU, nn.SELU, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.ReLU6,
    nn.Hardswish, nn.Hardsigmoid, nn.Mish, nn.LogSigmoid, nn.Tanhshrink, nn.Softshrink, nn.Hardshrink, nn.Threshold,
)  # fmt: skip
_POOLS = (
    nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd, nn.modules.pooling._LPPoolNd, nn.modules.dropout.Dropout1d,
    nn.modules.dropout.Dropout2d, nn.modules.dropout.Dropout3d, nn.Upsample, nn.ZeroPad2d, nn.ReflectionPad2d,
    nn.ReplicationPad2d,
)  # fmt: skip

MODULES: tuple[tuple[tuple[type[nn.Module], ...], Rule], ...] = (
    ((nn.Linear,), _linear),
    ((nn.modules.conv._ConvNd,), _convolution),
    (_PER_UNIT, _normalised),
    ((nn.LayerNorm, nn.RMSNorm), _layer_norm),
    ((nn.GroupNorm,), _group_norm),
    ((nn.PReLU,), _prelu),
    ((nn.Embedding,), _embedding),
    ((nn.Flatten,), _flattened),
    (_HOMOGENEOUS, _same),
    (_BENT, _bent),
    (_POOLS, _pooled),
)
"""Rules by the class of a module, the first that fits."""

_FUNCTIONS: dict[str, tuple[str, ...]] = {
    "same": ("relu", "relu_", "leaky_relu", "leaky_relu_", "dropout", "contiguous", "clone", "float", "double", "abs"),
    "bent": (
        "tanh", "sigmoid", "gelu", "silu", "elu", "selu", "celu", "softplus", "hardtanh", "relu6", "hardswish",
        "hardsigmoid", "mish", "softsign", "logsigmoid", "exp", "sin", "cos", "square", "pow", "neg", "clamp",
    ),
    "pooled": (
        "max_pool1d", "max_pool2d", "max_pool3d", "boolean_dispatch", "avg_pool1d", "avg_pool2d", "avg_pool3d",
        "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "dropout2d", "pad", "interpolate",
    ),
    "shape": ("size", "getattr", "dim", "__len__", "len"),
}  # fmt: skip
_RULES: dict[str, Rule] = {"same": _same, "bent": _bent, "pooled": _pooled, "shape": _shape}
CALLED: dict[str, Rule] = {
    **{name: _RULES[kind] for kind, names in _FUNCTIONS.items() for name in names},
    "flatten": _flattened, "view": _viewed, "reshape": _viewed, "mean": _averaged, "amax": _averaged,
    "add": _sum, "iadd": _sum, "add_": _sum, "sub": _sum, "isub": _sum, "mul": _product, "imul": _product,
}  # fmt: skip
"""Rules by the name of a function or method."""
