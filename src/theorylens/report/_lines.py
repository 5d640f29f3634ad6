"""A record as short lines of words: what the terminal table and the Markdown comment have in common."""

from __future__ import annotations

from dataclasses import dataclass

from theorylens.results import Crashed, Done, Kind, Message, Record, Skipped, Translate

from ._answer import answer
from ._certificates import bound_text, loss_text
from ._numbers import NO_BREAK, shown
from ._words import VERDICTS, sentence


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One probe in one line."""

    code: str
    question: str
    estimate: str
    verdict: str
    word: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Lines:
    """The whole record in lines; certificates and indicators never in one list."""

    name: str
    answers: tuple[tuple[str, str], ...]
    certificates: tuple[Entry, ...]
    indicators: tuple[Entry, ...]
    missing: tuple[Entry, ...]
    requirements: tuple[Entry, ...]


def lines(record: Record, translate: Translate) -> Lines:
    """Everything that a short report says."""
    top = answer(record, translate)
    why = " ".join(f"{f.sentence} ({f.code}: {f.numbers})." for f in top.why) or top.why_none
    labels = (Message("line.well", "How well"), Message("line.why", "Why"), Message("line.change", "What to change"))
    texts = (top.how_well, why, top.change)
    done = [o for o in record.outcomes if isinstance(o, Done)]
    return Lines(
        name=record.subject.name,
        answers=tuple((label.render(translate), text) for label, text in zip(labels, texts, strict=True)),
        certificates=tuple(_done(o, translate) for o in record.certificates),
        indicators=tuple(_done(o, translate) for o in done if o.result.kind is not Kind.CERTIFICATE),
        missing=tuple(_missing(o, translate) for o in record.outcomes if not isinstance(o, Done)),
        requirements=tuple(
            Entry(
                code="",
                question=r.text,
                estimate="",
                verdict="holds" if r.met else "fails",
                word=(Message("require.met", "met") if r.met else Message("require.unmet", "not met")).render(
                    translate
                ),
                reason=r.why.render(translate),
            )
            for r in record.requirements
        ),
    )


def estimate_text(outcome: Done, translate: Translate) -> str:
    """The estimate in a few words: a certificate's bound and measured loss, or value, unit and interval."""
    certificate = outcome.result.certificate
    if certificate is not None:
        measured = Message("hero.measured", "measured {loss}", loss=loss_text(certificate, certificate.empirical))
        return f"≤{NO_BREAK}{bound_text(certificate)} ({measured.render(translate)})"
    own = shown(outcome.result.estimate)
    return " ".join(part for part in (own.value, translate(own.unit), own.beside) if part)


def _done(outcome: Done, translate: Translate) -> Entry:
    verdict = outcome.result.verdict.value
    return Entry(
        code=outcome.about.code,
        question=translate(outcome.about.question),
        estimate=estimate_text(outcome, translate),
        verdict=verdict,
        word=VERDICTS[verdict].render(translate),
        reason=sentence(outcome.result.reason.render(translate)),
    )


def _missing(outcome: Skipped | Crashed, translate: Translate) -> Entry:
    skipped = isinstance(outcome, Skipped)
    return Entry(
        code=outcome.about.code,
        question=translate(outcome.about.question),
        estimate="",
        verdict="skipped" if skipped else "crashed",
        word=VERDICTS["skipped" if skipped else "crashed"].render(translate),
        reason=outcome.reason.render(translate) if isinstance(outcome, Skipped) else outcome.error,
    )
