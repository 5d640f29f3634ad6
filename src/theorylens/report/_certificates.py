"""Certificates as the report shows them: the hero strip, the rows of the forest, the delta ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from theorylens.results import Assumption, Certificate, Done, Message, Predictor, Record, Translate, Verdict

from . import _numbers as numbers
from ._strips import Axis, bar, controls, mark
from ._words import PREDICTORS, ROLES

PLACES = (0.0, 0.01, 0.05, 0.10, 0.25, 0.50)  # on the square-root axis: zero exists and small errors come apart


def is_share(certificate: Certificate) -> bool:
    """Whether the bounded loss reads in per cent."""
    return certificate.loss_range == (0.0, 1.0)


def bound_text(certificate: Certificate) -> str:
    """The bound, rounded upwards, at most the top of the loss's range."""
    value = min(certificate.bound, certificate.loss_range[1])
    return numbers.bound(value, share=is_share(certificate))


def loss_text(certificate: Certificate, value: float) -> str:
    return numbers.loss(value, share=is_share(certificate))


def holds(outcome: Done) -> bool:
    """Whether the bound may be quoted: the verdict says so and the bound says something."""
    certificate = outcome.result.certificate
    return certificate is not None and outcome.result.verdict is Verdict.HOLDS and not certificate.vacuous


def share_of_trust(certificate: Certificate) -> str:
    return numbers.percent(1 - certificate.delta, 4)


