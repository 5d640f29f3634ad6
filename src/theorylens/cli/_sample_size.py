"""The command sample-size: how many examples, by every theorem that applies. Needs no torch unless SUBJECT is given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import _options as options
from ._exits import refusals, usage_errors
from ._showing import remark, show_table
from ._subjects import SubjectFlags

if TYPE_CHECKING:
    from theorylens.core import Subject
    from theorylens.generalization import SampleSize
    from theorylens.results import Message

SCHEMA = "theorylens/sample-size/1"
FINEST = 24  # accuracies along the axis of the picture: nearly straight lines
_SIZE = {"class-size": "class_size", "log-class-size": "log_class_size", "bits": "bits", "vc": "vc_dimension"}


@click.command("sample-size", short_help="How many examples? Every applicable theorem side by side.")
@click.argument("subject", required=False)
@click.option("--class-size", type=int, metavar="N", help="Number of classifiers that could be learnt.")
@click.option("--log-class-size", type=float, metavar="X", help="Its natural logarithm, or -ln of a prior probability.")
@click.option("--bits", type=float, metavar="B", help="Length in bits of the code that describes the classifier.")
@click.option("--vc", "vc_dimension", type=int, metavar="D", help="VC dimension of the class.")
@click.option("--epsilon", type=float, default=0.1, show_default=True, help="Accuracy wanted.")
@click.option("--delta", type=float, default=0.05, show_default=True, help="Failure probability allowed.")
@click.option(
    "--test-set",
    "width",
    type=float,
    metavar="WIDTH",
    help="Test examples for a bound at most WIDTH above the measured error.",
)
@click.option("--error", type=float, metavar="RATE", help="With --test-set: the error expected on the test set.")
@click.option("--json", "out", type=options.JSON, help="Write the table as JSON.")
@click.option("--plot", type=options.OutputFile(".svg", ".png", ".pdf"), help="Draw the sizes against the accuracy.")
@options.lang
def sample_size(
    subject: str | None, epsilon: float, delta: float, width: float | None, error: float | None, out: Path | None,
    plot: Path | None, lang: str, **size: Any,
) -> int:  # fmt: skip
    """Say how many examples are enough, or needed, by every theorem that applies.

    Say how large the class is, in one of four ways, or give SUBJECT (subject.py:make): its weights are then counted in
    bits and its architecture by VC dimension. --test-set asks how large a test set must be for one fixed model.
    """
    named = {name: value for name, value in size.items() if value is not None}
    if not named and subject is None and width is None:
        raise click.UsageError(f"which class? Give one of {', '.join('--' + n for n in _SIZE)}, SUBJECT, or --test-set")
    if named and subject is not None:
        raise click.UsageError(f"give either SUBJECT or a size; got {subject} and --{_flag(next(iter(named)))}")
    if error is not None and width is None:
        raise click.UsageError("--error is about a test set; give --test-set WIDTH too")
    classes = [named] if named else [] if subject is None else _classes(_load(subject))
    with usage_errors():
        found = _found(classes, epsilon, delta, width, error)
        if plot is not None:
            _draw(plot, classes, epsilon, delta, lang)
    _show(found, lang)
    if out is not None:
        out.write_text(json.dumps(_view(found, epsilon, delta), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        remark(f"written: {out}")
    return 0


def _found(
    classes: list[dict[str, Any]], epsilon: float, delta: float, width: float | None, error: float | None
) -> list[SampleSize]:  # fmt: skip
    from theorylens.generalization import holdout_sizes, sample_sizes

    found = [each for size in classes for each in sample_sizes(epsilon, delta, **size)]
    return found if width is None else [*found, *holdout_sizes(width, delta, error=error)]


def _load(target: str) -> Subject:
    empty = dict.fromkeys(SubjectFlags.__dataclass_fields__)
    flags = SubjectFlags(**{**empty, "subject": target, "device": "auto"})  # type: ignore[arg-type]
    with refusals():
        subject = flags.load()
        rows = [f"{role} has {subject.split(role).distinct_units} units" for role in subject.roles]
        remark("; ".join(rows))
        subject.net  # noqa: B018 - refuses outputs without a model
    return subject


def _classes(subject: Subject) -> list[dict[str, Any]]:
    """The sizes that can be read off a network: every bit of its weights, and what its architecture may shatter."""
    from theorylens.core import UnsuitableError
    from theorylens.generalization import architecture_dimension, weight_bits

    bits = weight_bits(subject.net)
    if not subject.has("train"):
        remark(f"{bits} bits of weights; the VC dimension is read off with training examples, which are not given")
        return [{"bits": float(bits)}]
    try:
        found = architecture_dimension(subject)
    except UnsuitableError as error:
        remark(f"{bits} bits of weights; no VC dimension: {error}")
        return [{"bits": float(bits)}]
    remark(f"{bits} bits of weights; VC dimension of the architecture at most {found.upper}")
    return [{"bits": float(bits)}, {"vc_dimension": found.upper}]


def _draw(path: Path, classes: list[dict[str, Any]], epsilon: float, delta: float, lang: str) -> None:
    import numpy as np

    from theorylens.generalization import sample_size_lines
    from theorylens.locale import translator
    from theorylens.report._fonts import draw_han
    from theorylens.report._plots import figure

    if not classes:
        raise ValueError("--plot draws the sizes of a class; give one")
    grid = np.geomspace(min(0.01, epsilon), max(0.5, epsilon), FINEST).tolist()
    drawn = figure(sample_size_lines(grid, delta, **classes[0]), translator(lang))
    draw_han(drawn)
    drawn.savefig(path, facecolor="white")
    remark(f"written: {path}")


def _show(found: list[SampleSize], lang: str) -> None:
    from theorylens.generalization import sample_size_table
    from theorylens.locale import translator
    from theorylens.results import Message

    translate = translator(lang)
    table = sample_size_table(tuple(found))

    def said(cell: object) -> str:
        return cell.render(translate) if isinstance(cell, Message) else str(cell)

    show_table([said(c) for c in table.columns], [[said(cell) for cell in row] for row in table.rows])


def _view(found: list[SampleSize], epsilon: float, delta: float) -> dict[str, Any]:
    def said(message: Message) -> dict[str, str]:
        return {"id": message.id, "text": message.render()}

    rows = [
        {
            "key": s.key, "theorem": said(s.theorem), "setting": s.setting, "kind": s.kind, "examples": s.m,
            "assumption": said(s.assumption), "reference": s.reference,
        }
        for s in found
    ]  # fmt: skip
    return {"schema": SCHEMA, "epsilon": epsilon, "delta": delta, "rows": rows}


def _flag(name: str) -> str:
    return next(flag for flag, field in _SIZE.items() if field == name)
