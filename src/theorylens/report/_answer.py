"""The answer in three lines: how well, why, what to change. Chosen by fixed rules."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup, escape

from theorylens.results import (
    Crashed,
    Done,
    Exact,
    Kind,
    Message,
    Record,
    Result,
    Skipped,
    Statistical,
    Translate,
    Verdict,
)

from ._certificates import bound_text, hero, holds, is_share, loss_text, share_of_trust
from ._numbers import NO_BREAK, shown
from ._words import CHAPTERS, sentence

FINDINGS = 3


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A sentence with the question it answers and the code that leads to its evidence."""

    code: str
    question: str
    sentence: str
    verdict: str
    numbers: str  # of this network and of its controls


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What stands at the top of every report."""

    how_well: str
    how_well_shown: Markup
    certain: bool
    headline: str | None
    strip: Markup
    how_well_small: tuple[str, ...]
    why: tuple[Finding, ...]
    why_none: str
    change: str
    change_small: tuple[str, ...]
    change_codes: tuple[str, ...]


def answer(record: Record, translate: Translate) -> Answer:
    """Compose the three lines of ``record``."""
    certain, said, small, strip = _how_well(record, translate)
    why = findings(record, translate)
    first = record.advice[0] if record.advice else None
    return Answer(
        how_well=said,
        how_well_shown=_emphasised(said, record),
        certain=certain,
        headline=record.headline if record.headline and record.result(record.headline) else None,
        strip=strip,
        how_well_small=small,
        why=why,
        why_none="" if why else _no_finding(record, translate),
        change=(first.change if first else Message("change.none", "Nothing measured here asks for a change.")).render(
            translate
        ),
        change_small=_change_small(record, translate),
        change_codes=tuple(dict.fromkeys(e.code for e in first.supports)) if first else (),
    )


def _emphasised(said: str, record: Record) -> Markup:
    """The first sentence of the report with its number in bold."""
    result = record.result(record.headline) if record.headline else None
    if result is None or result.certificate is None:
        return escape(said)
    number = bound_text(result.certificate)
    before, found, after = said.partition(number)
    return Markup("{}<b>{}</b>{}").format(before, found, after) if found else escape(said)


def reading(result: Result, translate: Translate) -> str:
    return sentence((result.reading or result.reason).render(translate))


def _how_well(record: Record, translate: Translate) -> tuple[bool, str, tuple[str, ...], Markup]:
    outcome = next((o for o in record.outcomes if o.about.code == record.headline), None)
    if not isinstance(outcome, Done) or outcome.result.certificate is None:
        nothing = Message("answer.nothing", "Nothing can be certified: {why}", why=_no_headline(outcome))
        return False, nothing.render(translate), (), Markup("")
    strip = hero(outcome, translate)
    certificate = outcome.result.certificate
    if not holds(outcome):
        nothing = Message("answer.nothing", "Nothing can be certified: {why}", why=outcome.result.reason)
        return False, nothing.render(translate), _small(outcome.result, translate), strip
    texts = {
        True: "At most {bound} of new examples like these will be answered wrongly, with {trust} confidence.",
        False: "On new examples like these the expected loss ({loss}) is at most {bound}, with {trust} confidence.",
    }
    values = {"bound": bound_text(certificate), "trust": share_of_trust(certificate)}
    wrong = is_share(certificate) and certificate.loss.lower().replace("–", "-") in {"0-1 loss", "error rate", "0-1"}
    if not wrong:
        values["loss"] = translate(certificate.loss)
    return (
        True,
        Message("answer.bound", texts[wrong], **values).render(translate),
        _small(outcome.result, translate),
        strip,
    )


def _small(result: Result, translate: Translate) -> tuple[str, ...]:
    certificate = result.certificate
    assert certificate is not None
    lines = [reading(result, translate)]
    if result.verdict is Verdict.HOLDS:
        text = "{trust} of such samples give a bound that is true."
        lines.append(Message("answer.event", text, trust=share_of_trust(certificate)).render(translate))
    open_ones = [a.statement.render(translate) for a in result.assumptions if a.status.value == "unchecked"]
    if open_ones:
        text = "It rests on what nobody could check: {assumptions}."
        joiner = Message("list.separator", "; ").render(translate)
        lines.append(Message("answer.unchecked", text, assumptions=joiner.join(open_ones)).render(translate))
    if certificate.vacuous:
        text = "Measured {loss}; a guess that ignores the input has {trivial}."
        loss, trivial = (loss_text(certificate, v) for v in (certificate.empirical, certificate.trivial))
        lines.append(Message("answer.vacuous", text, loss=loss, trivial=trivial).render(translate))
    return tuple(lines)


def _no_headline(outcome: object) -> Message:
    match outcome:
        case Skipped():
            return outcome.reason
        case Crashed():
            text = "the certificate crashed ({error})."
            return Message("answer.crashed", text, error=outcome.error)
    return Message("answer.unchosen", "no certificate was chosen for this run.")


def findings(record: Record, translate: Translate) -> tuple[Finding, ...]:
    """At most three indicators, one a chapter.

    First what holds or fails, then what differs from each of its controls beyond both intervals (in a chapter that
    which differs most), then what is
    inconclusive: a number equal to its control explains nothing, and is worth saying only when nothing else is.
    """
    order = {chapter.name: i for i, chapter in enumerate(CHAPTERS)}
    found = [
        (rank, order.get(o.about.chapter, len(order)), -_apart(o.result), o.about.code, o)
        for o in record.outcomes
        if isinstance(o, Done) and (rank := _rank(o.result)) is not None
    ]
    chosen: dict[str, Done] = {}
    for *_, outcome in sorted(found, key=lambda f: f[:4]):
        chosen.setdefault(outcome.about.chapter, outcome)
    return tuple(
        Finding(
            code=o.about.code,
            question=translate(o.about.question),
            sentence=sentence(o.result.reason.render(translate)),
            verdict=o.result.verdict.value,
            numbers=_beside(o.result, translate),
        )
        for o in list(chosen.values())[:FINDINGS]
    )


def _apart(result: Result) -> float:
    """Distance from the nearest control as a share of the larger of the two; 0 without a control."""
    own = result.estimate.value
    pairs = [(own, c.estimate.value) for c in result.controls]
    return min((abs(a - b) / max(abs(a), abs(b)) for a, b in pairs if math.isfinite(a - b) and a != b), default=0.0)


def _beside(result: Result, translate: Translate) -> str:
    """The number and its controls."""
    own = shown(result.estimate)
    text = "this network {value}"
    head = Message("why.network", text, value=f"{own.value} {translate(own.unit)}".strip()).render(translate)
    beside = (f"{c.name.render(translate)} {shown(c.estimate).value}" for c in result.controls)
    return f"{NO_BREAK}· ".join([head, *beside])


def _rank(result: Result) -> int | None:
    if result.kind is not Kind.INDICATOR:
        return None
    if result.verdict in (Verdict.HOLDS, Verdict.FAILS):
        return 0
    if result.verdict is Verdict.INCONCLUSIVE:
        return 2
    own = result.estimate
    if not isinstance(own.uncertainty, Statistical | Exact):
        return None  # limits of an iteration say nothing about other rows: not enough to call it different
    apart = [c.estimate.upper < own.lower or own.upper < c.estimate.lower for c in result.controls]
    return 1 if apart and all(apart) else None


def _no_finding(record: Record, translate: Translate) -> str:
    count = sum(isinstance(o, Done) and o.result.kind is Kind.INDICATOR for o in record.outcomes)
    if count == 0:
        return Message("why.none", "No indicator was measured.").render(translate)
    if count == 1:
        return Message("why.undecided_one", "The one indicator measured here decides nothing; it describes.").render(
            translate
        )
    text = "None of the {count} indicators measured here decides anything; they describe."
    return Message("why.undecided", text, count=count).render(translate)


def _change_small(record: Record, translate: Translate) -> tuple[str, ...]:
    if not record.advice:
        return ()
    first, *others = record.advice
    lines = [e.finding.render(translate) for e in first.supports[:2]]
    lines.append(Message("change.effect", "Effect: {effect}", effect=first.effect).render(translate))
    if others:
        text = "{count} more under What to change."
        lines.append(Message("change.more", text, count=len(others)).render(translate))
    return tuple(lines)
