"""Recurrence: how far back does a sequence model remember, and does it do the same thing at every time?

Method   norms of d h_T / d x_(T-lag) by exact backward passes; outputs after the same input at a later time
Source   Pascanu, Mikolov, Bengio (2013). On the difficulty of training recurrent neural networks. ICML
Assumes  ``model(x)`` maps (n, length, width) to (n, length, features), evaluation mode
Breaks   a Jacobian is local: memory kept in saturated gates does not show in it
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from theorylens.numerics.counting import count
from theorylens.results import Curve, Line, Message

from ._equivariance import Run
from ._symmetry import relative_distance

AHEAD = 1e-6  # share of the largest Jacobian: anything below is rounding of a causal model


@dataclass(frozen=True, kw_only=True)
class Memory:
    """How the last output depends on inputs at each lag.

    Attributes
    ----------
    norms
        Root mean square over inputs of the Frobenius norm of d h_T / d x_(T-lag), lag 0 first.
    rate
        Slope of log norm per step of lag, least squares over the lags with a norm above 0: below 0 gradients vanish,
        above 0 they explode. None when fewer than two lags reach.
    """

    norms: Float[Tensor, " lags"]
    rate: float | None


def sequence_outputs(module: nn.Module) -> Run:
    """A torch recurrent module (batch first or not, tuples of outputs and states) as a function of (n, length, width).

    Other modules are returned as they are.
    """
    if not isinstance(module, nn.RNNBase):
        return module

    def run(x: Tensor) -> Tensor:
        first = x if module.batch_first else x.transpose(0, 1)
        output: Tensor = module(first)[0]
        return output if module.batch_first else output.transpose(0, 1)

    return run


def jacobian_by_lag(model: Run | nn.Module, inputs: Tensor) -> Memory:
    """Norms of the Jacobians of the last output with respect to each input, exact over the output features.

    Raises
    ------
    ValueError
        When inputs or outputs are not (n, length, ...).
    """
    run = sequence_outputs(model) if isinstance(model, nn.Module) else model
    if inputs.ndim != 3:
        raise ValueError(f"inputs must have shape (n, length, width), got {tuple(inputs.shape)}")
    x = inputs.detach().clone().requires_grad_()
    with torch.enable_grad():
        outputs = run(x)
        if outputs.ndim != 3 or outputs.shape[:2] != inputs.shape[:2]:
            raise ValueError(
                f"outputs of shape {tuple(outputs.shape)} for inputs {tuple(inputs.shape)}; give a model with one "
                "output per step"
            )
        squares = torch.zeros(inputs.shape[1], dtype=torch.float64)
        for k in range(outputs.shape[2]):
            (slope,) = torch.autograd.grad(outputs[:, -1, k].sum(), x, retain_graph=True)
            squares += slope.double().square().sum((0, 2)).cpu()
    count(gradients=len(inputs) * outputs.shape[2])
    norms = (squares / len(inputs)).sqrt().flip(0)
    return Memory(norms=norms, rate=_slope(norms))


def _slope(norms: Tensor) -> float | None:
    good = norms > 0
    if int(good.sum()) < 2:
        return None
    lag, height = torch.nonzero(good)[:, 0].double(), norms[good].log()
    lag = lag - lag.mean()
    return float((lag * height).sum() / (lag * lag).sum())


def memory_curve(memory: Memory) -> Curve:
    """Jacobian norms against lag, logarithmic: a straight line is exponential forgetting."""
    line = Line(
        x=np.arange(len(memory.norms), dtype=np.float64),
        y=memory.norms.numpy(),
        name=Message("memory.network", "network"),
    )
    return Curve(
        label=Message("memory.curve", "How much the last output depends on each earlier input"),
        lines=(line,),
        x_name=Message("memory.lag", "steps back"),
        y_name=Message("memory.norm", "norm of the Jacobian"),
        y_log=True,
    )


def time_shift_errors(model: Run | nn.Module, inputs: Tensor, prefix: Tensor) -> Float[Tensor, " length"]:
    """Relative error, step by step, between the outputs to ``inputs`` alone and after ``prefix``.

    A model that does the same at every time (an RNN, a causal convolution) differs only by what it remembers of the
    prefix: the error falls with the steps since. Absolute positions make it stay.
    """
    run = sequence_outputs(model) if isinstance(model, nn.Module) else model
    if inputs.ndim != 3 or prefix.ndim != 3 or prefix.shape[::2] != inputs.shape[::2] or not prefix.shape[1]:
        raise ValueError(
            f"inputs {tuple(inputs.shape)} and prefix {tuple(prefix.shape)} must both be (n, length, width), with at "
            "least one step each"
        )
    with torch.no_grad():
        alone = run(inputs).double()
        later = run(torch.cat([prefix, inputs], 1)).double()[:, prefix.shape[1] :]
    count(forwards=2 * len(inputs))
    if alone.shape != later.shape or alone.ndim != 3:
        raise ValueError(
            f"outputs of shape {tuple(alone.shape)} are not one per step; give a model with an output each"
        )
    return torch.tensor([relative_distance(later[:, t], alone[:, t]) for t in range(alone.shape[1])])


def is_causal(model: Run | nn.Module, inputs: Tensor) -> bool:
    """Whether no output depends on later inputs, by gradients at these inputs: False is a refutation."""
    run: Callable[[Any], Any] = sequence_outputs(model) if isinstance(model, nn.Module) else model
    x = inputs.detach().clone().requires_grad_()
    largest = ahead = 0.0
    with torch.enable_grad():
        outputs = run(x)
        generator = torch.Generator().manual_seed(0)
        for t in range(outputs.shape[1]):
            signs = torch.randint(0, 2, outputs[:, t].shape, generator=generator).to(outputs) * 2 - 1
            (slope,) = torch.autograd.grad((outputs[:, t] * signs).sum(), x, retain_graph=True)
            largest = max(largest, float(slope.abs().max()))
            ahead = max(ahead, float(slope[:, t + 1 :].abs().max()) if t + 1 < slope.shape[1] else 0.0)
    count(gradients=len(inputs) * outputs.shape[1])
    return ahead <= AHEAD * largest
