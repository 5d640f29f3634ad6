"""Two reports side by side: what differs beyond both intervals, what does not, what only one of them measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from theorylens.locale import translator
from theorylens.results import Done, Enclosure, Estimate, Exact, Message, Record, Statistical, Translate, Unknown

from ._lines import estimate_text
from ._markdown import escape, markdown_table
from ._words import VERDICTS

if TYPE_CHECKING:
    from rich.console import RenderableType

ROUNDING = 1e-9  # exact numbers that differ by less are one number


class Difference(Enum):
    """How one number of two reports compares."""

    DIFFERS = "differs"  # the intervals are disjoint
    UNKNOWN = "unknown"  # one of the two has no interval, or only one end
    WITHIN = "within"
    ONLY_FIRST = "only first"
    ONLY_SECOND = "only second"


WORDS = {
    Difference.DIFFERS: Message("compare.differs", "differs beyond both intervals"),
    Difference.UNKNOWN: Message("compare.unknown", "cannot be told: no two-sided interval"),
    Difference.WITHIN: Message("compare.within", "within the intervals"),
    Difference.ONLY_FIRST: Message("compare.first", "only in the first"),
    Difference.ONLY_SECOND: Message("compare.second", "only in the second"),
}


@dataclass(frozen=True, kw_only=True)
class ComparedRow:
    """One probe in two reports."""

    code: str
    question: str
    difference: Difference
    first: Done | None
    second: Done | None

    @property
    def verdict_changed(self) -> bool:
        """Whether both reports have a verdict and the two are not the same."""
        return None not in (self.first, self.second) and _verdict(self.first) != _verdict(self.second)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The rows, differences first, and what a reader must know before comparing at all."""

    names: tuple[str, str]
    rows: tuple[ComparedRow, ...]
    notes: tuple[Message, ...]


def compare(a: Record, b: Record) -> Comparison:
    """Compare every finished probe of ``a`` and ``b``.

    Two numbers differ when their intervals are disjoint. Each interval holds at its own level and many are looked at,
    so a difference is a reason to look, not a test. Certificates have one-sided intervals, which never differ: the
    smaller of two upper bounds does not show the better model.
    """
    first, second = _by_code(a), _by_code(b)
    rows = [_row(code, first.get(code), second.get(code)) for code in dict.fromkeys([*first, *second])]
    order = list(Difference)
    rows.sort(key=lambda row: order.index(row.difference))
    notes = []
    for role in ("train", "validation", "test"):
        ours, theirs = a.subject.split(role), b.subject.split(role)
        if ours is not None and theirs is not None and ours.sha256 != theirs.sha256:
            text = "the two reports have different {role} splits; part of any difference is theirs"
            notes.append(Message("compare.splits", text, role=role))
    return Comparison(names=(a.subject.name, b.subject.name), rows=tuple(rows), notes=tuple(notes))


def _by_code(record: Record) -> dict[str, Done]:
    return {o.about.code: o for o in record.outcomes if isinstance(o, Done)}


def _row(code: str, first: Done | None, second: Done | None) -> ComparedRow:
    shown = first or second
    assert shown is not None
    if first is None or second is None:
        difference = Difference.ONLY_SECOND if first is None else Difference.ONLY_FIRST
    else:
        difference = _difference(first.result.estimate, second.result.estimate)
    return ComparedRow(
        code=code, question=shown.about.question, difference=difference, first=first, second=second
    )  # fmt: skip


def _difference(a: Estimate, b: Estimate) -> Difference:
    if isinstance(a.uncertainty, Exact) and isinstance(b.uncertainty, Exact):
        same = math.isclose(a.value, b.value, rel_tol=ROUNDING) or (math.isnan(a.value) and math.isnan(b.value))
        return Difference.WITHIN if same else Difference.DIFFERS
    if any(isinstance(e.uncertainty, Unknown) or not math.isfinite(e.value) for e in (a, b)):
        return Difference.UNKNOWN
    if any(isinstance(e.uncertainty, Statistical | Enclosure) and math.isinf(e.upper - e.lower) for e in (a, b)):
        return Difference.UNKNOWN if max(a.lower, b.lower) <= min(a.upper, b.upper) else Difference.DIFFERS
    return Difference.DIFFERS if a.upper < b.lower or b.upper < a.lower else Difference.WITHIN


def _verdict(outcome: Done | None) -> str:
    return "" if outcome is None else outcome.result.verdict.value


def _cells(row: ComparedRow, translate: Translate) -> tuple[str, ...]:
    def side(outcome: Done | None) -> str:
        if outcome is None:
            return "–"
        verdict = f", {VERDICTS[_verdict(outcome)].render(translate)}" if row.verdict_changed else ""
        return estimate_text(outcome, translate) + verdict

    return (
        row.code,
        translate(row.question),
        side(row.first),
        side(row.second),
        WORDS[row.difference].render(translate),
    )


def _head(comparison: Comparison, translate: Translate) -> tuple[str, ...]:
    last = Message("compare.head", "Difference").render(translate)
    code, question = Message("head.code", "Code"), Message("head.question", "Question")
    return (code.render(translate), question.render(translate), *comparison.names, last)


def markdown_comparison(comparison: Comparison, lang: str = "en") -> str:
    """A comparison as one Markdown table."""
    translate = translator(lang)
    table = markdown_table(_head(comparison, translate), [_cells(row, translate) for row in comparison.rows])
    return "\n\n".join([table, *(escape(note.render(translate)) for note in comparison.notes)]) + "\n"


def terminal_comparison(comparison: Comparison, lang: str = "en") -> RenderableType:
    """A comparison as a rich renderable."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    translate = translator(lang)
    table = Table(box=None, pad_edge=False, header_style="bright_black")
    for heading in _head(comparison, translate):
        table.add_column(Text(heading), overflow="fold")
    for row in comparison.rows:
        style = "bold" if row.difference is Difference.DIFFERS else ""
        table.add_row(*(Text(cell, style=style) for cell in _cells(row, translate)))
    return Group(table, *(Text(note.render(translate), style="yellow") for note in comparison.notes))
