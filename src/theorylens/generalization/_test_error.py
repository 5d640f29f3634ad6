"""TL101: the certificate a report leads with. The error of this very network, bounded from untouched examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from theorylens.core import Need, Subject, Work, probe
from theorylens.results import (
    Assumption,
    Certificate,
    Kind,
    Message,
    Payload,
    Result,
    Setting,
    Table,
    Verdict,
    packed_bits,
)

from ._evidence import (
    THEOREMS,
    Evidence,
    counted_models,
    drawn,
    error_controls,
    estimated,
    evidence,
    hashes,
    ledger,
    unused,
    upward,
)
from ._forests import class_errors, confusion, error_forest
from ._holdout import HoldoutBound

DELTA = 0.05
SHOWN = 50  # wrong rows named in a result
REFERENCES = (
    "Clopper, Pearson (1934). The use of confidence or fiducial limits illustrated in the case of the binomial. "
    "Biometrika 26:404-413.",
    "Langford (2005). Tutorial on practical prediction theory for classification. JMLR 6:273-306.",
)


def judge(bound: float, trivial: float, shared: int, *, share: bool = True) -> tuple[Verdict, Message]:
    """Whether the bound may be quoted, in one sentence. ``shared`` counts inputs that training or choices had seen."""
    if shared:
        text = (
            "{n} test inputs were also used for training or choosing; a bound from them does not carry over to new data"
        )
        return Verdict.INCONCLUSIVE, Message("certificate.shared", text, n=shared)
    if trivial <= 0:
        text = "a guess that ignores the input makes no error on this split (one class only), so no bound can say more"
        return Verdict.VACUOUS, Message("certificate.one_class", text)
    below = {
        True: "the bound of {bound:.2%} lies below {trivial:.2%}, the error of a guess that ignores the input",
        False: "the bound of {bound:.4g} lies below {trivial:.4g}, the error of a guess that ignores the input",
    }
    above = {
        True: "the bound of {bound:.2%} is not below {trivial:.2%}, the error of a guess that ignores the input",
        False: "the bound of {bound:.4g} is not below {trivial:.4g}, the error of a guess that ignores the input",
    }
    shown = upward(bound, share=share)
    if bound >= trivial:
        return Verdict.VACUOUS, Message("certificate.vacuous", above[share], bound=shown, trivial=trivial)
    return Verdict.HOLDS, Message("certificate.holds", below[share], bound=shown, trivial=trivial)


def _cost(subject: Subject, rung: int | None) -> Work:
    return Work(forwards=2.0 * len(subject.split("test")))


@probe(code="TL101", needs={Need.TEST}, cost=_cost)
def probe_test_error(
    subject: Subject, *, rng: torch.Generator, delta: float = DELTA, comparisons: int = 1
) -> Result:  # fmt: skip
    """How often will it be wrong on new examples like these?

    The one-sided Clopper-Pearson bound on the test split, or Chernoff-kl where units hold several rows or the error is
    not 0 or 1; `holdout_bound` says what is counted. ``comparisons`` models judged on this split share ``delta``.
    """
    del rng  # nothing is sampled
    found = evidence(subject, "test", against=("train", "validation"))
    bound = found.bound(delta, comparisons)
    shared = len(found.shared_rows)
    verdict, reason = judge(bound.bound, found.trivial, shared, share=found.is_share)
    task = subject.judged
    return Result(
        estimate=estimated(bound, task.error_name),
        kind=Kind.CERTIFICATE,
        verdict=verdict,
        reason=reason,
        reading=_reading(bound, found, verdict, delta, comparisons, task.error_name),
        assumptions=assumptions(found, bound, comparisons),
        controls=error_controls(
            subject,
            ("test",),
            lambda other: estimated(evidence(other, "test").bound(delta, comparisons), task.error_name),
        ),
        references=REFERENCES,
        payload=_payload(found, bound, delta, comparisons),
        certificate=replace(
            certificate_of(subject, found, bound, delta, comparisons), wrong=_wrong(found), examples=_counted(found)
        ),
        settings=settings(found, bound, delta, comparisons),
        examples=wrong_rows(found),
    )


def certificate_of(
    subject: Subject, found: Evidence, bound: HoldoutBound, delta: float, comparisons: int
) -> Certificate:  # fmt: skip
    """The certificate of ``bound`` with everything that makes it valid."""
    purpose = Message("ledger.test", "draw of the test examples")
    return Certificate(
        theorem=THEOREMS[bound.method].text, bound=bound.bound, empirical=bound.empirical, n=bound.n, delta=delta,
        ledger=ledger(delta, comparisons, purpose), comparisons=comparisons, loss=subject.judged.error_name,
        loss_range=found.error_range, trivial=found.trivial, split="test", hashes=hashes(subject),
    )  # fmt: skip


def _wrong(found: Evidence) -> str:
    """Right or wrong of one row per unit, kept so that a stored report can be paired with another."""
    return packed_bits(found.answers.errors.numpy()[found.single_rows] > 0) if found.answers.binary else ""


def _counted(found: Evidence) -> int:
    return len(found.single_rows) if found.answers.binary else 0


def assumptions(found: Evidence, bound: HoldoutBound, comparisons: int) -> tuple[Assumption, ...]:
    return unused(found), drawn(found, bound.n), counted_models(comparisons)


def settings(found: Evidence, bound: HoldoutBound, delta: float, comparisons: int) -> Mapping[str, Setting]:
    return {
        "delta": delta, "comparisons": comparisons, "method": bound.method, "rows": len(found.units), "units": bound.n,
        "shared": len(found.shared_rows), "trivial": found.trivial,
    }  # fmt: skip


def wrong_rows(found: Evidence) -> tuple[int, ...]:
    """Numbers of the first rows with an error above the least possible."""
    wrong = found.answers.rows[found.answers.errors > found.error_range[0]]
    return tuple(int(i) for i in wrong[:SHOWN])


def _reading(
    bound: HoldoutBound, found: Evidence, verdict: Verdict, delta: float, comparisons: int, loss: str
) -> Message:  # fmt: skip
    values: dict[str, Any] = {
        "bound": upward(bound.bound, share=found.is_share), "error": bound.empirical, "n": bound.n,
        "delta": delta, "trivial": found.trivial, "guess": found.trivial_name,
    }  # fmt: skip
    if not found.is_share:
        values["loss"] = loss
    if verdict is Verdict.INCONCLUSIVE:
        texts = {
            True: "Unknown for new examples: {n} test units show an error of {error:.2%} (bound {bound:.2%}), "
            "but some of their inputs were seen before.",
            False: "Unknown for new examples: {n} test units show a mean {loss} of {error:.4g} (bound {bound:.4g}), "
            "but some of their inputs were seen before.",
        }
        return Message("TL101.reading.shared", texts[found.is_share], **_only(values, "n", "error", "bound", "loss"))
    if comparisons > 1:
        texts = {
            True: "At most {bound:.2%} (δ = {delta:.3g}, shared by {models} models): {n} independent test units show "
            "an error of {error:.2%}, and {guess} has {trivial:.2%}.",
            False: "At most {bound:.4g} (δ = {delta:.3g}, shared by {models} models): {n} independent test units show "
            "a mean {loss} of {error:.4g}, and {guess} has {trivial:.4g}.",
        }
        return Message("TL101.reading.shared_delta", texts[found.is_share], models=comparisons, **values)
    texts = {
        True: "At most {bound:.2%} (δ = {delta:.3g}): {n} independent test units show an error of {error:.2%}, "
        "and {guess} has {trivial:.2%}.",
        False: "At most {bound:.4g} (δ = {delta:.3g}): {n} independent test units show a mean {loss} of {error:.4g}, "
        "and {guess} has {trivial:.4g}.",
    }
    return Message("TL101.reading", texts[found.is_share], **values)


def _only(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _payload(found: Evidence, bound: HoldoutBound, delta: float, comparisons: int) -> tuple[Payload, ...]:
    drawings: list[Payload] = []
    if (forest := class_errors(found, delta)) is not None:
        drawings.append(forest)
    else:
        drawings.append(error_forest(found, bound))
    if (counts := confusion(found)) is not None:
        drawings.append(counts)
    if (ways := _ways_to_count(found, bound, delta, comparisons)) is not None:
        drawings.append(ways)
    return tuple(drawings)


def _ways_to_count(found: Evidence, bound: HoldoutBound, delta: float, comparisons: int) -> Table | None:
    """The bound with and without rows that occur elsewhere; None when there are none."""
    left = found.bound_without_shared(delta, comparisons)
    if left is None:
        return None
    names = (
        Message("TL101.all_rows", "all test rows"),
        Message("TL101.unshared", "without inputs that occur in another split"),
    )
    columns = (
        Message("table.counted", "counted"), Message("table.units", "units"),
        Message("table.measured", "measured error"), Message("table.bound", "bound"),
    )  # fmt: skip
    rows = tuple((name, b.n, b.empirical, b.bound) for name, b in zip(names, (bound, left), strict=True))
    return Table(label=Message("TL101.ways", "What the shared rows do to the bound"), columns=columns, rows=rows)
