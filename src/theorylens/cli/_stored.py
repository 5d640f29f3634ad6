"""Commands on stored reports: compare, gate, render, advise. None needs the model, or torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import _options as options
from ._exits import NOT_MET, usage_errors
from ._showing import printable, remark, show
from ._theory import pages

if TYPE_CHECKING:
    from theorylens.results import Message, Record, Translate


def _read(path: Path, hint: str) -> Record:
    from theorylens.report import read_json

    with usage_errors(hint):
        return read_json(path)


@click.command(short_help="What differs between two reports beyond both intervals?")
@click.argument("first", type=options.INPUT_FILE)
@click.argument("second", type=options.INPUT_FILE)
@options.lang
def compare(first: Path, second: Path, lang: str) -> int:
    """Compare two reports in JSON: what differs beyond both intervals, what does not, what only one measured.

    Where both were made on the same test examples, the networks are also compared example by example: exact interval
    of the difference of their errors, exact McNemar test.
    """
    from theorylens.report import compare as compare_records
    from theorylens.report import markdown_comparison, terminal_comparison

    from ._pairing import paired_note

    a, b = _read(first, "FIRST"), _read(second, "SECOND")
    found = compare_records(a, b)
    with usage_errors("FIRST and SECOND"):
        found = replace(found, notes=(paired_note(a, b), *found.notes))
    show(lambda: terminal_comparison(found, lang), lambda: markdown_comparison(found, lang))
    return 0


@click.command(short_help="Compare a stored report with requirements; exit code 1 when one is not met.")
@options.report_file
@options.require(" Without it, the requirements stored in the report.")
@options.lang
def gate(report: Path, require: tuple[str, ...], lang: str) -> int:
    """Compare a stored report with requirements.

    The unfavourable end of the interval is compared; what was skipped, crashed, inconclusive or not measured is not
    met. Exit code 1 when a requirement is not met, 2 when a name is unknown, else 0.
    """
    from theorylens.locale import translator
    from theorylens.results import Message, Requirement

    record = _read(report, "REPORT")
    texts = require or tuple(c.text for c in record.requirements)
    if not texts:
        raise click.UsageError(f"{report.name} holds no requirements; give --require, such as 'certificate <= 0.1'")
    with usage_errors("--require"):
        wanted = [Requirement.parse(text, _names(record)) for text in texts]
    translate = translator(lang)
    checked = [r.check(record.outcomes, record.headline) for r in wanted]
    for c in checked:
        word = Message("gate.met", "met") if c.met else Message("gate.unmet", "not met")
        click.echo("\t".join(map(printable, (word.render(translate), c.text, c.why.render(translate)))))
    return 0 if all(c.met for c in checked) else NOT_MET


def _names(record: Record) -> list[str]:
    """What a requirement may name: all that is in the report, and every code that has a theory page."""
    measured = [word for o in record.outcomes for word in (o.about.code, o.about.name)]
    return [*measured, *sorted(pages().keys() - set(measured))]


@click.command(short_help="Draw a stored report again, in any language.")
@options.report_file
@options.lang
@click.option("--out", type=options.OutputFile(".html", ".htm", ".md"),
              help="File to write, .html or .md; without it the summary is shown.")  # fmt: skip
def render(report: Path, lang: str, out: Path | None) -> int:
    """Draw a stored report again, in any language; neither the network nor torch is needed."""
    from theorylens.report import Report, plain, terminal

    record = _read(report, "REPORT")
    if out is None:
        show(lambda: terminal(record, lang), lambda: plain(record, lang))
    else:
        Report(record, lang).save(out)
        remark(f"written: {out}")
    return 0


@click.command(short_help="What a stored report recommends, with the findings for and against.")
@options.report_file
@options.lang
@click.option(
    "--claims", is_flag=True, help="What learning theory says, and which of it the report supports or contradicts."
)
def advise(report: Path, lang: str, claims: bool) -> int:
    """Say what a stored report recommends, each change with the findings for and against it."""
    from theorylens.locale import translator

    record, translate = _read(report, "REPORT"), translator(lang)
    click.echo("\n".join(_claims(record, translate) if claims else _advice(record, translate)))
    return 0


def _claims(record: Record, translate: Translate) -> Iterator[str]:
    from theorylens.advice import claims
    from theorylens.results import Message

    def say(message: Message) -> str:
        return printable(message.render(translate))

    for judged in claims(record):
        claim = judged.claim
        text = "{statement} In general: {truth}. {standing}."
        yield say(
            Message(
                "claims.line", text, statement=claim.statement, truth=claim.truth.word, standing=judged.standing.word
            )
        )
        yield "   " + say(claim.conditions)
        for e in judged.evidence:
            yield "   " + say(Message("claims.evidence", "{code} {finding}", code=e.code, finding=e.finding))


def _advice(record: Record, translate: Translate) -> Iterator[str]:
    from theorylens.results import Message

    def say(message: Message) -> str:
        return printable(message.render(translate))

    if not record.advice:
        yield say(Message("advise.none", "Nothing measured here asks for a change."))
    for number, found in enumerate(record.advice, start=1):
        yield f"{number}. {say(found.change)}"
        for e in found.supports:
            yield "   " + say(Message("advise.for", "For: {code} {finding}", code=e.code, finding=e.finding))
        for e in found.contradicts:
            yield "   " + say(Message("advise.against", "Against: {code} {finding}", code=e.code, finding=e.finding))
        if not found.contradicts:
            yield "   " + say(Message("advise.unopposed", "Against: nothing measured here"))
        yield "   " + say(Message("advise.effect", "Effect: {effect}", effect=found.effect))
        if found.command:
            yield "   " + say(Message("advise.test", "Command that tests this: {command}", command=found.command))
