"""Probe cards: one result with its picture, its reading, its controls, its assumptions and the way to repeat it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from markupsafe import Markup

from theorylens.results import (
    Assumption,
    Done,
    Enclosure,
    Estimate,
    Exact,
    Message,
    Record,
    Result,
    Statistical,
    Table,
    Translate,
)

from ._answer import reading
from ._certificates import bound_text, loss_text
from ._numbers import NO_BREAK, percent, plain, shown
from ._p_values import p_line
from ._svg import svg
from ._tables import Grid, grid
from ._theory import how_to_read
from ._words import KINDS, STATUS

EXAMPLES = 20


@dataclass(frozen=True, kw_only=True)
class Premise:
    """An assumption in words."""

    status: str
    word: str
    text: str
    evidence: str


@dataclass(frozen=True, kw_only=True)
class Card:
    """Everything a card shows, as text."""

    code: str
    question: str
    verdict: str
    kind: str
    name: str
    figures: tuple[Markup, ...]
    tables: tuple[tuple[str, Grid], ...]
    reading: str
    estimate: str
    controls: str
    tests: str
    premises: tuple[Premise, ...]
    trouble: str
    how: Markup
    diagnostics: tuple[tuple[str, str], ...]
    data: tuple[tuple[str, Grid], ...]
    line: str
    cost: str
    references: str


def card(outcome: Done, record: Record, lang: str, translate: Translate) -> Card:
    """The card of one finished probe."""
    about, result = outcome.about, outcome.result
    drawn = [p for p in result.payload if not isinstance(p, Table)]
    tables = tuple((p.label.render(translate), grid(p, translate)) for p in result.payload if isinstance(p, Table))
    narrow = len(drawn) > 1 and len(drawn) % 3 == 0
    key = "f" + re.sub(r"[^A-Za-z0-9]", "", about.code)
    return Card(
        code=about.code,
        question=translate(about.question),
        verdict=result.verdict.value,
        kind=KINDS[result.kind].render(translate),
        name=about.name,
        figures=tuple(Markup(svg(p, f"{key}{i}{lang}", translate, narrow=narrow)) for i, p in enumerate(drawn)),
        tables=tables,
        reading=reading(result, translate),
        estimate=estimate_line(result, translate),
        controls=f"{NO_BREAK}· ".join(_control(c.name, c.estimate, translate) for c in result.controls),
        tests=p_line(result, translate),
        premises=premises(result.assumptions, translate),
        trouble=result.estimate.trouble.render(translate) if result.estimate.trouble else "",
        how=how_to_read(about.code, lang),
        diagnostics=_diagnostics(outcome, record, translate),
        data=tuple((p.label.render(translate), grid(p, translate)) for p in drawn),
        line=f'tl.audit(subject, only="{about.code}", seed={record.run.seed})',
        cost=_cost(result, translate),
        references=f"{NO_BREAK}· ".join(result.references),
    )


def premises(assumptions: tuple[Assumption, ...], translate: Translate) -> tuple[Premise, ...]:
    return tuple(
        Premise(
            status=a.status.value,
            word=STATUS[a.status].render(translate),
            text=a.statement.render(translate),
            evidence=a.evidence.render(translate) if a.evidence else "",
        )
        for a in assumptions
    )


def estimate_line(result: Result, translate: Translate) -> str:
    """Value, unit and interval with its level and method; a certificate says bound, measured loss and trivial level."""
    c = result.certificate
    if c is not None:
        text = "at most {bound} (measured {loss}, trivial level {trivial})"
        values = {"bound": bound_text(c), "loss": loss_text(c, c.empirical), "trivial": loss_text(c, c.trivial)}
        return Message("card.certificate", text, **values).render(translate)
    own = shown(result.estimate)
    head = f"{own.value} {translate(own.unit)}".strip()
    return f"{head} {uncertainty_line(result.estimate, translate)}".strip().replace(" （", "（")


def uncertainty_line(estimate: Estimate, translate: Translate) -> str:
    """The interval and where it comes from, or why there is none."""
    own = shown(estimate)
    interval, alone = own.interval, own.beside != own.interval
    match estimate.uncertainty:
        case Exact():
            return Message("uncertainty.exact", "(exact)").render(translate)
        case Statistical() as u:
            name = "uncertainty.one_sided" if alone else "uncertainty.statistical"
            text = "({interval}; {level}, {method})" if alone else "{interval} ({level}, {method})"
            level = percent(u.level, 4)
            return Message(name, text, interval=interval, level=level, method=u.method).render(translate)
        case Enclosure() as u:
            name = "uncertainty.limit" if alone else "uncertainty.enclosure"
            text = "({interval}; limit: {why})" if alone else "{interval} (limits: {why})"
            return Message(name, text, interval=interval, why=u.why).render(translate)
    return Message("uncertainty.unknown", "(error unknown: {why})", why=estimate.uncertainty.why).render(translate)


def _control(name: Message, estimate: Estimate, translate: Translate) -> str:
    own = shown(estimate)
    return f"{name.render(translate)} {own.value} {own.beside}".strip()


def _diagnostics(outcome: Done, record: Record, translate: Translate) -> tuple[tuple[str, str], ...]:
    result = outcome.result
    rows = [(name, _setting(value)) for name, value in result.settings.items()]
    plan = result.plan if result.plan is not None else record.run.plan.get(outcome.about.code)
    if plan is not None:
        rows.append((Message("diag.rung", "draws (rung)").render(translate), plain(plan)))
    seed = result.seed if result.seed is not None else record.run.seed
    rows.append((Message("diag.seed", "seed").render(translate), str(seed)))
    counts = (
        (Message("diag.forwards", "forward passes (examples)"), result.cost.forwards),
        (Message("diag.gradients", "gradients (examples)"), result.cost.gradients),
        (Message("diag.hvps", "Hessian-vector products (examples)"), result.cost.hvps),
    )
    rows += [(name.render(translate), plain(count)) for name, count in counts if count]
    if result.examples:
        listed = ", ".join(str(i) for i in result.examples[:EXAMPLES]) + (
            " …" if len(result.examples) > EXAMPLES else ""
        )
        rows.append((Message("diag.examples", "indices of examples behind the finding").render(translate), listed))
    if outcome.cached:
        rows.append(
            (
                Message("diag.cached", "read back").render(translate),
                Message("diag.cached_yes", "from an earlier run with the same key").render(translate),
            )
        )
    return tuple(rows)


def _setting(value: object) -> str:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return str(value)
    return plain(float(value)) if isinstance(value, int | float) else str(value)


def _cost(result: Result, translate: Translate) -> str:
    passes = result.cost.forwards + result.cost.gradients + result.cost.hvps
    seconds = f"{result.cost.seconds:.1f}" if result.cost.seconds >= 0.05 else "<" + NO_BREAK + "0.1"
    text = "{seconds} s · {passes} passes of one example" if passes else "{seconds} s"
    values = {"seconds": seconds, **({"passes": plain(passes)} if passes else {})}
    return Message("card.cost", text, **values).render(translate)
