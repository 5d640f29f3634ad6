"""Training with a fixed kernel on the cross-entropy: no closed form, an ordinary differential equation.

Method   df/dt = -Theta (softmax(f) - e_y), adaptive Runge-Kutta of order 5, relative error 1e-8 a step
Source   Jacot, Gabriel, Hongler (2018), NeurIPS; Lee et al. (2019), NeurIPS
Assumes  the kernel does not move
Breaks   cross-entropy has no finite minimum on separable data: outputs, and so the way of the kernel, grow for ever
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.integrate import solve_ivp

from ._alignment import Array
from ._dynamics import KernelTrajectory, flat


def cross_entropy_flow(
    kernel: Array, labels: Array, times: Sequence[float] | Array, *, classes: int, initial: Array | None = None
) -> KernelTrajectory:
    """Outputs under gradient flow on the summed softmax cross-entropy, by integrating df/dt = -Theta (p - e_y).

    ``kernel`` (n, n) or (n, n, C, C), ``labels`` integers (n,), ``initial`` (n, C). Adaptive Runge-Kutta, relative
    error 1e-8. Times as in `kernel_flow`; errors too.
    """
    y = torch.as_tensor(labels)
    if y.ndim != 1 or y.is_floating_point() or bool((y < 0).any()) or bool((y >= classes).any()):
        raise ValueError(f"labels must be integers (n,) from 0 to {classes - 1}, got shape {tuple(y.shape)}")
    matrix, n, own = flat(torch.as_tensor(kernel))
    if n != len(y) or own not in (None, classes):
        raise ValueError(f"a kernel of {n} examples and {own or 1} outputs for {len(y)} labels of {classes} classes")
    K, hot = matrix.numpy(), torch.nn.functional.one_hot(y, classes).double().numpy()
    start = np.zeros((n, classes)) if initial is None else torch.as_tensor(initial).double().numpy().copy()
    if start.shape != (n, classes):
        raise ValueError(f"initial outputs must have shape {(n, classes)}, got {start.shape}")

    def slope(_: float, flat: np.ndarray) -> np.ndarray:
        f = flat.reshape(n, classes)
        p = np.exp(f - f.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        pull = p - hot
        moved = K @ pull if own is None else K @ pull.reshape(-1)
        return -np.asarray(moved).reshape(-1)

    at = torch.as_tensor(times).double().reshape(-1)
    if not len(at) or not bool((at >= 0).all()) or not bool((at.diff() > 0).all()):
        raise ValueError(f"times must be zero or more and increase, got {at.tolist()[:5]}")
    solved = solve_ivp(slope, (0.0, float(at[-1])), start.reshape(-1), t_eval=at.numpy(), rtol=1e-8, atol=1e-10)
    if not solved.success:
        raise ValueError(f"the differential equation was not solved: {solved.message}")
    f = torch.from_numpy(solved.y.T.reshape(len(at), n, classes).copy())
    loss = -torch.log_softmax(f, 2).gather(2, y[None, :, None].expand(len(at), -1, 1)).sum((1, 2))
    return KernelTrajectory(at=at, train=f, test=None, loss=loss)
