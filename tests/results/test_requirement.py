import math

import pytest

from theorylens.results import (
    About,
    Certificate,
    Crashed,
    Done,
    Estimate,
    Exact,
    Kind,
    Message,
    Requirement,
    Result,
    Share,
    Skipped,
    Statistical,
    Unknown,
    Verdict,
    exit_code,
)

M = Message("m", "words")
KNOWN = ["TL101", "TL301", "landscape.eigenvalues", "generalization.test_error"]


def done(code="TL301", value=5.0, ends=(4.0, 6.0), verdict=Verdict.DESCRIPTIVE, certificate=None):
    uncertainty = Exact() if ends is None else Statistical(lower=ends[0], upper=ends[1], level=0.95, method=M)
    kind = Kind.CERTIFICATE if certificate else Kind.DESCRIPTION
    result = Result(
        estimate=Estimate(value=value, uncertainty=uncertainty), kind=kind, verdict=verdict, reason=M,
        certificate=certificate, code=code,
    )  # fmt: skip
    return Done(about=About(code=code, name="landscape.eigenvalues", question="?"), result=result)


CERTIFIED = done(
    "TL101", 0.02, (0.0, 0.04), Verdict.HOLDS,
    Certificate(
        theorem="t", bound=0.0351, empirical=0.02, n=500, delta=0.05, ledger=(Share(purpose=M, delta=0.05),),
        comparisons=1, loss="0-1 loss", loss_range=(0.0, 1.0), trivial=0.9, split="test", hashes={},
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "met"),
    [("TL301 <= 6", True), ("TL301 < 6", False), ("TL301 <= 5.9", False), ("TL301 >= 4", True), ("TL301 > 4", False)],
)
def test_the_unfavourable_end_of_the_interval_is_compared(text, met):
    assert Requirement.parse(text, KNOWN).check([done()], None).met is met


def test_certificate_means_the_bound_of_the_headline():
    demand = Requirement.parse("certificate <= 0.0351", KNOWN)
    assert demand.check([CERTIFIED], "TL101").met
    assert demand.check([CERTIFIED], "TL101").measured == 0.0351
    assert not Requirement.parse("certificate <= 0.035", KNOWN).check([CERTIFIED], "TL101").met


def test_missing_skipped_crashed_inconclusive_and_unknown_are_not_met_and_say_why():
    demand = Requirement.parse("TL301 <= 100", KNOWN)
    about = About(code="TL301", name="landscape.eigenvalues", question="?")
    cases = {
        "not measured": [],
        "skipped: words": [Skipped(about=about, reason=M)],
        "crashed: oh": [Crashed(about=about, error="oh", traceback="")],
        "inconclusive": [done(verdict=Verdict.INCONCLUSIVE)],
    }
    for words, outcomes in cases.items():
        checked = demand.check(outcomes, None)
        assert not checked.met
        assert words in checked.why.render()
    blind = Done(
        about=about,
        result=Result(
            estimate=Estimate(value=1.0, uncertainty=Unknown(why=M)), kind=Kind.DESCRIPTION,
            verdict=Verdict.DESCRIPTIVE, reason=M,
        ),
    )  # fmt: skip
    assert not demand.check([blind], None).met  # the unfavourable end of "unknown" is infinity


def test_nothing_certified_meets_no_requirement_on_the_certificate():
    assert not Requirement.parse("certificate <= 1", KNOWN).check([done()], None).met


def test_an_unknown_name_is_an_error_with_the_nearest_one():
    with pytest.raises(ValueError, match=r"unknown name 'TL310'.*did you mean 'TL301'"):
        Requirement.parse("TL310 <= 1", KNOWN)


@pytest.mark.parametrize("text", ["TL301", "TL301 == 1", "<= 1", "TL301 <= 1 2"])
def test_another_shape_is_refused(text):
    with pytest.raises(ValueError, match="write NAME <= NUMBER"):
        Requirement.parse(text, KNOWN)


@pytest.mark.parametrize("number", ["nan", "inf", "abc"])
def test_the_number_must_be_finite(number):
    with pytest.raises(ValueError, match="needs a finite number"):
        Requirement.parse(f"TL301 <= {number}", KNOWN)


def test_exit_code_is_the_first_that_applies():
    about = About(code="TL999", name="a.b", question="?")
    crash = Crashed(about=about, error="e", traceback="")
    unmet = Requirement.parse("TL301 <= 1", KNOWN).check([done()], None)
    met = Requirement.parse("TL301 <= 7", KNOWN).check([done()], None)
    assert exit_code([done()], [met]) == 0
    assert exit_code([done()], [unmet]) == 1
    assert exit_code([done(), crash], [unmet]) == 3
    assert exit_code([done(), crash], [met], allow_crash=["TL999"]) == 0
    assert exit_code([Skipped(about=about, reason=M)], []) == 5
    assert math.isfinite(met.measured)
