"""Every certificate a subject can get: of this very network, and apart from it, of what its recipe can train.

The headline is the first certificate of this network and owns delta; each other one stands at its own level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from theorylens.core import Probe, Subject, UnsuitableError
from theorylens.results import Certificate, Message, Result

from ._compressed import Compressed, certify_compressed
from ._ensemble import Ensemble, Voted, certify_ensemble
from ._finite_class import probe_weight_bits
from ._progressive import Progressive, ProgressiveRun, certify_progressive
from ._recursive_relative import Recursion, Recursive, certify_recursive
from ._relative import LearntPrior, Relative, certify_relative
from ._test_error import probe_test_error

METHODS = ("test-set", "training-bits", "pac-bayes", "recursive", "progressive", "ensemble", "compression")
Way = LearntPrior | Recursion | ProgressiveRun | Ensemble
"""One way to certify what a recipe trains; ``DEFAULT_WAYS`` says which method takes which."""
DEFAULT_WAYS: dict[str, Way] = {
    "pac-bayes": LearntPrior(), "recursive": Recursion(), "progressive": ProgressiveRun(), "ensemble": Ensemble(),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Certified:
    """What was certified.

    Attributes
    ----------
    this_model
        Results with a certificate of this very network; the first is the headline.
    relatives
        What the recipe certifies, one per learnt prior tried; they are about other networks than this one.
    recursive, progressive, votes
        The same for recursions, for runs tested as they go, and for ensembles.
    compressed
        The relative with a short description, certified from the training examples alone.
    left_out
        Methods that do not apply, and why.
    """

    this_model: tuple[Result, ...] = ()
    relatives: tuple[Relative, ...] = ()
    recursive: tuple[Recursive, ...] = ()
    progressive: tuple[Progressive, ...] = ()
    votes: tuple[Voted, ...] = ()
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
    ways: Sequence[Way] | None = None,
    ways_known: int = 0,
) -> Certified:
    """Certify ``subject`` by the methods named.

    Parameters
    ----------
    methods
        ``"test-set"``: Clopper-Pearson on the test split (the headline). ``"training-bits"``: Occam's razor over the
        weights' bits. ``"pac-bayes"``: a relative trained by the recipe on part of the training units, bounded on the
        others, beside the hold-out line of that relative. ``"recursive"``: the same in steps, so that all units serve
        both. ``"progressive"``: a network drawn from a run, each tested on what the next learns from. ``"ensemble"``:
        the vote of several networks. ``"compression"``: a relative near the initialisation whose
        description is short.
    delta
        Failure probability of each certificate.
    comparisons
        Models judged on the test split, this one included; they share ``delta``.
    ways
        How relatives are certified, each by the method of its type; a method without any uses its default. All of the
        methods named are paid for, so the best may be quoted.
    ways_known
        Ways tried on these training data before and now; the larger of this and the ways of this call is paid for.

    Raises
    ------
    ValueError
        An unknown method, no method, no way.
    """
    if unknown := [name for name in methods if name not in METHODS]:
        raise ValueError(f"unknown methods {unknown}; known are {', '.join(METHODS)}")
    if not methods or (ways is not None and not ways):
        raise ValueError("name at least one method, and at least one way to certify a relative")
    tried = [way for name in dict.fromkeys(methods) if name in DEFAULT_WAYS for way in _ways_of(name, ways or ())]
    paid = max(len(tried), ways_known)
    probes: dict[str, Probe] = {"test-set": probe_test_error, "training-bits": probe_weight_bits}
    results: list[Result] = []
    made: dict[str, list[Any]] = {name: [] for name in DEFAULT_WAYS}
    left_out: dict[str, Message] = {}
    compressed: Compressed | None = None
    for name in METHODS:
        if name not in methods:
            continue
        try:
            if name in DEFAULT_WAYS:
                made[name] = [_made(subject, way, delta, paid) for way in _ways_of(name, ways or ())]
            elif name == "compression":
                compressed = certify_compressed(subject, delta=delta)
            else:
                known = comparisons if name == "test-set" else 1
                results.append(probes[name](subject, delta=delta, comparisons=known))
        except UnsuitableError as error:
            left_out[name] = error.reason
    return Certified(
        this_model=tuple(results), relatives=tuple(made["pac-bayes"]), recursive=tuple(made["recursive"]),
        progressive=tuple(made["progressive"]), votes=tuple(made["ensemble"]), compressed=compressed, left_out=left_out,
    )  # fmt: skip


def _ways_of(method: str, ways: Sequence[Way]) -> list[Way]:
    default = DEFAULT_WAYS[method]
    return [way for way in ways if type(way) is type(default)] or [default]


def _made(subject: Subject, way: Way, delta: float, paid: int) -> Relative | Recursive | Progressive | Voted:
    match way:
        case LearntPrior():
            return certify_relative(subject, way, delta=delta, comparisons=paid)
        case Recursion():
            return certify_recursive(subject, way, delta=delta, comparisons=paid)
        case ProgressiveRun():
            return certify_progressive(subject, way, delta=delta, comparisons=paid)
        case Ensemble():
            return certify_ensemble(subject, way, delta=delta, comparisons=paid)
