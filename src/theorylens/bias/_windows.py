"""Where the units of a feature map look: how each torch function moves, widens or loses the window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Axes = tuple[int, ...]

POINTWISE = frozenset(
    """
    add sub mul div true_divide neg abs exp log pow square sqrt rsqrt reciprocal clamp clamp_min clamp_max maximum
    minimum where lerp addcmul addcdiv relu relu6 leaky_relu elu selu celu gelu silu mish sigmoid tanh hardswish
    hardsigmoid hardtanh softplus softsign tanhshrink softshrink hardshrink logsigmoid prelu rrelu threshold erf sin cos
    batch_norm group_norm instance_norm local_response_norm dropout dropout1d dropout2d dropout3d feature_dropout
    alpha_dropout feature_alpha_dropout contiguous clone detach to float double half bfloat16 type type_as cpu cuda
    cat concat concatenate chunk split requires_grad_ positive
    """.split()  # noqa: SIM905
)
"""Functions whose output at a place depends on their inputs at that place (normalisation statistics not counted)."""


@dataclass(frozen=True)
class Extent:
    """Along axis a, unit i of a feature map depends on pixels ``lo[a] + stride[a] i`` to ``hi[a] + stride[a] i``."""

    lo: Axes
    hi: Axes
    stride: Axes

    @classmethod
    def of(cls, axes: int) -> Extent:
        """The input itself: each unit is its own pixel."""
        return cls((0,) * axes, (0,) * axes, (1,) * axes)

    @property
    def size(self) -> Axes:
        return tuple(h - l + 1 for l, h in zip(self.lo, self.hi, strict=True))  # noqa: E741

    @property
    def first(self) -> Axes:
        return self.lo

    def window(self, kernel: Axes, stride: Axes, padding: Axes, dilation: Axes) -> Extent:
        """After a window of ``kernel`` taps every ``dilation``, moved by ``stride``, from ``-padding`` on."""
        axes = range(len(self.lo))
        return Extent(
            tuple(self.lo[a] - padding[a] * self.stride[a] for a in axes),
            tuple(self.hi[a] + ((kernel[a] - 1) * dilation[a] - padding[a]) * self.stride[a] for a in axes),
            tuple(self.stride[a] * stride[a] for a in axes),
        )


def merged(extents: Sequence[Extent | None]) -> Extent | None:
    """The hull where branches meet; None when one is lost or their strides differ."""
    known = [e for e in extents if e is not None]
    if not known or len(known) < len(extents) or len({e.stride for e in known}) > 1:
        return None
    return Extent(
        tuple(map(min, zip(*(e.lo for e in known), strict=True))),
        tuple(map(max, zip(*(e.hi for e in known), strict=True))),
        known[0].stride,
    )


def moved(
    name: str, extent: Extent | None, source: Tensor, image: Tensor, args: Any, kwargs: dict[str, Any]
) -> tuple[Extent | None, str]:
    """The extent after function ``name`` took ``source`` to ``image``, and what kind of layer that was, if any."""
    name = name.strip("_")
    if extent is None or image.ndim - 2 != len(extent.lo):
        return None, ""
    axes = len(extent.lo)
    if name == f"conv{axes}d":
        return _convolved(extent, axes, args, kwargs), "convolution"
    if name in (f"max_pool{axes}d", f"avg_pool{axes}d"):
        return _pooled(extent, name, axes, args, kwargs), "pooling"
    if name in (f"adaptive_avg_pool{axes}d", f"adaptive_max_pool{axes}d"):
        return _adapted(extent, source.shape[2:], image.shape[2:])
    if name == "pad":
        return _padded(extent, axes, list(args[1] if len(args) > 1 else kwargs["pad"])), ""
    if name == "getitem":
        return _sliced(extent, axes, args[1], source.shape), ""
    if name in ("chunk", "split") and (args[2] if len(args) > 2 else kwargs.get("dim", 0)) != 1:
        return None, ""
    if name in ("cat", "concat", "concatenate") and (args[1] if len(args) > 1 else kwargs.get("dim", 0)) != 1:
        return None, ""
    same = name.removeprefix("i").removeprefix("r") in POINTWISE or name in POINTWISE
    return (extent, "") if same and image.shape[2:] == source.shape[2:] else (None, "")


def _reader(args: Any, kwargs: dict[str, Any], order: str) -> Callable[[str, Any], Any]:
    """Looks an argument up by name, wherever it was given."""
    names = order.split()

    def read(name: str, default: Any) -> Any:
        place = names.index(name)
        return args[place] if place < len(args) else kwargs.get(name, default)

    return read


def _axes(value: Any, axes: int) -> Axes:
    if isinstance(value, int):
        return (value,) * axes
    return tuple(int(v) for v in value) * (axes if len(value) == 1 else 1)


def _convolved(extent: Extent, axes: int, args: Any, kwargs: dict[str, Any]) -> Extent:
    read = _reader(args, kwargs, "input weight bias stride padding dilation groups")
    kernel = tuple(read("weight", None).shape[2:])
    dilation = _axes(read("dilation", 1), axes)
    padding = read("padding", 0)
    if padding == "same":
        padding = tuple((k - 1) * d // 2 for k, d in zip(kernel, dilation, strict=True))
    elif padding == "valid":
        padding = 0
    return extent.window(kernel, _axes(read("stride", 1), axes), _axes(padding, axes), dilation)


def _pooled(extent: Extent, name: str, axes: int, args: Any, kwargs: dict[str, Any]) -> Extent:
    kernel, stride, padding, dilation, _ = pooling_window(name, axes, args, kwargs)
    return extent.window(kernel, stride, padding, dilation)


def pooling_window(name: str, axes: int, args: Any, kwargs: dict[str, Any]) -> tuple[Axes, Axes, Axes, Axes, bool]:
    """Kernel, stride, padding, dilation and ceil mode of a pooling call ``name(*args, **kwargs)``."""
    dilated = name.startswith("max")
    read = _reader(args, kwargs, "input kernel_size stride padding" + (" dilation" if dilated else "") + " ceil_mode")
    kernel = _axes(read("kernel_size", None), axes)
    stride = read("stride", None)
    dilation = _axes(read("dilation", 1), axes) if dilated else (1,) * axes
    return (
        kernel, kernel if stride is None or stride == [] else _axes(stride, axes), _axes(read("padding", 0), axes),
        dilation, bool(read("ceil_mode", False)),
    )  # fmt: skip


def _adapted(extent: Extent, before: Sequence[int], after: Sequence[int]) -> tuple[Extent | None, str]:
    if tuple(before) == tuple(after):
        return extent, ""
    if all(n == 1 for n in after) or any(b % a for b, a in zip(before, after, strict=True)):
        return None, ""
    kernel = tuple(b // a for b, a in zip(before, after, strict=True))
    return extent.window(kernel, kernel, (0,) * len(kernel), (1,) * len(kernel)), "pooling"


def _padded(extent: Extent, axes: int, pad: list[int]) -> Extent | None:
    if len(pad) > 2 * axes:
        if any(pad[2 * axes :]):
            return None  # the batch or channel axis grows: fine for the window, but no map of the image any more
        pad = pad[: 2 * axes]
    left = [0] * axes
    for k in range(len(pad) // 2):
        left[axes - 1 - k] = pad[2 * k]
    return extent.window((1,) * axes, (1,) * axes, tuple(left), (1,) * axes)


def _sliced(extent: Extent, axes: int, index: Any, shape: Sequence[int]) -> Extent | None:
    """Slices of all axes, as in ``x[:, :, ::2, ::2]``; anything else loses the window."""
    index = index if isinstance(index, tuple) else (index,)
    if Ellipsis in [i if i is Ellipsis else None for i in index]:
        place = [i is Ellipsis for i in index].index(True)
        gap = (slice(None),) * (axes + 2 - len(index) + 1)
        index = index[:place] + gap + index[place + 1 :]
    if not all(isinstance(i, slice) for i in index):
        return None
    cuts = [i.indices(n) for i, n in zip((*index, *(slice(None),) * (axes + 2 - len(index))), shape, strict=True)]
    starts, steps = tuple(c[0] for c in cuts[2:]), tuple(c[2] for c in cuts[2:])
    return extent.window((1,) * axes, steps, tuple(-s for s in starts), (1,) * axes)
