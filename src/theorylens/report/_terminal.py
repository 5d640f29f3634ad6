"""The summary on a terminal: rich tables for a person, one line per probe for a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from theorylens.locale import translator
from theorylens.results import Message, Record

from ._lines import Entry, lines

if TYPE_CHECKING:
    from rich.console import RenderableType

SHAPES = {
    "holds": "✔",
    "fails": "✘",
    "vacuous": "⊘",
    "inconclusive": "◐",
    "descriptive": "≡",
    "skipped": "»",
    "crashed": "▲",
}
COLOURS = {
    "holds": "green", "fails": "red", "vacuous": "bright_black", "inconclusive": "yellow", "descriptive": "blue",
    "skipped": "bright_black", "crashed": "red",
}  # fmt: skip
TITLES = {
    "certificates": Message("terminal.certificates", "Certificates: bounds on the loss on new data"),
    "indicators": Message("terminal.indicators", "Indicators and descriptions, beside their controls in the report"),
    "missing": Message("terminal.missing", "Not measured"),
    "requirements": Message("terminal.requirements", "Requirements"),
}


def terminal(record: Record, lang: str = "en") -> RenderableType:
    """A rich renderable of ``record``; names are shown as text, never read as markup."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    translate = translator(lang)
    said = lines(record, translate)
    head = Table.grid(padding=(0, 2))
    for label, text in said.answers:
        head.add_row(Text(label, style="bright_black"), Text(text, style="bold"))
    parts: list[RenderableType] = [Text(said.name, style="bold underline"), head]
    for name, entries in _groups(said.certificates, said.indicators, said.missing, said.requirements):
        title = Text(TITLES[name].render(translate), style="bold")
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bright_black")
        for heading in _headings(name):
            table.add_column(Text(heading.render(translate)), overflow="fold", no_wrap=heading.id == "head.code")
        for entry in entries:
            verdict = Text(f"{SHAPES[entry.verdict]} {entry.word}", style=COLOURS[entry.verdict])
            cells = [Text(entry.code), Text(entry.question), Text(entry.estimate), verdict, Text(entry.reason)]
            table.add_row(*(c for c, h in zip(cells, _ALL, strict=True) if h in _headings(name)))
        parts += [Text(""), table]
    return Group(*parts)


def plain(record: Record, lang: str = "en") -> str:
    """One line per probe, fields separated by tabs, no control characters: for a pipe or a log."""
    translate = translator(lang)
    said = lines(record, translate)
    rows = [_line(label, text) for label, text in said.answers]
    for entries in (said.certificates, said.indicators, said.missing, said.requirements):
        rows += [_line(e.code, e.question, e.estimate, e.word, e.reason) for e in entries]
    return "\n".join(rows) + "\n"


_ALL = (
    Message("head.code", "Code"),
    Message("head.question", "Question"),
    Message("head.estimate", "Estimate"),
    Message("head.verdict", "Verdict"),
    Message("head.reason", "Reason"),
)


def _headings(name: str) -> tuple[Message, ...]:
    if name == "requirements":
        return (_ALL[1], _ALL[3], _ALL[4])
    return _ALL if name != "missing" else (_ALL[0], _ALL[1], _ALL[3], _ALL[4])


def _groups(*groups: Sequence[Entry]) -> list[tuple[str, Sequence[Entry]]]:
    return [(name, group) for name, group in zip(TITLES, groups, strict=True) if group]


def _line(*cells: str) -> str:
    """Control characters of a hostile name must not move the cursor."""
    return "\t".join(" ".join("".join(c if c.isprintable() else " " for c in cell).split()) for cell in cells if cell)
