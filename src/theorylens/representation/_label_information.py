"""Information about the class in a few directions of each layer, between nothing and the entropy of the class.

Method   discriminant directions fitted to one half of the rows; Ross's estimate between them and the class on the other
Source   Ross (2014), PLoS ONE 9:e87357; data processing: a function of the features knows no more than they do
Assumes  the rows of the second half are independent draws
Breaks   it is the information in these directions, not all; that between input and features is infinite for a
         deterministic continuous network, and is not estimated by anything
"""

from __future__ import annotations

import math

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from theorylens.results import Estimate

from ._matrices import labels_of, real_rows
from ._mutual_information import NEIGHBOURS, ross

LEADING = 40  # principal directions in which the discriminant ones are sought; some hundred rows fit no more
DIRECTIONS = 2  # more are read low by nearest neighbours


def label_information(
    features: Tensor, labels: Tensor, fitted: Tensor, *, directions: int = DIRECTIONS, k: int = NEIGHBOURS
) -> Estimate:
    """Mutual information, in nats, of the class and the ``directions`` in which classes differ most.

    Parameters
    ----------
    features, labels
        (n, d) and whole numbers (n,).
    fitted
        Which rows find the directions, bool (n,); the others score, so that no direction is found by chance.

    Returns
    -------
    `ross` on the scored rows: up to its error, a lower limit of the information in all features, which is at most the
    entropy of the class.

    Raises
    ------
    ValueError
        A class without two scored rows or without a fitted one, features that are constant on the fitted rows.
    """
    x = real_rows(features, "features", fewest=8)
    numbers = labels_of(len(x), labels)
    if fitted.shape != (len(x),) or fitted.dtype != torch.bool:
        raise ValueError(f"fitted must be bool of shape ({len(x)},), got {fitted.dtype} {tuple(fitted.shape)}")
    classes = int(numbers.max()) + 1
    if (
        int(numbers[fitted].bincount(minlength=classes).min()) < 1
        or int(numbers[~fitted].bincount(minlength=classes).min()) < 2
    ):
        raise ValueError("each class needs a fitted row and two scored ones; give more rows")
    centred = x - x[fitted].mean(0)
    _, scales, leading = torch.linalg.svd(centred[fitted], full_matrices=False)
    moving = scales > 1e-7 * float(x.abs().max()) * len(x) ** 0.5
    if not bool(moving.any()):
        raise ValueError(f"the features are the same on all {int(fitted.sum())} fitted rows; give features that vary")
    z = (centred @ leading[moving][:LEADING].T).numpy()
    model = LinearDiscriminantAnalysis(
        solver="eigen", shrinkage="auto", n_components=min(directions, classes - 1, z.shape[1])
    )
    model.fit(z[fitted.numpy()], numbers[fitted].numpy())
    y = np.asarray(model.transform(z[~fitted.numpy()]))
    return ross(torch.from_numpy(y), numbers[~fitted], min(k, len(y) - 1))


def label_entropy(labels: Tensor) -> float:
    """Entropy of the classes among ``labels`` in nats: the most that features can know of them."""
    shares = labels_of(len(labels), labels).bincount().double() / len(labels)
    return float(torch.special.entr(shares).sum()) if len(shares) > 1 else -math.inf
