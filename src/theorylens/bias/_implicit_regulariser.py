"""Implicit regularisation of gradient descent: the loss that finite steps follow in place of the one they are given.

Method   the modified losses of backward error analysis: L + (η/4) |∇L|² for full-batch steps, and for one pass over m
         minibatches L + (η/4m) Σ_k |∇L_k|² on average over their order; their gradients by Hessian-vector products
Source   Barrett, Dherin (2021), Implicit gradient regularization, ICLR; Smith, Dherin, Barrett, De (2021), On the
         origin of implicit regularization in stochastic gradient descent, ICLR
Assumes  steps small against the curvature: what is left out is of order η²
Breaks   beyond η of about 1 over the largest eigenvalue of the Hessian; momentum and Adam have other modified losses

The strength is that of a term of the loss. It depends on the learning rate and not on how many steps are taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from theorylens.core import Split, Task, objective, rng_for
from theorylens.numerics.objective import Objective

from ._gradient_noise import GradientNoise


@dataclass(frozen=True, kw_only=True)
class ImplicitRegulariser:
    """What steps of a given size add to the loss.

    Attributes
    ----------
    loss
        Mean of the minibatch losses.
    full_batch
        (η/4) |∇L|²: all that full-batch steps add.
    noise
        (η/4m) Σ_k |∇L_k - ∇L|²: what minibatches add to that.
    lr, batches
        η and m.
    """

    loss: float
    full_batch: float
    noise: float
    lr: float
    batches: int

    @property
    def total(self) -> float:
        """(η/4m) Σ_k |∇L_k|²."""
        return self.full_batch + self.noise

    @property
    def modified_loss(self) -> float:
        return self.loss + self.total


def minibatch_regulariser(gradients: Tensor, lr: float, loss: float = 0.0) -> ImplicitRegulariser:
    """The terms from the gradients of the m minibatches of one epoch, shape (m, p).

    >>> minibatch_regulariser(torch.tensor([[1.0, 0.0], [3.0, 2.0]]), 0.1).noise
    0.05
    """
    check_lr(lr)
    if gradients.ndim != 2 or not len(gradients):
        raise ValueError(f"gradients must have shape (minibatches, parameters), got {tuple(gradients.shape)}")
    g = gradients.double()
    mean = g.mean(0)
    full, noise = float(mean.square().sum()), float((g - mean).square().sum(1).mean())
    return ImplicitRegulariser(loss=loss, full_batch=lr / 4 * full, noise=lr / 4 * noise, lr=lr, batches=len(g))


def implicit_regulariser(
    model: nn.Module, data: Any, loss: Any, *, lr: float, batch_size: int | None = None, seed: int = 0
) -> ImplicitRegulariser:
    """The terms of a model for one random division of its data into minibatches.

    Parameters
    ----------
    model, data, loss
        As in `gradient_noise`.
    batch_size
        Examples per step; all of them when None. A last smaller batch is left out, as the theorem has equal ones.
    seed
        Of the division.

    Raises
    ------
    ValueError
        A learning rate that is not positive; a batch larger than the data or empty.
    """
    check_lr(lr)
    pieces = _minibatches(model, data, loss, batch_size, seed)
    value = square = 0.0
    total = torch.zeros(pieces[0].size, dtype=torch.float64, device=pieces[0].device)
    for piece in pieces:
        slope = piece.gradient().double()
        value += piece.value / len(pieces)
        square += float(slope.square().sum()) / len(pieces)
        total += slope / len(pieces)
    full = float(total.square().sum())
    return ImplicitRegulariser(
        loss=value, full_batch=lr / 4 * full, noise=lr / 4 * max(0.0, square - full), lr=lr, batches=len(pieces)
    )


def regulariser_gradient(
    model: nn.Module, data: Any, loss: Any, *, lr: float, batch_size: int | None = None, seed: int = 0
) -> Float[Tensor, "p"]:
    """Gradient of ``implicit_regulariser(...).total``: (η/2m) Σ_k H_k ∇L_k, one Hessian product per minibatch.

    Parameters and errors are those of `implicit_regulariser`.
    """
    check_lr(lr)
    pieces = _minibatches(model, data, loss, batch_size, seed)
    total = torch.zeros(pieces[0].size, dtype=torch.float64, device=pieces[0].device)
    for piece in pieces:
        total += (piece.hessian() @ piece.gradient()).double()
    return (total * lr / (2 * len(pieces))).to(pieces[0].dtype)


def expected_regulariser(noise: GradientNoise, *, lr: float, batch_size: int, loss: float = 0.0) -> ImplicitRegulariser:
    """The terms averaged over all divisions into minibatches, in closed form from per-example gradients.

    A minibatch of B out of n rows, drawn without replacement, has E |∇L_k - ∇L|² = (n - B) / (n B) tr Σ. Rows must
    have equal weight in the loss.
    """
    check_lr(lr)
    n = noise.examples
    check_batch(batch_size, n)
    spread = (n - batch_size) / (n * batch_size) * noise.covariance_trace
    return ImplicitRegulariser(
        loss=loss, full_batch=lr / 4 * noise.squared_mean, noise=lr / 4 * spread, lr=lr, batches=n // batch_size
    )


def label_noise_regulariser(trace: float, *, lr: float, batch_size: int, label_variance: float, loss: str) -> float:
    """What fresh noise in the labels at every step adds to the loss along a valley of minima: a multiple of tr H.

    Parameters
    ----------
    trace
        Trace of the Hessian of the mean training loss, in the convention of ``loss``.
    label_variance
        Of the noise added to each label, in one output.
    loss
        ``"half_squared"`` for ½ (f - y)²: η s² / 4B tr H. ``"squared"`` for (f - y)²: η s² / 2B tr H.

    The noise moves the weights by S with H S + S H = η C across the valley (C the covariance of a step's gradient,
    s²/B H and 2 s²/B H respectively), so the drift along it is that of ½ tr(H S). Leading order in η.

    Source: Blanc, Gupta, Valiant, Valiant (2020), COLT; Damian, Ma, Lee (2021), NeurIPS.
    """
    check_lr(lr)
    check_batch(batch_size, None)
    if not (label_variance >= 0 and math.isfinite(label_variance)):
        raise ValueError(f"label_variance must be a number from 0, got {label_variance}")
    if loss not in ("half_squared", "squared"):
        raise ValueError(f"loss must be 'half_squared' or 'squared', got {loss!r}")
    return lr * label_variance / ((4 if loss == "half_squared" else 2) * batch_size) * trace


def sgd_noise_scale(lr: float, examples: int, batch_size: int) -> float:
    """Noise scale of SGD as a diffusion, η N / B: runs with equal ones have equal noise, while steps are small.

    Source: Smith, Le (2018), A Bayesian perspective on generalization and stochastic gradient descent, ICLR (for B
    much smaller than N).
    """
    check_lr(lr)
    check_batch(batch_size, examples)
    return lr * examples / batch_size


def check_lr(lr: float) -> None:
    if not (math.isfinite(lr) and lr > 0):
        raise ValueError(f"lr must be a positive number, got {lr}")


def check_batch(batch_size: int, examples: int | None) -> None:
    if batch_size < 1 or (examples is not None and batch_size > examples):
        most = "" if examples is None else f" and at most the {examples} examples there are"
        raise ValueError(f"batch_size must be at least 1{most}, got {batch_size}")


def _minibatches(model: nn.Module, data: Any, loss: Any, batch_size: int | None, seed: int) -> list[Objective]:
    whole = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss))
    split = Split.of(data)
    n = len(split)
    size = n if batch_size is None else batch_size
    check_batch(size, n)
    order = torch.arange(n)
    if size < n:
        order = torch.randperm(n, generator=rng_for(seed, "bias.implicit_regulariser"))
    chosen = [order[start : start + size] for start in range(0, n - size + 1, size)]
    return [Objective(model, [split.take(index)], whole.loss, whole.mean) for index in chosen]
