"""What a bound on one split rests on: errors, units, copies, the trivial level, rows known from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from theorylens.core import ROLES, Split, Subject, controls, zero_one
from theorylens.results import Assumption, Control, Estimate, Message, Share, Statistical, Status

from ._alike import alike_numbers, near_pairs
from ._answers import Answers, answers
from ._holdout import HoldoutBound, Method, Sample, holdout_bound, samples
from ._trivial import trivial_level

THEOREMS: Mapping[Method, Message] = {
    "binomial": Message("theorem.binomial", "Clopper–Pearson (exact binomial tail)"),
    "kl": Message("theorem.kl", "Chernoff–kl on the means of units"),
}
LOSS = Message("loss.zero_one", "0-1 loss")  # the name that tasks give it, kept here for translation


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """A network on a split. ``copies`` is None and ``shared`` empty when the inputs are unknown (outputs only).

    ``counts`` says that the error is how often an answer is wrong, not another loss that happens to lie in [0, 1].

    ``shared`` maps another role to the rows of this split whose input occurs there.
    """

    role: str
    split: Split
    answers: Answers
    units: NDArray[np.int64]
    copies: NDArray[np.int64] | None
    trivial: float
    trivial_name: Message
    error_range: tuple[float, float]
    shared: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    counts: bool = True

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The ways to count the rows; see `samples`."""
        return samples(
            self.answers.errors.numpy(), units=self.units, copies=self.copies, binary=self.answers.binary,
            error_range=self.error_range,
        )  # fmt: skip

    def rescaled(self, value: float) -> float:
        """From [0, 1] back to the range of the error."""
        low, high = self.error_range
        return min(max(low + (high - low) * value, low), high)

    def bound(self, delta: float, comparisons: int = 1, *, method: Method | None = None) -> HoldoutBound:
        return self._bound(np.arange(len(self.units)), delta, comparisons, method)

    def bound_without_shared(self, delta: float, comparisons: int = 1) -> HoldoutBound | None:
        """The bound on the rows that occur nowhere else; None when nothing is left or nothing is shared."""
        kept = np.flatnonzero(~np.isin(self.answers.rows.numpy(), self.shared_rows))
        if len(kept) == 0 or len(kept) == len(self.units):
            return None
        return self._bound(kept, delta, comparisons, None)

    def _bound(self, kept: NDArray[np.int64], delta: float, comparisons: int, method: Method | None) -> HoldoutBound:
        return holdout_bound(
            self.answers.errors.numpy()[kept], units=self.units[kept],
            copies=None if self.copies is None else self.copies[kept], binary=self.answers.binary,
            error_range=self.error_range, delta=delta, comparisons=comparisons, method=method,
        )  # fmt: skip

    @property
    def shared_rows(self) -> NDArray[np.int64]:
        found = [rows for rows in self.shared.values() if len(rows)]
        return np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)

    @property
    def single_rows(self) -> NDArray[np.int64]:
        """The first row of each unit, and of each exact copy: the rows that stay are independent."""
        first = np.sort(np.unique(self.units, return_index=True)[1])
        if self.copies is None:
            return first
        return np.sort(first[np.unique(self.copies[first], return_index=True)[1]])

    @property
    def is_share(self) -> bool:
        """Whether the error reads in per cent."""
        return self.error_range == (0.0, 1.0) and self.counts


def evidence(subject: Subject, role: str, *, against: tuple[str, ...] = ()) -> Evidence:
    """Everything a bound on ``role`` rests on; inputs are looked up in the splits ``against``."""
    split, found = subject.split(role), answers(subject, role)
    known = subject.model is not None  # two networks' outputs may coincide without any copy
    units = found.units(split)
    level, name = trivial_level(subject.judged, found, np.unique(units, return_inverse=True)[1])
    return Evidence(
        role=role, split=split, answers=found, units=units,
        copies=_copies(subject, role)[found.rows.numpy()] if known else None,
        trivial=level, trivial_name=name, error_range=subject.judged.error_range,
        shared={other: _shared(subject, role, other) for other in against if known and subject.has(other)},
        counts=found.binary or subject.judged.error is zero_one,
    )  # fmt: skip


