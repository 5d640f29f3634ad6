"""Theory beside a real learner: how often it fails to be approximately correct, and its learning curve under bounds.

Design: a learner is made anew by a factory and has ``fit(x, y)`` and ``predict(x)``, as scikit-learn's; a network in
torch fits behind the same two methods.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from theorylens.numerics.binomial import clopper_pearson_interval
from theorylens.results import Curve, Estimate, Line, Message, Statistical, Wall

from ._asked import probability, whole
from ._sample_theorems import SAMPLE_THEOREMS
from ._vc_gap import Variant, vc_bound

Floats = NDArray[np.float64]


class Learner(Protocol):
    """What is fitted and asked."""

    def fit(self, x: Any, y: Any) -> Any: ...

    def predict(self, x: Any) -> Any: ...


def failure_rate(
    run: Callable[[int, torch.Generator], float], m: int, epsilon: float, *, runs: int, generator: torch.Generator,
    delta: float = 0.05,
) -> Estimate:  # fmt: skip
    """How often a learner ends with an error above ``epsilon`` after ``m`` examples.

    Parameters
    ----------
    run
        ``run(m, generator) -> error``: draws ``m`` examples, learns, and returns the expected error of the result.
    runs
        Number of independent repetitions; the interval is Clopper-Pearson's, two-sided, missing with at most ``delta``.

    >>> def threshold(m, generator):  # all labels positive on [0, 1]; the tightest fit errs left of the least example
    ...     return float(torch.rand(m, generator=generator).min())
    >>> failure_rate(threshold, 29, 0.1, runs=100, generator=torch.Generator().manual_seed(0)).upper < 0.2
    True
    """
    m, runs, epsilon = whole("m", m), whole("runs", runs), probability("epsilon", epsilon)
    failures = sum(run(m, generator) > epsilon for _ in range(runs))
    lower, upper = clopper_pearson_interval(failures, runs, probability("delta", delta))
    method = Message("method.repetitions", "exact binomial interval over {runs} repetitions", runs=runs)
    interval = Statistical(lower=lower, upper=upper, level=1 - delta, method=method)
    return Estimate(value=failures / runs, uncertainty=interval)


@dataclass(frozen=True, kw_only=True, eq=False)
class PacLearningCurve:
    """Errors of a learner by number of training examples, with the bound that its class's VC dimension gives.

    ``test_lower`` and ``test_upper`` are exact intervals of the expected error, each on its own at 1 - delta; ``bound``
    holds at each size on its own too.
    """

    sizes: NDArray[np.int64]
    train_error: Floats
    test_error: Floats
    test_lower: Floats
    test_upper: Floats
    bound: Floats
    delta: float
    theorem: Message

    @property
    def payload(self) -> Curve:
        """Measured errors with the bound above them."""
        x = self.sizes.astype(np.float64)
        test = Line(
            x=x, y=self.test_error, lower=self.test_lower, upper=self.test_upper,
            name=Message("line.test_error", "test error"),
        )  # fmt: skip
        train = Line(x=x, y=self.train_error, name=Message("line.train_error", "training error"))
        bound = Line(x=x, y=self.bound, name=self.theorem, role="theory")
        text = "Error against the number of training examples, measured, and bounded from the class's VC dimension"
        return Curve(
            label=Message("learning_curve.label", text), lines=(test, train, bound), x_log=True,
            x_name=Message("axis.examples", "training examples"), y_name=Message("axis.error", "error"),
            walls=(Wall(at=1.0, name=Message("wall.vacuous", "says nothing")),),
        )  # fmt: skip


def pac_learning_curve(
    make: Callable[[], Learner], train: tuple[ArrayLike, ArrayLike], test: tuple[ArrayLike, ArrayLike], *,
    sizes: Sequence[int], vc_dimension: int, generator: torch.Generator, delta: float = 0.05,
    variant: Variant = "vapnik",
) -> PacLearningCurve:  # fmt: skip
    """Train on growing parts of ``train`` and hold the test errors against `vc_bound`.

    Parameters
    ----------
    make
        Gives a new, unfitted learner whose class has VC dimension ``vc_dimension`` (affine classifiers of d features:
        d + 1).
    train, test
        Pairs (x, y) of arrays; two classes, any two labels.
    sizes
        Numbers of training examples; the parts are nested, in an order drawn from ``generator``.

    Raises
    ------
    ValueError
        More than two classes (the theorems are about two), a size beyond the training set, or no test example.
    """
    (x, y), (x_test, y_test) = ((np.asarray(a), np.asarray(b)) for a, b in (train, test))
    if len(np.unique(y)) > 2:
        raise ValueError(f"VC bounds are about two classes, got {len(np.unique(y))} labels; join them into two")
    counts = np.array([whole("sizes", m) for m in sizes], dtype=np.int64)
    if len(counts) == 0 or counts.max() > len(x) or len(x_test) == 0:
        raise ValueError(f"sizes {list(sizes)} need 1 to {len(x)} training examples, and there must be test examples")
    order = torch.randperm(len(x), generator=generator).numpy()
    train_error, wrong = np.zeros(len(counts)), np.zeros(len(counts), dtype=np.int64)
    for i, m in enumerate(counts):
        part = order[:m]
        learner = make()
        learner.fit(x[part], y[part])
        train_error[i] = np.mean(np.asarray(learner.predict(x[part])) != y[part])
        wrong[i] = int((np.asarray(learner.predict(x_test)) != y_test).sum())
    lower, upper = clopper_pearson_interval(wrong, len(x_test), delta)
    bounds = [
        vc_bound(float(e), int(m), vc_dimension, delta, variant) for e, m in zip(train_error, counts, strict=True)
    ]
    return PacLearningCurve(
        sizes=counts, train_error=train_error, test_error=wrong / len(x_test), test_lower=lower, test_upper=upper,
        bound=np.array([b.bound for b in bounds]), delta=delta, theorem=bounds[0].theorem,
    )  # fmt: skip


def sample_size_curve(dimensions: Sequence[int], epsilon: float, delta: float) -> Curve:
    """Examples against VC dimension, realizable: enough (Blumer et al.), needed by all, and the order of the best."""
    epsilon, delta = probability("epsilon", epsilon), probability("delta", delta)
    d = np.array([whole("dimensions", each) for each in dimensions], dtype=np.float64)

    def line(keys: Sequence[str], name: Message, role: Any) -> Line:
        used = [SAMPLE_THEOREMS[k] for k in keys]
        y = [max([t.required(s, epsilon, delta) for t in used if t.holds(s, epsilon, delta)] or [1.0]) for s in d]
        return Line(x=d, y=np.array(y), name=name, role=role)

    needed = Message("line.needed", "needed by every learner")
    lines = (
        line(("blumer",), SAMPLE_THEOREMS["blumer"].name, "network"),
        line(("hanneke",), Message("line.order", "optimal learner, up to a constant"), "theory"),
        line(("missed-point", "half-seen", "ehrenfeucht"), needed, "theory"),
    )
    text = "Examples for accuracy {epsilon:g} and confidence {confidence:.1%} against VC dimension, realizable setting"
    return Curve(
        label=Message("samples.curve", text, epsilon=epsilon, confidence=1 - delta), lines=lines,
        x_name=Message("axis.vc_dimension", "VC dimension"), y_name=Message("axis.samples", "examples"), x_log=True,
        y_log=True,
    )  # fmt: skip
