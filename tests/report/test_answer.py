import dataclasses

import pytest

from theorylens.report._answer import answer, findings
from theorylens.report._certificates import forests, holds, ledger
from theorylens.report._strips import Axis, axis_for, indicator
from theorylens.report._words import sentence
from theorylens.results import Control, Crashed, Enclosure, Estimate, Verdict

S = "\N{NO-BREAK SPACE}"


def test_the_reasons_are_chosen_by_verdict_then_chapter_one_each(record, made):
    assert [f.code for f in findings(record, str)] == ["TL130", "TL201", "TL501"]
    undecided = tuple(o for o in record.outcomes if o.about.code in {"TL301", "TL401", "TL310", "TL520"})
    assert [f.code for f in findings(made.make_record(outcomes=undecided), str)] == ["TL301", "TL401"]
    more = made.found("TL302", "landscape.other", "Another?", made.exact(1.0), Verdict.FAILS, "No.")
    assert [f.code for f in findings(made.make_record(outcomes=(*undecided, more)), str)] == ["TL302", "TL401"]


def test_what_differs_from_every_control_comes_before_what_is_inconclusive(made):
    def one(code, own, *controls, verdict=Verdict.DESCRIPTIVE):
        beside = tuple(
            Control(role=role, name=made.say(role), estimate=c)
            for role, c in zip(("init", "shuffled"), controls, strict=False)
        )
        return made.found(
            code, "kernels.x" if code[2] == "4" else "landscape.x", "?", own, verdict, code, controls=beside
        )

    apart = one("TL401", made.between(0.6, 0.5, 0.7), made.between(0.2, 0.1, 0.3), made.between(0.0, -0.1, 0.1))
    unsure = one("TL301", made.between(1, 0, 2), made.exact(1.5), verdict=Verdict.INCONCLUSIVE)
    assert [f.code for f in findings(made.make_record(outcomes=(unsure, apart)), str)] == ["TL401", "TL301"]
    touching = one("TL402", made.between(0.6, 0.5, 0.7), made.between(0.2, 0.1, 0.3), made.between(0.5, 0.4, 0.6))
    why = Enclosure(lower=0.6, upper=0.6, why=made.say("residual"))
    iterated = one("TL403", Estimate(value=0.6, uncertainty=why), made.exact(0.1))
    bare = one("TL404", made.exact(0.6))
    assert findings(made.make_record(outcomes=(touching, iterated, bare)), str) == ()


def test_of_a_chapter_the_indicator_furthest_from_its_controls_speaks_and_shows_them(made):
    def one(code, own, init):
        control = Control(role="init", name=made.say("random initialisation"), estimate=made.exact(init))
        return made.found(code, "landscape.x", "?", made.exact(own), Verdict.DESCRIPTIVE, code, controls=(control,))

    both = made.make_record(outcomes=(one("TL302", 1.7, 1.9), one("TL304", 43.0, 1747.0)))
    (said,) = findings(both, str)
    assert (said.code, said.numbers) == ("TL304", f"this network 43{S}· random initialisation 1,747")


def test_descriptions_and_vacuous_results_never_explain(made):
    only = tuple(o for o in made.outcomes() if o.about.code in {"TL111", "TL520", "TL601", "TL310"})
    told = answer(made.make_record(outcomes=only, headline=None), str)
    assert told.why == ()
    assert told.why_none == "The one indicator measured here decides nothing; it describes."


def test_a_headline_that_holds_is_quoted(record):
    told = answer(record, str)
    assert told.certain
    assert (
        told.how_well
        == f"At most 3.24{S}% of new examples like these will be answered wrongly, with 95{S}% confidence."
    )
    assert f"<b>3.24{S}%</b>" in told.how_well_shown
    assert told.how_well_small[1] == f"95{S}% of such samples give a bound that is true."


def test_another_loss_is_named(made):
    outcome = made.bound("TL101", "Bernstein", 1.2341, 0.9, loss_range=(0.0, 4.0), trivial=2.0)
    outcome = dataclasses.replace(
        outcome,
        result=dataclasses.replace(
            outcome.result, certificate=dataclasses.replace(outcome.result.certificate, loss="squared error")
        ),
    )
    told = answer(made.make_record(outcomes=(outcome,)), str)
    assert (
        told.how_well
        == f"On new examples like these the expected loss (squared error) is at most 1.24, with 95{S}% confidence."
    )


