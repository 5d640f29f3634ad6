"""The report as one HTML page: no request leaves it, no script is needed to read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from theorylens.locale import translator
from theorylens.results import Crashed, Done, Kind, Message, Outcome, Record, Skipped, Translate

from . import _numbers as numbers
from ._answer import answer
from ._cards import Card, card, premises
from ._certificates import bound_text, forests, holds, joint_assumptions, ledger, loss_text, split_name
from ._p_values import family
from ._strips import Axis, bar, indicator, mark
from ._words import CHAPTERS, GLOSSARY, MEANINGS, OTHER, VERDICTS, Chapter, sentence

TAGS = {"en": "en", "zh": "zh-Hans"}
DOT = f"{numbers.NO_BREAK}· "  # the dot stays with what it follows
UNBROKEN = 24  # letters of a fact that stays on one line
ORDER = ("fails", "vacuous", "inconclusive", "descriptive", "holds")


def html(record: Record, lang: str = "en") -> str:
    """``record`` as a page in ``lang``: the same record gives the same bytes."""
    translate = translator(lang)
    template = _environment(translate).get_template("report.html.j2")
    page = template.render(
        lang=lang,
        lang_tag=TAGS[lang],
        css=Markup(_shipped("report.css")),
        record=record,
        numbers=numbers,
        words={name: m.render(translate) for name, m in VERDICTS.items()},
        meanings={name: m.render(translate) for name, m in MEANINGS.items()},
        order={verdict: i for i, verdict in enumerate(ORDER)},
        say=lambda message: message.render(translate),
        facts=_facts(record, translate),
        answer=answer(record, translate),
        certificates=[_certificate_row(o, translate) for o in record.certificates],
        indicators=[_indicator_row(o, translate) for o in _done(record) if o.result.kind is not Kind.CERTIFICATE],
        family=family(record, translate),
        forests=forests(record, translate),
        ledger=ledger(record, translate),
        premises=premises(joint_assumptions(record), translate),
        sections=_sections(record, lang, translate),
        missing=[_missing(o, translate) for o in record.outcomes if not isinstance(o, Done)],
        references=_references(record),
        glossary=[(term.render(translate), text.render(translate)) for term, text in GLOSSARY],
        hashes=_hashes(record, translate),
        others=[tag for tag in TAGS if tag != lang],
    )
    return page.replace("\r\n", "\n")


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    """One line of a summary table."""

    code: str
    question: str
    value: str
    interval: str
    bar: Markup
    verdict: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A chapter with its cards."""

    name: str
    title: str
    question: str
    cards: tuple[Card, ...]


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A probe without a result, and what it would take."""

    code: str
    question: str
    outcome: str
    why: str
    trace: str


def _environment(translate: Translate) -> Environment:
    environment = Environment(
        loader=FunctionLoader(_shipped),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    environment.install_gettext_callables(translate, lambda one, many, n: translate(one if n == 1 else many))  # type: ignore[attr-defined]
    return environment


def _shipped(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _done(record: Record) -> list[Done]:
    return [o for o in record.outcomes if isinstance(o, Done)]


def _facts(record: Record, translate: Translate) -> list[tuple[str, str]]:
    subject, run = record.subject, record.run
    model = Message(
        "facts.model", "{architecture}, {parameters} parameters, {dtype}",
        architecture=subject.architecture, parameters=numbers.plain(subject.parameters), dtype=subject.dtype,
    )  # fmt: skip
    data = [
        f"{split_name(s.role, translate)}{numbers.NO_BREAK}{_counted(s.rows, s.units, translate)}"
        for s in subject.splits
    ]
    if subject.classes is not None:
        data.append(Message("facts.classes", "{count} classes", count=subject.classes).render(translate))
    text = (
        "{seconds:.0f} s on {device}, {threads} threads"
        if run.threads > 1
        else "{seconds:.0f} s on {device}, {threads} thread"
    )
    ran = [Message("facts.seconds", text, seconds=run.seconds, device=run.device, threads=run.threads)]
    if run.budget is not None:
        ran.append(Message("facts.budget", "budget {seconds:.0f} s", seconds=run.budget))
    ran.append(Message("facts.seed", "seed {seed}", seed=run.seed))
    versions = [
        f"{name}{numbers.NO_BREAK}{run.versions[name]}" for name in ("theorylens", "torch") if name in run.versions
    ]
    if run.hash:
        versions.append(Message("facts.hash", "run {hash}", hash=run.hash[:12]).render(translate))
    names = (
        Message("facts.m", "Model"),
        Message("facts.d", "Data"),
        Message("facts.r", "Run"),
        Message("facts.v", "Versions"),
    )
    texts = (
        model.render(translate),
        DOT.join(_whole(part) for part in data),
        DOT.join(_whole(m.render(translate)) for m in ran),
        DOT.join(_whole(part) for part in versions),
    )
    return [(name.render(translate), text) for name, text in zip(names, texts, strict=True) if text]


def _whole(part: str) -> str:
    """A short part of a line of facts, which is not broken between a name and its number."""
    return part.replace(" ", numbers.NO_BREAK) if len(part) < UNBROKEN else part


def _counted(rows: int, units: int, translate: Translate) -> str:
    if rows == units:
        return numbers.plain(rows)
    text = "{rows} rows of {units} units"
    return Message("facts.units", text, rows=numbers.plain(rows), units=numbers.plain(units)).render(translate)


def _certificate_row(outcome: Done, translate: Translate) -> SummaryRow:
    certificate = outcome.result.certificate
    assert certificate is not None
    axis = Axis(low=certificate.loss_range[0], high=certificate.loss_range[1], root=True)
    start, end = axis.at(certificate.empirical), axis.at(certificate.bound)
    quoted = holds(outcome)
    style = {} if quoted else {"--c": "var(--vacuous)", "opacity": ".3"}
    marks = Markup('<i class="base"></i>') + mark("wall", axis.at(certificate.trivial)) + bar(start, end, **style)
    if quoted:
        marks += mark("pt", start) + mark("ub", end)
    measured = Message(
        "summary.measured", "measured {loss}, n\N{NO-BREAK SPACE}{n}",
        loss=loss_text(certificate, certificate.empirical), n=numbers.plain(certificate.n),
    ).render(translate)  # fmt: skip
    value = f"≤{numbers.NO_BREAK}{bound_text(certificate)}"
    label = f"{value}; {measured}"
    strip = Markup('<div role="img" aria-label="{}"><div class="strip">{}</div></div>').format(label, marks)
    return SummaryRow(
        code=outcome.about.code,
        question=translate(outcome.about.question),
        value=value,
        interval=measured,
        bar=strip,
        verdict=outcome.result.verdict.value,
        reason=sentence(outcome.result.reason.render(translate)),
    )


def _indicator_row(outcome: Done, translate: Translate) -> SummaryRow:
    result = outcome.result
    own = numbers.shown(result.estimate)
    return SummaryRow(
        code=outcome.about.code,
        question=translate(outcome.about.question),
        value=own.value,
        interval=" ".join(part for part in (translate(own.unit), own.interval) if part),
        bar=indicator(result.estimate, result.controls, translate),
        verdict=result.verdict.value,
        reason=sentence(result.reason.render(translate)),
    )


def _sections(record: Record, lang: str, translate: Translate) -> list[Section]:
    known = {chapter.name for chapter in CHAPTERS}
    other = Chapter(name="other", title=OTHER, question=OTHER)
    sections = []
    for chapter in (*CHAPTERS, other):
        mine = [
            o
            for o in _done(record)
            if o.about.chapter == chapter.name or (chapter is other and o.about.chapter not in known)
        ]
        if mine:
            sections.append(
                Section(
                    name=chapter.name,
                    title=chapter.title.render(translate),
                    question="" if chapter is other else chapter.question.render(translate),
                    cards=tuple(card(o, record, lang, translate) for o in mine),
                )
            )
    return sections


def _missing(outcome: Outcome, translate: Translate) -> Missing:
    about = outcome.about
    question = translate(about.question)
    if isinstance(outcome, Skipped):
        return Missing(
            code=about.code,
            question=question,
            outcome="skipped",
            why=sentence(outcome.reason.render(translate)),
            trace="",
        )
    assert isinstance(outcome, Crashed)
    return Missing(code=about.code, question=question, outcome="crashed", why=outcome.error, trace=outcome.traceback)


def _references(record: Record) -> Sequence[str]:
    return tuple(dict.fromkeys(r for o in _done(record) for r in o.result.references))


def _hashes(record: Record, translate: Translate) -> list[tuple[str, str]]:
    run, subject = record.run, record.subject
    rows = [(Message("hash.subject", "subject").render(translate), subject.fingerprint)]
    rows += [(split_name(s.role, translate), s.sha256) for s in subject.splits]
    rows.append((Message("hash.source", "theorylens sources").render(translate), run.source))
    rows.append((Message("hash.run", "whole run").render(translate), run.hash))
    return [(name, digest) for name, digest in rows if digest]
