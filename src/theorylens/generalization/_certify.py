"""Every certificate a subject can get: of this very network, and apart from it, of what its recipe can train.

The headline is the first certificate of this network and owns delta; each other one stands at its own level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from theorylens.core import Probe, Subject, UnsuitableError
from theorylens.results import Certificate, Message, Result

from ._compressed import Compressed, certify_compressed
from ._finite_class import probe_weight_bits
from ._relative import LearntPrior, Relative, certify_relative
from ._test_error import probe_test_error

METHODS = ("test-set", "training-bits", "pac-bayes", "compression")


@dataclass(frozen=True, kw_only=True)
class Certified:
    """What was certified.

    Attributes
    ----------
    this_model
        Results with a certificate of this very network; the first is the headline.
    relatives
        What the recipe certifies, one per way tried; they are about other networks than this one.
    compressed
        The relative with a short description, certified from the training examples alone.
    left_out
        Methods that do not apply, and why.
    """

    this_model: tuple[Result, ...] = ()
    relatives: tuple[Relative, ...] = ()
    compressed: Compressed | None = None
    left_out: dict[str, Message] = field(default_factory=dict)

    @property
    def headline(self) -> Certificate | None:
        return self.this_model[0].certificate if self.this_model else None


def certify(
    subject: Subject,
    *,
    methods: Sequence[str] = ("test-set",),
    delta: float = 0.05,
    comparisons: int = 1,
    ways: Sequence[LearntPrior] | None = None,
    ways_known: int = 0,
) -> Certified:
    """Certify ``subject`` by the methods named.

    Parameters
    ----------
    methods
        ``"test-set"``: Clopper-Pearson on the test split (the headline). ``"training-bits"``: Occam's razor over the
        weights' bits. ``"pac-bayes"``: a relative trained by the recipe on part of the training units, bounded on the
        others, beside the hold-out line of that relative. ``"compression"``: a relative near the initialisation whose
        description is short.
    delta
        Failure probability of each certificate.
    comparisons
        Models judged on the test split, this one included; they share ``delta``.
    ways
        How relatives are certified. All of them are paid for, so the best may be quoted.
    ways_known
        Ways tried on these training data before and now; the larger of this and ``len(ways)`` is paid for.

    Raises
    ------
    ValueError
        An unknown method, no method, no way.
    """
    if unknown := [name for name in methods if name not in METHODS]:
        raise ValueError(f"unknown methods {unknown}; known are {', '.join(METHODS)}")
    tried = [LearntPrior()] if ways is None else list(ways)
    if not methods or not tried:
        raise ValueError("name at least one method, and at least one way to certify a relative")
    probes: dict[str, Probe] = {"test-set": probe_test_error, "training-bits": probe_weight_bits}
    results: list[Result] = []
    relatives: list[Relative] = []
    left_out: dict[str, Message] = {}
    compressed: Compressed | None = None
    for name in METHODS:
        if name not in methods:
            continue
        try:
            if name == "pac-bayes":
                paid = max(len(tried), ways_known)
                relatives += [certify_relative(subject, way, delta=delta, comparisons=paid) for way in tried]
            elif name == "compression":
                compressed = certify_compressed(subject, delta=delta)
            else:
                known = comparisons if name == "test-set" else 1
                results.append(probes[name](subject, delta=delta, comparisons=known))
        except UnsuitableError as error:
            left_out[name] = error.reason
    return Certified(this_model=tuple(results), relatives=tuple(relatives), compressed=compressed, left_out=left_out)
