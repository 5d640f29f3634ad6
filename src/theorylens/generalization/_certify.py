"""Every certificate a subject can get: of this very network, and apart from it, of what its recipe can train.

The headline is the first certificate of this network and owns delta; each other one stands at its own level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from theorylens.core import (
    Probe,
    Subject,
    UnsuitableError,
    digest,
    hash_tensors,
    judged_hash,
    judged_on_test,
    recipe_hash,
    tried_on_training,
)
from theorylens.results import Certificate, Message, Result

from ._compressed import Compressed, certify_compressed
from ._doubt import doubted
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
    doubts
        Relatives that err far less on units they were to leave out than on test examples: their recipe may have seen
        those units, and then their certificates do not hold.
    """

    this_model: tuple[Result, ...] = ()
    relatives: tuple[Relative, ...] = ()
    recursive: tuple[Recursive, ...] = ()
    progressive: tuple[Progressive, ...] = ()
    votes: tuple[Voted, ...] = ()
    compressed: Compressed | None = None
    left_out: dict[str, Message] = field(default_factory=dict)
    doubts: tuple[Message, ...] = ()

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
    ledger: bool = True,
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
        Models judged on the test split, this one included; they share ``delta``. The larger of this and the ledger's
        count is paid for.
    ways
        How relatives are certified, each by the method of its type; a method without any uses its default. All of the
        methods named are paid for, so the best may be quoted.
    ways_known
        Ways tried on these training data before and now; the largest of this, the ledger's count and the ways of this
        call is paid for.
    ledger
        Write down who is judged on which examples before a bound is computed, and pay for all that stands there: the
        same examples under another preparation of their inputs count as the same. A certificate made when fewer stood
        there must be made again before the best of several is quoted.

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
    paid = max(len(tried), ways_known, *(_ways_on_record(subject, tried) if ledger else ()))
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
                known = _on_record(subject, name) if ledger else 1
                compressed = certify_compressed(subject, delta=delta, comparisons=known)
            else:
                known = max(_on_record(subject, name) if ledger else 1, comparisons if name == "test-set" else 1)
                results.append(probes[name](subject, delta=delta, comparisons=known))
        except UnsuitableError as error:
            left_out[name] = error.reason
    return Certified(
        this_model=tuple(results), relatives=tuple(made["pac-bayes"]), recursive=tuple(made["recursive"]),
        progressive=tuple(made["progressive"]), votes=tuple(made["ensemble"]), compressed=compressed, left_out=left_out,
        doubts=_doubts(subject, [*made["pac-bayes"], *made["recursive"], *made["progressive"]]),
    )  # fmt: skip


def _doubts(subject: Subject, made: Sequence[Relative | Recursive | Progressive]) -> tuple[Message, ...]:
    said: dict[str, Message] = {}
    for each in made:
        if isinstance(each, Progressive):
            scored = list(zip(each.subjects, each.errors, each.sizes, strict=True))
        else:
            held = each.holdout
            scored = [(each.subject, round(held.empirical * held.n), held.n)]
        for relative, errors, units in scored:
            if (found := doubted(relative, subject, errors, units)) is not None:
                said.setdefault(found.render(), found)
    return tuple(said.values())


def _ways_on_record(subject: Subject, ways: Sequence[Way]) -> list[int]:
    """Ways known to have been tried on the training split after each of ``ways`` was written down."""
    if subject.recipe is None or not subject.has("train"):
        return []
    made_by = recipe_hash(subject.recipe)
    return [
        tried_on_training(subject, "ways", digest(repr(way), made_by, judged_hash(subject)), repr(way)) for way in ways
    ]


def _on_record(subject: Subject, method: str) -> int:
    """Models known to be judged by ``method`` on these examples; those that it cannot judge count for nothing."""
    if method == "test-set":
        return judged_on_test(subject) if subject.has("test") else 1
    if subject.model is None or not subject.has("train"):
        return 1
    if method == "training-bits":  # holds for all weights at once: only another network is another choice
        shapes = [(name, tuple(p.shape), str(p.dtype)) for name, p in subject.net.named_parameters()]
        what = digest(str(shapes), repr(subject.net))
    else:
        start = subject.initial()
        if start is None:
            return 1
        what = digest(hash_tensors(start.subject.net.state_dict()), repr(start.subject.net))
    return tried_on_training(subject, method, what, f"{method}: {subject.name}")


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
