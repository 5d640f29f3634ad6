"""A recommendation with its evidence: what to change, what speaks for it and against it, how to test it."""

from __future__ import annotations

from dataclasses import dataclass

from ._message import Message


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A finding that supports or contradicts a change; ``code`` links to its result."""

    code: str
    finding: Message


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """One entry of the advice ledger.

    Attributes
    ----------
    id
        Stable name of the rule.
    change
        What to do, in one sentence. "It is not worth doing X" is advice too.
    supports, contradicts
        Findings on either side, each with the code of its result.
    effect
        The size of the expected effect, or that it is untested.
    command
        What a person would run to test it; a template for display, never executed from here.
    """

    id: str
    change: Message
    supports: tuple[Evidence, ...]
    contradicts: tuple[Evidence, ...] = ()
    effect: Message
    command: str