@pytest.mark.parametrize("verdict", [None, Verdict.INCONCLUSIVE, Verdict.FAILS])
def test_nothing_is_certified_by_a_bound_that_is_vacuous_or_does_not_hold(made, verdict):
    value = 0.95 if verdict is None else 0.1
    outcome = made.bound("TL101", "Exact binomial", value, 0.05, verdict=verdict)
    record = made.make_record(outcomes=(outcome,))
    told = answer(record, str)
    assert not told.certain
    assert not holds(outcome)
    assert told.how_well.startswith("Nothing can be certified: ")
    assert "measured 5" in told.strip
    assert "at most" not in told.strip
    assert 'class="wall"' in told.strip
    row = forests(record, str)[0].rows[0]
    assert row.grey
    assert row.value == ""
    assert row.verdict == ("vacuous" if verdict is None else verdict.value)


def test_a_skipped_crashed_or_unchosen_headline_says_why(bare, made):
    assert answer(bare, str).how_well == "Nothing can be certified: needs a test split; give Subject(test=...)"
    assert (
        answer(made.make_record(headline=None), str).how_well
        == "Nothing can be certified: no certificate was chosen for this run."
    )
    crashed = Crashed(about=bare.outcomes[0].about, error="ValueError: x", traceback="")
    told = answer(made.make_record(outcomes=(crashed,)), str)
    assert told.how_well == "Nothing can be certified: the certificate crashed (ValueError: x)."


def test_the_ledger_has_a_row_for_every_share(record):
    rows = ledger(record, str)
    assert [r[0] for r in rows] == ["TL101", "TL104", "TL110", "TL111"]
    assert rows[0] == ("TL101", "data", "0.05", "597", "test", "9f86d081884c")


def test_places_on_a_strip():
    assert Axis(low=0, high=1).at(0.25) == 25
    assert Axis(low=0, high=1, root=True).at(0.25) == 50
    assert Axis(low=1, high=100, log=True).at(10) == 50
    assert (Axis(low=0, high=1).at(-3), Axis(low=0, high=1).at(7)) == (0, 100)
    assert Axis(low=0, high=1).at(float("nan")) == 0


def test_the_axis_of_a_strip_has_room_for_everything_on_it(made):
    controls = (made.control("init", 0.28), made.control("shuffled", 400.0))
    axis = axis_for(made.between(4.1, 3.0, 5.0), controls)
    assert axis.log
    assert 0 < axis.low < 0.28
    assert axis.high > 400
    near = axis_for(made.between(5.2, 4.6, 5.8), (made.control("init", 7.9),))
    assert not near.log
    assert near.low < 4.6 < 7.9 < near.high
    below = axis_for(made.between(-5.2, -5.8, -4.6), ())
    assert below.low < -5.8 < -4.6 < below.high
    assert axis_for(made.between(0.4, 0.3, 0.5, "fraction"), ()) == Axis(low=0.0, high=1.0)
    gap = axis_for(made.between(0.02, -0.01, 0.05, "error rate"), ())
    assert gap.low < -0.01 < 0.05 < gap.high < 0.1
    assert axis_for(made.exact(3.0), ()) is None
    assert indicator(made.exact(3.0), (), str) == ""


def test_a_strip_is_spoken(made):
    strip = indicator(made.exact(4.0912), (made.control("init", 0.28), made.control("shuffled", 4.55)), str)
    assert 'aria-label="4.09, random init 0.28, shuffled labels 4.55"' in strip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("the bound lies below", "The bound lies below"),
        ("a shift changes", "A shift changes"),
        ("χ1 is 1", "χ1 is 1"),
        ("conv1 moves", "conv1 moves"),
        ("n is 3", "n is 3"),
        ("33 % change", "33 % change"),
        ("并非", "并非"),
        ("", ""),
        ("x_y is", "x_y is"),
        ("No.", "No."),
    ],
)
def test_a_sentence_starts_with_a_capital_and_symbols_stay(text, shown):
    assert sentence(text) == shown
