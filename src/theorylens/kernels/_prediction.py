"""Does the tangent kernel of the start predict this training? The closed form beside the real network.

Source   Lee et al. (2019), NeurIPS
Assumes  full-batch gradient descent on the mean squared error, evaluation mode throughout
Breaks   the network leaves its linearisation: the distance that grows with the steps is the answer, not an error
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from theorylens.results import Curve, Line, Message
from theorylens.training import Keeping, Optimisation, fit

from ._dynamics import KernelTrajectory, Unseen, kernel_descent
from ._empirical import ntk


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """Outputs step by step: predicted by the kernel at the start, and of the trained network.

    Attributes
    ----------
    predicted, measured
        Every step from 0; `KernelTrajectory.test` where test inputs were given.
    """

    predicted: KernelTrajectory
    measured: KernelTrajectory

    @property
    def gap(self) -> Tensor:
        """Distance of the outputs relative to how far the network went, on the test rows if given, (T,); 0 at first."""
        a, b = self.predicted, self.measured
        ours, true = (a.train, b.train) if a.test is None or b.test is None else (a.test, b.test)
        way = (true - true[0]).flatten(1).norm(dim=1)
        return torch.where(way > 0, (ours - true).flatten(1).norm(dim=1) / way, torch.zeros_like(way))

    def curve(self) -> Curve:
        """Training loss of the network, and as predicted."""
        steps = self.measured.at.numpy()
        measured = Line(x=steps, y=_positive(self.measured.loss), name=Message("kernels.measured", "network"))
        predicted = Line(
            x=steps, y=_positive(self.predicted.loss), role="theory",
            name=Message("kernels.predicted", "tangent kernel of the start"),
        )  # fmt: skip
        return Curve(
            label=Message("kernels.prediction", "Training loss, measured and predicted by the kernel of the start"),
            lines=(measured, predicted), x_name=Message("kernels.step", "training step"),
            y_name=Message("kernels.loss", "mean squared error"), y_log=True,
        )  # fmt: skip


def predicted_training(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    lr: float,
    steps: int,
    momentum: float = 0.0,
    x_test: Tensor | None = None,
) -> Prediction:
    """Train a copy of ``model`` on (x, y) by full-batch gradient descent, and predict it from its kernel at the start.

    Parameters
    ----------
    model
        Before training, outputs (n, C); left as it is.
    y
        Real targets of the shape of the outputs.

    Raises
    ------
    ValueError
        Targets of another shape, no step.
    DivergedError
        The real training diverged.
    """
    net = copy.deepcopy(model).eval()
    with torch.no_grad():
        start = net(x)
    if y.shape != start.shape or steps < 1:
        raise ValueError(f"targets of shape {tuple(y.shape)} for outputs of {tuple(start.shape)}, steps {steps}")
    unseen = None
    if x_test is not None:
        with torch.no_grad():
            unseen = Unseen(cross=ntk(net, x_test, x), initial=net(x_test))
    kernel = ntk(net, x)
    predicted = kernel_descent(
        kernel, y, lr, steps, momentum=momentum, initial=start, reduction="mse", unseen=unseen
    )  # fmt: skip
    seen: list[tuple[Tensor, Tensor | None]] = []

    def look(step: int, now: nn.Module, metrics: Mapping[str, float]) -> None:
        with torch.no_grad():
            seen.append((now(x).double(), None if x_test is None else now(x_test).double()))

    optimisation = Optimisation(lr=lr, momentum=momentum, batch_size=len(x), epochs=steps)
    fit(net, (x, y), "mse", optimisation, callbacks=(look,), keeping=Keeping(every=steps))
    train = torch.stack([outputs for outputs, _ in seen])
    measured = KernelTrajectory(
        at=torch.arange(len(seen), dtype=torch.float64), train=train,
        test=None if x_test is None else torch.stack([t for _, t in seen if t is not None]),
        loss=(train - y.double()).square().flatten(1).mean(1),
    )  # fmt: skip
    return Prediction(predicted=predicted, measured=measured)


def _positive(loss: Tensor) -> np.ndarray:
    """For a logarithmic axis: a loss of exactly zero is drawn at the smallest positive number."""
    found: np.ndarray = loss.numpy().clip(min=1e-30)
    return found
