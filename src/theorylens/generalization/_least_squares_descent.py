"""Double descent of least squares, measured: on Gaussian data beside its exact theory, and on random features of real
data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from theorylens.bias import flip_labels
from theorylens.core import key_seed
from theorylens.results import Message

from ._least_squares import least_squares_risk, ridge_risk
from ._random_features import random_features_risk
from ._risk_curve import RiskCurve

Floats = NDArray[np.float64]
PARAMETERS = Message("generalization.parameters", "fitted parameters")
EXAMPLES = Message("generalization.examples", "training examples")
FEATURES = Message("generalization.features", "random features")
EXCESS = Message("generalization.excess_risk", "excess risk")
RESIDUAL = Message("generalization.train_residual", "training, mean square with noise")  # no excess: noise is in it


def least_squares_descent(
    n: int | Sequence[int],
    parameters: int | Sequence[int],
    *,
    noise: float,
    signal: float = 1.0,
    total: int | None = None,
    ridge: float = 0.0,
    runs: int = 20,
    seed: int = 0,
) -> RiskCurve:
    """Fit minimum-norm least squares to drawn Gaussian data over a range of sizes, beside its exact mean risk.

    Test risks are computed exactly for each fit, so only the training data vary between runs.

    Parameters
    ----------
    n, parameters
        One of them a list: the size that varies, increasing. Sample-wise double descent varies ``n``.
    noise, signal
        Variance of the noise; squared length of the true coefficients.
    total
        All inputs that matter, of which the first ``parameters`` are fitted, the true coefficients in a uniformly
        drawn direction: then more parameters also explain more. By default every input is fitted.
    ridge
        Penalty on the mean squared error; 0 for the minimum-norm solution. With it, theory is the limit for large n
        (only without ``total``).
    runs, seed
        Independent repetitions, at least 2.

    Raises
    ------
    ValueError
        Both sizes or none vary, sizes that do not increase, more parameters than ``total``, fewer than 2 runs, a
        negative variance or penalty.
    """
    counts, widths = _sizes(n, parameters)
    sizes = counts if len(counts) > 1 else widths
    _check_runs(sizes, runs)
    if not ridge >= 0:
        raise ValueError(f"the ridge penalty must be at least 0, got {ridge}")
    if total is not None and (widths > total).any():
        raise ValueError(f"cannot fit {widths.max()} of {total} inputs; total must be at least the largest p")
    counts, widths = np.broadcast_arrays(counts, widths)
    theory = _theory(counts, widths, noise, signal, total, ridge)
    test, train = np.empty((2, len(sizes), runs))
    for run in range(runs):
        rng = np.random.default_rng(key_seed(seed, "least squares", run))
        drawn = _Draw(rng, int(counts.max()), int(total or widths.max()), noise, signal)
        for i, (m, p) in enumerate(zip(counts, widths, strict=True)):
            test[i, run], train[i, run] = drawn.fit(int(m), int(p), total, ridge)
    varies = len(np.unique(counts)) > 1
    return RiskCurve(
        sizes=sizes.astype(np.float64), test=test, train=train, theory=theory,
        threshold=float(widths[0] if varies else counts[0]), x_name=EXAMPLES if varies else PARAMETERS, y_name=EXCESS,
        train_name=RESIDUAL,
        label=Message("generalization.least_squares", "Least squares on Gaussian data, measured and by theory"),
    )  # fmt: skip


class _Draw:
    """One data set, of which more or fewer rows and inputs are used."""

    def __init__(self, rng: np.random.Generator, n: int, d: int, noise: float, signal: float) -> None:
        self.x = rng.standard_normal((n, d))
        self.errors = rng.standard_normal(n) * np.sqrt(noise)
        self.direction = rng.standard_normal(d)
        self.signal = signal

    def fit(self, n: int, p: int, total: int | None, ridge: float) -> tuple[float, float]:
        """Excess risk and training mean square of a fit of ``p`` inputs to ``n`` rows."""
        d = p if total is None else total
        truth = self.direction[:d] * np.sqrt(self.signal / (self.direction[:d] ** 2).sum())
        x = self.x[:n, :d]
        y = x @ truth + self.errors[:n]
        found = minimum_norm(x[:, :p], y, ridge)
        missed = ((found - truth[:p]) ** 2).sum() + (truth[p:] ** 2).sum()
        return float(missed), float(((y - x[:, :p] @ found) ** 2).mean())


def minimum_norm(x: Floats, y: Floats, ridge: float = 0.0) -> Floats:
    """Least squares coefficients of smallest norm, or with ``ridge`` > 0 those of ridge regression on the mean."""
    if ridge == 0:
        return np.asarray(np.linalg.lstsq(x, y, rcond=None)[0])
    n, p = x.shape
    if p <= n:
        return np.asarray(np.linalg.solve(x.T @ x + n * ridge * np.eye(p), x.T @ y))
    return np.asarray(x.T @ np.linalg.solve(x @ x.T + n * ridge * np.eye(n), y))


def random_features_descent(
    train: tuple[Any, Any],
    test: tuple[Any, Any],
    features: int | Sequence[int],
    *,
    examples: int | Sequence[int] | None = None,
    rate: float = 0.0,
    ridge: float = 0.0,
    runs: int = 5,
    seed: int = 0,
) -> RiskCurve:
    """Fit least squares on random ReLU features of real inputs over a range of feature numbers, or of examples.

    Parameters
    ----------
    train, test
        ``(inputs, classes)``: shapes (n, ...) and (n,). The classes are fitted as 0 and 1 in one column each.
    features, examples
        Numbers of features, and of training rows that are used, the first of a random order in each run; by default
        all. One of them is a list that increases; interpolation ends or begins where they are equal.
    rate
        Share of training labels that are changed to another class.
    ridge, runs, seed
        As `least_squares_descent`; a run draws features and label noise.

    Returns
    -------
    Test and training risk are mean squared errors over rows and columns.

    Raises
    ------
    ValueError
        Numbers that do not increase, fewer than 2 runs or classes, a rate outside [0, 1].
    """
    (x, y), (held, answers) = (_rows(*given) for given in (train, test))
    counts, widths = _sizes(len(x) if examples is None else examples, features)
    sizes = counts if len(counts) > 1 else widths
    _check_runs(sizes, runs)
    if counts.max() > len(x):
        raise ValueError(f"{counts.max()} examples are asked for, there are {len(x)} training rows")
    classes = int(max(int(y.max()), int(answers.max()))) + 1
    if classes < 2:
        raise ValueError("one class only: there is nothing to fit")
    varies = len(counts) > 1
    scale = float(np.sqrt((x**2).sum(1).mean()))
    test_risk, train_risk = np.empty((2, len(sizes), runs))
    for run in range(runs):
        generator = torch.Generator().manual_seed(key_seed(seed, "random features", run))
        noisy = flip_labels(y, rate, classes, generator)
        given, known = (np.eye(classes)[labels.numpy()] for labels in (noisy, answers))
        weights = torch.randn(x.shape[1] + 1, int(widths.max()), generator=generator, dtype=torch.float64).numpy()
        order = torch.randperm(len(x), generator=generator).numpy() if varies else np.arange(len(x))
        inside, outside = (_features(part, weights, scale) for part in (x[order], held))
        given = given[order]
        for i, (m, p) in enumerate(zip(*np.broadcast_arrays(counts, widths), strict=True)):
            centre = given[:m].mean(0)
            found = minimum_norm(inside[:m, :p], given[:m] - centre, ridge)
            train_risk[i, run] = ((inside[:m, :p] @ found + centre - given[:m]) ** 2).mean()
            test_risk[i, run] = ((outside[:, :p] @ found + centre - known) ** 2).mean()
    return RiskCurve(
        sizes=sizes.astype(np.float64), test=test_risk, train=train_risk,
        threshold=float(widths[0] if varies else counts[0]),
        label=Message(
            "generalization.random_features", "Random features of real data, {rate:.0%} of labels changed", rate=rate
        ),
        x_name=EXAMPLES if varies else FEATURES,
        y_name=Message("generalization.squared_error", "mean squared error"),
    )  # fmt: skip


def sphere_features_descent(
    inputs: int,
    features: int | Sequence[int],
    examples: int | Sequence[int],
    *,
    noise: float,
    signal: float = 1.0,
    penalty: float = 0.0,
    runs: int = 10,
    seed: int = 0,
) -> RiskCurve:
    """Fit random ReLU features of inputs on a sphere to a linear target over a range of sizes, beside the limit.

    Parameters
    ----------
    inputs
        Dimension d; the theory is that of `random_features_risk`, for large d.
    features, examples
        N and n; one of them a list that increases.
    noise, signal, penalty
        As `random_features_risk`.
    runs, seed
        Independent repetitions, at least 2. Test risk is over 2,000 inputs.

    Raises
    ------
    ValueError
        Both sizes or none vary, sizes that do not increase, fewer than 2 runs, a negative variance or penalty.
    """
    counts, widths = _sizes(examples, features)
    sizes = counts if len(counts) > 1 else widths
    _check_runs(sizes, runs)
    theory = random_features_risk(widths / inputs, counts / inputs, penalty, noise=noise, signal=signal)
    test, train = np.empty((2, len(sizes), runs))
    for run in range(runs):
        rng = np.random.default_rng(key_seed(seed, "sphere features", run))
        drawn = [_on_sphere(rng, m, inputs) for m in (int(widths.max()), int(counts.max()), 2000)]
        direction = rng.standard_normal(inputs)
        direction *= np.sqrt(signal) / np.linalg.norm(direction)
        inside, outside = (np.maximum(x @ drawn[0].T / np.sqrt(inputs), 0.0) for x in drawn[1:])
        targets = drawn[1] @ direction + np.sqrt(noise) * rng.standard_normal(len(drawn[1]))
        for i, (m, p) in enumerate(zip(*np.broadcast_arrays(counts, widths), strict=True)):
            found = minimum_norm(inside[:m, :p], targets[:m], penalty * p / inputs)
            train[i, run] = ((inside[:m, :p] @ found - targets[:m]) ** 2).mean()
            test[i, run] = ((outside[:, :p] @ found - drawn[2] @ direction) ** 2).mean()
    varies = len(counts) > 1
    return RiskCurve(
        sizes=sizes.astype(np.float64), test=test, train=train, theory=np.atleast_1d(np.asarray(theory)),
        threshold=float(widths[0] if varies else counts[0]), x_name=EXAMPLES if varies else FEATURES, y_name=EXCESS,
        train_name=RESIDUAL,
        label=Message("generalization.sphere_features", "Random features on a sphere, measured and in the limit"),
    )  # fmt: skip


def _on_sphere(rng: np.random.Generator, count: int, inputs: int) -> Floats:
    rows = rng.standard_normal((count, inputs))
    return np.asarray(rows * np.sqrt(inputs) / np.linalg.norm(rows, axis=1, keepdims=True))


def _features(x: Floats, weights: Floats, scale: float) -> Floats:
    """ReLU features of inputs of unit mean square length, with a bias of the same size."""
    wide = np.concatenate([x / scale, np.ones((len(x), 1))], axis=1)
    return np.asarray(np.maximum(wide @ weights, 0.0))


def _rows(inputs: Any, labels: Any) -> tuple[Floats, Tensor]:
    x, y = torch.as_tensor(inputs).double(), torch.as_tensor(labels).long()
    if len(x) != len(y) or y.ndim != 1 or not len(y):
        raise ValueError(f"need one class per input row, got {len(x)} rows and classes of shape {tuple(y.shape)}")
    return x.reshape(len(x), -1).numpy(), y


def _theory(
    n: NDArray[np.int64], p: NDArray[np.int64], noise: float, signal: float, total: int | None, ridge: float
) -> Floats | None:  # fmt: skip
    if ridge > 0:
        return None if total is not None else np.asarray(ridge_risk(p / n, ridge, noise=noise, signal=signal))
    if total is None:
        return np.asarray(least_squares_risk(n, p, noise=noise, signal=signal))
    share = signal * p / total  # of a uniformly drawn direction, in the mean; the risk is linear in it
    return np.array(
        [
            least_squares_risk(int(m), int(q), noise=noise, signal=float(s), omitted=float(signal - s))
            for m, q, s in zip(n, p, share, strict=True)
        ]
    )


def _sizes(n: int | Sequence[int], parameters: int | Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    counts, widths = (np.atleast_1d(np.asarray(v, dtype=np.int64)) for v in (n, parameters))
    if (len(counts) > 1) == (len(widths) > 1):
        raise ValueError(f"let one size vary and fix the other, got {len(counts)} values of n, {len(widths)} of p")
    return counts, widths


def _check_runs(sizes: NDArray[np.int64], runs: int) -> None:
    if not len(sizes) or (np.diff(sizes) <= 0).any() or sizes[0] < 1:
        raise ValueError(f"sizes must be whole numbers that increase from at least 1, got {sizes.tolist()}")
    if runs < 2:
        raise ValueError(f"runs must be at least 2 to give an interval, got {runs}")
