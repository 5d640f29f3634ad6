"""The p-values of a run: in a line on a card, and as one family in a table."""

from __future__ import annotations

from theorylens.results import Message, PValue, Record, Result, Translate, p_values_of

from ._numbers import plain
from ._tables import Grid

SHOWN = 40  # rows of the table; the rest is in the JSON


def p_line(result: Result, translate: Translate) -> str:
    """The test on which the result rests most, and how many more there are; nothing where nothing was tested."""
    if not result.p_values:
        return ""
    first = min(result.p_values, key=lambda p: (not p.decides, p.decisive, p.p))
    if first.said.render(translate) in (result.reading or result.reason).render(translate):
        return ""  # it stands in the reading already
    said = _both(first).render(translate)
    rest = len(result.p_values) - 1
    if not rest:
        return said
    text = "{said}; smallest of {count} tests" if not first.decides else "{said}; the deciding one of {count} tests"
    name = "card.p_decides" if first.decides else "card.p_smallest"
    return Message(name, text, said=said, count=rest + 1).render(translate)


def _both(p: PValue) -> Message:
    if p.adjusted is None:
        return Message("card.p_raw", "{p:.2g}, not adjusted over a run", p=p.p)
    return Message("card.p", "{adjusted:.2g} among all tests of this run, {p:.2g} alone", adjusted=p.adjusted, p=p.p)


def family(record: Record, translate: Translate) -> Grid | None:
    """Every test of the run, most surprising first; None where nothing was tested."""
    tests = p_values_of(record.outcomes)
    if not tests:
        return None
    head = (
        Message("head.code", "Code"), Message("family.tested", "What is tested"), Message("family.p", "p alone"),
        Message("family.adjusted", "p among all tests"),
    )  # fmt: skip
    rows = tuple(
        (code, p.statement.render(translate), plain(p.p, 2), "–" if p.adjusted is None else plain(p.adjusted, 2))
        for code, p in tests[:SHOWN]
    )
    note = ""
    if len(tests) > SHOWN:
        text = "The {shown} most surprising of {all} tests; all of them are in the JSON."
        note = Message("family.cut", text, shown=SHOWN, all=len(tests)).render(translate)
    return Grid(head=tuple(m.render(translate) for m in head), rows=rows, note=note)
