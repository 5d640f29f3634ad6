"""The matrices of curvature as operators: the Hessian, its Gauss-Newton half, and the second moment of gradients.

Method   products J' (d² loss / d outputs²) J v by backward passes only, from graphs kept within a budget of memory
Source   Schraudolph (2002), Fast curvature matrix-vector products, Neural Comput. 14:1723; Martens (2020), New insights
         and perspectives on the natural gradient method, JMLR 21:146 (Gauss-Newton as the Fisher matrix)
Assumes  a loss that is a sum over examples of a function of that example's outputs
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from theorylens.core import RefusedError, Task, objective
from theorylens.numerics.memory import Batch, rows
from theorylens.numerics.objective import MEMORY, Objective
from theorylens.numerics.products import Hessian, KeptProducts, flatten

Bend = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Pushed:
    """Outputs of one piece of the data with their graph, and J'u as a function of u with its own graph.

    J'u is linear in u, so the derivative of (J'u) . v in u is J v: forward products by backward passes alone, which
    have none of the gaps of forward mode.
    """

    values: Tensor
    towards: Tensor
    slopes: tuple[Tensor, ...]
    places: tuple[int, ...]
    bend: Bend
    held: tuple[Tensor, ...]
    examples: int

    @property
    def roots(self) -> Sequence[Tensor]:
        return (self.values, *self.slopes, *self.held)


class OutputProducts(KeptProducts[Pushed]):
    """Products with J' M J over all data: J the Jacobian of some outputs, M a matrix for each example's outputs."""

    def __init__(self, goal: Objective, task: Task, *, memory: int = MEMORY) -> None:
        super().__init__(goal, memory=memory)
        self.task = task

    @abstractmethod
    def _outputs(self, batch: Batch) -> tuple[Tensor, Bend, tuple[Tensor, ...]]:
        """Outputs with their graph, the product with M, and tensors whose graphs that product keeps alive."""

    def _build(self, batch: Batch) -> Pushed:
        leaves = list(self.objective.parameters.values())
        values, bend, held = self._outputs(batch)
        if not values.requires_grad:
            raise RefusedError("the outputs do not depend on any of the chosen parameters in a differentiable way")
        self._refuse_once_differentiable(values)
        towards = torch.zeros_like(values, requires_grad=True)
        slopes = torch.autograd.grad(values, leaves, towards, create_graph=True, allow_unused=True)
        moving = [(s, place) for place, s in enumerate(slopes) if s is not None and s.requires_grad]
        found, places = tuple(s for s, _ in moving), tuple(place for _, place in moving)
        return Pushed(values, towards, found, places, bend, held, rows(batch))

    def _times(self, graph: Pushed, direction: list[Tensor]) -> Tensor:
        leaves = list(self.objective.parameters.values())
        moved = torch.autograd.grad(
            graph.slopes, graph.towards, [direction[place] for place in graph.places], retain_graph=True,
            allow_unused=True, materialize_grads=True,
        )[0]  # fmt: skip
        bent = graph.bend(moved.detach()).to(graph.values.dtype)
        back = torch.autograd.grad(
            graph.values, leaves, bent, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return flatten(back)


class GaussNewton(OutputProducts):
    """Products with J'HJ over all data: J the Jacobian of the outputs, H the Hessian of the loss in the outputs.

    An `Operator`. For softmax with cross-entropy, and for squared loss, it is the Fisher matrix (for squared loss of
    unit variance, times 2 over the outputs averaged). It is the Hessian less the part of the outputs' own curvature.
    A product from a kept graph costs about 1.2 (dense layers) to 1.6 (convolutions) gradients.
    """

    def _outputs(self, batch: Batch) -> tuple[Tensor, Bend, tuple[Tensor, ...]]:
        outputs, targets = self.task.forward(self.objective.model, batch)
        free, slope = output_slope(self.objective, self.task, outputs, targets)
        if not slope.requires_grad:
            return outputs, torch.zeros_like, ()
        return outputs, lambda moved: torch.autograd.grad(slope, free, moved, retain_graph=True)[0], (slope,)


def output_slope(goal: Objective, task: Task, outputs: Tensor, targets: Any) -> tuple[Tensor, Tensor]:
    """A leaf in place of the outputs, and the gradient of the loss in it, with its graph."""
    free = outputs.detach().requires_grad_()
    values, weights = task.losses(free, targets)
    slope = torch.autograd.grad((values * weights).sum() / goal.denominator, free, create_graph=True)[0]
    return free, slope


class EmpiricalFisher(OutputProducts):
    """Products with the mean of g_i g_i' over the examples, g_i the gradient of example i's own loss. An `Operator`.

    It is no approximation of the Hessian or of the Fisher matrix in general: at a perfect fit it vanishes.
    """

    def _outputs(self, batch: Batch) -> tuple[Tensor, Bend, tuple[Tensor, ...]]:
        each = example_losses(self.objective, self.task, batch)
        return each, lambda moved: moved, ()

    @property
    def _divisor(self) -> float:
        return self.objective.examples


def example_losses(goal: Objective, task: Task, batch: Batch) -> Float[Tensor, "n"]:
    """Loss of each example, scaled so that their mean over all examples is the whole loss."""
    outputs, targets = task.forward(goal.model, batch)
    values, weights = task.losses(outputs, targets)
    if values.ndim == 0:
        raise RefusedError("the loss gives one number for a batch; return one for each example")
    each = values * weights
    return each.reshape(len(each), -1).sum(1) * (goal.examples / goal.denominator)


def hessian(
    model: nn.Module, data: Any, loss: Any, *, names: Sequence[str] | None = None, memory: int = MEMORY,
    batch_size: int = 256,
) -> Hessian:  # fmt: skip
    """The Hessian of a loss over all data as an operator: ``hessian(...) @ v`` is a product.

    Parameters
    ----------
    model, data, loss
        As in `eigenvalues`.
    names
        Parameters to vary, by their own names or by those of the modules they belong to; all that require a gradient
        when not given. The operator is then that diagonal block.
    memory
        Bytes of graphs that may be kept between products; beyond that they are built again for each.
    batch_size
        Examples per batch: bounds memory and does not change the answer beyond rounding.

    Errors are those of `eigenvalues`; a name that no parameter and no module has is refused.

    >>> x, y = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 1)
    >>> hessian(nn.Linear(2, 1, bias=False), (x, y), "mse") @ torch.tensor([1.0, 1.0])  # 2 X'X / n
    tensor([1., 4.])
    """
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    return chosen(goal, names).hessian(memory=memory)


def ggn(
    model: nn.Module, data: Any, loss: Any, *, names: Sequence[str] | None = None, memory: int = MEMORY,
    batch_size: int = 256,
) -> GaussNewton:  # fmt: skip
    """The generalised Gauss-Newton matrix of a loss as an operator; see `GaussNewton`, and `hessian` for the arguments.

    Errors are those of `eigenvalues`; a loss that gives one number for a batch is refused.
    """
    goal, task = settled(model, data, loss, batch_size, names)
    return GaussNewton(goal, task, memory=memory)


def settled(
    model: nn.Module, data: Any, loss: Any, batch_size: int, names: Sequence[str] | None = None
) -> tuple[Objective, Task]:
    """The objective in the chosen parameters, and the task as the objective uses it."""
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    task = task_of(goal)
    if task is None:
        raise RefusedError("the loss gives one number for a batch; return one for each example")
    return chosen(goal, names), task


def task_of(goal: Objective) -> Task | None:
    """The task whose loss an objective sums, None when it knows no single examples' losses."""
    task = getattr(goal.loss, "__self__", None)
    return task if isinstance(task, Task) and task.per_example else None


def chosen(goal: Objective, names: Sequence[str] | None) -> Objective:
    """The objective as a function of the parameters named, by their own names or by those of their modules."""
    if names is None:
        return goal
    if isinstance(names, str):
        raise ValueError(f"names must be a list of names, got the text {names!r}; write [{names!r}]")
    found: list[str] = []
    for name in names:
        inside = [p for p in goal.parameters if p == name or p.startswith(f"{name}.")]
        if not inside:
            raise ValueError(f"no trainable parameter or module is named {name!r}; there are {sorted(goal.parameters)}")
        found += inside
    if not found:
        raise ValueError(f"names is empty; leave it out, or choose among {sorted(goal.parameters)}")
    return replace(goal, names=tuple(dict.fromkeys(found)))
