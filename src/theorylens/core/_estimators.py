"""scikit-learn estimators as torch modules, with the same answers to the last few bits."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ._errors import RefusedError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity, "logistic": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU,
}  # fmt: skip
LINEAR_CLASSIFIERS = ("LogisticRegression", "LogisticRegressionCV", "SGDClassifier")
LINEAR_REGRESSORS = ("LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "SGDRegressor")
NETWORKS = ("MLPClassifier", "MLPRegressor")
AGREEMENT = 1e-10  # relative; conversions are exact up to rounding, anything larger is another model


class ZeroFirst(nn.Module):
    """One logit z as two, (0, z): the softmax of the pair is (1 - sigmoid(z), sigmoid(z))."""

    def forward(self, logit: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(logit), logit], dim=1)


class Standardise(nn.Module):
    """``(x - mean) / scale``, fixed."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs - self.mean) / self.scale


def is_estimator(thing: Any) -> bool:
    return type(thing).__module__.split(".")[0] == "sklearn" and hasattr(thing, "get_params")


def from_sklearn(estimator: Any) -> nn.Module:
    """A fitted estimator as a float64 module from (n, features) to logits (n, classes) or values (n, outputs).

    The softmax of the logits is ``predict_proba`` (multi-label: the sigmoid), column i being ``classes_[i]``; values
    are ``predict``. An `SGDClassifier` whose loss has no probabilities gives logits with the same largest entry as its
    ``decision_function``. A `Pipeline` of `StandardScaler` and one of these estimators is taken too.

    Raises
    ------
    RefusedError
        Another estimator, one that is not fitted, or one whose module does not reproduce its answers.
    """
    module = nn.Sequential(OrderedDict(_layers(estimator)))
    _check(estimator, module)
    return module


def loss_of(estimator: Any) -> str | None:
    """The loss a converted estimator was trained with, where it has a name here."""
    last = _last(estimator)
    kind = type(last).__name__
    if kind in LINEAR_REGRESSORS or kind == "MLPRegressor":
        return "mse"
    if kind == "SGDClassifier" and last.loss != "log_loss":
        return None
    return "binary_cross_entropy" if _is_multilabel(last) else "cross_entropy"


def encoded(estimator: Any, targets: Tensor) -> Tensor:
    """Targets of a classifier as column numbers of its ``classes_``."""
    classes = getattr(_last(estimator), "classes_", None)
    if classes is None or targets.is_floating_point() or _is_multilabel(_last(estimator)):
        return targets
    if classes.dtype.kind not in "fiub":
        raise RefusedError(
            f"the estimator's classes are words ({classes[0]!r}, ...); give targets that are numbers from 0"
        )
    known = {int(c): i for i, c in enumerate(classes)}
    absent = sorted(set(targets.tolist()) - known.keys())
    if absent:
        raise RefusedError(f"the estimator knows the classes {sorted(known)}, the targets also have {absent[:5]}")
    return torch.tensor([known[t] for t in targets.tolist()])


def _last(estimator: Any) -> Any:
    return estimator.steps[-1][1] if type(estimator).__name__ == "Pipeline" else estimator


def _layers(estimator: Any) -> list[tuple[str, nn.Module]]:
    kind = type(estimator).__name__
    if kind == "Pipeline":
        return [layer for _, step in estimator.steps if step != "passthrough" for layer in _layers(step)]
    if kind == "StandardScaler":
        d = estimator.n_features_in_
        mean = estimator.mean_ if estimator.with_mean else np.zeros(d)
        return [("standardise", Standardise(_t(mean), _t(estimator.scale_ if estimator.with_std else np.ones(d))))]
    known = (*NETWORKS, *LINEAR_CLASSIFIERS, *LINEAR_REGRESSORS)
    if kind not in known:
        raise RefusedError(f"a {kind} cannot be converted to a torch module; these can: {', '.join(known)}")
    if not hasattr(estimator, "coefs_" if kind in NETWORKS else "coef_"):
        raise RefusedError(f"the {kind} is not fitted; call fit(X, y) before it is audited")
    if kind in NETWORKS:
        return _network(estimator)
    weight = np.atleast_2d(estimator.coef_)
    bias = np.broadcast_to(np.ravel(estimator.intercept_), len(weight))
    layers: list[tuple[str, nn.Module]] = [("linear", _linear(weight, bias))]
    if kind in LINEAR_REGRESSORS:
        return layers
    if len(weight) == 1:
        return [*layers, ("pair", ZeroFirst())]
    if (
        kind == "SGDClassifier" and estimator.loss == "log_loss"
    ):  # one against the rest: predict_proba normalises the sigmoids
        layers.append(("log_sigmoid", nn.LogSigmoid()))
    return layers


def _network(estimator: Any) -> list[tuple[str, nn.Module]]:
    layers: list[tuple[str, nn.Module]] = []
    pieces = list(zip(estimator.coefs_, estimator.intercepts_, strict=True))
    for i, (weight, bias) in enumerate(pieces, start=1):
        layers.append((f"linear{i}", _linear(weight.T, bias)))
        if i < len(pieces):
            layers.append((f"{estimator.activation}{i}", ACTIVATIONS[estimator.activation]()))
    out = estimator.out_activation_
    if out not in ("identity", "softmax", "logistic"):
        raise RefusedError(
            f"an MLP with the output activation {out!r} cannot be converted; train it with squared error"
        )
    if out == "logistic" and not _is_multilabel(estimator):
        layers.append(("pair", ZeroFirst()))
    return layers


def _is_multilabel(estimator: Any) -> bool:
    return getattr(estimator, "out_activation_", "") == "logistic" and estimator.n_outputs_ > 1


def _linear(weight: Any, bias: Any) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(_t(weight))
        layer.bias.copy_(_t(bias))
    return layer


def _t(array: Any) -> Tensor:
    return torch.tensor(np.array(array, dtype=np.float64))


def _check(estimator: Any, module: nn.Module) -> None:
    """Compare on random inputs: older versions of scikit-learn had other conventions for the same attributes."""
    x = np.random.default_rng(0).standard_normal((64, estimator.n_features_in_))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        outputs = module(torch.from_numpy(x))
        if loss_of(estimator) == "mse":
            found, wanted = outputs.numpy(), estimator.predict(x).reshape(len(x), -1)
        elif loss_of(estimator) is not None:
            chances = outputs.sigmoid() if _is_multilabel(_last(estimator)) else outputs.softmax(1)
            found, wanted = chances.numpy(), estimator.predict_proba(x)
        else:
            classes = _last(estimator).classes_
            found, wanted = outputs.argmax(1).numpy(), np.searchsorted(classes, estimator.predict(x))
    gap = float(np.max(np.abs(found - wanted) / (1 + np.abs(wanted))))
    if not gap < AGREEMENT:
        raise RefusedError(
            f"the module made from this {type(estimator).__name__} differs from it by {gap:.3g}; this version of "
            "scikit-learn computes its answers in another way, so convert it by hand"
        )
