"""TL121: is this network better than the other models of the subject, on the same test examples?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from theorylens.bias import holm
from theorylens.core import Need, Subject, UnsuitableError, Work, probe
from theorylens.results import (
    Assumption,
    Conclusion,
    Intervals,
    Kind,
    Message,
    PValue,
    Result,
    Status,
    Table,
    Verdict,
    Wall,
)

from ._answers import answers
from ._evidence import Evidence, evidence, unused
from ._paired import Paired, paired_comparison

LEVEL = 0.05
REFERENCES = (
    "McNemar (1947). Note on the sampling error of the difference between correlated proportions. "
    "Psychometrika 12:153-157.",
    "Holm (1979). A simple sequentially rejective multiple test procedure. Scand. J. Statist. 6:65-70.",
)


def judge(found: Mapping[str, Paired]) -> tuple[Verdict, Message, Message]:
    """Verdict, reason and reading; the intervals hold for all rivals at once."""
    worse, better = _told_apart(found)
    closest = max(found, key=lambda name: found[name].difference.value)
    ends = found[closest].difference
    values: dict[str, Any] = {"rival": closest, "low": ends.lower, "high": ends.upper, "n": found[closest].n}
    if worse:
        reason = Message("TL121.worse", "errs more often than {names} on the same examples", names=", ".join(worse))
        text = (
            "No: {rival} errs less often; the difference lies between {low:.2%} and {high:.2%} of new examples "
            "({n} test examples, all comparisons at once)."
        )
        return Verdict.FAILS, reason, Message("TL121.reading.worse", text, **values)
    if len(better) == len(found):
        reason = Message("TL121.better", "errs less often than each of {count} others", count=len(found))
        text = (
            "Yes: it errs less often than each of {count} others; the closest, {rival}, errs {least:.2%} to {most:.2%} "
            "more often ({n} test examples, all comparisons at once)."
        )
        told: dict[str, Any] = {
            "rival": closest,
            "n": values["n"],
            "least": -ends.upper,
            "most": -ends.lower,
            "count": len(found),
        }
        return Verdict.HOLDS, reason, Message("TL121.reading.better", text, **told)
    return _undecided(found, [name for name in found if name not in better])


def _told_apart(found: Mapping[str, Paired]) -> tuple[list[str], list[str]]:
    """Rivals that err less often and rivals that err more often than the network."""
    worse = [name for name, pair in found.items() if pair.difference.lower > 0]
    return worse, [name for name, pair in found.items() if pair.difference.upper < 0]


def claims(found: Mapping[str, Paired]) -> tuple[PValue, ...]:
    """One test for each rival; a verdict rests on those of the rivals that it names."""
    worse, better = _told_apart(found)
    decisive = worse or (better if len(better) == len(found) else [])
    text = "this network and {name} err on the same share of new examples"
    adjusted = holm([pair.p for pair in found.values()])
    return tuple(
        PValue(
            statement=Message("TL121.tested", text, name=name), p=pair.p, among_own=float(own), decides=name in decisive
        )
        for (name, pair), own in zip(found.items(), adjusted, strict=True)
    )


def _undecided(found: Mapping[str, Paired], names: list[str]) -> tuple[Verdict, Message, Message]:
    """``names``: rivals from which the network was not told apart; the closest of all is among them."""
    closest = max(found, key=lambda name: found[name].difference.value)
    ends = found[closest].difference
    values: dict[str, Any] = {"rival": closest, "low": ends.lower, "high": ends.upper, "n": found[closest].n}
    reason = Message("TL121.undecided", "cannot be told apart from {names} here", names=", ".join(names))
    text = (
        "Undecided: {n} test examples do not separate it from {rival}; the difference of their errors lies between "
        "{low:+.2%} and {high:+.2%}."
    )
    return Verdict.INCONCLUSIVE, reason, Message("TL121.reading.undecided", text, **values)


def _cost(subject: Subject, rung: int | None) -> Work:
    return Work(forwards=(2.0 + len(subject.others)) * len(subject.split("test")))


@probe(code="TL121", needs={Need.MODEL, Need.TEST, Need.OTHERS}, cost=_cost)
def probe_rivals(subject: Subject, *, rng: torch.Generator) -> Result:
    """Does this network err less often than the other models given, on the same test examples?"""
    del rng  # nothing is sampled
    base = evidence(subject, "test", against=("train", "validation"))
    if not base.answers.binary:
        text = "networks are compared by right or wrong, example by example; this task has {error}"
        raise UnsuitableError(Message("TL121.not_binary", text, error=subject.judged.error_name))
    rows = base.single_rows
    mine = base.answers.errors.numpy()[rows]
    share = LEVEL / len(subject.others)
    found = {
        name: paired_comparison(mine, _errors(subject, model, base)[rows], delta=share)
        for name, model in subject.others.items()
    }
    verdict, reason, reading = judge(found)
    if len(base.shared_rows) and verdict is Verdict.HOLDS:
        verdict = Verdict.INCONCLUSIVE
    closest = max(found.values(), key=lambda pair: pair.difference.value)
    tests = claims(found)
    return Result(
        estimate=replace(closest.difference, unit=subject.judged.error_name),
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=(unused(base), _picked()),
        references=REFERENCES,
        p_values=tests,
        otherwise=_otherwise(found, (unused(base), _picked())) if any(p.decides for p in tests) else None,
        payload=(_forest(found), _table(found)),
        settings={"level": 1 - LEVEL, "rivals": len(found), "rows": len(rows)},
    )


def _otherwise(found: Mapping[str, Paired], assumptions: tuple[Assumption, ...]) -> Conclusion:
    text = "Undecided: a difference as large as that from {rival} is no surprise among all tests of this run."
    name = max(found, key=lambda rival: found[rival].difference.value)
    reason = Message("TL121.not_in_run", "not told apart from {rival} among all tests of this run", rival=name)
    reading = Message("TL121.reading.not_in_run", text, rival=name)
    return Conclusion(verdict=Verdict.INCONCLUSIVE, reason=reason, reading=reading, assumptions=assumptions)


def _errors(subject: Subject, model: torch.nn.Module, base: Evidence) -> NDArray[np.float64]:
    other = replace(
        subject, model=model, init=None, checkpoints=None, history=None, recipe=None, outputs=None, shuffled=None,
        others={},
    )  # fmt: skip
    with other.studied():
        theirs = answers(other, "test")
    if not torch.equal(theirs.rows, base.answers.rows) or not theirs.binary:
        text = "the models do not answer the same test rows, so they cannot be compared row by row"
        raise UnsuitableError(Message("TL121.rows", text))
    return theirs.errors.numpy()


def _picked() -> Assumption:
    statement = Message("TL121.picked", "no model was chosen by its error on these test rows")
    return Assumption(statement=statement, status=Status.UNCHECKED)


def _forest(found: Mapping[str, Paired]) -> Intervals:
    ends = [pair.difference for pair in found.values()]
    return Intervals(
        label=Message("TL121.forest", "Error of this network minus error of each other; left of 0 it is better"),
        names=tuple(found), values=np.array([e.value for e in ends]), lower=np.array([e.lower for e in ends]),
        upper=np.array([e.upper for e in ends]), x_name=Message("axis.difference", "difference of the errors"),
        walls=(Wall(at=0.0, name=Message("wall.equal", "equal")),),
    )  # fmt: skip


def _table(found: Mapping[str, Paired]) -> Table:
    """Counts, p-values as they are and adjusted by Holm."""
    adjusted = dict(zip(found, holm([pair.p for pair in found.values()]), strict=True))
    columns = (
        Message("table.other", "other"), Message("table.only_this", "only this network errs"),
        Message("table.only_other", "only the other errs"), Message("table.p", "p, exact McNemar"),
        Message("table.p_holm", "p, after Holm among others"),
    )  # fmt: skip
    rows = tuple(
        (name, pair.first_only, pair.second_only, pair.p, float(adjusted[name])) for name, pair in found.items()
    )
    return Table(label=Message("TL121.table", "Rows on which just one of the two errs"), columns=columns, rows=rows)
