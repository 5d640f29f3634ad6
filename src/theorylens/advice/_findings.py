"""What rules look at: finished results by code, and small questions that several rules ask of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from theorylens.results import Done, Estimate, Evidence, Message, Outcome, Recommendation, Result, SubjectFacts

UNTESTED = Message("advice.untested", "untested")


class Strength(IntEnum):
    """How firmly the evidence stands; advice is listed strongest first."""

    VALIDITY = 4  # without the change a certificate is not valid
    SHOWN = 3  # an interval or an exact count excludes that there is nothing to change
    SUGGESTED = 2  # an indicator points there
    SPARED = 1  # what is not worth doing


@dataclass(frozen=True, kw_only=True)
class Advice:
    """A recommendation with the strength that places it in the list."""

    strength: Strength
    recommendation: Recommendation


class Findings:
    """Finished results by code, and the facts about the subject when they are known."""

    def __init__(self, outcomes: Sequence[Outcome], facts: SubjectFacts | None = None) -> None:
        self._results = {o.about.code: o.result for o in outcomes if isinstance(o, Done)}
        self.facts = facts

    def result(self, code: str) -> Result | None:
        """The result of ``code``; None when it did not finish or its computation is in trouble."""
        found = self._results.get(code)
        return found if found is not None and found.estimate.trouble is None else None

    def number(self, code: str, setting: str) -> float | None:
        """A numeric setting of a result."""
        found = self.result(code)
        value = found.settings.get(setting) if found is not None else None
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


Rule = Callable[[Findings], Advice | None]


def apart(a: Estimate, b: Estimate) -> bool:
    """Whether the intervals of two estimates have no point in common."""
    return a.lower > b.upper or b.lower > a.upper


def message(result: Result | None, id: str) -> Message | None:
    """The message ``id`` said by a result, at any depth of its reason or reading; ids are stable, words are not."""
    if result is None:
        return None
    return next((m for m in _within(result.reason, result.reading) if m.id == id), None)


def _within(*messages: Message | None) -> Iterator[Message]:
    for found in messages:
        if found is not None:
            yield found
            yield from _within(*(v for v in found.values.values() if isinstance(v, Message)))


def value(found: Message | None, name: str) -> float | None:
    """A number of a message."""
    number = found.values.get(name) if found is not None else None
    return float(number) if isinstance(number, int | float) else None


def said(code: str, finding: Message) -> Evidence:
    return Evidence(code=code, finding=finding)


def again(*codes: str) -> str:
    """The command that measures the results behind a change once more."""
    return f"theorylens audit subject.py:make --only {','.join(codes)}"