def _copies(subject: Subject, role: str) -> NDArray[np.int64]:
    return subject.once(("copies", role), lambda: alike_numbers(subject.split(role)))


def _shared(subject: Subject, role: str, other: str) -> NDArray[np.int64]:
    """Rows of ``role`` whose input is an exact or near copy of an input of ``other``."""

    def look() -> NDArray[np.int64]:
        split, reference = subject.split(role), subject.split(other)
        known = set(reference.input_hashes)
        exact = [i for i, h in enumerate(split.input_hashes) if h in known]
        return np.union1d(np.asarray(exact, dtype=np.int64), near_pairs(split, reference)[0])

    return subject.once(("shared rows", role, other), look)


def hashes(subject: Subject) -> dict[str, str]:
    return {role: subject.split(role).sha256 for role in ROLES if subject.has(role)}


def ledger(delta: float, comparisons: int, purpose: Message) -> tuple[Share, ...]:
    """What delta is spent on: the draw of the examples, and the choice among models judged on them."""
    data = delta / comparisons
    shares = (Share(purpose=purpose, delta=data),)
    if comparisons == 1:
        return shares
    choice = Message("ledger.comparisons", "choice among {count} models", count=comparisons)
    return (*shares, Share(purpose=choice, delta=delta - data))


def estimated(found: HoldoutBound, unit: str) -> Estimate:
    """The measured error with its one-sided interval."""
    method = Message("method.one_sided", "{theorem}, one-sided", theorem=THEOREMS[found.method])
    level = Statistical(lower=-math.inf, upper=found.bound, level=1 - found.delta, method=method)
    return Estimate(value=found.empirical, uncertainty=level, unit=unit)


def error_controls(
    subject: Subject, roles: tuple[str, ...], compute: Callable[[Subject], Estimate]
) -> tuple[Control, ...]:  # fmt: skip
    """``compute`` before training, and after training on shuffled labels where that network is known with ``roles``."""
    if subject.model is None:
        return ()
    if subject.shuffled is not None and not all(subject.shuffled.has(role) for role in roles):
        subject = replace(subject, shuffled=None)
    return controls(subject, compute)


def drawn(found: Evidence, counted: int) -> Assumption:
    """That units are independent draws of what the bound speaks about."""
    statements = {
        "train": "the training units are independent draws from where the network will be used",
        "test": "the test units are independent draws from where the network will be used",
    }
    rows = len(found.units)
    notes = {
        True: "{rows} rows count as {n} units; rows of one unit and exact or near copies add nothing",
        False: "{rows} rows, each a unit of its own: {n} units, no copies",
    }
    note = Message("assume.counted", notes[counted < rows], rows=rows, n=counted)
    return Assumption(statement=Message(f"assume.drawn.{found.role}", statements[found.role]), evidence=note)


def unused(found: Evidence) -> Assumption:
    """That the split served for no choice; broken when its inputs occur in a split that did."""
    statement = Message("assume.unused", "the test split was used for nothing but this bound")
    if n := len(found.shared_rows):
        text = "{n} of {rows} test inputs also occur, or nearly, in the training or validation split"
        said = Message("assume.shared", text, n=n, rows=len(found.split))
        return Assumption(statement=statement, status=Status.BROKEN, evidence=said)
    if found.shared:
        text = (
            "none of the {rows} test inputs occurs, or nearly, in the training or validation split; "
            "choices made with them would leave no trace"
        )
        return Assumption(statement=statement, evidence=Message("assume.none_shared", text, rows=len(found.split)))
    said = Message("assume.unknown", "there is no other split to compare it with")
    return Assumption(statement=statement, evidence=said)


def counted_models(comparisons: int) -> Assumption:
    """That every model judged on the split was counted."""
    statement = Message("assume.counted_models", "every model judged on the test split is counted")
    said = Message("assume.comparisons", "counted: {count}", count=comparisons)
    return Assumption(statement=statement, evidence=said)


def upward(value: float, *, share: bool) -> float:
    """``value`` as it may be printed: to 0.01 % or to four digits, never below itself."""
    digits = 4 if share else 3 - math.floor(math.log10(abs(value))) if value else 0
    return math.ceil(value * 10.0**digits) / 10.0**digits