def hero(outcome: Done, translate: Translate) -> Markup:
    """Linear axis from the lowest to the highest loss: measured, bound, trivial level, controls."""
    certificate = outcome.result.certificate
    assert certificate is not None
    axis = Axis(low=certificate.loss_range[0], high=certificate.loss_range[1])
    start, end, wall = axis.at(certificate.empirical), axis.at(certificate.bound), axis.at(certificate.trivial)
    marks = Markup('<i class="base"></i>') + mark("beyond", wall) + mark("wall", wall)
    grey = {} if holds(outcome) else {"--c": "var(--vacuous)"}
    marks += bar(start, end, **grey) + controls(outcome.result.controls, axis) + mark("pt", start)
    if holds(outcome):
        marks += mark("ub", end, top="calc(50% - 11px)", height="22px")
    measured = Message("hero.measured", "measured {loss}", loss=loss_text(certificate, certificate.empirical))
    at_most = Message("hero.bound", "at most {bound}", bound=bound_text(certificate))
    trivial = Message("hero.trivial", "ignoring the input: {loss}", loss=loss_text(certificate, certificate.trivial))
    left = [measured.render(translate), *([at_most.render(translate)] if holds(outcome) else [])]
    right = [trivial.render(translate)]
    shapes = {"init": "◇", "shuffled": "△"}
    for c in outcome.result.controls:
        right.append(f"{shapes.get(c.role, '┊')} {c.name.render(translate)} {numbers.shown(c.estimate).value}")
    text = Markup('<div role="img" aria-label="{}"><div class="strip">{}</div></div>').format(
        "; ".join(left + right), marks
    )
    lines = Markup("<br>").join
    return text + Markup(
        '<div class="marks" aria-hidden="true"><span>{}</span><span class="right">{}</span></div>'
    ).format(lines(left), lines(right))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One certificate on the common axis."""

    code: str
    name: str
    detail: str
    grey: bool
    verdict: str
    value: str
    strip: Markup
    spoken: str


@dataclass(frozen=True, kw_only=True)
class Forest:
    """Certificates that bound one loss of one predictor kind, on one axis; the headline first, vacuous ones last."""

    title: str
    axis: tuple[tuple[float, str], ...]
    wall: float
    wall_name: str
    rows: tuple[Row, ...]


def forests(record: Record, translate: Translate) -> list[Forest]:
    """The certificates of the model itself first; what the recipe or an ensemble can certify apart."""
    groups: dict[tuple[bool, tuple[float, float]], list[Done]] = {}
    for outcome in record.certificates:
        certificate = outcome.result.certificate
        assert certificate is not None
        key = (certificate.predictor is not Predictor.THIS_MODEL, certificate.loss_range)
        groups.setdefault(key, []).append(outcome)
    return [_forest(record, groups[key], apart=key[0], translate=translate) for key in sorted(groups)]


def _forest(record: Record, found: Sequence[Done], *, apart: bool, translate: Translate) -> Forest:
    bounds = [o.result.certificate for o in found if o.result.certificate is not None]
    low, high = bounds[0].loss_range
    axis = Axis(low=low, high=high, root=True)
    places = [low + p * (high - low) for p in PLACES]
    ticks = tuple((axis.at(p), "0" if p == 0 else loss_text(bounds[0], p)) for p in places)
    levels = {c.trivial for c in bounds}
    text = "trivial {loss}" if len(levels) == 1 else "trivial from {loss}"
    wall = min(levels)
    headline = record.result(record.headline) if record.headline else None
    quoted = headline.certificate if headline is not None and headline.verdict is Verdict.HOLDS else None
    hold = (
        axis.at(quoted.bound)
        if quoted is not None and quoted.loss_range == (low, high) and not quoted.vacuous
        else None
    )
    title = (
        Message("forest.apart", "What this recipe can certify, not about this very model").render(translate)
        if apart
        else ""
    )
    return Forest(
        title=title,
        axis=ticks,
        wall=axis.at(wall),
        wall_name=Message("forest.wall", text, loss=loss_text(bounds[0], wall)).render(translate),
        rows=tuple(_row(o, axis, ticks, hold, translate) for o in found),
    )


def _row(
    outcome: Done, axis: Axis, ticks: Sequence[tuple[float, str]], hold: float | None, translate: Translate
) -> Row:
    certificate = outcome.result.certificate
    assert certificate is not None
    wall, start, end = axis.at(certificate.trivial), axis.at(certificate.empirical), axis.at(certificate.bound)
    marks = mark("zone", wall)
    for left, _ in ticks:
        marks += mark("grid", left)
    marks += mark("hold", hold) if hold is not None else Markup("")
    marks += mark("wall", wall)
    if certificate.vacuous:
        marks += bar(start, 100.0, **{"--c": "var(--vacuous)", "opacity": ".22"})
        marks += Markup('<i class="off"><span class="arrow" aria-hidden="true">▸</span></i>')
    else:
        grey = {} if holds(outcome) else {"--c": "var(--vacuous)"}
        marks += bar(start, end, **grey) + mark("pt", start, **grey) + mark("ub", end, **grey)
    quoted = holds(outcome)
    verdict = "vacuous" if certificate.vacuous else outcome.result.verdict.value
    measured = Message("hero.measured", "measured {loss}", loss=loss_text(certificate, certificate.empirical))
    at_most = Message("hero.bound", "at most {bound}", bound=bound_text(certificate))
    return Row(
        code=outcome.about.code,
        name=translate(certificate.theorem),
        detail=_detail(certificate, translate),
        grey=not quoted,
        verdict=verdict,
        value=f"≤{numbers.NO_BREAK}{bound_text(certificate)}" if quoted else "",
        strip=marks,
        spoken="; ".join(m.render(translate) for m in (measured, at_most)),
    )


def _detail(certificate: Certificate, translate: Translate) -> str:
    parts = [
        translate(certificate.loss),
        split_name(certificate.split, translate),
        f"n{numbers.NO_BREAK}{numbers.plain(certificate.n)}",
        f"δ{numbers.NO_BREAK}{numbers.plain(certificate.delta)}",
        PREDICTORS[certificate.predictor].render(translate),
    ]
    if certificate.comparisons > 1:
        text = "{count} models compared, paid for"
        parts.append(Message("forest.paid", text, count=certificate.comparisons).render(translate))
    return f"{numbers.NO_BREAK}· ".join(parts)


def split_name(role: str, translate: Translate) -> str:
    return ROLES[role].render(translate) if role in ROLES else role


def ledger(record: Record, translate: Translate) -> list[tuple[str, ...]]:
    """One row per share of a delta: code, what it pays for, the share, n, split and the start of its hash."""
    rows: list[tuple[str, ...]] = []
    for outcome in record.certificates:
        certificate = outcome.result.certificate
        assert certificate is not None
        where = split_name(certificate.split, translate)
        digest = certificate.hashes.get(certificate.split, next(iter(certificate.hashes.values()), ""))
        rows += [
            (
                outcome.about.code,
                s.purpose.render(translate),
                numbers.plain(s.delta),
                numbers.plain(certificate.n),
                where,
                digest[:12],
            )
            for s in certificate.ledger
        ]
    return rows


def joint_assumptions(record: Record) -> tuple[Assumption, ...]:
    """The assumptions of all certificates, each once, in order of appearance."""
    seen: dict[tuple[str, str], Assumption] = {}
    for outcome in record.certificates:
        for assumption in outcome.result.assumptions:
            seen.setdefault((assumption.statement.render(), assumption.status.value), assumption)
    return tuple(seen.values())
