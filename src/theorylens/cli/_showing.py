"""What reaches stdout: rich tables for a person at a terminal, lines with tabs for a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import RenderableType


def show(rich_form: Callable[[], RenderableType], plain_form: Callable[[], str]) -> None:
    """Print one of two forms of the same; rich itself honours NO_COLOR."""
    if sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False).print(rich_form())
    else:
        click.echo(plain_form().rstrip("\n"))


def show_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table with the columns ``headings``; on a pipe one line per row, without headings."""

    def table() -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        drawn = Table(box=None, pad_edge=False, header_style="bright_black")
        for number, heading in enumerate(headings):
            drawn.add_column(Text(heading), overflow="fold", no_wrap=number < 2)
        for row in rows:
            drawn.add_row(*(Text(printable(cell)) for cell in row))
        return drawn

    show(table, lambda: "\n".join("\t".join(map(printable, row)) for row in rows))


def remark(text: str) -> None:
    """A line on stderr: never part of a result."""
    click.echo(printable(text), err=True)


def printable(text: str) -> str:
    """``text`` on one line without control characters: a hostile name must not move the cursor."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
