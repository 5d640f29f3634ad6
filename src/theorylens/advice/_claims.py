"""Claims of learning theory as entries: what is claimed, when it is true, what tests it, who showed it.

A claim is true, conditional or false in general, whatever one network shows; its standing says what the results of one
audit say about it on one network. "Not measured" is the usual standing and no verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from theorylens.results import Evidence, Message, Outcome, SubjectFacts

from ._findings import Findings

if TYPE_CHECKING:
    from theorylens.results import Record


class Truth(Enum):
    """What is known about a claim in general."""

    TRUE = "true"
    CONDITIONAL = "conditional"
    FALSE = "false"

    @property
    def word(self) -> Message:
        """For people, in any language."""
        return TRUTHS[self]


class Standing(Enum):
    """What the results at hand say about a claim."""

    SUPPORTED = "supported here"
    CONTRADICTED = "contradicted here"
    UNDECIDED = "measured, not decided"
    UNMEASURED = "not measured"

    @property
    def word(self) -> Message:
        """For people, in any language."""
        return STANDINGS[self]


TRUTHS = {
    Truth.TRUE: Message("claims.true", "true"),
    Truth.CONDITIONAL: Message("claims.conditional", "conditional"),
    Truth.FALSE: Message("claims.false", "false"),
}
STANDINGS = {
    Standing.SUPPORTED: Message("claims.supported", "supported here"),
    Standing.CONTRADICTED: Message("claims.contradicted", "contradicted here"),
    Standing.UNDECIDED: Message("claims.undecided", "measured, not decided"),
    Standing.UNMEASURED: Message("claims.unmeasured", "not measured"),
}


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """What one audit shows of a claim, with the results that show it."""

    standing: Standing
    evidence: tuple[Evidence, ...]


Look = Callable[[Findings], Sighting | None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Claim:
    """One entry.

    Attributes
    ----------
    id
        Stable name.
    statement
        The claim as people say it.
    truth, conditions
        What is known in general, and under which conditions it holds (or the correct statement, where it is false).
    tests
        Codes of the probes, or names of the functions, that look at it.
    references
        Where it was shown or refuted.
    look
        Reads the results of an audit; None when nothing there bears on it.
    """

    id: str
    statement: Message
    truth: Truth
    conditions: Message
    tests: tuple[str, ...]
    references: tuple[str, ...]
    look: Look


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedClaim:
    """A claim beside what one audit shows of it."""

    claim: Claim
    standing: Standing
    evidence: tuple[Evidence, ...] = ()


def claims(
    outcomes: Record | Sequence[Outcome] | None = None,
    subject: SubjectFacts | None = None,
    *,
    truth: Truth | Iterable[Truth] | None = None,
    standing: Standing | Iterable[Standing] | None = None,
    ids: Iterable[str] | None = None,
) -> tuple[JudgedClaim, ...]:
    """The claims, judged on the results of one audit.

    Parameters
    ----------
    outcomes
        A record (``report.record``), or its outcomes; None: no claim is measured.
    subject
        Facts about the subject; taken from the record where one is given.
    truth, standing, ids
        Keep only these.

    Raises
    ------
    ValueError
        An id that no claim has.

    >>> [c.claim.id for c in claims(truth=Truth.FALSE)][:2]
    ['parameters_overfit', 'zero_error_overfits']
    """
    from ._known_claims import CLAIMS

    found = _findings(outcomes, subject)
    wanted = None if ids is None else set(ids)
    if wanted is not None and (unknown := wanted - {c.id for c in CLAIMS}):
        raise ValueError(f"no claim is called {sorted(unknown)}; there are {', '.join(c.id for c in CLAIMS)}")
    judged = [_judged(c, found) for c in CLAIMS if wanted is None or c.id in wanted]
    truths, standings = _members(truth, Truth), _members(standing, Standing)
    return tuple(j for j in judged if j.claim.truth in truths and j.standing in standings)


def _findings(outcomes: Record | Sequence[Outcome] | None, subject: SubjectFacts | None) -> Findings:
    if outcomes is None:
        return Findings((), subject)
    if isinstance(outcomes, Sequence):
        return Findings(outcomes, subject)
    return Findings(outcomes.outcomes, subject or outcomes.subject)


def _judged(claim: Claim, found: Findings) -> JudgedClaim:
    seen = claim.look(found)
    if seen is None:
        return JudgedClaim(claim=claim, standing=Standing.UNMEASURED)
    return JudgedClaim(claim=claim, standing=seen.standing, evidence=seen.evidence)


def _members(given: Enum | Iterable[Enum] | None, kind: type[Enum]) -> set[Enum]:
    if given is None:
        return set(kind)
    return {given} if isinstance(given, Enum) else set(given)
