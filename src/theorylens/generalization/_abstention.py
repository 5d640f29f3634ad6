"""TL122: how often is the network right when it may abstain from the answers it is least sure of?"""

from __future__ import annotations

import math

import numpy as np
import torch

from theorylens.core import Need, Subject, Work, probe
from theorylens.results import Assumption, Curve, Estimate, Kind, Line, Message, Result, Statistical, Status, Verdict

from ._calibration_probe import stated
from ._evidence import Evidence, drawn, error_controls, evidence, unused
from ._selective import Selective, selective_error

LEVEL = 0.05
HALF = 0.5  # the coverage the headline number is about
REFERENCES = (
    "Geifman, El-Yaniv (2017). Selective classification for deep neural networks. NeurIPS.",
    "Langford (2005). Tutorial on practical prediction theory for classification. JMLR 6:273-306.",
)


def judge(half: float, bound: float, all_: float, upper_all: float) -> tuple[Verdict, Message, Message]:
    """``half`` and its ``bound``: error of the surer half of the answers; ``all_``: of all, at most ``upper_all``.

    Confidence sorts right from wrong when the bound on the surer half lies below the measured error of all.
    """
    values = {"half": half, "bound": bound, "all": all_}
    if bound < all_:
        reason = Message("TL122.sorts", "the surer half errs less: at most {bound:.2%}", bound=bound)
        text = (
            "Less often wrong: the surer half of the answers errs on {half:.2%} (at most {bound:.2%}), all answers err "
            "on {all:.2%}. Bounds hold for all coverages at once."
        )
        return Verdict.DESCRIPTIVE, reason, Message("TL122.reading.sorts", text, **values)
    reason = Message("TL122.unclear", "abstaining is not shown to help here")
    text = (
        "Unclear: the surer half of the answers errs on {half:.2%}, at most {bound:.2%}, which is not below the "
        "{all:.2%} of all answers (at most {upper:.2%}); more test rows would tell."
    )
    return Verdict.INCONCLUSIVE, reason, Message("TL122.reading.unclear", text, upper=upper_all, **values)


def _cost(subject: Subject, rung: int | None) -> Work:
    return Work(forwards=4.0 * len(subject.split("test")))


@probe(code="TL122", needs={Need.TEST}, cost=_cost)
def probe_abstention(subject: Subject, *, rng: torch.Generator) -> Result:
    """How often is the network wrong when it may leave the answers it is least sure of to somebody else?"""
    del rng  # nothing is sampled
    found, base = _measured(subject), evidence(subject, "test", against=("train", "validation"))
    at = int(np.argmin(abs(found.coverage - HALF)))
    verdict, reason, reading = judge(
        float(found.error[at]), float(found.bound[at]), float(found.error[-1]), float(found.bound[-1])
    )
    return Result(
        estimate=_estimate(found),
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=(drawn(base, len(base.units)), unused(base), _alone(base)),
        controls=error_controls(subject, ("test",), lambda other: _estimate(_measured(other))),
        references=REFERENCES,
        payload=(_curve(found),),
        settings={"level": 1 - LEVEL, "rows": int(found.answered[-1]), "coverage": float(found.coverage[at])},
    )


def _measured(subject: Subject) -> Selective:
    said = stated(subject, "test")
    return selective_error(said.confidence, 1 - said.correct, delta=LEVEL)


def _estimate(found: Selective) -> Estimate:
    at = int(np.argmin(abs(found.coverage - HALF)))
    method = Message("method.selective", "exact binomial tail, all coverages at once, one-sided")
    bound = Statistical(lower=-math.inf, upper=float(found.bound[at]), level=1 - LEVEL, method=method)
    value = float(found.error[at])
    if math.isnan(value):
        text = "all confidences are equal, so that no half of the answers is surer than the other"
        return Estimate(value=value, uncertainty=bound, trouble=Message("TL122.tied", text))
    return Estimate(value=value, uncertainty=bound, unit="0-1 loss")


def _alone(base: Evidence) -> Assumption:
    statement = Message("TL122.alone", "each row is a unit of its own")
    if len(np.unique(base.units)) == len(base.units):
        return Assumption(statement=statement, status=Status.MET)
    text = "rows of one unit are not independent: the bounds are too low"
    return Assumption(statement=statement, status=Status.BROKEN, evidence=Message("TL122.units", text))


def _curve(found: Selective) -> Curve:
    some = found.answered > 0
    x = found.coverage[some]
    return Curve(
        label=Message("TL122.curve", "Error among the answers the network is surest of, against the share it answers"),
        lines=(
            Line(x=x, y=found.error[some], name=Message("line.measured", "measured")),
            Line(x=x, y=found.bound[some], name=Message("line.bound", "bound, all at once"), role="theory"),
        ),
        x_name=Message("axis.coverage", "share answered"), y_name=Message("axis.error", "error"),
    )  # fmt: skip
