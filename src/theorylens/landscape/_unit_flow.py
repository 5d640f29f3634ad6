"""What is known of a value on its way through a network: whose units it holds, and along which axis."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from theorylens.core import RefusedError

CHANNELS, LAST = "channels", "last"  # the axis along which a value has its units: 1, or the last one


@dataclass(frozen=True, kw_only=True, order=True)
class UnitAxis:
    """Units along one axis of a parameter or buffer.

    The axis has ``before * size * after`` entries; unit u has those at ``(b * size + u) * after + a``. After a
    flattened convolution ``after`` is the number of places.
    """

    name: str
    axis: int
    before: int = 1
    after: int = 1


@dataclass(frozen=True)
class Flow:
    """A value of the graph: whose units it holds, and along what.

    Attributes
    ----------
    group
        Key of the units.
    layout
        Their axis: 1 as convolutions have it, or the last.
    rank
        Number of axes, where a convolution says so.
    flat
        Whether other axes were flattened into that of the units; how many entries is seen where it is read.
    gains
        Axes of parameters that the value is proportional to, unit by unit; None when it is not.
    seen
        Name of the last node on the way that held the units unflattened, and their axis there.
    """

    group: int
    layout: str = LAST
    rank: int | None = None
    flat: bool = False
    gains: frozenset[UnitAxis] | None = frozenset()
    seen: tuple[str, int] | None = None


def refused(node: fx.Node, why: str) -> RefusedError:
    """The one sentence for whatever cannot be followed."""
    where = f" ({node.target})" if node.op == "call_module" else ""
    return RefusedError(
        f"the units cannot be followed through {node.name}{where}: {why}; understood are dense and convolutional "
        "layers, normalisation, elementwise activations, pooling, flattening and sums"
    )
