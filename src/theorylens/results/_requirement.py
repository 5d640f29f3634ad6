"""Demands on a report: ``certificate <= 0.1``. One polarity: the unfavourable end of the interval is compared."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection
from dataclasses import dataclass

from ._message import Message
from ._outcome import Crashed, Done, Outcome, Skipped
from ._record import Checked
from ._result import Kind, Verdict

HEADLINE = "certificate"
_SHAPE = re.compile(r"^\s*(?P<name>[A-Za-z][\w.]*)\s*(?P<sign><=|>=|<|>)\s*(?P<number>\S+)\s*$")


@dataclass(frozen=True)
class Requirement:
    """``name sign number``; the name is ``certificate`` (the headline), a code or ``chapter.measure``."""

    name: str
    sign: str
    number: float

    def __str__(self) -> str:
        return f"{self.name} {self.sign} {self.number:g}"

    @classmethod
    def parse(cls, text: str, known: Collection[str]) -> Requirement:
        """Read ``text``; ``known`` are the codes and names that exist.

        Raises
        ------
        ValueError
            When the text has another shape or names nothing that exists (the nearest name is offered).
        """
        match = _SHAPE.match(text)
        if match is None:
            raise ValueError(
                f"cannot read the requirement {text!r}; write NAME <= NUMBER (or <, >=, >), as in 'certificate <= 0.1'"
            )
        name = match["name"]
        if name != HEADLINE and name not in known:
            near = difflib.get_close_matches(name, [HEADLINE, *known], n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"unknown name {name!r} in the requirement {text!r}{hint}")
        try:
            number = float(match["number"])
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(f"the requirement {text!r} needs a finite number, got {match['number']!r}")
        return cls(name, match["sign"], number)

    def check(self, outcomes: Collection[Outcome], headline: str | None) -> Checked:
        """Compare. Missing, skipped, crashed, inconclusive or not finite is not met, and ``why`` says which."""
        wanted = headline if self.name == HEADLINE else self.name
        outcome = next((o for o in outcomes if wanted in (o.about.code, o.about.name)), None)
        if not isinstance(outcome, Done):
            return Checked(text=str(self), measured=None, met=False, why=_absent(outcome, self.name))
        result = outcome.result
        if result.verdict is Verdict.INCONCLUSIVE:
            why = Message(
                "require.inconclusive",
                "{code} is inconclusive, which meets no requirement",
                code=outcome.about.code,
            )
            return Checked(text=str(self), measured=None, met=False, why=why)
        measured = self._unfavourable(outcome)
        met = math.isfinite(measured) and {
            "<=": measured <= self.number, "<": measured < self.number,
            ">=": measured >= self.number, ">": measured > self.number,
        }[self.sign]  # fmt: skip
        text = "the unfavourable end of {code} is {measured:.4g}; demanded is {sign} {number:g}"
        why = Message(
            "require.compared",
            text,
            code=outcome.about.code,
            measured=measured,
            sign=self.sign,
            number=self.number,
        )
        return Checked(text=str(self), measured=measured, met=met, why=why)

    def _unfavourable(self, outcome: Done) -> float:
        result = outcome.result
        if result.kind is Kind.CERTIFICATE and result.certificate is not None and self.sign in ("<=", "<"):
            return result.certificate.bound
        return result.estimate.upper if self.sign in ("<=", "<") else result.estimate.lower


def _absent(outcome: Outcome | None, name: str) -> Message:
    match outcome:
        case Skipped():
            text = "{code} was skipped: {reason}"
            return Message("require.skipped", text, code=outcome.about.code, reason=outcome.reason)
        case Crashed():
            return Message("require.crashed", "{code} crashed: {error}", code=outcome.about.code, error=outcome.error)
    return Message("require.missing", "{name} was not measured in this run", name=name)
