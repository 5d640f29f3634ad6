"""What learning on m examples guarantees: in the realizable setting about the error, in the agnostic one also about the
excess over the best classifier of the class. The two settings are different theorems and never mixed.

Source   Shalev-Shwartz, Ben-David (2014), definitions 3.1 and 3.3, lemma 4.2
Assumes  independent examples; a class fixed before they were seen
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from theorylens.results import Message

from ._asked import probability, share, whole
from ._sample_complexity import attainable_error, class_measure
from ._sample_theorems import SAMPLE_THEOREMS
from ._vc_gap import GAP_THEOREMS, Variant, vc_gap

_UP = 1 + 2.0**-40


@dataclass(frozen=True, kw_only=True)
class PacCertificate:
    """What holds with probability ``confidence`` over the draw of the examples.

    Attributes
    ----------
    event
        The statement, in words.
    risk
        Upper bound on the expected error of the classifier, at most 1.
    excess
        Upper bound on its expected error minus the least of the class, if it minimises the training error over the
        class; in the realizable setting the least is 0, so it is ``risk``.
    gap
        Largest difference of training and expected error over the class, both signs; None in the realizable setting.
    vacuous
        Whether ``risk`` is 1.
    """

    setting: Literal["realizable", "agnostic"]
    theorem: Message
    event: Message
    assumption: Message
    confidence: float
    m: int
    empirical: float
    risk: float
    excess: float
    gap: float | None
    vacuous: bool

    def satisfies(self, epsilon: float) -> bool:
        """Whether PAC learning to accuracy ``epsilon`` is certified: of the error (realizable) or of the excess."""
        return self.excess <= probability("epsilon", epsilon)


def pac_certificate(
    empirical: float, m: int, delta: float, *, class_size: int | None = None, log_class_size: float | None = None,
    bits: float | None = None, vc_dimension: int | None = None,
    setting: Literal["realizable", "agnostic"] = "agnostic", variant: Variant = "vapnik",
) -> PacCertificate:  # fmt: skip
    """Certificate for a classifier with training error ``empirical`` on ``m`` examples, chosen on those examples.

    Parameters
    ----------
    empirical
        Mean 0-1 error on the examples, in [0, 1]; 0 in the realizable setting.
    class_size, log_class_size, bits, vc_dimension
        Exactly one; see `sample_complexity`.
    setting
        ``"agnostic"``: uniform convergence, both signs, with the gap theorem ``variant`` for VC classes.
        ``"realizable"``: some classifier of the class makes no error at all, and this one makes none on the examples.

    Raises
    ------
    ValueError
        Also for errors on the examples in the realizable setting.

    >>> found = pac_certificate(0.02, 10_000, 0.05, vc_dimension=10)
    >>> f"{found.risk:.3f} {found.excess:.3f}", found.satisfies(0.1), found.satisfies(0.2)
    ('0.115 0.190', False, True)
    """
    empirical, m, delta = share("empirical", empirical), whole("m", m), probability("delta", delta)
    measure, size = class_measure(class_size, log_class_size, bits, vc_dimension)
    if setting == "realizable":
        return _realizable(empirical, m, delta, size if measure == "nats" else None, vc_dimension)
    if setting != "agnostic":
        raise ValueError(f"setting must be 'realizable' or 'agnostic', got {setting!r}")
    if measure == "vc":
        gap = vc_gap(m, int(size), delta, variant, two_sided=True)
        theorem = GAP_THEOREMS[variant].name
    else:
        gap = min(1.0, math.sqrt((size + math.log(2 / delta)) / (2 * m)) * _UP)
        theorem = SAMPLE_THEOREMS["hoeffding-union"].name
    risk = min(1.0, empirical + gap)
    text = "for all classifiers of the class at once, training and expected error differ by at most {gap:.3g}"
    return PacCertificate(
        setting="agnostic", theorem=theorem, event=Message("pac.uniform", text, gap=gap), confidence=1 - delta, m=m,
        assumption=SAMPLE_THEOREMS["erm-union"].assumption, empirical=empirical, risk=risk, excess=min(1.0, 2 * gap),
        gap=gap, vacuous=risk >= 1,
    )  # fmt: skip


def _realizable(
    empirical: float, m: int, delta: float, nats: float | None, vc_dimension: int | None
) -> PacCertificate:  # fmt: skip
    if empirical > 0:
        raise ValueError(
            f"the realizable setting needs a classifier without training errors, got {empirical}; take the agnostic"
        )
    key = "occam-tail" if nats is not None else "blumer"
    risk = attainable_error(m, delta, log_class_size=nats, vc_dimension=vc_dimension, theorem=key)
    text = "every classifier of the class without error on the {m:,} examples errs at most with probability {risk:.3g}"
    return PacCertificate(
        setting="realizable", theorem=SAMPLE_THEOREMS[key].name, event=Message("pac.consistent", text, m=m, risk=risk),
        assumption=SAMPLE_THEOREMS[key].assumption, confidence=1 - delta, m=m, empirical=0.0, risk=risk, excess=risk,
        gap=None, vacuous=risk >= 1,
    )  # fmt: skip
