"""Symmetry: does transforming the input transform the output the same way, or leave it alone?

Method   the same inputs with and without the transformation through the network: ||f(Tx) - T'f(x)|| / ||f(x)||
Source   Cohen, Welling (2016). Group equivariant convolutional networks. ICML; Bronstein et al. (2021). Geometric
         deep learning. arXiv:2104.13478
Assumes  the model is in evaluation mode and answers every row on its own
Breaks   nothing is proven beyond the inputs that were tried: a small error is evidence, a large one a refutation
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from theorylens.numerics.counting import count
from theorylens.results import Curve, Line, Message

from ._equivariance import Run, shifted

Act = Callable[[Tensor], Tensor]

TURNS: Mapping[str, Act] = {
    "flip left-right": lambda x: x.flip(-1),
    "flip up-down": lambda x: x.flip(-2),
    "turn by 180°": lambda x: x.flip(-1, -2),
    "turn by 90°": lambda x: x.rot90(1, (-2, -1)),
    "turn by 270°": lambda x: x.rot90(3, (-2, -1)),
    "transpose": lambda x: x.transpose(-2, -1),
}
"""Flips and turns of images, on the last two axes; the last three need square images."""
SQUARE = frozenset({"turn by 90°", "turn by 270°", "transpose"})


def same(x: Tensor) -> Tensor:
    """Leave the output alone: the transformation of an invariant model."""
    return x


def symmetry_error(model: Run, inputs: Tensor, on_inputs: Act, on_outputs: Act = same) -> float:
    """||f(Tx) - T'f(x)|| / ||f(x)|| over all ``inputs``, T being ``on_inputs`` and T' ``on_outputs``.

    0 up to rounding when the symmetry holds on these inputs. Norms over everything together, so large outputs count
    more.

    Raises
    ------
    ValueError
        When the transformed outputs have another shape than the outputs of the transformed inputs, or are not finite.
    """
    with torch.no_grad():
        expected, found = on_outputs(model(inputs).double()), model(on_inputs(inputs)).double()
    count(forwards=2 * len(inputs))
    if expected.shape != found.shape:
        raise ValueError(
            f"the transformed outputs have shape {tuple(expected.shape)}, the outputs of the transformed inputs "
            f"{tuple(found.shape)}; give on_outputs= that moves the outputs as on_inputs= moves the inputs"
        )
    return relative_distance(found, expected)


def relative_distance(found: Tensor, expected: Tensor) -> float:
    """||found - expected|| / ||expected||; infinite when only the second is zero."""
    if not (bool(torch.isfinite(found).all()) and bool(torch.isfinite(expected).all())):
        raise ValueError("the model returned outputs that are not finite; nothing can be compared")
    gap, norm = float((found - expected).norm()), float(expected.norm())
    return gap / norm if norm > 0 else (0.0 if gap == 0 else math.inf)


def equivariance_curve(
    model: Run, images: Tensor, *, shifts: Iterable[int] | None = None, fill: str = "circular",
    stride: int = 1,
) -> Curve:  # fmt: skip
    """Error of the outputs of ``model`` against the shift of its input, to the right and down.

    When the outputs are maps (n, channels, height, width), "moves along" compares f(Tx) with the outputs moved by the
    shift over ``stride`` units (only shifts that ``stride`` divides); "stays" compares f(Tx) with f(x).

    Parameters
    ----------
    shifts
        Pixels; by default 0 to half the width.
    fill
        What opens at the border: ``"circular"`` (nothing is lost), ``"edge"`` or ``"zeros"``.
    stride
        Input pixels per unit of the output maps.
    """
    if images.ndim != 4:
        raise ValueError(f"images must have shape (n, channels, height, width), got {tuple(images.shape)}")
    steps = sorted(set(range(images.shape[3] // 2 + 1) if shifts is None else shifts))
    with torch.no_grad():
        before = model(images).double()
        moved = {s: [model(shifted(images, *by, fill)).double() for by in ((s, 0), (0, s))] for s in steps}
    count(forwards=len(images) * (1 + 2 * len(steps)))
    still = [relative_distance(torch.stack(m), torch.stack([before, before])) for m in moved.values()]
    lines = [_line(steps, still, Message("symmetry.stays", "stays"))]
    if before.ndim == 4:
        whole = [s for s in steps if s % stride == 0]
        along = [
            relative_distance(
                torch.stack(moved[s]),
                torch.stack([shifted(before, *by, fill) for by in ((s // stride, 0), (0, s // stride))]),
            )
            for s in whole
        ]
        lines.insert(0, _line(whole, along, Message("symmetry.along", "moves along")))
    return Curve(
        label=Message("symmetry.curve", "Relative change of the outputs when the input moves"),
        lines=tuple(lines),
        x_name=Message("symmetry.shift", "shift, pixels"),
        y_name=Message("symmetry.error", "relative error"),
    )


def _line(x: list[int], y: list[float], name: Message) -> Line:
    return Line(x=np.asarray(x, dtype=np.float64), y=np.asarray(y, dtype=np.float64), name=name)


def turn_errors(model: Run, images: Tensor, turns: Mapping[str, Act] = TURNS) -> dict[str, tuple[float, float | None]]:
    """For each flip and turn: how far the outputs are from staying, and from turning along (maps only, else None).

    Turns by a quarter are left out for images that are not square.
    """
    if images.ndim != 4:
        raise ValueError(f"images must have shape (n, channels, height, width), got {tuple(images.shape)}")
    square = images.shape[2] == images.shape[3]
    with torch.no_grad():
        before = model(images).double()
        count(forwards=len(images))
        found: dict[str, tuple[float, float | None]] = {}
        for name, turn in turns.items():
            if name in SQUARE and not square:
                continue
            after = model(turn(images)).double()
            count(forwards=len(images))
            along = relative_distance(after, turn(before)) if before.ndim == 4 else None
            stays = relative_distance(after, before) if after.shape == before.shape else math.inf
            found[name] = (stays, along)
    return found
