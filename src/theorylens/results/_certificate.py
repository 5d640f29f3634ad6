"""What makes a bound valid, kept together with the bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ._message import Message


class Predictor(Enum):
    """Whom the bound is about. The three are never substituted for each other."""

    THIS_MODEL = "this model"
    RELATIVE = "a retrained relative"
    ENSEMBLE = "an ensemble"


@dataclass(frozen=True, kw_only=True)
class Share:
    """One entry of the delta ledger: a part of the failure probability and what it pays for."""

    purpose: Message
    delta: float


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A bound on the expected loss, true with probability at least ``1 - delta`` over the draw of the bound data.

    Attributes
    ----------
    theorem
        Name of the theorem.
    bound
        Upper bound on the expected loss of ``predictor``, in units of ``loss``.
    empirical
        The loss measured on the bound data.
    n
        Number of independent units actually scored (documents, patients; not rows).
    delta
        Failure probability, the sum of ``ledger``.
    comparisons
        Number of models known to have been judged on the same data; paid for in ``ledger``.
    loss, loss_range
        What is bounded and between which values it lies.
    trivial
        Expected loss of the best predictor that ignores the input, on the same data; a bound at or above it is vacuous.
    split, hashes
        Role of the bound data and the hash of each split involved.
    wrong
        Whether each independent example was answered wrong, in the order of the split: `packed_bits`, so that two
        stored reports can be compared example by example. Empty where answers are not simply right or wrong.
    examples
        How many bits that is.
    """

    theorem: str
    bound: float
    empirical: float
    n: int
    delta: float
    ledger: tuple[Share, ...]
    comparisons: int
    loss: str
    loss_range: tuple[float, float]
    trivial: float
    split: str
    hashes: Mapping[str, str]
    predictor: Predictor = Predictor.THIS_MODEL
    wrong: str = ""
    examples: int = 0

    def __post_init__(self) -> None:
        low, high = self.loss_range
        if not low <= self.empirical <= high:
            raise ValueError(f"the measured loss {self.empirical} lies outside its range [{low}, {high}]")
        if not self.bound >= self.empirical:
            raise ValueError(f"an upper bound of {self.bound} lies below the measured loss {self.empirical}")
        if not 0 < self.delta < 1:
            raise ValueError(f"delta must lie strictly between 0 and 1, got {self.delta}")
        if self.n < 1 or self.comparisons < 1:
            raise ValueError(
                f"a certificate needs n >= 1 and comparisons >= 1, got n={self.n}, comparisons={self.comparisons}"
            )
        spent = sum(share.delta for share in self.ledger)
        if abs(spent - self.delta) > 1e-12:
            raise ValueError(f"the ledger adds up to {spent}, not to delta = {self.delta}; every part must be paid for")

    @property
    def vacuous(self) -> bool:
        """Whether the bound says no more than the trivial predictor does."""
        return self.bound >= self.trivial
