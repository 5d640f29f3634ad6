import math

import numpy as np
import pytest

from theorylens.results import (
    Assumption,
    Certificate,
    Control,
    Curve,
    Enclosure,
    Estimate,
    Exact,
    History,
    Kind,
    Line,
    Message,
    Points,
    Result,
    Share,
    Statistical,
    Status,
    Table,
    Unknown,
    Verdict,
)

WHY = Message("why", "because")
ONE = Estimate(value=1.0, uncertainty=Exact())


def result(**changes):
    given = dict(estimate=ONE, kind=Kind.DESCRIPTION, verdict=Verdict.DESCRIPTIVE, reason=WHY)
    return Result(**(given | changes))


def certificate(**changes):
    given = dict(
        theorem="t", bound=0.1, empirical=0.05, n=100, delta=0.05, ledger=(Share(purpose=WHY, delta=0.05),),
        comparisons=1, loss="0-1 loss", loss_range=(0.0, 1.0), trivial=0.9, split="test", hashes={},
    )  # fmt: skip
    return Certificate(**(given | changes))


def test_ends_of_each_kind_of_uncertainty():
    assert (ONE.lower, ONE.upper) == (1.0, 1.0)
    unknown = Estimate(value=1.0, uncertainty=Unknown(why=WHY))
    assert (unknown.lower, unknown.upper) == (-math.inf, math.inf)
    enclosed = Estimate(value=1.0, uncertainty=Enclosure(lower=0.5, upper=2.0, why=WHY))
    assert (enclosed.lower, enclosed.upper) == (0.5, 2.0)


@pytest.mark.parametrize("ends", [(2.0, 1.0), (math.nan, 1.0), (0.0, math.nan)])
def test_an_interval_must_be_ordered(ends):
    with pytest.raises(ValueError, match="lower <= upper"):
        Statistical(lower=ends[0], upper=ends[1], level=0.9, method=WHY)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_not_finite_needs_a_reason(value):
    with pytest.raises(ValueError, match="needs a trouble"):
        Estimate(value=value, uncertainty=Exact())
    assert Estimate(value=value, uncertainty=Exact(), trouble=WHY).trouble == WHY


def test_nothing_holds_on_a_broken_assumption():
    broken = (Assumption(statement=Message("a", "iid"), status=Status.BROKEN),)
    with pytest.raises(ValueError, match="broken assumptions"):
        result(verdict=Verdict.HOLDS, assumptions=broken)


def test_nothing_holds_with_trouble():
    with pytest.raises(ValueError, match="with trouble"):
        result(verdict=Verdict.HOLDS, estimate=Estimate(value=1.0, uncertainty=Exact(), trouble=WHY))


def test_an_indicator_without_a_control_does_not_hold():
    with pytest.raises(ValueError, match="at most descriptive"):
        result(kind=Kind.INDICATOR, verdict=Verdict.HOLDS)
    control = Control(role="init", name=WHY, estimate=ONE)
    assert result(kind=Kind.INDICATOR, verdict=Verdict.HOLDS, controls=(control,)).control("init") is control


def test_a_certificate_comes_with_its_papers_and_nothing_else_does():
    with pytest.raises(ValueError, match="carries a Certificate"):
        result(kind=Kind.CERTIFICATE)
    with pytest.raises(ValueError, match="carries a Certificate"):
        result(certificate=certificate())


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"bound": 0.01}, "lies below the measured loss"),
        ({"empirical": 1.5, "bound": 2.0}, "outside its range"),
        ({"delta": 0.1}, "every part must be paid for"),
        ({"n": 0}, "n >= 1"),
        ({"bound": math.nan}, "lies below"),
    ],
)
def test_papers_that_do_not_add_up_are_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        certificate(**changes)


def test_vacuous_means_no_better_than_the_trivial_predictor():
    assert not certificate(bound=0.89).vacuous
    assert certificate(bound=0.9).vacuous


def test_payloads_refuse_columns_of_different_length():
    x = np.arange(3.0)
    with pytest.raises(ValueError, match="one length"):
        Line(x=x, y=x[:2], name=WHY)
    with pytest.raises(ValueError, match="one to three lines"):
        Curve(label=WHY, lines=(), x_name=WHY, y_name=WHY)
    with pytest.raises(ValueError, match="under 2 columns"):
        Table(label=WHY, columns=(WHY, WHY), rows=((1,),))
    with pytest.raises(ValueError, match="2,000 points"):
        Points(label=WHY, x=np.zeros(2001), y=np.zeros(2001), x_name=WHY, y_name=WHY)


def test_a_history_needs_rising_steps_and_one_value_each():
    assert History.of({"step": [0, 5], "train_loss": [2.0, 1.0]}).steps.tolist() == [0, 5]
    assert History.of({"train_loss": [2.0, 1.0]}).steps.tolist() == [0, 1]
    with pytest.raises(ValueError, match="strictly increasing"):
        History.of({"train_loss": [2.0, 1.0]}, steps=[1, 1])
    with pytest.raises(ValueError, match="has 1 values for 2 steps"):
        History.of({"train_loss": [2.0]}, steps=[1, 2])
