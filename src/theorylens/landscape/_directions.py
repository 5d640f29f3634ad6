"""Directions in the space of a network's parameters: random ones of comparable length, and those of the curvature.

Source   Li, Xu, Taylor, Studer, Goldstein (2018), Visualizing the loss landscape of neural nets, NeurIPS (filter
         normalisation; biases and normalisation layers are not moved)
Assumes  a filter is what one output channel of a layer reads: a slice along the axis of the outputs
Breaks   two directions of thousands: a valley that does not pass through them is not seen
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from theorylens.core import RefusedError, Task, objective, rng_for
from theorylens.numerics import lanczos

Normalise = Literal["filter", "tensor", "none"]
TINY = 1e-30  # a filter that is zero stays zero instead of 0/0
_NORMS = (
    nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm,
)  # fmt: skip
_TRANSPOSED = (nn.modules.conv._ConvTransposeNd,)


def random_direction(
    model: nn.Module, *, normalise: Normalise = "filter", seed: int = 0, names: Sequence[str] | None = None
) -> Float[Tensor, "p"]:
    """A normal random direction in the space of the trainable parameters, scaled so that slices can be compared.

    Parameters
    ----------
    normalise
        ``"filter"``: each filter of a weight (all that one output reads: a slice along the first axis, along the
        second of a transposed convolution) gets the norm of the network's own; biases and other vectors, and all of a
        normalisation layer, get zero. ``"tensor"``: each tensor its own norm. ``"none"``: standard normal, whatever
        the weights are: rescaling layers then changes the picture.
    names
        Parameters to move, all trainable ones when None.

    Raises
    ------
    ValueError
        An unknown ``normalise`` or name, or nothing that would move.

    >>> net = nn.Linear(2, 3)
    >>> direction = random_direction(net)
    >>> direction.shape, direction[6:].tolist()
    (torch.Size([9]), [0.0, 0.0, 0.0])
    """
    if normalise not in ("filter", "tensor", "none"):
        raise ValueError(f"normalise must be 'filter', 'tensor' or 'none', got {normalise!r}")
    own = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if not own:
        raise ValueError("the model has no parameter that requires a gradient; set requires_grad on those to vary")
    if names is not None and (unknown := sorted(set(names) - set(own))):
        raise ValueError(f"no trainable parameters named {unknown}; there are {sorted(own)}")
    generator = rng_for(seed, "landscape.random_direction")
    axes = _filter_axes(model) if normalise == "filter" else {}
    parts = []
    for name, p in own.items():
        drawn = torch.randn(p.shape, generator=generator).to(p)  # drawn for all, so that names= changes no other part
        kept = names is None or name in names
        parts.append(_scaled(drawn, p, normalise, axes.get(name)) if kept else torch.zeros_like(p))
    direction = torch.cat([part.reshape(-1) for part in parts])
    if not bool(direction.any()):
        raise ValueError(
            "nothing would move: no parameter chosen has filters of a norm to take (vectors and normalisation layers "
            "have none); use normalise='none'"
        )
    return direction


def curvature_directions(
    model: nn.Module,
    data: Any,
    loss: Any,
    *,
    k: int = 2,
    which: Literal["LA", "SA", "BE"] = "LA",
    tolerance: float = 1e-3,
    seed: int = 0,
    batch_size: int = 256,
) -> Float[Tensor, "k p"]:
    """Unit eigenvectors of the Hessian as rows: those of its largest (``"LA"``), smallest or outermost eigenvalues.

    Arguments and errors are those of `eigenvalues`, and ``RefusedError`` when a vector does not converge. Along such a
    direction the second derivative of the loss is the eigenvalue; its sign is that of no gradient.

    >>> x, y = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 1)
    >>> curvature_directions(nn.Linear(2, 1, bias=False), (x, y), "mse", k=1).abs().round(decimals=3).tolist()
    [[0.0, 1.0]]
    """
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    if not math.isfinite(goal.value):
        raise RefusedError(f"the loss is {goal.value}, so it has no curvature; load weights from before it diverged")
    found = lanczos.eigenvalues(
        goal.hessian(), k, which=which, tolerance=tolerance, vectors=True,
        generator=rng_for(seed, "landscape.curvature_directions"),
    )  # fmt: skip
    if missed := int((~found.converged).sum()):
        raise RefusedError(
            f"{missed} of {k} eigenvectors did not converge in {found.steps} steps; ask for fewer or a larger tolerance"
        )
    assert found.vectors is not None
    return found.vectors


def _filter_axes(model: nn.Module) -> dict[str, int | None]:
    """By parameter, along which axis its filters lie; None when it has none."""
    axes: dict[str, int | None] = {}
    for prefix, module in model.named_modules():
        for name, p in module.named_parameters(prefix, recurse=False):
            if p.ndim < 2 or isinstance(module, _NORMS):
                axes[name] = None
            else:
                axes[name] = 1 if isinstance(module, _TRANSPOSED) else 0
    return axes


def _scaled(drawn: Tensor, own: Tensor, normalise: Normalise, axis: int | None) -> Tensor:
    if normalise == "none":
        return drawn
    if normalise == "tensor":
        whole: Tensor = drawn * (torch.linalg.vector_norm(own) / torch.linalg.vector_norm(drawn).clamp(min=TINY))
        return whole
    if axis is None:
        return torch.zeros_like(own)
    rest = [a for a in range(own.ndim) if a != axis]
    norms = [torch.linalg.vector_norm(t, dim=rest, keepdim=True) for t in (own, drawn)]
    each: Tensor = drawn * (norms[0] / norms[1].clamp(min=TINY))
    return each
