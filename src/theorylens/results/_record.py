"""The whole of an audit as data: what was studied, how, what came out. Reports are drawn from this alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ._advice import Recommendation
from ._message import Message
from ._outcome import Crashed, Done, Outcome
from ._result import Kind, Result, Setting

SCHEMA = "theorylens/report/1"


@dataclass(frozen=True, kw_only=True)
class SplitFacts:
    """One split by its role: rows, independent units, distinct rows, and the hash of its content."""

    role: str
    rows: int
    units: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class SubjectFacts:
    """What was studied, without inputs, labels or absolute paths."""

    name: str
    task: str
    architecture: str
    parameters: int
    dtype: str
    classes: int | None
    splits: tuple[SplitFacts, ...]
    fingerprint: str
    notes: tuple[Message, ...] = ()

    def split(self, role: str) -> SplitFacts | None:
        return next((s for s in self.splits if s.role == role), None)


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """How it was studied: enough to repeat it."""

    started: str
    seconds: float
    budget: float | None
    seed: int
    device: str
    threads: int
    versions: Mapping[str, str]
    source: str  # hash of the theorylens sources that ran
    plan: Mapping[str, int]  # code -> rung
    settings: Mapping[str, Setting] = field(default_factory=dict)
    command: str = ""
    hash: str = ""  # of everything above that decides the numbers


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A requirement after it was compared: what was demanded, what was measured, whether it is met and why not."""

    text: str
    measured: float | None
    met: bool
    why: Message


@dataclass(frozen=True, kw_only=True)
class Record:
    """A finished audit."""

    subject: SubjectFacts
    run: RunFacts
    outcomes: tuple[Outcome, ...]
    headline: str | None = None  # code of the certificate chosen before any value was seen
    requirements: tuple[Checked, ...] = ()
    advice: tuple[Recommendation, ...] = ()
    exit_code: int = 0

    def result(self, code: str) -> Result | None:
        """The result of ``code``, None when it was skipped, crashed or not part of the audit."""
        return next((o.result for o in self.outcomes if isinstance(o, Done) and o.about.code == code), None)

    @property
    def certificates(self) -> tuple[Done, ...]:
        """Finished certificates, the headline first, vacuous ones last."""
        found = [o for o in self.outcomes if isinstance(o, Done) and o.result.kind is Kind.CERTIFICATE]
        return tuple(sorted(found, key=self._rank))

    def _rank(self, outcome: Done) -> tuple[bool, bool]:
        certificate = outcome.result.certificate
        return (outcome.about.code != self.headline, certificate is not None and certificate.vacuous)


def exit_code(
    outcomes: Sequence[Outcome], requirements: Sequence[Checked], *, allow_crash: Collection[str] = ()
) -> int:
    """0, or the first that applies: 3 a probe crashed, 1 a requirement is not met, 5 nothing was measured."""
    if any(isinstance(o, Crashed) and o.about.code not in allow_crash for o in outcomes):
        return 3
    if not all(r.met for r in requirements):
        return 1
    if not any(isinstance(o, Done) for o in outcomes):
        return 5
    return 0
