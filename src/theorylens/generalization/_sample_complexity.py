"""How many examples are enough to learn, and how many are needed: every applicable theorem, and its inverses.

Settings, never mixed: "realizable" (zero training error is possible; epsilon bounds the error), "uniform" (epsilon
bounds the difference of training and expected error for all classifiers at once), "agnostic" (epsilon bounds the excess
of the empirical minimiser over the best of the class), "expected" (an average instead of a probability).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from theorylens.results import Curve, Line, Message, Table

from ._asked import probability, whole
from ._sample_theorems import KINDS, LARGEST, SAMPLE_THEOREMS, SETTINGS, Bound, Measure, SampleTheorem, Setting

_DEFAULTS: dict[tuple[Measure, Setting], str] = {
    ("nats", "realizable"): "occam", ("nats", "uniform"): "hoeffding-union", ("nats", "agnostic"): "erm-union",
    ("vc", "realizable"): "blumer", ("vc", "uniform"): "vapnik-uniform", ("vc", "agnostic"): "vapnik-agnostic",
    ("vc", "expected"): "one-inclusion",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SampleSize:
    """What one theorem says: ``m`` examples are enough, needed, or (kind "order") known up to a constant only."""

    key: str
    theorem: Message
    setting: Setting
    kind: Bound
    m: int
    assumption: Message
    reference: str


def sample_complexity(
    epsilon: float, delta: float, *, class_size: int | None = None, log_class_size: float | None = None,
    bits: float | None = None, vc_dimension: int | None = None, setting: Setting = "realizable",
    theorem: str | None = None,
) -> int:  # fmt: skip
    """Examples that are enough for accuracy ``epsilon`` with probability 1 - ``delta``.

    Parameters
    ----------
    class_size, log_class_size, bits, vc_dimension
        Exactly one: the number of classifiers, its natural logarithm (or -ln of a prior probability), a code length in
        bits (the compressed size of a network), or the VC dimension of a class of any size.
    setting
        "realizable", "uniform", "agnostic" or, for a VC dimension, "expected"; see the module.
    theorem
        A key of `sample_sizes`; by default the best known one of the setting with explicit constants in textbooks:
        "occam", "hoeffding-union", "erm-union"; "blumer", "vapnik-uniform", "vapnik-agnostic", "one-inclusion".

    Raises
    ------
    ValueError
        Epsilon or delta outside (0, 1), a class smaller than 1, no or several sizes, an unknown setting or theorem.

    >>> [sample_complexity(0.1, 0.05, class_size=1000, setting=s) for s in ("realizable", "uniform", "agnostic")]
    [100, 530, 2120]
    >>> sample_complexity(0.1, 0.05, vc_dimension=10), sample_complexity(0.1, 0.05, vc_dimension=10, theorem="mitchell")
    (5618, 5831)
    """
    measure, size = class_measure(class_size, log_class_size, bits, vc_dimension)
    chosen = _chosen(measure, setting, theorem)
    return _examples(chosen, size, probability("epsilon", epsilon), probability("delta", delta))


def sample_sizes(
    epsilon: float, delta: float, *, class_size: int | None = None, log_class_size: float | None = None,
    bits: float | None = None, vc_dimension: int | None = None,
) -> tuple[SampleSize, ...]:  # fmt: skip
    """All theorems that apply, by setting, the smallest sufficient number first; arguments of `sample_complexity`.

    >>> for found in sample_sizes(0.1, 0.05, class_size=1000):
    ...     print(found.setting, found.kind, found.m)
    realizable sufficient 94
    realizable sufficient 100
    uniform sufficient 530
    agnostic sufficient 2120
    """
    measure, size = class_measure(class_size, log_class_size, bits, vc_dimension)
    epsilon, delta = probability("epsilon", epsilon), probability("delta", delta)
    found = [
        SampleSize(
            key=t.key, theorem=t.name, setting=t.setting, kind=t.kind, assumption=t.assumption, reference=t.reference,
            m=_examples(t, size, epsilon, delta),
        )
        for t in SAMPLE_THEOREMS.values()
        if t.measure == measure and t.holds(size, epsilon, delta)
    ]  # fmt: skip
    kinds, settings = list(KINDS), list(SETTINGS)
    return tuple(sorted(found, key=lambda s: (settings.index(s.setting), kinds.index(s.kind), s.m)))


def attainable_error(
    m: int, delta: float, *, class_size: int | None = None, log_class_size: float | None = None,
    bits: float | None = None, vc_dimension: int | None = None, setting: Setting = "realizable",
    theorem: str | None = None,
) -> float:  # fmt: skip
    """Smallest epsilon for which ``m`` examples are enough, rounded up; 1 when no epsilon below 1 is.

    >>> round(attainable_error(100, 0.05, class_size=1000), 6)
    0.099035
    """
    measure, size = class_measure(class_size, log_class_size, bits, vc_dimension)
    chosen, m, delta = _chosen(measure, setting, theorem), whole("m", m), probability("delta", delta)
    return _least(lambda epsilon: chosen.enough(m, size, epsilon, delta))


def attainable_delta(
    m: int, epsilon: float, *, class_size: int | None = None, log_class_size: float | None = None,
    bits: float | None = None, vc_dimension: int | None = None, setting: Setting = "realizable",
    theorem: str | None = None,
) -> float:  # fmt: skip
    """Smallest delta for which ``m`` examples are enough for ``epsilon``, rounded up; 1 when none below 1 is.

    >>> round(attainable_delta(100, 0.1, class_size=1000), 6)  # 1000 exp(-10)
    0.0454
    """
    measure, size = class_measure(class_size, log_class_size, bits, vc_dimension)
    chosen, m, epsilon = _chosen(measure, setting, theorem), whole("m", m), probability("epsilon", epsilon)
    return _least(lambda delta: chosen.enough(m, size, epsilon, delta))


def ehrenfeucht_lower_bound(d: int, epsilon: float, delta: float) -> float:
    """max((1-epsilon)/epsilon ln(1/delta), (d-1)/(32 epsilon)): no learner of a VC class manages with fewer examples.

    Raises
    ------
    ValueError
        Outside epsilon <= 1/8 and delta <= 1/100, where the second term is not proved.

    >>> round(ehrenfeucht_lower_bound(100, 0.1, 0.01), 8)
    41.44653167
    """
    d, epsilon, delta = whole("d", d, 2), probability("epsilon", epsilon), probability("delta", delta)
    second = SAMPLE_THEOREMS["ehrenfeucht"]
    if not second.holds(d, epsilon, delta):
        raise ValueError(
            f"(d-1)/(32 epsilon) is proved for epsilon <= 1/8 and delta <= 1/100, got epsilon = {epsilon}, "
            f"delta = {delta}; sample_sizes lists what holds there"
        )
    return max(SAMPLE_THEOREMS["missed-point"].required(d, epsilon, delta), second.required(d, epsilon, delta))


def sample_size_table(found: tuple[SampleSize, ...]) -> Table:
    """Theorems side by side, for reports and the command line."""
    columns = (
        Message("table.theorem", "theorem"), Message("table.setting", "setting"), Message("table.examples", "examples"),
        Message("table.kind", "meaning"), Message("table.assumption", "assumption"),
    )  # fmt: skip
    rows = tuple((s.theorem, SETTINGS[s.setting], s.m, KINDS[s.kind], s.assumption) for s in found)
    text = "How many examples each theorem asks for; they answer different questions and are not to be mixed"
    return Table(label=Message("samples.table", text), columns=columns, rows=rows)


def sample_size_lines(
    epsilons: Sequence[float], delta: float, *, class_size: int | None = None, log_class_size: float | None = None,
    bits: float | None = None, vc_dimension: int | None = None,
) -> Curve:  # fmt: skip
    """Examples against accuracy: the fewest that a theorem of each setting calls enough."""
    measure, size = class_measure(class_size, log_class_size, bits, vc_dimension)
    grid, delta = np.array([probability("epsilon", e) for e in epsilons]), probability("delta", delta)

    def line(setting: Setting) -> Line:
        known = [
            t for t in SAMPLE_THEOREMS.values() if (t.measure, t.setting, t.kind) == (measure, setting, "sufficient")
        ]
        y = np.array([min(_examples(t, size, float(e), delta) for t in known) for e in grid], dtype=np.float64)
        return Line(x=grid, y=y, name=SETTINGS[setting], role="theory")

    text = (
        "Examples that are enough with probability {confidence:.1%}, by the setting; the least of the theorems of each"
    )
    settings: tuple[Setting, ...] = ("realizable", "uniform", "agnostic")
    return Curve(
        label=Message("samples.lines", text, confidence=1 - delta), lines=tuple(line(s) for s in settings), x_log=True,
        y_log=True, x_name=Message("axis.epsilon", "accuracy ε"), y_name=Message("axis.samples", "examples"),
    )  # fmt: skip


def class_measure(
    class_size: int | None, log_class_size: float | None, bits: float | None, vc_dimension: int | None
) -> tuple[Measure, float]:
    """The one size that was given, as nats or as a VC dimension."""
    given = {"class_size": class_size, "log_class_size": log_class_size, "bits": bits, "vc_dimension": vc_dimension}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise ValueError(f"give exactly one of {', '.join(given)}; got {', '.join(named) or 'none'}")
    if vc_dimension is not None:
        return "vc", whole("vc_dimension", vc_dimension)
    if class_size is not None:
        return "nats", math.log(whole("class_size", class_size))
    name, value = named[0], (log_class_size if log_class_size is not None else bits)
    if value is None or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be at least 0 and finite, got {value}: a class has at least one classifier")
    return "nats", value if name == "log_class_size" else value * math.log(2)


def _chosen(measure: Measure, setting: str, key: str | None) -> SampleTheorem:
    if setting not in SETTINGS or setting == "holdout":
        raise ValueError(f"unknown setting {setting!r}; known are {', '.join(list(SETTINGS)[:4])}")
    known = {k: t for k, t in SAMPLE_THEOREMS.items() if t.measure == measure and t.kind == "sufficient"}
    if key is None:
        key = next((k for (m, s), k in _DEFAULTS.items() if (m, s) == (measure, setting)), None)
        if key is None:
            raise ValueError(
                f"no theorem of the setting {setting!r} uses the size of a finite class; give vc_dimension"
            )
        return known[key]
    if key not in known:
        raise ValueError(f"unknown theorem {key!r} for this class; known are {', '.join(known)}")
    return known[key]


def _examples(theorem: SampleTheorem, size: float, epsilon: float, delta: float) -> int:
    required = theorem.required(size, epsilon, delta)
    if required > LARGEST:
        raise ValueError(f"more than 2**500 examples would be needed for epsilon = {epsilon}")
    return max(0 if theorem.kind == "necessary" else 1, math.ceil(required))


def _least(enough: Callable[[float], bool]) -> float:
    """Smallest value in (0, 1) with ``enough``, which stays true above it; to one part in 10**12, rounded up."""
    low, high = 1e-300, 1.0
    if not enough(math.nextafter(1.0, 0.0)):
        return 1.0
    while high > low * (1 + 1e-12):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
