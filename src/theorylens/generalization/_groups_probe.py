"""TL124: in which class or group is the network worst, and how bad can it be there?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize

from theorylens.core import Need, Subject, UnsuitableError, Work, probe, zero_one
from theorylens.results import (
    Assumption,
    Certificate,
    Estimate,
    Intervals,
    Kind,
    Message,
    Result,
    Statistical,
    Table,
    Verdict,
    Wall,
)

from ._evidence import Evidence, drawn, error_controls, evidence, hashes, ledger, unused, upward
from ._groups import GroupBounds, group_bounds

DELTA = 0.05
SHOWN = 60  # lines of the picture: the worst groups; more cannot be read
LOSS = Message("loss.worst_group", "0-1 loss of the worst group")
THEOREM = Message("theorem.worst_group", "largest of the bounds of the single groups")
METHOD = Message("method.worst_group", "largest of the groups' exact upper bounds, one-sided")
REFERENCES = (
    "Clopper, Pearson (1934). The use of confidence or fiducial limits illustrated in the case of the binomial. "
    "Biometrika 26:404-413.",
    "Sidak (1967). Rectangular confidence regions for the means of multivariate normal distributions. JASA 62:626-633.",
    "Berger (1982). Multiparameter hypothesis testing and acceptance sampling. Technometrics 24:295-300.",
)


def judge(found: GroupBounds, name: str | Message, trivial: float, shared: int) -> tuple[Verdict, Message, Message]:
    """Verdict, reason and reading; ``name`` of the group with the largest measured error."""
    w = found.worst
    values: dict[str, Any] = {
        "name": name, "error": float(found.error[w]), "n": int(found.n[w]), "bound": upward(found.bound, share=True),
    }  # fmt: skip
    if shared:
        reason = Message("TL124.shared", "{n} test inputs were also used for training or choosing", n=shared)
        text = (
            "{name}, as measured: {error:.2%} of {n} units. Some of the test inputs were seen before, so nothing "
            "follows for new examples."
        )
        return Verdict.INCONCLUSIVE, reason, Message("TL124.reading.shared", text, **_without(values, "bound"))
    reason, verdict = _reason(found, values["bound"], trivial)
    values |= {"lower": float(found.lower[w]), "upper": float(found.upper[w])}
    if found.singled_out:
        text = (
            "{name}: {error:.2%} of {n} units are wrong there (between {lower:.2%} and {upper:.2%}), and every other "
            "group lies below. No group errs more than {bound:.2%} of the time."
        )
        return verdict, reason, Message("TL124.reading.singled_out", text, **values)
    near = int((found.upper > found.lower[w]).sum()) - 1
    text = (
        "{name} as measured, with {error:.2%} of {n} units wrong (between {lower:.2%} and {upper:.2%}); {count} of the "
        "other {others} groups may be as bad. Whichever group is worst, it errs at most {bound:.2%} of the time."
    )
    return verdict, reason, Message("TL124.reading.open", text, count=near, others=len(found.names) - 1, **values)


def _reason(found: GroupBounds, bound: float, trivial: float) -> tuple[Message, Verdict]:
    values = {"bound": bound, "trivial": trivial}
    if found.bound < trivial:
        text = (
            "the worst group errs at most {bound:.2%}; a guess that ignores the input has at least {trivial:.2%} in "
            "its worst"
        )
        return Message("TL124.holds", text, **values), Verdict.HOLDS
    text = (
        "the bound of {bound:.2%} is not below {trivial:.2%}, the least that a guess which ignores the input may have "
        "in its worst group; the smallest group has {least} units"
    )
    return Message("TL124.vacuous", text, least=int(found.n.min()), **values), Verdict.VACUOUS


def _cost(subject: Subject, rung: int | None) -> Work:
    return Work(forwards=2.0 * len(subject.split("test")))


@probe(code="TL124", needs={Need.TEST}, cost=_cost)
def probe_worst_group(subject: Subject, *, rng: torch.Generator, delta: float = DELTA) -> Result:
    """In which class or group is the network worst, and how bad can it be there?

    Groups are the environments declared with the test split, else its classes. The certificate bounds the error of the
    worst group, whichever it is, at ``delta``; the intervals of the groups hold all at once, at their own ``delta``.
    """
    del rng  # nothing is sampled
    base = evidence(subject, "test", against=("train", "validation"))
    labels, environments = _groups(subject, base)
    found, shared = _bounds(base, labels, delta), len(base.shared_rows)
    names = [str(label) for label in found.names]
    worst = names[found.worst] if environments else Message("TL124.class", "class {name}", name=names[found.worst])
    trivial = trivial_worst(base, labels, plain=subject.judged.error is zero_one)
    verdict, reason, reading = judge(found, worst, trivial, shared)
    return Result(
        estimate=_estimate(found, delta, subject.judged.error_name),
        kind=Kind.CERTIFICATE,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=(unused(base), drawn(base, base.samples[-1].n), _before(environments)),
        controls=error_controls(
            subject, ("test",),
            lambda other: _estimate(_bounds(evidence(other, "test"), labels, delta), delta, subject.judged.error_name),
        ),
        references=REFERENCES,
        payload=(_forest(found, names, trivial, delta), _table(found, names)),
        certificate=_certificate(subject, base, found, trivial, delta),
        settings={
            "delta": delta, "groups": len(names), "environments": environments, "smallest": int(found.n.min()),
            "independent": found.independent, "singled_out": found.singled_out, "shared": shared,
        },
        examples=_examples(base, labels, found),
    )  # fmt: skip


def _bounds(base: Evidence, labels: NDArray[Any], delta: float) -> GroupBounds:
    return group_bounds(
        base.answers.errors.numpy(), labels, units=base.units, copies=base.copies, binary=base.answers.binary,
        error_range=base.error_range, delta=delta,
    )  # fmt: skip


def _groups(subject: Subject, base: Evidence) -> tuple[NDArray[Any], bool]:
    """The group of each row that carries an error, and whether groups were declared."""
    if not base.is_share:
        text = "the error of this task has a range of its own; the report is written for shares of wrong answers"
        raise UnsuitableError(Message("TL124.range", text))
    split, classes = subject.split("test"), base.answers.classes
    if split.environments is not None:
        every = list(split.environments)
        labels = np.array([str(every[int(i)]) for i in base.answers.rows])
    elif classes is not None:
        labels = classes.numpy()
    else:
        text = "the test split declares no environments, and this task has no single class per row; give environments="
        raise UnsuitableError(Message("TL124.unsuitable", text))
    if len(np.unique(labels)) < 2:
        raise UnsuitableError(Message("TL124.one", "the test split holds one group only; there is nothing to compare"))
    return labels, split.environments is not None


def trivial_worst(base: Evidence, labels: NDArray[Any], *, plain: bool) -> float:
    """Error in its worst group of the best guess that ignores the input and may toss coins: a small linear programme.

    Where the answers are not classes under the 0-1 error, the trivial level of the whole split: a guess errs at least
    as much in its worst group as on average.
    """
    classes = base.answers.classes
    if classes is None or not plain:
        return base.trivial
    groups, classes_ = (np.unique(each, return_inverse=True)[1] for each in (labels, classes.numpy()))
    counts = np.zeros((groups.max() + 1, classes_.max() + 1))
    np.add.at(counts, (groups, classes_), 1.0)
    share = counts / counts.sum(1, keepdims=True)
    k = share.shape[1]
    # Variables: the chance of each answer and t; every group's share of right answers is at least t; t largest.
    solved = optimize.linprog(
        np.r_[np.zeros(k), -1.0], A_ub=np.c_[-share, np.ones(len(share))], b_ub=np.zeros(len(share)),
        A_eq=[np.r_[np.ones(k), 0.0]], b_eq=[1.0], bounds=(0, 1), method="highs",
    )  # fmt: skip
    return float(min(1.0, max(0.0, 1.0 + solved.fun)))


def _before(environments: bool) -> Assumption:
    statement = Message("TL124.before", "the groups were fixed without looking at the network's errors")
    texts = {
        True: "the environments declared with the test split; who chose them is not visible here",
        False: "the classes of the test split",
    }
    return Assumption(statement=statement, evidence=Message(f"TL124.groups.{environments}", texts[environments]))


def _estimate(found: GroupBounds, delta: float, unit: str) -> Estimate:
    ends = Statistical(lower=-math.inf, upper=found.bound, level=1 - delta, method=METHOD)
    return Estimate(value=float(found.error[found.worst]), uncertainty=ends, unit=unit)


def _certificate(
    subject: Subject, base: Evidence, found: GroupBounds, trivial: float, delta: float
) -> Certificate:  # fmt: skip
    plain = subject.judged.error is zero_one
    return Certificate(
        theorem=THEOREM.text, bound=found.bound, empirical=float(found.error[found.worst]), n=base.samples[-1].n,
        delta=delta, ledger=ledger(delta, 1, Message("ledger.test", "draw of the test examples")), comparisons=1,
        loss=LOSS.text if plain else subject.judged.error_name, loss_range=base.error_range, trivial=trivial,
        split="test", hashes=hashes(subject),
    )  # fmt: skip


def _forest(found: GroupBounds, names: list[str], trivial: float, delta: float) -> Intervals:
    order = np.argsort(-found.error, kind="stable")[:SHOWN]
    text = "Error by group, worst first; the intervals hold for all {n} groups at once with {level:.4g} confidence"
    return Intervals(
        label=Message("TL124.forest", text, n=len(names), level=1 - delta), names=tuple(names[i] for i in order),
        values=found.error[order], lower=found.lower[order], upper=found.upper[order],
        x_name=Message("axis.error", "error"),
        walls=(
            Wall(at=trivial, name=Message("wall.trivial", "trivial level")),
            Wall(at=found.bound, name=Message("wall.worst", "bound for the worst group")),
        ),
    )  # fmt: skip


def _table(found: GroupBounds, names: list[str]) -> Table:
    columns = (
        Message("table.group", "group"), Message("table.units", "units"), Message("table.measured", "measured error"),
        Message("table.low", "at least"), Message("table.bound", "bound"),
    )  # fmt: skip
    order = np.argsort(-found.error, kind="stable")[:SHOWN]
    rows = tuple(
        (names[i], int(found.n[i]), float(found.error[i]), float(found.lower[i]), float(found.upper[i])) for i in order
    )
    return Table(label=Message("TL124.table", "The groups, worst first; all limits hold at once"),
                 columns=columns, rows=rows)  # fmt: skip


def _examples(base: Evidence, labels: NDArray[Any], found: GroupBounds) -> tuple[int, ...]:
    """Wrong rows of the group that looks worst."""
    wrong = (base.answers.errors.numpy() > base.error_range[0]) & (labels == found.names[found.worst])
    return tuple(int(i) for i in base.answers.rows.numpy()[wrong][:50])


def _without(values: dict[str, Any], *left: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in left}
