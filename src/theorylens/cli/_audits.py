"""Commands that compute: demo, audit, check."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import _options as options
from ._exits import INTERRUPTED, refusals
from ._settings import Settings, settings
from ._showing import remark, show, show_table
from ._subjects import SubjectFlags

if TYPE_CHECKING:
    from collections.abc import Callable

    from theorylens.core import Subject
    from theorylens.report import Report

DEMOS = ("digits", "mnist", "face")
BUDGET = "60s"


@click.command(short_help="Audit a network on real data that packages carry.")
@click.argument("which", type=click.Choice(DEMOS), default="digits")
@options.audit(budget=BUDGET, out=Path("report.html"), json=Path("report.json"))
def demo(which: str, **given: Any) -> int:
    r"""Audit a network on real data that installed packages carry.

    \b
    digits  8 x 8 handwritten digits; trains a small network first
    mnist   28 x 28 handwritten digits; trains a small network first
    face    is this a face? a network that was trained elsewhere
    """

    def make() -> Subject:
        from theorylens import demos

        if which == "face":
            return demos.face()
        kept = None if wanted.fresh else wanted.cache / f"demo-{which}"
        train = demos.digits if which == "digits" else demos.mnist
        return train(directory=kept, progress=not (wanted.quiet or wanted.no_progress))

    wanted = settings(given)
    return _run(make, wanted, ["demo", which])


@click.command(short_help="Measure a trained network and write the report.")
@options.subject
@options.audit(budget=BUDGET)
def audit(**given: Any) -> int:
    """Measure a trained network and write down everything that was found.

    SUBJECT is subject.py:make or package.module:make, a function that returns a theorylens.Subject. Without code of
    your own: --model package.module:Net --weights net.safetensors --test test.npz --loss cross_entropy.

    The file or module named is run in this process, like a test file by pytest: name only what you trust.
    """
    flags = SubjectFlags.of(given)
    return _run(flags.load, settings(given), ["audit", *flags.words()])


@click.command(short_help="Is a network fit to be audited, and what would it cost?")
@options.subject
@options.config
def check(**given: Any) -> int:
    """Load a network, run a batch through it, and say what an audit would cost; no probe runs.

    Refuses (exit code 4) what an audit would refuse: a loss or parameter that is not finite, data or a model that
    answers differently the second time, outputs that do not fit the targets. Says which examples are in two splits.
    """
    from theorylens.auditing import PROBES, measure_speed, preflight

    with refusals():
        subject = SubjectFlags.of(given).load()
        notes = preflight(subject)
    for fact, text in _facts(subject):
        click.echo(f"{fact}\t{text}")
    for note in notes:
        click.echo(f"note\t{note.render()}")
    speed = measure_speed(subject)
    rows = []
    for p in PROBES:
        if (reason := p.missing(subject)) is not None:
            rows.append((p.code, p.name, "–", "–", reason.render()))
            continue
        first, top = (speed.seconds(p.cost(subject, rung)) for rung in ((p.rungs or (None,))[i] for i in (0, -1)))
        draws = f"{p.rungs[0]} to {p.rungs[-1]} draws" if p.rungs else ""
        rows.append((p.code, p.name, f"{first:.2g}", f"{top:.2g}", draws))
    show_table(("Code", "Probe", "Seconds, fewest draws", "Seconds, most draws", "Remark"), rows)
    return 0


def _facts(subject: Subject) -> list[tuple[str, str]]:
    task = subject.judged
    name = subject.name or ("outputs alone" if subject.model is None else type(subject.model).__name__)
    said = [("subject", name), ("task", f"{task.kind}, {task.loss_name}")]
    if subject.model is not None:
        size = sum(p.numel() for p in subject.model.parameters())
        said.append(("network", f"{type(subject.model).__name__}, {size} parameters, on {subject.device}"))
    for role in subject.roles:
        split, loss = subject.split(role), float(subject.scores(role).losses.mean())
        said.append((role, f"{len(split)} rows, {split.distinct_units} units, mean loss {loss:.4g}"))
    return [*said, ("fit", "the loss is finite on every example and two passes agree")]


def _run(load: Callable[[], Subject], given: Settings, start: list[str]) -> int:
    from theorylens.auditing import audit as run_audit

    wanted = given.options(start)
    started = time.time()
    if wanted.progress:
        remark("loading the subject")
    try:
        with refusals():
            subject = load()
            report = run_audit(
                subject, budget=given.time, only=given.only, skip=given.skip, seed=given.seed, options=wanted
            )
    except KeyboardInterrupt:
        remark(_kept(given, started))
        return INTERRUPTED
    return _deliver(report, given)


def _deliver(report: Report, given: Settings) -> int:
    from theorylens.report import plain, terminal

    record = report.record
    for path in given.files:
        report.save(path, given.lang)
    if not given.quiet:
        show(lambda: terminal(record, given.lang), lambda: plain(record, given.lang))
        for path in given.files:
            remark(f"written: {path}")
        if not given.files:
            remark("no file was asked for; the same command with --out report.html reads the finished probes back")
    return record.exit_code


def _kept(given: Settings, started: float) -> str:
    """What an interrupted run left, and how to go on."""
    found = [p for p in given.cache.glob("*/TL*.json") if p.stat().st_mtime >= started]
    if not found:
        return "interrupted before a probe had finished; nothing is written"
    again = "the same command without --fresh" if given.fresh else "the same command"
    return f"interrupted; {len(found)} finished probes are kept in {given.cache}, {again} goes on from there"
