"""The theorems behind `sample_complexity`, one entry each: for what class, in which setting, how many examples.

Each says in `required` how many examples (not rounded) it asks for at accuracy epsilon and confidence 1 - delta; the
number falls in both. Constants were derived or are those of the named statement; where a statement hides its constant
the kind is "order" and the number is only the expression inside the O.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from theorylens.results import Message

from ._vc_gap import GAP_THEOREMS, Variant, vc_gap

Setting = Literal["realizable", "uniform", "agnostic", "expected", "holdout"]
Measure = Literal["nats", "vc"]
Bound = Literal["sufficient", "necessary", "order"]
Required = Callable[[float, float, float], float]
LARGEST = 1 << 500  # sample sizes beyond are not searched


@dataclass(frozen=True, kw_only=True)
class SampleTheorem:
    """``required(size, epsilon, delta)`` examples for a class of ``size`` nats or VC dimension.

    ``holds`` says where the theorem was proved; outside it is not used. ``gap``, of theorems that bound one: that of
    m examples, which spares the search that `required` makes.
    """

    key: str
    name: Message
    setting: Setting
    measure: Measure
    kind: Bound
    required: Required
    assumption: Message
    reference: str
    holds: Callable[[float, float, float], bool] = lambda size, epsilon, delta: True
    gap: Callable[[float, int, float], float] | None = None

    def enough(self, m: int, size: float, epsilon: float, delta: float) -> bool:
        """Whether ``m`` examples are at least the number required."""
        if self.gap is not None:
            return self.gap(size, m, delta) <= epsilon
        return self.required(size, epsilon, delta) <= m


SETTINGS: dict[Setting, Message] = {
    "realizable": Message("setting.realizable", "realizable: zero training error"),
    "uniform": Message("setting.uniform", "uniform convergence"),
    "agnostic": Message("setting.agnostic", "agnostic: excess over the best"),
    "expected": Message("setting.expected", "realizable, error on average"),
    "holdout": Message("setting.holdout", "one fixed model, untouched examples"),
}
KINDS: dict[Bound, Message] = {
    "sufficient": Message("kind.sufficient", "enough"),
    "necessary": Message("kind.necessary", "needed by every learner"),
    "order": Message("kind.order", "order only, constant not stated"),
}
_CONSISTENT = Message(
    "assume.consistent", "some classifier of the class makes no error at all, and the learner fits every example"
)
_ALL = Message("assume.all", "for all classifiers at once, training and expected error differ by at most epsilon")
_ERM = Message(
    "assume.erm", "the learner minimises the training error over the class; epsilon is over the class's best"
)
_HARD = Message("assume.hard", "for some distribution any learner with fewer examples fails more often than delta")
_FIXED = Message(
    "assume.deterministic", "for some distribution any learner without randomness fails more often than delta"
)
_BEST = Message("assume.best_learner", "for the best learner known, not for every one that fits the examples")


def blumer(d: float, epsilon: float, delta: float) -> float:
    """max(4/epsilon log2(2/delta), 8d/epsilon log2(13/epsilon)). The logarithms have base 2."""
    return max(4 / epsilon * math.log2(2 / delta), 8 * d / epsilon * math.log2(13 / epsilon))


def mitchell(d: float, epsilon: float, delta: float) -> float:
    """(4 log2(2/delta) + 8 d log2(13/epsilon)) / epsilon: the sum instead of the maximum."""
    return (4 * math.log2(2 / delta) + 8 * d * math.log2(13 / epsilon)) / epsilon


def coin(d: float, epsilon: float, delta: float) -> float:
    """(1 - epsilon)/epsilon ln(1/delta): with fewer a point of probability epsilon is missed too often."""
    return (1 - epsilon) / epsilon * math.log(1 / delta)


def smallest_sample(gap: Callable[[int], float], epsilon: float) -> int:
    """Least m with ``gap(m) <= epsilon``, for a gap that falls with m.

    Raises
    ------
    ValueError
        When even 2**500 examples are not enough.
    """
    low, high = 0, 1
    while gap(high) > epsilon:
        low, high = high, 2 * high
        if high > LARGEST:
            raise ValueError(f"more than 2**500 examples would be needed for epsilon = {epsilon}")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if gap(middle) <= epsilon else (middle, high)
    return high


def gap_of(variant: Variant, times: float, *, two_sided: bool = True) -> Callable[[float, int, float], float]:
    """``times`` the VC gap of ``variant`` as a function of dimension, examples, delta."""
    return lambda d, m, delta: times * vc_gap(m, int(d), delta, variant, two_sided=two_sided)


def by_gap(gap: Callable[[float, int, float], float]) -> Required:
    """Examples until ``gap`` is at most epsilon."""

    def required(d: float, epsilon: float, delta: float) -> float:
        if gap(d, LARGEST, delta) > epsilon:
            return math.inf
        return float(smallest_sample(lambda m: gap(d, m, delta), epsilon))

    return required


def _finite() -> tuple[SampleTheorem, ...]:
    occam = "Blumer, Ehrenfeucht, Haussler, Warmuth (1987). Occam's razor. Information Processing Letters 24:377-380."
    hoeffding = "Hoeffding (1963). JASA 58:13-30, with a union over the class."
    return (
        SampleTheorem(
            key="occam-tail", name=Message("theorem.occam_tail", "finite class, exact tail (1−ε)^m"),
            setting="realizable", measure="nats", kind="sufficient", assumption=_CONSISTENT, reference=occam,
            required=lambda nats, epsilon, delta: (nats + math.log(1 / delta)) / -math.log1p(-epsilon),
        ),
        SampleTheorem(
            key="occam", name=Message("theorem.occam", "finite class (ln|H| + ln 1/δ)/ε"),
            setting="realizable", measure="nats", kind="sufficient", assumption=_CONSISTENT, reference=occam,
            required=lambda nats, epsilon, delta: (nats + math.log(1 / delta)) / epsilon,
        ),
        SampleTheorem(
            key="hoeffding-union", name=Message("theorem.hoeffding_union", "finite class, ln(2|H|/δ)/2ε²"),
            setting="uniform", measure="nats", kind="sufficient", assumption=_ALL, reference=hoeffding,
            required=lambda nats, epsilon, delta: (nats + math.log(2 / delta)) / (2 * epsilon) / epsilon,
        ),
        SampleTheorem(
            key="erm-union", name=Message("theorem.erm_union", "finite class, 2 ln(2|H|/δ)/ε²"),
            setting="agnostic", measure="nats", kind="sufficient", assumption=_ERM, reference=hoeffding,
            required=lambda nats, epsilon, delta: 2 * (nats + math.log(2 / delta)) / epsilon / epsilon,
        ),
    )  # fmt: skip


def _realizable_vc() -> tuple[SampleTheorem, ...]:
    one_inclusion = "Haussler, Littlestone, Warmuth (1994). Predicting {0,1}-functions. Inf. Comput. 115:248-292."
    randomised = Message("assume.one_inclusion", "the one-inclusion predictor; epsilon bounds its error on average")
    markov = Message("assume.markov", "the one-inclusion predictor, with Markov's inequality for the confidence")
    return (
        SampleTheorem(
            key="blumer", name=Message("theorem.blumer", "VC class, Blumer et al., larger of two terms"),
            setting="realizable", measure="vc", kind="sufficient", assumption=_CONSISTENT, required=blumer,
            reference="Blumer, Ehrenfeucht, Haussler, Warmuth (1989). Learnability and the VC dimension. JACM 36:929.",
        ),
        SampleTheorem(
            key="mitchell", name=Message("theorem.mitchell", "VC class, sum of both terms (Mitchell)"),
            setting="realizable", measure="vc", kind="sufficient", assumption=_CONSISTENT, required=mitchell,
            reference="Mitchell (1997). Machine Learning, chapter 7.",
        ),
        SampleTheorem(
            key="one-inclusion", name=Message("theorem.one_inclusion", "one-inclusion graph, d/(m+1)"),
            setting="expected", measure="vc", kind="sufficient", assumption=randomised, reference=one_inclusion,
            required=lambda d, epsilon, delta: d / epsilon - 1,
        ),
        SampleTheorem(
            key="one-inclusion-markov", name=Message("theorem.one_inclusion_markov", "one-inclusion graph with Markov"),
            setting="realizable", measure="vc", kind="sufficient", assumption=markov, reference=one_inclusion,
            required=lambda d, epsilon, delta: d / (epsilon * delta) - 1,
        ),
        SampleTheorem(
            key="hanneke", name=Message("theorem.hanneke", "optimal learner (d + ln 1/δ)/ε"),
            setting="realizable", measure="vc", kind="order", assumption=_BEST,
            required=lambda d, epsilon, delta: (d + math.log(1 / delta)) / epsilon,
            reference="Hanneke (2016). The optimal sample complexity of PAC learning. JMLR 17(38):1-15; "
            "Larsen (2023). Bagging is an optimal PAC learner. COLT; Aden-Ali, Cherapanamjeri, Shetty, Zhivotovskiy "
            "(2023). Optimal PAC bounds without uniform convergence. FOCS.",
        ),
    )  # fmt: skip


def _necessary() -> tuple[SampleTheorem, ...]:
    ehkv = "Ehrenfeucht, Haussler, Kearns, Valiant (1989). A general lower bound on the number of examples."
    return (
        SampleTheorem(
            key="missed-point", name=Message("theorem.missed_point", "a rare point is missed, (1−ε)/ε ln 1/δ"),
            setting="realizable", measure="vc", kind="necessary", assumption=_FIXED, required=coin, reference=ehkv,
            holds=lambda d, epsilon, delta: d >= 2 and epsilon < 0.5,
        ),
        SampleTheorem(
            key="ehrenfeucht", name=Message("theorem.ehrenfeucht", "Ehrenfeucht et al., (d−1)/32ε"),
            setting="realizable", measure="vc", kind="necessary", assumption=_HARD, reference=ehkv,
            required=lambda d, epsilon, delta: (d - 1) / (32 * epsilon),
            holds=lambda d, epsilon, delta: epsilon <= 1 / 8 and delta <= 1 / 100,
        ),
        SampleTheorem(
            key="half-seen", name=Message("theorem.half_seen", "shattered set seen in part, d(1−2(ε(1−δ)+δ))"),
            setting="realizable", measure="vc", kind="necessary", assumption=_HARD,
            required=lambda d, epsilon, delta: d * (1 - 2 * (epsilon * (1 - delta) + delta)),
            holds=lambda d, epsilon, delta: epsilon * (1 - delta) + delta < 0.5,
            reference="Blumer, Ehrenfeucht, Haussler, Warmuth (1989). JACM 36:929-965.",
        ),
    )  # fmt: skip


def _gaps() -> tuple[SampleTheorem, ...]:
    found = []
    settings: tuple[tuple[Setting, float, Message], ...] = (("uniform", 1.0, _ALL), ("agnostic", 2.0, _ERM))
    for setting, times, assumption in settings:
        variants: tuple[Variant, ...] = ("vapnik", "mohri", "bousquet", "abu-mostafa")
        for variant in variants:
            theorem, gap = GAP_THEOREMS[variant], gap_of(variant, times)
            found.append(
                SampleTheorem(
                    key=f"{variant}-{setting}", name=theorem.name, setting=setting, measure="vc", kind="sufficient",
                    assumption=assumption, reference=theorem.reference, required=by_gap(gap), gap=gap,
                )
            )  # fmt: skip
    order = Message("theorem.agnostic_order", "fundamental theorem (d + ln 1/δ)/ε²")
    found.append(
        SampleTheorem(
            key="agnostic-order", name=order, setting="agnostic", measure="vc", kind="order", assumption=_ERM,
            required=lambda d, epsilon, delta: (d + math.log(1 / delta)) / epsilon / epsilon,
            reference="Shalev-Shwartz, Ben-David (2014). Understanding Machine Learning, theorem 6.8.",
        )
    )  # fmt: skip
    return tuple(found)


SAMPLE_THEOREMS: dict[str, SampleTheorem] = {
    t.key: t for t in (*_finite(), *_realizable_vc(), *_gaps(), *_necessary())
}  # fmt: skip
