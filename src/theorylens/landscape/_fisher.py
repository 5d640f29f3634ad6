"""Fisher matrices of a network as operators: exact, from labels the network draws itself, or from the data's labels.

Source   Martens (2020), New insights and perspectives on the natural gradient method, JMLR 21:146; Kunstner, Balles,
         Hennig (2019), Limitations of the empirical Fisher approximation for natural gradient descent, NeurIPS
Assumes  a loss that is the negative logarithm of a likelihood of the targets given the outputs, times the weight of the
         example (class weights count as such)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from theorylens.core import RefusedError, Task, rng_for
from theorylens.numerics.memory import Batch, rows
from theorylens.numerics.objective import MEMORY, LossSum, Objective

from ._gauss_newton import Bend, EmpiricalFisher, GaussNewton, OutputProducts, settled

Kind = Literal["exact", "monte_carlo", "empirical"]
Family = Literal["softmax", "log-softmax", "bernoulli", "gaussian"]
FAMILIES: dict[Any, Family] = {
    "cross_entropy": "softmax",
    nn.CrossEntropyLoss: "softmax",
    nn.NLLLoss: "log-softmax",
    "binary_cross_entropy": "bernoulli",
    nn.BCEWithLogitsLoss: "bernoulli",
    "mse": "gaussian",
    nn.MSELoss: "gaussian",
}


def fisher(
    model: nn.Module, data: Any, loss: Any, *, kind: Kind = "exact", samples: int = 1, seed: int = 0,
    names: Sequence[str] | None = None, memory: int = MEMORY, batch_size: int = 256,
) -> OutputProducts:  # fmt: skip
    """The Fisher matrix of a network over all data as an operator.

    Parameters
    ----------
    kind
        ``"exact"``: the expectation over labels that the network itself would draw. Where the loss is that
        likelihood's, it is the Gauss-Newton matrix: softmax with cross-entropy, logits with binary cross-entropy,
        squared loss. ``"monte_carlo"``: from ``samples`` labels drawn for each example. ``"empirical"``: the second
        moment of the gradients of the data's own labels, which is no approximation of the others.
    samples, seed
        Labels drawn for each example, and the seed of the draws; for ``"monte_carlo"`` only.

    The other arguments are those of `hessian`.

    Raises
    ------
    RefusedError
        A loss that is not the negative logarithm of a likelihood known here.

    >>> x, y = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 1)
    >>> fisher(nn.Linear(2, 1, bias=False), (x, y), "mse") @ torch.tensor([1.0, 1.0])  # 2 X'X / n
    tensor([1., 4.])
    """
    goal, task = settled(model, data, loss, batch_size, names)
    if kind == "empirical":
        return EmpiricalFisher(goal, task, memory=memory)
    if kind not in ("exact", "monte_carlo"):
        raise ValueError(f"kind must be 'exact', 'monte_carlo' or 'empirical', got {kind!r}")
    family = likelihood(task)
    if kind == "exact":
        return (
            LogFisher(goal, task, memory=memory) if family == "log-softmax" else GaussNewton(goal, task, memory=memory)
        )
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    return MonteCarloFisher(goal, task, family, samples=samples, seed=seed, memory=memory)


def family_of(task: Task) -> Family | None:
    """Which distribution of the targets the loss is the negative logarithm of; None when it is none known here."""
    inner: Any = task.loss
    if isinstance(inner, nn.Module):  # a task settles a torch loss into its single values and weights
        inner = getattr(inner, "loss", inner)
    family = FAMILIES.get(type(inner) if isinstance(inner, nn.Module) else inner)
    weighted = getattr(inner, "weight", None) is not None
    if getattr(inner, "pos_weight", None) is not None or (weighted and family == "bernoulli"):
        return None
    return None if weighted and getattr(inner, "label_smoothing", 0.0) > 0 else family


def likelihood(task: Task) -> Family:
    """`family_of`, or a refusal."""
    family = family_of(task)
    if family is None:
        raise RefusedError(
            f"the loss {task.loss_name} as it is set is not the negative logarithm of a likelihood known here (cross-"
            "entropy, negative log-likelihood, binary cross-entropy with logits, mean squared error), so there are no "
            "labels to take the Fisher matrix over; use kind='empirical', or ggn(...)"
        )
    return family


class LogFisher(OutputProducts):
    """Exact Fisher products where the outputs are log-probabilities: their own Fisher matrix is diag(p)."""

    def _outputs(self, batch: Batch) -> tuple[Tensor, Bend, tuple[Tensor, ...]]:
        outputs, targets = self.task.forward(self.objective.model, batch)
        weights = self.task.losses(outputs.detach(), targets)[1] / self.objective.denominator
        share = outputs.detach().exp() * weights.unsqueeze(1)
        return outputs, lambda moved: share * moved, ()


class MonteCarloFisher(OutputProducts):
    """Products with the mean of g g' over gradients g for labels that the network draws itself. An `Operator`.

    The labels are drawn once, from uniform or normal numbers that belong to the rows: they depend on the seed and on
    the outputs, neither on the batch size nor on how often products are taken. Tokens of one example are drawn
    independently and their gradients added, which is unbiased.
    """

    def __init__(
        self, goal: Objective, task: Task, family: Family, *, samples: int, seed: int, memory: int = MEMORY
    ) -> None:
        with torch.no_grad():
            outputs, targets = task.forward(goal.model, next(iter(goal.on_device())))
            shape = (
                outputs.shape[1:] if family in ("bernoulli", "gaussian") else task.losses(outputs, targets)[0].shape[1:]
            )
        draw = torch.randn if family == "gaussian" else torch.rand
        rng = rng_for(seed, "landscape.fisher")
        noise = draw(goal.examples, samples, *shape, generator=rng, dtype=torch.float64)
        paired = replace(goal, batches=_WithNoise(goal.batches, noise), loss=_PastNoise(goal.loss))
        super().__init__(paired, task, memory=memory)
        self._family = family

    def _outputs(self, batch: Batch) -> tuple[Tensor, Bend, tuple[Tensor, ...]]:
        data, noise = batch
        outputs, targets = self.task.forward(self.objective.model, data)
        at = outputs.detach()
        values, weights = self.task.losses(at, targets)
        axis = 1 if at.shape[2:] == values.shape[1:] else at.ndim - 1  # of the classes, as in the losses by name
        averaged = getattr(self.task.loss, "averaged", True)  # over the outputs of an example, or summed
        scores = torch.stack([_score(self._family, at, each, axis, averaged) for each in noise.unbind(1)])
        scale = (weights / self.objective.denominator / noise.shape[1]).sqrt()
        if self._family in ("softmax", "log-softmax"):
            scale = scale.unsqueeze(axis)
        else:
            scale = scale.reshape(-1, *[1] * (at.ndim - 1))
        scores = (scores * scale).to(at.dtype)
        inner = tuple(range(2, scores.ndim))

        def bend(moved: Tensor) -> Tensor:
            along = (scores * moved).sum(inner, keepdim=True) if inner else scores * moved
            bent: Tensor = (scores * along).sum(0)
            return bent

        return outputs, bend, ()


def _score(family: Family, outputs: Tensor, noise: Tensor, axis: int, averaged: bool) -> Tensor:
    """Gradient of -log p(label) in the outputs at a label drawn by ``noise``, float64, shape of the outputs."""
    z = outputs.double()
    size = math.prod(outputs.shape[1:]) if averaged else 1
    if family == "gaussian":  # mean squared error over k outputs: variance k / 2
        return noise * math.sqrt(2 / size)
    if family == "bernoulli":
        p = z.sigmoid()
        return (p - (noise < p).double()) / math.sqrt(size)
    p = z.softmax(axis) if family == "softmax" else z.exp()
    below = p.cumsum(axis).movedim(axis, -1)
    label = (below < noise.unsqueeze(-1) * below[..., -1:]).sum(-1)
    one = torch.nn.functional.one_hot(label.clamp(max=p.shape[axis] - 1), p.shape[axis]).movedim(-1, axis)
    slope: Tensor = p - one if family == "softmax" else -one.double()
    return slope


@dataclass(frozen=True, eq=False)
class _WithNoise:
    """Batches, each with the random numbers of its rows."""

    batches: Iterable[Batch]
    noise: Tensor

    def __iter__(self) -> Iterator[tuple[Batch, Tensor]]:
        start = 0
        for batch in self.batches:
            yield batch, self.noise[start : start + rows(batch)]
            start += rows(batch)


@dataclass(frozen=True, eq=False)
class _PastNoise:
    """The loss of a batch that carries random numbers."""

    loss: LossSum

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.loss(model, batch[0])
