"""Every probe of an audit ends in one of three ways, and none is hidden."""

from __future__ import annotations

from dataclasses import dataclass

from ._message import Message
from ._result import Result


@dataclass(frozen=True, kw_only=True)
class About:
    """Who produced an outcome: enough to show it without importing the probe."""

    code: str
    name: str  # "chapter.measure"
    question: str  # English; translated through the catalogue like every msgid

    @property
    def chapter(self) -> str:
        return self.name.split(".", 1)[0]


@dataclass(frozen=True, kw_only=True)
class Done:
    """The probe ran and returned a result; ``cached`` when an earlier run left it."""

    about: About
    result: Result
    cached: bool = False


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """The probe did not run, for a reason that says what it would take."""

    about: About
    reason: Message


@dataclass(frozen=True, kw_only=True)
class Crashed:
    """The probe raised; the traceback is kept with machine paths shortened."""

    about: About
    error: str
    traceback: str
    seconds: float = 0.0


Outcome = Done | Skipped | Crashed
