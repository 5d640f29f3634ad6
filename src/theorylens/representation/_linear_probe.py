"""Linear probe: how well can a linear classifier read the classes off one layer?

Method   logistic regression on standardised features, fitted on one half of the rows and scored on the other
Source   Alain, Bengio (2016). Understanding intermediate layers using linear classifier probes. arXiv:1610.01644
Assumes  the scored rows had no part in the fit and are independent draws
Breaks   with many units and few rows: a random layer is then also read well, so compare with the control
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from theorylens.numerics.binomial import clopper_pearson_interval
from theorylens.results import Estimate, Message, Statistical

STRENGTH = 1.0  # scikit-learn's C on standardised features: mild ridge, the same for every layer
STEPS = 2000
TOLERANCE = 1e-4  # largest entry of the gradient; at 1e-6 the same decisions cost twenty times as much


@dataclass(frozen=True, kw_only=True)
class Read:
    """A fitted probe, scored.

    Attributes
    ----------
    accuracy
        Share of the scored rows read correctly, with an exact binomial interval given the fitted probe.
    correct
        Which scored rows were.
    steps
        Steps of the optimiser.
    """

    accuracy: Estimate
    correct: Bool[Tensor, " m"]
    steps: int


def linear_probe(
    features: Tensor, labels: Tensor, scored_features: Tensor, scored_labels: Tensor, *, steps: int = STEPS
) -> Read:
    """Fit multinomial logistic regression on (features, labels) and score it on the other rows.

    Features are standardised with the mean and spread of the fitted rows. With more units than rows they are rotated
    into the space those rows span, which changes neither the ridge-penalised fit nor its predictions. Deterministic.

    Parameters
    ----------
    features, scored_features
        Shapes (n, units) and (m, units).
    labels, scored_labels
        Whole numbers, shapes (n,) and (m,).
    steps
        Most steps of L-BFGS; when they do not suffice, the estimate carries trouble.

    Raises
    ------
    ValueError
        Shapes that do not fit, values that are not finite, or fewer than two classes to fit.
    """
    _check(features, labels, scored_features, scored_labels)
    x, z = _standardised(features.double().numpy(), scored_features.double().numpy())
    model = LogisticRegression(C=STRENGTH, max_iter=steps, tol=TOLERANCE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x, labels.numpy())
    for warning in caught:
        if not issubclass(warning.category, ConvergenceWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    correct = torch.from_numpy(model.predict(z) == scored_labels.numpy())
    taken = int(np.max(model.n_iter_))
    trouble = None
    if any(issubclass(w.category, ConvergenceWarning) for w in caught):
        text = "the probe did not converge in {steps} steps; raise steps"
        trouble = Message("linear_probe.not_converged", text, steps=taken)
    return Read(accuracy=_share(correct, trouble), correct=correct, steps=taken)


def _check(features: Tensor, labels: Tensor, scored_features: Tensor, scored_labels: Tensor) -> None:
    for name, x, y in (("fitted", features, labels), ("scored", scored_features, scored_labels)):
        if x.ndim != 2 or y.ndim != 1 or len(x) != len(y) or len(x) == 0:
            raise ValueError(
                f"{name} rows need features (n, units) and labels (n,), got {tuple(x.shape)} and {tuple(y.shape)}"
            )
        if bad := int((~torch.isfinite(x).all(1)).sum()):
            raise ValueError(f"{bad} of {len(x)} {name} rows have features that are not finite; remove or repair them")
    if features.shape[1] != scored_features.shape[1]:
        raise ValueError(
            f"fitted rows have {features.shape[1]} units, scored rows {scored_features.shape[1]}; take one layer"
        )
    if len(labels.unique()) < 2:  # type: ignore[no-untyped-call]
        raise ValueError(f"the {len(labels)} fitted rows have one class; a probe needs at least two")


def _standardised(
    fitted: NDArray[np.float64], scored: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean, spread = fitted.mean(0), fitted.std(0)
    # A unit that never moves on the fitted rows says nothing there; dividing by its spread would only add noise.
    moving = spread > 1e-7 * np.maximum(np.abs(mean), np.finfo(np.float64).tiny)
    x = (fitted[:, moving] - mean[moving]) / spread[moving]
    z = (scored[:, moving] - mean[moving]) / spread[moving]
    if x.shape[1] == 0:
        return np.zeros((len(fitted), 1)), np.zeros((len(scored), 1))
    if x.shape[1] <= x.shape[0]:
        return x, z
    rotation = np.linalg.qr(x.T)[0]
    return x @ rotation, z @ rotation


def _share(correct: Tensor, trouble: Message | None) -> Estimate:
    n, errors = len(correct), int((~correct).sum())
    lower, upper = clopper_pearson_interval(errors, n, 0.05)
    method = Message("linear_probe.interval", "Clopper-Pearson over {n} scored rows", n=n)
    interval = Statistical(lower=1 - upper, upper=1 - lower, level=0.95, method=method)
    return Estimate(value=1 - errors / n, uncertainty=interval, trouble=trouble, unit="accuracy")
