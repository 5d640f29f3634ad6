"""Does an input that judges the network also occur where the network learnt?"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from theorylens.core import Subject, UnsuitableError, Work, probe
from theorylens.numerics.neighbours import nearest, nearest_in
from theorylens.results import (
    Assumption,
    Cell,
    Curve,
    Estimate,
    Exact,
    Kind,
    Line,
    Message,
    Result,
    Status,
    Table,
    Verdict,
)

from ._images import inputs_of
from ._overlap import Overlap, duplicates, shared_units, split_overlap

QUERIES = 1000
REFERENCE = 2000
CLOSE = 0.01  # closer than all but this share of the training rows are to each other

Pair = tuple[str, str]
SPLITS = {"train": "training", "validation": "validation", "test": "test"}


def judge(
    found: Overlap, pair: Pair, elsewhere: int, units: int, near: float | None
) -> tuple[Verdict, Message, Message]:
    """Verdict, reason and reading for the headline ``pair``.

    ``elsewhere`` counts shared rows of the other pairs, ``units`` shared units over all pairs, ``near`` is the share
    of rows closer to the other split than nearly all its own rows are to each other.
    """
    close = _near(near)
    first, second, count, n = _said(pair[0]), _said(pair[1]), len(found.rows), found.of
    if found.rows:
        text = "{count} of {n} {first} inputs are also {second} inputs"
        reason = Message("TL504.shared", text, count=count, n=n, first=first, second=second)
        text = (
            "Yes: {count} of {n} {first} inputs are also {second} inputs, so the {first} error reads low and no"
            " certificate from it is valid until they are removed. {close}"
        )
        reading = Message("TL504.reading_shared", text, count=count, n=n, first=first, second=second, close=close)
        return Verdict.FAILS, reason, reading
    if units or elsewhere:
        text = "{rows} inputs and {units} units are shared between other pairs of splits"
        reason = Message("TL504.elsewhere", text, rows=elsewhere, units=units)
        text = (
            "Yes: no {first} input is a {second} input, but {rows} inputs are shared between other splits and"
            " {units} units occur in two splits. {close}"
        )
        reading = Message(
            "TL504.reading_elsewhere", text, first=first, second=second, rows=elsewhere, units=units, close=close
        )
        return Verdict.FAILS, reason, reading
    text = "none of the {n} {first} inputs is a {second} input"
    reason = Message("TL504.disjoint", text, n=n, first=first, second=second)
    text = "No: none of the {n} {first} inputs is an exact copy of a {second} input; every row was compared. {close}"
    reading = Message("TL504.reading_disjoint", text, n=n, first=first, second=second, close=close)
    return Verdict.HOLDS, reason, reading


def _said(role: str) -> Message:
    return Message(f"TL504.split_{role}", SPLITS[role])


def _near(share: float | None) -> Message:
    if share is None:
        return Message("TL504.near_unknown", "Near copies were not looked for: the inputs are not arrays of numbers.")
    text = "{share:.1%} lie closer to the other split than all but {usual:.0%} of its own rows lie to each other."
    return Message("TL504.near", text, share=share, usual=CLOSE)


def _work(subject: Subject, rung: int | None) -> Work:
    rows = sum(len(subject.split(role)) for role in subject.roles)
    return Work(flops=1e4 * rows + 1e10, seconds=2e-5 * rows)


@probe(code="TL504", needs=set(), cost=_work, name="bias.overlap")
def probe_overlap(subject: Subject, *, rng: torch.Generator) -> Result:
    """Do inputs that judge the network also occur where it learnt?"""
    del rng  # every row is compared
    roles = subject.roles
    if len(roles) < 2 or subject.model is None:
        text = "only one split is known, so there is nothing to overlap; give train= and test= to Subject"
        raise UnsuitableError(Message("TL504.one_split", text))
    pairs: dict[Pair, Overlap] = {(b, a): _shared(subject, b, a) for a, b in combinations(roles, 2)}
    headline = next(p for p in (("test", "train"), ("validation", "train"), ("test", "validation")) if p in pairs)
    units = {p: shared_units(*(subject.split(r).units for r in p)) for p in pairs}
    distances = _distances(subject, headline)
    near = None if distances is None else float((distances[0] <= distances[1].quantile(CLOSE)).double().mean())
    found = pairs[headline]
    elsewhere = sum(len(o.rows) for p, o in pairs.items() if p != headline)
    shared = sum(u or 0 for u in units.values())
    verdict, reason, reading = judge(found, headline, elsewhere, shared, near)
    return Result(
        estimate=Estimate(value=found.share, uncertainty=Exact(), unit="fraction"),
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=(_exact(),),
        references=(
            "Barz, Denzler (2020). Do we train on test data? Purging CIFAR of near-duplicates. J. Imaging 6:41.",
        ),
        payload=(*((_curve(distances, headline),) if distances is not None else ()), _table(subject, pairs, units)),
        settings={"split": headline[0], "compared with": headline[1], "share closer than usual": near},
        examples=found.rows[:20],
    )


def _shared(subject: Subject, first: str, second: str) -> Overlap:
    a, b = subject.split(first), subject.split(second)
    return split_overlap(a.input_hashes, b.input_hashes, a.row_hashes, b.row_hashes)


def _distances(subject: Subject, pair: Pair) -> tuple[Tensor, Tensor] | None:
    """Distances to the nearest row of the second split: of rows of the first split, and of its own other rows."""
    queries, reference = inputs_of(subject, pair[0], QUERIES), inputs_of(subject, pair[1], REFERENCE)
    if queries is None or reference is None or queries.shape[1:] != reference.shape[1:] or len(reference) < 2:
        return None
    x, z = queries.flatten(1).double(), reference.flatten(1).double()
    if not bool(torch.isfinite(x).all()) or not bool(torch.isfinite(z).all()):
        return None
    return nearest_in(x, z), nearest(z, 1).distances[:, 0]


def _exact() -> Assumption:
    text = "a copy is equal in every number; resized, cropped or re-encoded copies are not found"
    return Assumption(statement=Message("TL504.exact", text), status=Status.UNCHECKED)


def _curve(distances: tuple[Tensor, Tensor], pair: Pair) -> Curve:
    share = np.linspace(0, 1, 41)
    names = (
        Message("TL504.to_other", "{first} to {second} inputs", first=_said(pair[0]), second=_said(pair[1])),
        Message("TL504.to_own", "{second} inputs among themselves", second=_said(pair[1])),
    )
    to_other, to_own = (np.quantile(d.numpy(), share) for d in distances)
    lines = (
        Line(x=to_other, y=share, name=names[0], role="network"),
        Line(x=to_own, y=share, name=names[1], role="theory"),
    )
    return Curve(
        label=Message("TL504.curve", "Share of rows whose nearest other input is closer than the distance below"),
        lines=lines,
        x_name=Message("TL504.distance", "distance to the nearest other input"),
        y_name=Message("TL504.closer", "share of rows"),
    )


def _table(subject: Subject, pairs: dict[Pair, Overlap], units: dict[Pair, int | None]) -> Table:
    none = Message("TL504.not_declared", "not declared")
    rows: list[tuple[Cell, ...]] = [
        (f"{p[0]} | {p[1]}", o.of, len(o.rows), o.relabelled, none if (u := units[p]) is None else u)
        for p, o in pairs.items()
    ]
    for role in subject.roles:
        own = duplicates(subject.split(role).input_hashes, subject.split(role).row_hashes)
        rows.append((role, own.of, len(own.rows), own.relabelled, ""))
    return Table(
        label=Message("TL504.table", "Inputs that occur twice: between two splits, and within each"),
        columns=(
            Message("TL504.where", "where"),
            Message("TL504.rows", "rows"),
            Message("TL504.copies", "exact copies"),
            Message("TL504.relabelled", "of them with another target"),
            Message("TL504.units", "units shared"),
        ),
        rows=tuple(rows),
    )
