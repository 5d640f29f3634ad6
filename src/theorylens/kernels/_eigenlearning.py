"""Learning curves of kernel regression from the spectrum: how much of each eigenfunction n examples teach.

Method   kappa solves sum l_i / (l_i + kappa) + ridge / kappa = n; L_i = l_i / (l_i + kappa) is learnt of mode i; test
         error = E0 (sum (1 - L_i)^2 v_i^2 + noise), E0 = n / (n - sum L_i^2)
Source   Simon, Dickens, Karkada, DeWeese (2023), TMLR; Bordelon, Canatar, Pehlevan (2020), ICML; Canatar, Bordelon,
         Pehlevan (2021), Nature Communications 12
Assumes  eigenfunctions that behave like independent random features; n not tiny
Breaks   an average-case prediction, not a bound; from a finite population it fails when n is a large part of it
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq

from theorylens.results import Curve, Line, Message

from ._alignment import Array, checked_kernel
from ._effective_dimension import kernel_eigenvalues, without_rounding
from ._rkhs_norm import real_targets

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class EigenLearning:
    """Prediction at one number of examples.

    Attributes
    ----------
    kappa
        Eigenvalues above it are learnt, below it not.
    learnability
        L_i of each eigenvalue, largest eigenvalue first (m,); they add up to at most n.
    overfitting
        E0: factor by which fitting noise and unlearnable modes multiplies the error; at least 1.
    test_mse, train_mse
        Expected squared error on new examples (noise included) and on the training examples.
    """

    kappa: float
    learnability: Floats
    overfitting: float
    test_mse: float
    train_mse: float


def eigenlearning(
    eigenvalues: Array, coefficients: Array, n: int, ridge: float = 0.0, *, noise: float = 0.0
) -> EigenLearning:
    """Expected error of kernel ridge regression from ``n`` examples.

    Parameters
    ----------
    eigenvalues
        Of the kernel as an integral operator over the input distribution, (m,), in any order.
    coefficients
        v_i of the target in the orthonormal eigenfunctions, (m,) or (m, C) in the same order.
    n, ridge
        Examples, and what is added to the eigenvalues of the kernel matrix (K + ridge)^-1.
    noise
        Variance of the noise in the targets (what lies outside the eigenfunctions counts as noise).

    Raises
    ------
    ValueError
        Negative eigenvalues or ridge, shapes that do not match, n below 1, or no ridge and n not below the number of
        positive eigenvalues (the prediction is then degenerate).
    """
    levels = torch.as_tensor(eigenvalues).detach().double()
    order = levels.argsort(descending=True)
    l = kernel_eigenvalues(levels).cpu().numpy()  # noqa: E741
    v2 = real_targets(coefficients, len(l)).square().sum(1)[order].cpu().numpy()
    if n < 1 or not 0 <= ridge < math.inf or not 0 <= noise < math.inf:
        raise ValueError(f"n must be at least 1, ridge and noise zero or more, got {n}, {ridge} and {noise}")
    if ridge == 0 and n >= int((l > 0).sum()):
        raise ValueError(
            f"without a ridge {n} examples determine all {int((l > 0).sum())} modes; give a ridge or fewer examples"
        )

    def excess(log_kappa: float) -> float:
        kappa = math.exp(log_kappa)
        return float((l / (l + kappa)).sum() + ridge / kappa - n)

    high = math.log((l.sum() + ridge) / n) + 1e-9  # each term is below l / kappa
    low = high - 1.0
    while excess(low) < 0:
        low -= 2.0
    kappa = math.exp(brentq(excess, low, high, xtol=1e-14, rtol=1e-15))
    learnt: Floats = l / (l + kappa)
    overfitting = n / (n - float((learnt**2).sum()))
    test = overfitting * (float(((1 - learnt) ** 2 * v2).sum()) + noise)
    train = (ridge / (n * kappa)) ** 2 * test
    return EigenLearning(kappa=kappa, learnability=learnt, overfitting=overfitting, test_mse=test, train_mse=train)


def eigensystem(kernel: Array, targets: Array) -> tuple[Floats, Floats]:
    """Eigenvalues of K / N, largest first, and coefficients (N, C) of the targets in its eigenvectors times sqrt(N).

    What `eigenlearning` takes, estimated from a population of N examples: predictions are for n well below N.
    """
    K = checked_kernel(kernel)
    y = real_targets(targets, len(K))
    levels, vectors = torch.linalg.eigh(K / len(K))
    return (
        without_rounding(levels).flip(0).cpu().numpy(),
        (vectors.T @ y).flip(0).cpu().numpy() / math.sqrt(len(K)),
    )


def learning_curve(kernel: Array, targets: Array, sizes: Sequence[int], ridge: float = 0.0) -> Floats:
    """Predicted test error (squared, summed over outputs) of kernel regression at each number of examples, (T,).

    ``kernel`` and ``targets`` are a population of N examples from which the training examples are drawn. Errors as
    `eigenlearning`; sizes must lie below N.
    """
    levels, coefficients = eigensystem(kernel, targets)
    return np.array([eigenlearning(levels, coefficients, int(n), ridge).test_mse for n in sizes])


def cumulative_power(kernel: Array, targets: Array) -> Floats:
    """Share of the targets' squared norm in the top k eigenvectors of the kernel, k = 1 ... N, (N,).

    Early growth means a kernel that fits the task: few examples suffice (Canatar et al. 2021).
    """
    power = (eigensystem(kernel, targets)[1] ** 2).sum(1)
    if not power.sum() > 0:
        raise ValueError("the targets are zero, so there is no power to share out")
    found: Floats = np.cumsum(power) / power.sum()
    return found


def learning_curve_payload(sizes: Sequence[int], measured: Floats, predicted: Floats) -> Curve:
    """Measured and predicted test errors in one picture."""
    x = np.array(sizes, dtype=np.float64)
    error = Message("kernels.squared_error", "squared error on new examples")
    theory = Message("kernels.predicted_error", "predicted from the spectrum")
    return Curve(
        label=Message("kernels.learning_curve", "Test error of kernel regression, measured and predicted"),
        lines=(
            Line(x=x, y=measured, name=Message("kernels.measured_error", "measured")),
            Line(x=x, y=predicted, name=theory, role="theory"),
        ),
        x_name=Message("kernels.examples", "training examples"), y_name=error, x_log=True, y_log=True,
    )  # fmt: skip
