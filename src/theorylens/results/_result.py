"""What a probe returns: a number, what it means, on which assumptions, beside which controls, at what cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from ._certificate import Certificate
from ._estimate import Estimate
from ._message import Message
from ._p_value import PValue
from ._payload import Payload, Role


class Kind(Enum):
    """How a number may be used."""

    CERTIFICATE = "certificate"  # true with the stated probability under the stated assumptions
    INDICATOR = "indicator"  # goes with generalisation in some settings; means little without its control
    DESCRIPTION = "description"  # a fact about this network


class Verdict(Enum):
    """What a result says about the claim behind its question."""

    HOLDS = "holds"
    FAILS = "fails"
    VACUOUS = "vacuous"
    INCONCLUSIVE = "inconclusive"
    DESCRIPTIVE = "descriptive"


class Status(Enum):
    """Whether an assumption was tested, and how that went."""

    MET = "met"
    BROKEN = "broken"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """A condition of the claim. What the user declared is unchecked, not met."""

    statement: Message
    status: Status = Status.UNCHECKED
    evidence: Message | None = None


@dataclass(frozen=True, kw_only=True)
class Control:
    """The same number where there is nothing to find: at initialisation, on shuffled labels."""

    role: Role
    name: Message
    estimate: Estimate


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What it took. Passes are counted in examples: one forward of one example is 1."""

    seconds: float = 0.0
    forwards: int = 0
    gradients: int = 0
    hvps: int = 0


Setting = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """What a result says instead when a p-value on which its verdict rests is not small among all tests of the run."""

    verdict: Verdict
    reason: Message
    reading: Message | None = None
    assumptions: tuple[Assumption, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Result:
    """One measured answer.

    A probe fills everything but ``code``, ``cost``, ``seed`` and ``plan``: `core.probe` stamps those.

    Attributes
    ----------
    reason
        One sentence: the verdict in words, for the summary table.
    reading
        One to three sentences that answer the question, first word first; None repeats ``reason``.
    plan
        The rung (number of draws) the probe ran at; None when nothing is sampled.
    examples
        Indices of examples behind the finding, never the examples.
    p_values
        Every test behind the result; a run adjusts them over all its probes.
    otherwise
        What to say instead when a test on which the verdict rests does not stand among all tests of the run.
    """

    estimate: Estimate
    kind: Kind
    verdict: Verdict
    reason: Message
    reading: Message | None = None
    assumptions: tuple[Assumption, ...] = ()
    controls: tuple[Control, ...] = ()
    references: tuple[str, ...] = ()
    payload: tuple[Payload, ...] = ()
    certificate: Certificate | None = None
    settings: Mapping[str, Setting] = field(default_factory=dict)
    examples: tuple[int, ...] = ()
    code: str = ""
    cost: Cost = field(default_factory=Cost)
    seed: int | None = None
    plan: int | None = None
    p_values: tuple[PValue, ...] = ()
    otherwise: Conclusion | None = None

    def __post_init__(self) -> None:
        broken = [a.statement.render() for a in self.assumptions if a.status is Status.BROKEN]
        if self.verdict is Verdict.HOLDS and broken:
            raise ValueError(f"the verdict cannot be 'holds' with broken assumptions: {broken}")
        if (self.kind is Kind.CERTIFICATE) != (self.certificate is not None):
            raise ValueError("a result of kind certificate carries a Certificate, and no other result does")
        if self.kind is Kind.INDICATOR and not self.controls and self.verdict is Verdict.HOLDS:
            raise ValueError(
                "an indicator without a control is at most descriptive; give a control or lower the verdict"
            )
        if self.estimate.trouble is not None and self.verdict is Verdict.HOLDS:
            raise ValueError(f"the verdict cannot be 'holds' with trouble: {self.estimate.trouble}")
        if self.otherwise is not None and not any(p.decides for p in self.p_values):
            raise ValueError("another conclusion needs a p-value that decides between them: decides=True")

    def control(self, role: Role) -> Control | None:
        """The control of ``role``, if it was measured."""
        return next((c for c in self.controls if c.role == role), None)
