"""Commands about theorylens itself: init, list, explain."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import _options as options
from ._exits import usage_errors
from ._showing import remark, show, show_table
from ._theory import pages

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command(short_help="Write a commented subject.py to start from.")
@click.argument("path", type=options.OutputFile(".py"), default=Path("subject.py"))
def init(path: Path) -> int:
    """Write a commented subject file (subject.py) with two lines to edit; an existing file is left alone."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write((files(__package__) / "subject_template.txt").read_text(encoding="utf-8"))
    except FileExistsError as error:
        raise click.UsageError(f"{path} exists and is left as it is; give another name") from error
    remark(f"written: {path}; edit the two lines it marks, then run: theorylens check {path}:make")
    return 0


@click.command("list", short_help="The probes: code, name, what each needs, its question.")
@click.option("--only", metavar="NAMES", help="Chapters, codes or names, such as landscape,TL3*.")
@options.lang
def listing(only: str | None, lang: str) -> int:
    """List the probes: code, name, what each needs of a subject, and the question it answers."""
    from theorylens.auditing import PROBES, select
    from theorylens.locale import translator

    with usage_errors("--only"):
        chosen = {p.code for p in select(PROBES, only)}
    translate = translator(lang)
    rows = [
        (p.code, p.name, ", ".join(sorted(need.value for need in p.needs)), translate(p.question))
        for p in PROBES
        if p.code in chosen
    ]
    show_table(("Code", "Probe", "Needs", "Question"), rows)
    return 0


@click.command(short_help="The theory behind one probe.")
@click.argument("code")
@options.lang
def explain(code: str, lang: str) -> int:
    """Show the theory page of a probe, such as TL101: what it measures, its source, what it assumes, how to read it."""
    known = pages()
    page = known.get(code.upper(), {}).get(lang)
    if page is None:
        raise click.BadParameter(_no_page(code.upper(), lang, known), param_hint="CODE")
    text = page.read_text(encoding="utf-8")

    def drawn() -> RenderableType:
        from rich.markdown import Markdown

        return Markdown(text, hyperlinks=False)

    show(drawn, lambda: text)
    return 0


def _no_page(code: str, lang: str, known: Mapping[str, Collection[str]]) -> str:
    if code in known:
        return f"the page of {code} is not there in {lang!r}; it is in {', '.join(sorted(known[code]))}."
    near = difflib.get_close_matches(code, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known)) or 'none'}."
    return f"no theory page for {code!r}; {hint}"
