"""A p-value as a probe hands it over, and as the whole run leaves it."""

from __future__ import annotations

from dataclasses import dataclass

from ._message import Message

FAMILY_LEVEL = 0.05  # of the whole run: chance of at least one wrong rejection


@dataclass(frozen=True, kw_only=True)
class PValue:
    """One test of a probe.

    Attributes
    ----------
    statement
        What is tested: true unless the p-value is small.
    p
        Of this test alone.
    among_own
        Adjusted for the other tests of the same probe, by whatever controls the probability of a wrong rejection there
        (Holm, a fixed order); ``p`` itself where the probe tests one thing.
    adjusted
        Over all tests of the run; None until a run has seen all of them.
    decides
        Whether the verdict rests on this test: it stands only while ``adjusted`` is at most 0.05.
    """

    statement: Message
    p: float
    among_own: float | None = None
    adjusted: float | None = None
    decides: bool = False

    def __post_init__(self) -> None:
        for name in ("p", "among_own", "adjusted"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in 0 to 1, got {value}")
        if self.among_own is not None and self.among_own < self.p:
            raise ValueError(f"an adjusted p-value is not below the one it adjusts: {self.among_own} < {self.p}")

    @property
    def own(self) -> float:
        """The p-value with which the test enters the run."""
        return self.p if self.among_own is None else self.among_own

    @property
    def decisive(self) -> float:
        """What is compared with the level: adjusted over the run where that is known."""
        return self.own if self.adjusted is None else self.adjusted

    @property
    def said(self) -> Message:
        """The p-value in a sentence: what decides, and the raw one beside it where that is another."""
        if self.decisive == self.p:
            return Message("p.alone", "p\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{p:.2g}", p=self.p)
        if self.adjusted is None:
            text = "p\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{own:.2g} among the tests of this probe, {p:.2g} alone"
            return Message("p.own", text, own=self.own, p=self.p)
        text = "p\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{adjusted:.2g} among all tests of this run, {p:.2g} alone"
        return Message("p.run", text, adjusted=self.adjusted, p=self.p)
