"""Which units of a network can change places: read off its graph, for dense, convolutional and residual networks.

A hidden unit is a row of one weight, an entry of some biases and statistics, and a column of the weights that read it.
Units of one group move together: a sum of two layers forces both to the same order.

Method   torch.fx graph; every value has its units along one axis, every operation says what that means for parameters
Source   Ainsworth, Hayase, Srinivasa (2023), Git Re-Basin: merging models modulo permutation symmetries, ICLR
Assumes  the model takes one tensor, and its forward can be traced (no control flow that depends on data)
Breaks   operations not listed here are refused by name: attention mixes units in ways that rows and columns do not say
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import fx, nn

from theorylens.core import RefusedError

from ._operations import CALLED, MODULES
from ._unit_flow import CHANNELS, Flow, UnitAxis, refused


@dataclass(frozen=True, kw_only=True)
class UnitGroup:
    """Units that may be permuted among themselves.

    Attributes
    ----------
    size
        How many there are.
    axes
        Where they are written: rows of what computes them, entries of biases and statistics, columns of what reads
        them.
    gains
        The axes among ``axes`` that multiply the units' values as everything that reads them sees it: scaling one
        unit there by c > 0 and ``readers`` by 1 / c leaves the outputs. Empty when the units pass through something
        that is not positively homogeneous.
    readers
        The axes of the weights that read the units.
    probes
        Names of graph nodes that hold the units' values as they are read, with the axis of the units.
    """

    size: int
    axes: tuple[UnitAxis, ...]
    gains: tuple[UnitAxis, ...] = ()
    readers: tuple[UnitAxis, ...] = ()
    probes: tuple[tuple[str, int], ...] = ()


@dataclass
class _Units:
    """A group while it is being put together."""

    size: int | None = None  # None: of the inputs, whose number nobody said
    fixed: bool = False
    axes: set[UnitAxis] = field(default_factory=set)
    gains: set[UnitAxis] = field(default_factory=set)
    readers: set[UnitAxis] = field(default_factory=set)
    probes: set[tuple[str, int]] = field(default_factory=set)
    homogeneous: bool = True


def unit_groups(model: nn.Module) -> tuple[UnitGroup, ...]:
    """The groups of hidden units of ``model`` that can be permuted without changing its outputs.

    Inputs and outputs keep their order, and so does what is added to them.

    Raises
    ------
    RefusedError
        The model cannot be traced, something in it is not understood (it is named), or nothing can be permuted.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> group, = unit_groups(net)
    >>> group.size, [(a.name, a.axis) for a in group.axes]
    (4, [('0.bias', 0), ('0.weight', 0), ('2.weight', 1)])
    """
    return Tracing(model).groups()


class Tracing:
    """One walk along the graph of a model; `_operations` says what each operation means."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        try:
            self.graph = fx.Tracer().trace(model)
        except (fx.proxy.TraceError, TypeError, NotImplementedError, RuntimeError, ValueError) as error:
            raise RefusedError(
                f"the graph of {type(model).__name__} cannot be traced ({error}), so its units cannot be followed; "
                "needed is a forward of one tensor without control flow that depends on data"
            ) from error
        self._names: dict[int, str] = {}  # the first name of a tied parameter
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            self._names.setdefault(id(tensor), name)
        self._parent: dict[int, int] = {}
        self._units: dict[int, _Units] = {}
        self._at: dict[tuple[str, int], tuple[int, UnitAxis]] = {}
        self.flows: dict[fx.Node, Flow] = {}
        for node in self.graph.nodes:
            self._visit(node)

    def groups_or_none(self) -> tuple[UnitGroup, ...]:
        """What can be permuted, in the order in which the graph comes to it; empty when nothing can."""
        found = [u for i, u in self._units.items() if self._parent[i] == i and not u.fixed and (u.size or 0) > 0]
        return tuple(_group(units) for units in found if units.axes)

    def groups(self) -> tuple[UnitGroup, ...]:
        """The same, refused when nothing can be permuted."""
        made = self.groups_or_none()
        if not made:
            raise RefusedError(
                f"{type(self.model).__name__} has no hidden units whose order is free: all are tied to its inputs or "
                "outputs"
            )
        return made

    # ---- what operations use -------------------------------------------------------------------------------------

    def new(self, size: int | None, *, fixed: bool = False) -> int:
        """A group of its own."""
        key = len(self._parent)
        self._parent[key] = key
        self._units[key] = _Units(size=size, fixed=fixed)
        return key

    def find(self, key: int) -> int:
        while self._parent[key] != key:
            key = self._parent[key]
        return key

    def units(self, key: int) -> _Units:
        return self._units[self.find(key)]

    def tie(self, a: int, b: int) -> int:
        """Make two groups one: their units stand at the same place."""
        a, b = self.find(a), self.find(b)
        if a == b:
            return a
        one, two = self._units[a], self._units[b]
        if one.size is not None and two.size is not None and one.size != two.size:
            # Broadcasting of different numbers of units: none of them may move.
            one.fixed = two.fixed = True
            return a
        one.size = one.size if one.size is not None else two.size
        one.fixed |= two.fixed
        one.homogeneous &= two.homogeneous
        one.axes |= two.axes
        one.gains |= two.gains
        one.readers |= two.readers
        one.probes |= two.probes
        self._parent[b] = a
        return a

    def write(self, key: int, axis: UnitAxis, node: fx.Node) -> UnitAxis:
        """Note that the units of group ``key`` stand along ``axis``; ties groups that share it."""
        place = (axis.name, axis.axis)
        if place in self._at:
            other, known = self._at[place]
            if known != axis:
                raise refused(node, f"{axis.name} is used with two layouts")
            key = self.tie(key, other)
        self._at[place] = (key, axis)
        self.units(key).axes.add(axis)
        return axis

    def name_of(self, node: fx.Node, parameter: str) -> str | None:
        """The full name of a parameter or buffer of the module that ``node`` calls; None when it has none."""
        module = self.model.get_submodule(str(node.target))
        tensor = getattr(module, parameter, None)
        if tensor is None:
            return None
        if id(tensor) not in self._names:
            raise refused(node, f"its {parameter} is computed from other parameters")
        return self._names[id(tensor)]

    def module(self, node: fx.Node) -> nn.Module:
        return self.model.get_submodule(str(node.target))

    # ---- the walk ------------------------------------------------------------------------------------------------

    def _visit(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.flows[node] = Flow(self.new(None, fixed=True))
            return
        if node.op == "output":
            for source in node.all_input_nodes:
                if source in self.flows:
                    self.units(self.flows[source].group).fixed = True
            return
        sources = [n for n in node.all_input_nodes if n in self.flows]
        if node.op == "get_attr" or not sources:
            self._constant(node)
            return
        if node.op == "call_module":
            module = self.module(node)
            rule = next((rule for kinds, rule in MODULES if isinstance(module, kinds)), None)
            what = type(module).__name__
        else:
            name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
            rule, what = CALLED.get(str(name)), f"the operation {name}"
        if rule is None:
            raise refused(node, f"it goes through {what}")
        made = rule(self, node, [self.flows[n] for n in sources])
        if made is not None:
            here = (node.name, 1 if made.layout == CHANNELS else -1)
            self.flows[node] = made if made.flat else replace(made, seen=here)

    def _constant(self, node: fx.Node) -> None:
        """Something that depends on no input: a number or a shape is fine, a tensor with units is not."""
        if node.op != "get_attr":
            return
        owner, _, name = str(node.target).rpartition(".")
        tensor = getattr(self.model.get_submodule(owner), name)
        if getattr(tensor, "numel", lambda: 1)() > 1:
            raise refused(node, f"the parameter {node.target} is used outside of a layer")


def _group(units: _Units) -> UnitGroup:
    assert units.size is not None
    homogeneous = units.homogeneous and bool(units.readers) and bool(units.gains)
    return UnitGroup(
        size=units.size,
        axes=tuple(sorted(units.axes)),
        gains=tuple(sorted(units.gains)) if homogeneous else (),
        readers=tuple(sorted(units.readers)),
        probes=tuple(sorted(units.probes)),
    )
