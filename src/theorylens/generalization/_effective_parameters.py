"""How many parameters the training examples determine, and how many of them a fit uses up.

Method   sum of l / (l + a) over the eigenvalues l of the generalised Gauss-Newton matrix of the summed loss, a the
         precision of the prior on the weights; exact, from the tangent kernel weighted by the loss's own curvature
Source   MacKay (1992), Neural Computation 4:415; Maddox, Benton, Wilson (2020), arXiv:2003.02139
Assumes  the loss of an example is a negative log-likelihood in nats, convex in the outputs; the sum counts rows as
         independent
Breaks   the number depends on the precision and on the rows: it grows with them, up to rows x outputs
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from theorylens.core import RefusedError, Split, Task, modules_in_training
from theorylens.kernels import effective_dimension, ntk
from theorylens.numerics import Batch, to_device

MOST = 4000  # rows x outputs: the matrix whose eigenvalues are taken has that many rows
ROUNDING = 1e-6  # relative size below which eigenvalues of a float32 kernel are noise
HALVINGS = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class EffectiveParameters:
    """The number, and what it rests on.

    Attributes
    ----------
    value
        Between 0 and min(rows x outputs, parameters).
    precision
        a: the prior on each weight is a Gaussian with variance 1/a.
    eigenvalues
        Of the Gauss-Newton matrix of the summed loss, largest first, float64; those not listed are zero.
    parameters
        Trainable parameters of the model.
    """

    value: float
    precision: float
    eigenvalues: Tensor
    parameters: int


def effective_parameters(
    model: nn.Module, data: Any, loss: Any, *, precision: float | None = None
) -> EffectiveParameters:  # fmt: skip
    """How many directions in parameter space the examples determine more sharply than the prior does.

    Parameters
    ----------
    model
        In evaluation mode, with outputs (n, C).
    data
        Anything `Split` takes; rows x C at most `MOST`.
    loss
        Anything `Task` takes: a negative log-likelihood per example, such as cross-entropy. For squared error give
        ``lambda o, t: (o - t).square().sum(1) / (2 * variance)``.
    precision
        Of the prior; positive. For training with weight decay w on the mean loss of N examples it is N w. By default
        the one that fits the weights' own size, `evidence_precision`.

    Raises
    ------
    RefusedError
        A module in training mode, outputs that are not (n, C), too many rows x outputs, a loss that is not convex in
        the outputs or not twice differentiable there.
    ValueError
        A precision that is not positive.

    >>> x = torch.diag(torch.tensor([10.0, 8.0, 5.0, 3.0, 2.0, 1.0, 0.5, 0.1]).sqrt())
    >>> half_squares = lambda o, t: (o - t).square().sum(1) / 2
    >>> found = effective_parameters(nn.Linear(8, 1, bias=False), (x, torch.zeros(8, 1)), half_squares, precision=1.0)
    >>> round(found.value, 4)
    4.9722
    """
    levels = ggn_eigenvalues(model, data, loss)
    weights = [p.detach().double() for p in model.parameters() if p.requires_grad]
    if precision is None:
        precision = evidence_precision(levels, float(sum((w * w).sum() for w in weights)))
    value = effective_dimension(levels, precision)
    return EffectiveParameters(
        value=value, precision=precision, eigenvalues=levels, parameters=sum(w.numel() for w in weights)
    )  # fmt: skip


def evidence_precision(eigenvalues: Tensor, squared_norm: float) -> float:
    """The precision a at which a |w|^2 equals the number of effective parameters: MacKay's fixed point.

    Unique, because one side grows with a and the other falls; the prior then expects the weights to be as large as they
    are. Infinite when all eigenvalues are 0 is refused: nothing is determined.

    >>> round(evidence_precision(torch.tensor([1.0]), 0.5), 9)  # a/2 = 1/(1 + a)
    1.0
    """
    levels = torch.as_tensor(eigenvalues).double().clamp(min=0)
    if not (math.isfinite(squared_norm) and squared_norm > 0):
        raise ValueError(f"the squared norm of the weights must be positive, got {squared_norm}")
    if not bool((levels > 0).any()):
        raise ValueError("all eigenvalues are zero: the examples determine no direction, so no precision fits")
    low, high = 1e-300, int((levels > 0).sum()) / squared_norm  # the number is below the rank
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        if middle * squared_norm < float((levels / (levels + middle)).sum()):
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


def ggn_eigenvalues(model: nn.Module, data: Any, loss: Any) -> Tensor:
    """Eigenvalues of J^T H J, summed over examples: J the Jacobian of the outputs, H the loss's curvature in them.

    Largest first, float64, shape (min(rows x outputs, parameters),); all other eigenvalues are 0. They are those of
    H^1/2 J J^T H^1/2, which has rows x outputs rows. Those at the level of rounding of the model's dtype are set to 0.

    Arguments and errors as `effective_parameters`.
    """
    if noisy := modules_in_training(model):
        raise RefusedError(f"{', '.join(noisy)} is in training mode, so the outputs are noisy; call model.eval()")
    split = Split.of(data)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    batch = to_device(split.take(range(len(split))), device)
    given = loss if isinstance(loss, Task) else Task(loss=loss)
    task = given.settled(model, to_device(split.take(range(min(len(split), 32))), device))
    with torch.no_grad():
        outputs, targets = task.forward(model, batch)
    wide = outputs[:, None] if outputs.ndim == 1 else outputs
    if wide.ndim != 2:
        raise RefusedError(f"needed are outputs (n, C), the model returned shape {tuple(outputs.shape)}")
    if wide.numel() > MOST:
        raise RefusedError(
            f"{wide.shape[0]} rows of {wide.shape[1]} outputs are {wide.numel()} numbers, the limit is {MOST}; "
            f"give at most {MOST // wide.shape[1]} rows"
        )
    roots = _roots(output_curvature(task, outputs, targets))

    def forward(network: nn.Module, part: Batch) -> Tensor:
        found: Tensor = task.forward(network, part)[0]
        return found[:, None] if found.ndim == 1 else found

    kernel = ntk(model, batch, output="full", forward=forward).detach().double().cpu()
    weighted = torch.einsum("iba,ijbc,jcd->iajd", roots, kernel, roots).reshape(wide.numel(), wide.numel())
    levels = torch.linalg.eigvalsh((weighted + weighted.T) / 2).flip(0)
    size = sum(p.numel() for p in model.parameters() if p.requires_grad)
    levels = levels[: min(len(levels), size)]
    floor = ROUNDING if wide.dtype != torch.float64 else 1e-14
    return torch.where(levels > floor * levels[0], levels, 0.0)


def output_curvature(task: Task, outputs: Tensor, targets: Any) -> Tensor:
    """Second derivative of every example's loss in its own outputs, shape (n, C, C), float64 on the CPU."""
    if isinstance(task.loss, nn.Module):  # class weights in single precision do not go with outputs in double
        task = replace(task, loss=copy.deepcopy(task.loss).double())
    targets = pytree.tree_map(_double, targets)
    with torch.enable_grad():
        o = outputs.detach().double().requires_grad_(True)
        values, weights = task.losses(o, targets)
        if values.ndim == 0:
            raise RefusedError("the loss gives one number for the whole batch; return one value per example")
        (slope,) = torch.autograd.grad((values * weights).sum(), o, create_graph=True)
        flat = slope.reshape(len(o), -1)
        rows = []
        for c in range(flat.shape[1]):
            if flat.requires_grad:
                (row,) = torch.autograd.grad(flat[:, c].sum(), o, retain_graph=True, materialize_grads=True)
            else:  # a loss that is linear in the outputs
                row = torch.zeros_like(o)
            rows.append(row.reshape(len(o), -1))
    return torch.stack(rows, dim=1).detach().cpu()


def _double(leaf: Any) -> Any:
    return leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


def _roots(curvature: Tensor) -> Tensor:
    """Symmetric square roots; a curvature that is clearly negative is refused, rounding is not."""
    levels, vectors = torch.linalg.eigh((curvature + curvature.transpose(1, 2)) / 2)
    if not bool(torch.isfinite(levels).all()):
        raise RefusedError("the loss has no finite second derivative in the outputs; look for overflow in the outputs")
    if float(levels.min()) < -1e-8 * max(1e-30, float(levels.max())):
        raise RefusedError("the loss is not convex in the outputs, so its Gauss-Newton matrix is not a curvature")
    found: Tensor = vectors * levels.clamp(min=0).sqrt()[:, None] @ vectors.transpose(1, 2)
    return found
