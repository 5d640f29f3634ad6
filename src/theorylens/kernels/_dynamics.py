"""Training with a fixed kernel, in closed form: gradient flow and descent with momentum, at train and test points.

Method   in the eigenbasis of the kernel every mode decays on its own; test points follow through the cross kernel
Source   Jacot, Gabriel, Hongler (2018), NeurIPS; Lee et al. (2019), NeurIPS
Assumes  the kernel does not move; squared loss (cross-entropy: `cross_entropy_flow`, an ordinary differential equation)
Breaks   steps above `max_stable_kernel_lr` diverge, as the network does; real networks change their kernel:
         compare with `predicted_training`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from theorylens.results import Message

from ._alignment import Array, checked_kernel

ROUNDING = 1e-5  # relative size of a negative eigenvalue that a float32 kernel matrix may have


@dataclass(frozen=True, kw_only=True, eq=False)
class KernelTrajectory:
    """Outputs along training.

    Attributes
    ----------
    at
        Times (gradient flow: learning rate times steps) or step numbers (T,).
    train
        Outputs on the training points, (T, n) or (T, n, C).
    test
        Outputs on the points of ``cross``, None without it.
    loss
        Training loss at each time (T,), with the reduction asked for.
    trouble
        None, or why these outputs blow up and what to change.
    """

    at: Tensor
    train: Tensor
    test: Tensor | None
    loss: Tensor
    trouble: Message | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Unseen:
    """Where else to predict.

    Attributes
    ----------
    cross
        Kernel between these points and the training points, (m, n) or (m, n, C, C).
    initial
        Outputs there before training, (m,) or (m, C); zero when None.
    """

    cross: Array
    initial: Array | None = None


def kernel_flow(
    kernel: Array,
    targets: Array,
    times: Sequence[float] | Array,
    *,
    initial: Array | None = None,
    reduction: str = "half_sum",
    unseen: Unseen | None = None,
) -> KernelTrajectory:
    """Outputs under gradient flow: f(t) = y + exp(-Theta c t) (f0 - y).

    Parameters
    ----------
    kernel
        Tangent kernel of the training points, (n, n), the same for every output, or (n, n, C, C).
    targets, initial
        (n,) or (n, C): targets y, and outputs f0 before training (zero when None).
    times
        Learning rate times number of steps, in the limit of small steps.
    reduction
        The loss: ``"half_sum"`` is 1/2 sum (f - y)^2, c = 1; ``"half_mean"`` divides it by n; ``"mse"`` is torch's
        mean over examples and outputs, c = 2 / (n C).
    unseen
        Further points to predict at: f*(t) = f0* + Theta* Theta^-1 (1 - exp(-Theta c t)) (y - f0), by its limit where
        the kernel is singular.

    Raises
    ------
    ValueError
        Shapes that do not match, a kernel that is not symmetric positive semi-definite, negative times.

    >>> found = kernel_flow(torch.tensor([[2.0, 1], [1, 2]]), torch.tensor([1.0, -1]), [1.0])
    >>> [round(float(v), 6) for v in found.train[0]]
    [0.632121, -0.632121]
    """
    modes = _Modes(kernel, targets, initial, reduction)
    at = torch.as_tensor(times).double().reshape(-1)
    if not len(at) or not bool((at >= 0).all()):
        raise ValueError(f"times must be zero or more and at least one, got {at.tolist()[:5]}")
    decay = modes.levels * modes.factor * at[:, None]
    growth = torch.where(decay > 0, -torch.expm1(-decay) / modes.levels, modes.factor * at[:, None])
    return modes.trajectory(at, growth, unseen, None)


def kernel_descent(
    kernel: Array,
    targets: Array,
    lr: float,
    steps: int | Sequence[int],
    *,
    momentum: float = 0.0,
    initial: Array | None = None,
    reduction: str = "half_sum",
    unseen: Unseen | None = None,
) -> KernelTrajectory:
    """Outputs under full-batch gradient descent: f_t = y + (1 - lr c Theta)^t (f0 - y), and with torch's momentum.

    Parameters
    ----------
    lr, momentum
        As of `torch.optim.SGD`: v = momentum v + gradient, theta = theta - lr v.
    steps
        Number of steps, to have every step from 0 on; or the step numbers wanted.

    Other arguments and errors as `kernel_flow`. A learning rate above `max_stable_kernel_lr` is not refused, because
    divergence is the true answer; ``trouble`` says so.

    >>> found = kernel_descent(torch.tensor([[2.0, 1], [1, 2]]), torch.tensor([1.0, 0]), 1.0, [10])
    >>> [round(float(v), 6) for v in found.train[0]]
    [-511.0, -512.0]
    """
    modes = _Modes(kernel, targets, initial, reduction)
    if not lr > 0 or not 0 <= momentum < 1:
        raise ValueError(f"lr must be positive and momentum in [0, 1), got {lr} and {momentum}")
    wanted = list(range(_count(steps) + 1)) if isinstance(steps, int) else [_count(s) for s in steps]
    if not wanted:
        raise ValueError("steps must name at least one step, got none")
    growth = _descended(modes.levels, lr * modes.factor, momentum, wanted)
    limit = max_stable_kernel_lr(kernel, reduction=reduction, momentum=momentum, outputs=modes.outputs)
    trouble = None
    if lr > limit:
        text = "the learning rate {lr:.3g} is above {limit:.3g}, from where on this kernel diverges; lower it"
        trouble = Message("kernels.unstable", text, lr=lr, limit=limit)
    return modes.trajectory(torch.tensor(wanted, dtype=torch.float64), growth, unseen, trouble)


def max_stable_kernel_lr(
    kernel_or_top: Array | float, *, reduction: str = "half_sum", momentum: float = 0.0,
    examples: int | None = None, outputs: int = 1,
) -> float:  # fmt: skip
    """Learning rate above which gradient descent on this kernel diverges: 2 (1 + momentum) / (c lambda_max).

    Parameters
    ----------
    kernel_or_top
        The kernel, (n, n) or (n, n, C, C); or its largest eigenvalue, with ``examples``.
    outputs
        Number of outputs C (of a kernel (n, n) that serves each of them), for ``reduction="mse"``.
    """
    found = torch.as_tensor(kernel_or_top)
    if found.ndim == 0:
        if examples is None and reduction != "half_sum":
            raise ValueError(f"the reduction {reduction} divides by the number of examples; give examples=")
        top, n, outputs = float(found), examples or 1, outputs
    else:
        matrix, n, own = flat(found)
        outputs = own or outputs
        top = float(torch.linalg.eigvalsh(matrix)[-1])
    if not top > 0:
        raise ValueError(f"the largest eigenvalue must be positive, got {top:.3g}")
    return 2 * (1 + momentum) / (_factor(reduction, n, outputs) * top)


class _Modes:
    """The kernel's eigenbasis with the residual of the start in it."""

    def __init__(self, kernel: Array, targets: Array, initial: Array | None, reduction: str) -> None:
        matrix, self.n, own = flat(torch.as_tensor(kernel))
        self.y = torch.as_tensor(targets).double().to(matrix.device)
        if self.y.ndim not in (1, 2) or len(self.y) != self.n:
            raise ValueError(f"a kernel of {self.n} examples for targets of shape {tuple(self.y.shape)}")
        self.outputs = 1 if self.y.ndim == 1 else self.y.shape[1]
        if own is not None and own != self.outputs:
            raise ValueError(f"a kernel of {own} outputs for targets of {self.outputs}")
        self.start = torch.zeros_like(self.y) if initial is None else torch.as_tensor(initial).to(self.y)
        if self.start.shape != self.y.shape:
            raise ValueError(f"initial outputs of shape {tuple(self.start.shape)} for targets of {tuple(self.y.shape)}")
        if not bool(torch.isfinite(self.y).all() and torch.isfinite(self.start).all()):
            raise ValueError("targets or initial outputs are not finite; remove those examples")
        self.blocks, self.reduction = own is not None, reduction
        self.factor = _factor(reduction, self.n, self.outputs)
        levels, self.vectors = torch.linalg.eigh(matrix)
        if float(levels[0]) < -ROUNDING * float(levels[-1].abs()):
            raise ValueError(
                f"a tangent kernel is positive semi-definite, got an eigenvalue of {float(levels[0]):.3g} beside a "
                f"largest of {float(levels[-1]):.3g}"
            )
        self.levels = levels.clamp(min=0)
        residual = (self.y - self.start).reshape(len(matrix), -1)  # (n, C), or (n C, 1) for a kernel in blocks
        self.pull = self.vectors.T @ residual

    def trajectory(
        self, at: Tensor, growth: Tensor, unseen: Unseen | None, trouble: Message | None
    ) -> KernelTrajectory:
        """Outputs from ``growth`` (T, modes): the integral of each mode's residual, in units of its start."""
        weights = self.vectors @ (growth[:, :, None] * self.pull)  # (T, n, C): f = f0 + kernel @ weights
        left = self.vectors @ ((1 - growth * self.levels)[:, :, None] * self.pull)
        train = self.y - left.reshape(len(at), *self.y.shape)
        loss = self._scale() * left.square().sum((1, 2))
        test = None if unseen is None else self._at(unseen, weights)
        return KernelTrajectory(at=at, train=train, test=test, loss=loss, trouble=trouble)

    def _scale(self) -> float:
        return {"half_sum": 0.5, "half_mean": 0.5 / self.n, "mse": 1 / (self.n * self.outputs)}[self.reduction]

    def _at(self, unseen: Unseen, weights: Tensor) -> Tensor:
        cross = torch.as_tensor(unseen.cross).detach().to(self.y)
        if cross.ndim != (4 if self.blocks else 2) or cross.shape[1] != self.n:
            raise ValueError(f"the cross kernel must be (m, {self.n}) like the kernel, got {tuple(cross.shape)}")
        m = len(cross)
        if self.blocks:
            cross = cross.permute(0, 2, 1, 3).reshape(m * self.outputs, -1)
        moved = (cross @ weights).reshape(len(weights), m, *self.y.shape[1:])
        if unseen.initial is None:
            return moved
        start = torch.as_tensor(unseen.initial).to(self.y)
        if start.shape != moved.shape[1:]:
            raise ValueError(
                f"initial outputs there must have shape {tuple(moved.shape[1:])}, got {tuple(start.shape)}"
            )
        return start + moved


