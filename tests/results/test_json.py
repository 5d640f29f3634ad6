import json
import math

import numpy as np
import pytest

from theorylens.results import (
    About,
    Assumption,
    Control,
    Cost,
    Crashed,
    Curve,
    Done,
    Enclosure,
    Estimate,
    Exact,
    Intervals,
    Kind,
    Levels,
    Line,
    Matrix,
    Message,
    Points,
    Result,
    Skipped,
    Spectrum,
    Statistical,
    Status,
    Table,
    Unknown,
    Verdict,
    Wall,
    outcome_from_view,
    outcome_view,
    record_from_view,
)

M = Message("m", "at {x:.2f}, {who}", x=math.inf, who=Message("n", "nobody"))
X = np.array([1.0, math.nan, -math.inf])
PAYLOADS = (
    Curve(label=M, lines=(Line(x=X, y=X, name=M, role="init", lower=X, upper=X),), x_name=M, y_name=M, x_log=True,
          walls=(Wall(at=0.5, name=M),)),
    Spectrum(label=M, levels=(Levels(values=X, name=M, error=None),), y_name=M),
    Matrix(label=M, values=np.eye(3), top=1.0, rows=("a", "b", "c")),
    Table(label=M, columns=(M, M), rows=(("nan", 1), (M, 2.5))),
    Intervals(label=M, names=("nan", M), values=X[:2], lower=X[:2], upper=X[:2], x_name=M, roles=("shuffled", "init")),
    Points(label=M, x=X, y=X, x_name=M, y_name=M, group=np.array([0, 1, 1])),
)  # fmt: skip
UNCERTAIN = (
    Exact(),
    Statistical(lower=-math.inf, upper=2.0, level=0.9, method=M),
    Enclosure(lower=0.0, upper=2.0, why=M),
    Unknown(why=M),
)


def outcomes():
    about = About(code="TL301", name="landscape.x", question="Q?")
    for u in UNCERTAIN:
        estimate = Estimate(value=1.0, uncertainty=u, trouble=M, unit="u")
        yield Done(
            about=about,
            result=Result(
                estimate=estimate, kind=Kind.INDICATOR, verdict=Verdict.INCONCLUSIVE, reason=M, reading=M,
                assumptions=(Assumption(statement=M, status=Status.BROKEN, evidence=M),),
                controls=(Control(role="init", name=M, estimate=estimate),), references=("A (2000). B.",),
                payload=PAYLOADS, settings={"k": 5, "s": None, "f": 0.5, "b": True}, examples=(3, 1),
                code="TL301", cost=Cost(seconds=1.5, hvps=7), seed=0, plan=16,
            ),
        )  # fmt: skip
    yield Skipped(about=about, reason=M)
    yield Crashed(about=about, error="e", traceback="t", seconds=0.1)


@pytest.mark.parametrize("outcome", list(outcomes()), ids=lambda o: type(o).__name__)
def test_every_outcome_survives_json_and_says_the_same_afterwards(outcome):
    view = outcome_view(outcome)
    text = json.dumps(view, allow_nan=False)
    again = outcome_from_view(json.loads(text))
    assert json.dumps(outcome_view(again), allow_nan=False) == text
    if isinstance(outcome, Done):
        assert again.result.reason.render() == outcome.result.reason.render()
        assert np.array_equal(again.result.payload[0].lines[0].x, X, equal_nan=True)
        assert again.result.payload[5].group.dtype == np.int64
        assert again.result.payload[4].names == ("nan", M)


def test_arrays_may_live_beside_the_text():
    outcome = next(outcomes())
    arrays = {}
    view = outcome_view(outcome, arrays)
    assert arrays
    again = outcome_from_view(json.loads(json.dumps(view)), arrays)
    assert json.dumps(outcome_view(again)) == json.dumps(outcome_view(outcome))


def test_numbers_that_are_not_finite_are_words():
    estimate = Estimate(value=math.nan, uncertainty=Exact(), trouble=M)
    about = About(code="TL301", name="a.b", question="?")
    result = Result(estimate=estimate, kind=Kind.DESCRIPTION, verdict=Verdict.INCONCLUSIVE, reason=M)
    assert outcome_view(Done(about=about, result=result))["estimate"]["value"] == "nan"


def test_another_file_is_refused_with_what_is_needed():
    with pytest.raises(ValueError, match="not a theorylens report"):
        record_from_view({"schema": "something/else"})
