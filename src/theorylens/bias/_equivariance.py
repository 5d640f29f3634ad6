"""Translation: does moving the image move the features by as much, and leave the answer alone?

Method   the same images with and without a shift through the network; features compared, decisions counted
Source   Azulay, Weiss (2019), JMLR 20:184; Zhang (2019), Making convolutional networks shift-invariant again, ICML
Assumes  images on a regular grid; a shift that keeps the content (the line that opens at the border is filled)
Breaks   where content leaves the frame: with zeros or repeated edges some change is owed to the border, not to the net
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from theorylens.numerics.binomial import clopper_pearson_interval
from theorylens.numerics.counting import count
from theorylens.numerics.memory import fitting
from theorylens.results import Estimate, Message, Statistical

from ._receptive_field import FieldLayer, follow

FILLS = ("edge", "circular", "zeros")
Run = Callable[[Tensor], Tensor]
BATCH = 256


@dataclass(frozen=True, kw_only=True)
class LayerShift:
    """How far one layer is from moving with its input, as shares of the norm of its features.

    Attributes
    ----------
    name, stride
        The module; input pixels per unit.
    whole
        ||f(Tx) - T f(x)|| / ||f(x)|| for shifts by the stride (one unit), borders included.
    interior
        The same over units that see neither a border nor the filled line; None when there are none.
    one_pixel
        For a shift by one input pixel, T f(x) interpolated between units when the stride is larger.
    """

    name: str
    stride: tuple[int, ...]
    whole: float
    interior: float | None
    one_pixel: float


def shifted(images: Tensor, down: int, right: int, fill: str = "edge") -> Float[Tensor, "n c h w"]:
    """``images`` (n, c, h, w) moved by whole pixels; what opens repeats the edge, wraps around (circular), or is zero.

    >>> shifted(torch.tensor([[[[1.0, 2.0, 3.0]]]]), 0, 1).flatten().tolist()
    [1.0, 1.0, 2.0]
    >>> shifted(torch.tensor([[[[1.0, 2.0, 3.0]]]]), 0, 1, "circular").flatten().tolist()
    [3.0, 1.0, 2.0]
    """
    if images.ndim != 4:
        raise ValueError(f"images must have shape (n, channels, height, width), got {tuple(images.shape)}")
    if fill not in FILLS:
        raise ValueError(f"fill must be one of {', '.join(FILLS)}, got {fill!r}")
    moved = images
    for axis, by in ((2, down), (3, right)):
        length = images.shape[axis]
        places = torch.arange(length, device=images.device) - by
        if fill == "circular":
            moved = moved.index_select(axis, places % length)
            continue
        moved = moved.index_select(axis, places.clamp(0, length - 1))
        if fill == "zeros":
            inside = ((places >= 0) & (places < length)).to(moved.dtype)
            moved = moved * inside.view([length if a == axis else 1 for a in range(4)])
    return moved


def shift_disagreement(
    model: Run, images: Float[Tensor, "n c h w"], down: int = 0, right: int = 1, *, fill: str = "edge"
) -> Estimate:
    """Share of the decisions that a shift by (down, right) pixels changes, with an exact 95 % binomial interval.

    ``model`` maps images to scores: (n, classes), decided by the largest, or one logit each, decided by its sign.
    """
    return disagreement(changed_decisions(model, images, [(down, right)], fill)[0])


def disagreement(changed: Bool[Tensor, " n"]) -> Estimate:
    """Share of ``True`` with its Clopper-Pearson interval."""
    k, n = int(changed.sum()), len(changed)
    lower, upper = clopper_pearson_interval(k, n, 0.05)
    method = Message("equivariance.interval", "Clopper-Pearson over {n} images", n=n)
    interval = Statistical(lower=lower, upper=upper, level=0.95, method=method)
    return Estimate(value=k / n, uncertainty=interval, unit="fraction")


def changed_decisions(
    model: Run, images: Float[Tensor, "n c h w"], shifts: Sequence[tuple[int, int]], fill: str = "edge"
) -> Bool[Tensor, "shifts n"]:
    """Which decisions each of ``shifts`` changes: one row per shift, one column per image."""
    before = decisions(model, images)
    return torch.stack([decisions(model, shifted(images, *shift, fill)) != before for shift in shifts])


def decisions(model: Run, images: Tensor) -> Tensor:
    """The class that ``model`` gives each image: the largest score, or the sign of a single one."""
    decided = []
    with torch.no_grad():
        for batch in torch.split(images, BATCH):
            for scores in fitting(model, batch):
                if not bool(torch.isfinite(scores).all()):
                    raise ValueError("the model returned scores that are not finite; no decision can be read from them")
                single = scores.ndim == 1 or scores.shape[1] == 1
                decided.append((scores.reshape(-1) > 0).long() if single else scores.argmax(1))
    count(forwards=len(images))
    return torch.cat(decided)


def equivariance_error(
    model: nn.Module, images: Float[Tensor, "n c h w"], *, fill: str = "circular", run: Run | None = None
) -> tuple[LayerShift, ...]:
    """Every convolution and pooling module of ``model`` under shifts to the right and down.

    ``model`` must be in evaluation mode; ``run`` says how to call it on images when that is not ``model(images)``.
    Empty when no convolution is applied to the images.
    """
    run = run or model
    modules = dict(model.named_modules())
    single = images[:1].clone()
    followed = {x.name: x for x in follow(single, lambda: run(single), model) if x.name}  # the last use counts
    layers = [x for x in followed.values() if not any(True for _ in modules[x.name].children())]
    if not layers:
        return ()
    before = _maps(model, run, images, layers)
    pixel = [_maps(model, run, shifted(images, *by, fill), layers) for by in ((1, 0), (0, 1))]
    strides = {x.stride for x in layers}
    unit = {
        s: [_maps(model, run, shifted(images, *by, fill), layers) for by in ((s[0], 0), (0, s[1]))]
        for s in strides if s != (1, 1)
    } | {(1, 1): pixel}  # fmt: skip
    return tuple(
        _layer_shift(x, before[k], [m[k] for m in unit[x.stride]], [m[k] for m in pixel], images.shape[2:], fill)
        for k, x in enumerate(layers)
    )


def _maps(model: nn.Module, run: Run, images: Tensor, layers: Sequence[FieldLayer]) -> list[Tensor]:
    """Features of ``layers`` on ``images``, in double precision."""
    kept: dict[str, Tensor] = {}
    modules = dict(model.named_modules())
    handles = [
        modules[x.name].register_forward_hook(lambda m, a, o, name=x.name: kept.update({name: o.detach().double()}))
        for x in layers
    ]
    try:
        with torch.no_grad():
            run(images)
    finally:
        for handle in handles:
            handle.remove()
    count(forwards=len(images))
    return [kept[x.name] for x in layers]


def _layer_shift(
    layer: FieldLayer, before: Tensor, unit: list[Tensor], pixel: list[Tensor], size: Sequence[int], fill: str
) -> LayerShift:
    expected = [shifted(before, 1, 0, fill), shifted(before, 0, 1, fill)]
    half = [e.lerp(before, 1 - 1 / layer.stride[a]) for a, e in enumerate(expected)]
    inside = [_inside(layer, before.shape, a, size[a]) for a in range(2)]
    interior = None
    if all(bool(m.any()) for m in inside):
        interior = _relative(
            [u.index_select(2 + a, m.nonzero()[:, 0]) for a, (u, m) in enumerate(zip(unit, inside, strict=True))],
            [e.index_select(2 + a, m.nonzero()[:, 0]) for a, (e, m) in enumerate(zip(expected, inside, strict=True))],
        )
    return LayerShift(
        name=layer.name,
        stride=layer.stride,
        whole=_relative(unit, expected),
        interior=interior,
        one_pixel=_relative(pixel, half, [before, before]),
    )


def _inside(layer: FieldLayer, shape: Sequence[int], axis: int, length: int) -> Tensor:
    """Units that after a shift by one stride along ``axis`` see only moved image: no border, no padding, no filling."""
    start = layer.first[axis] + layer.stride[axis] * torch.arange(shape[2 + axis])
    return (start >= layer.stride[axis]) & (start + layer.size[axis] <= length)


def _relative(found: list[Tensor], expected: list[Tensor], scale: list[Tensor] | None = None) -> float:
    gap = sum(float(((f - e) ** 2).sum()) for f, e in zip(found, expected, strict=True))
    norm = sum(float((e**2).sum()) for e in scale or expected)
    if norm == 0:
        return 0.0 if gap == 0 else math.inf
    return math.sqrt(gap / norm)