def flat(kernel: Tensor) -> tuple[Tensor, int, int | None]:
    """The kernel as a symmetric float64 matrix, its number of examples, and of outputs when it comes in blocks."""
    if kernel.ndim != 4:
        return checked_kernel(kernel), len(kernel), None
    n, _, outputs, _ = kernel.shape
    if kernel.shape != (n, n, outputs, outputs):
        raise ValueError(f"a kernel in blocks must be (n, n, C, C), got {tuple(kernel.shape)}")
    return checked_kernel(kernel.permute(0, 2, 1, 3).reshape(n * outputs, n * outputs)), n, outputs


def _factor(reduction: str, n: int, outputs: int) -> float:
    known: dict[str, float] = {"half_sum": 1.0, "half_mean": 1 / n, "mse": 2 / (n * outputs)}
    if reduction not in known:
        raise ValueError(f"reduction must be one of {', '.join(known)}, got {reduction!r}")
    return known[reduction]


def _count(steps: int) -> int:
    if steps < 0:
        raise ValueError(f"the number of steps must be zero or more, got {steps}")
    return int(steps)


def _descended(levels: Tensor, rate: float, momentum: float, wanted: list[int]) -> Tensor:
    """(T, modes): p_t with residual 1 - level * p_t, from p' = p + rate * u', u' = momentum u + residual."""
    if momentum == 0:
        step = rate * levels
        found = []
        for t in wanted:
            small = step < 1e-4
            exact = -torch.expm1(t * torch.log1p(-torch.where(small, step, torch.zeros_like(step))))
            gone = torch.where(small, exact, 1 - (1 - step) ** t)
            found.append(torch.where(levels > 0, gone / levels.clamp(min=1e-300), torch.full_like(levels, rate * t)))
        return torch.stack(found)
    p, u = torch.zeros_like(levels), torch.zeros_like(levels)
    kept = {0: p}
    needed = set(wanted)
    for t in range(1, max(wanted) + 1):
        u = momentum * u + (1 - levels * p)
        p = p + rate * u
        if t in needed:
            kept[t] = p
    return torch.stack([kept[t] for t in wanted])
