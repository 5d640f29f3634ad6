"""All p-values of a run are one family: adjustment against enumeration, error rate of the run, verdicts that follow."""

import itertools
import json

import numpy as np
import pytest

from theorylens.bias import holm
from theorylens.results import (
    About,
    Assumption,
    Conclusion,
    Done,
    Estimate,
    Exact,
    Kind,
    Message,
    PValue,
    Result,
    Skipped,
    Status,
    Verdict,
    holm_over_groups,
    one_family,
    outcome_from_view,
    outcome_view,
    p_values_of,
)


def rejected(groups, level):
    """Written from the text: groups that are left share the level; one leaves when all it tests is rejected."""
    left, found = set(range(len(groups))), set()
    while left:
        found |= {(g, i) for g in left for i, p in enumerate(groups[g]) if p <= level / len(left)}
        leaving = {g for g in left if all((g, i) in found for i in range(len(groups[g])))}
        if not leaving:
            break
        left -= leaving
    return found


def test_adjusted_values_are_the_levels_at_which_the_run_begins_to_reject():
    rng = np.random.default_rng(0)
    for _ in range(60):
        groups = [sorted(rng.choice([0.001, 0.004, 0.01, 0.03, 0.2, 0.9], rng.integers(1, 4))) for _ in range(4)]
        adjusted = holm_over_groups(groups)
        levels = sorted({value for group in adjusted for value in group})
        for level in [*levels, *(0.999999 * x for x in levels), 0.05]:
            said = {(g, i) for g, group in enumerate(adjusted) for i, a in enumerate(group) if a <= level * (1 + 1e-12)}
            if level < 1:  # an adjusted p-value is cut at 1
                assert said == rejected(groups, level * (1 + 1e-12)), (groups, level)


def test_one_test_for_each_probe_is_holms_method():
    rng = np.random.default_rng(1)
    for n in range(1, 8):
        p = rng.random(n) ** 3
        assert [one for (one,) in holm_over_groups([[x] for x in p])] == pytest.approx(holm(p))
        # Closed testing by enumeration: the largest Bonferroni p-value of all intersections that hold the statement.
        for i in range(n):
            rest = [j for j in range(n) if j != i]
            subsets = [(i, *s) for size in range(n) for s in itertools.combinations(rest, size)]
            closed = max(min(1.0, len(s) * min(p[j] for j in s)) for s in subsets)
            assert holm_over_groups([[x] for x in p])[i][0] == pytest.approx(closed)


def test_statsmodels_agrees_on_a_table_of_values():
    # statsmodels 0.15.0: multipletests([0.01, 0.04, 0.03, 0.005, 0.5], method="holm")[1]
    expected = [0.04, 0.09, 0.09, 0.025, 0.5]
    assert [x for (x,) in holm_over_groups([[0.01], [0.04], [0.03], [0.005], [0.5]])] == pytest.approx(expected)


@pytest.mark.parametrize("false", [0, 1, 3])
def test_a_run_of_null_subjects_errs_at_most_one_time_in_twenty(false):
    """Four probes, dependent through one number, two of them with several tests; ``false`` statements are not true."""
    rng = np.random.default_rng(20 + false)
    runs, wrong = 4000, 0
    for _ in range(runs):
        common = rng.random()
        chain = rng.random(2)
        groups = [[common], list(holm(rng.random(5))), [1 - common], list(np.maximum.accumulate(chain))]
        for g in range(false):  # strong effects: their probes leave and pass their share on
            groups[g] = [1e-6] * len(groups[g])
        wrong += any(a <= 0.05 for group in holm_over_groups(groups)[false:] for a in group)
    assert wrong / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5
    assert wrong / runs > 0.02  # and it is not so cautious that it could find nothing


def said(message):
    return message.render().replace("\N{NO-BREAK SPACE}", " ")


def of_value(p, *, own=None, decides=True, name="same"):
    return PValue(statement=Message("t.same", "both are {name}", name=name), p=p, among_own=own, decides=decides)


def outcome(code, *p_values, verdict=Verdict.FAILS):
    deciding = next((p for p in p_values if p.decides), None)
    same = Message("t.equal", "nothing differs")
    said = p_values[0].said
    return Done(
        about=About(code=code, name=f"bias.{code.lower()}", question="Q?"),
        result=Result(
            estimate=Estimate(value=1.0, uncertainty=Exact()), kind=Kind.DESCRIPTION, verdict=verdict, code=code,
            reason=Message("t.differs", "it differs ({p})", p=said), reading=Message("t.no", "No ({p}).", p=said),
            assumptions=(Assumption(statement=same, status=Status.BROKEN, evidence=said),), p_values=p_values,
            otherwise=None if deciding is None else Conclusion(
                verdict=Verdict.DESCRIPTIVE, reason=Message("t.none", "no difference found ({p})", p=said),
                reading=None, assumptions=(Assumption(statement=same, evidence=said),),
            ),
        ),
    )  # fmt: skip


def test_a_verdict_that_only_chance_among_many_tests_explains_is_taken_back():
    weak, strong = outcome("TL505", of_value(0.03)), outcome("TL120", of_value(0.001))
    skipped = Skipped(about=About(code="TL1", name="bias.x", question="?"), reason=Message("t.s", "no data"))
    first, gone, second = one_family([weak, skipped, outcome("TL513", of_value(0.4), verdict=Verdict.DESCRIPTIVE)])
    assert gone is skipped
    assert first.result.verdict is Verdict.DESCRIPTIVE
    assert said(first.result.reason) == "no difference found (p = 0.06 among all tests of this run, 0.03 alone)"
    assert first.result.assumptions[0].status is Status.UNCHECKED
    assert said(first.result.assumptions[0].evidence) == "p = 0.06 among all tests of this run, 0.03 alone"
    assert (first.result.p_values[0].adjusted, second.result.p_values[0].adjusted) == (0.06, 0.4)
    first, second = one_family([weak, strong])
    assert [o.result.verdict for o in (first, second)] == [Verdict.FAILS, Verdict.FAILS]
    assert said(second.result.reading) == "No (p = 0.002 among all tests of this run, 0.001 alone)."
    assert said(first.result.reason) == "it differs (p = 0.03)"  # the last to be rejected pays for itself alone
    assert first.result.otherwise is None


def test_alone_in_a_run_a_test_pays_for_its_own_probe_only():
    (alone,) = one_family([outcome("TL513", of_value(0.01, own=0.04), of_value(0.5, own=0.5, decides=False))])
    assert [p.adjusted for p in alone.result.p_values] == [0.04, 0.5]
    assert alone.result.verdict is Verdict.FAILS


def test_every_deciding_test_has_to_stand():
    both = outcome("TL121", of_value(0.001, own=0.002), of_value(0.03, own=0.03))
    (kept,) = one_family([both])
    assert kept.result.verdict is Verdict.FAILS
    lost, _ = one_family([both, outcome("TL505", of_value(0.5))])
    assert lost.result.verdict is Verdict.DESCRIPTIVE


def test_adjusting_twice_is_adjusting_once():
    once = one_family([outcome("TL505", of_value(0.03)), outcome("TL120", of_value(0.2))])
    assert [outcome_view(o) for o in one_family(once)] == [outcome_view(o) for o in once]


def test_tests_travel_through_json_and_old_reports_have_none():
    before = outcome("TL505", of_value(0.03))
    for one in (before, *one_family([before])):
        view = json.loads(json.dumps(outcome_view(one)))
        assert outcome_view(outcome_from_view(view)) == outcome_view(one)
    view = outcome_view(before)
    del view["p_values"], view["otherwise"]
    assert outcome_from_view(view).result.p_values == ()


def test_tests_are_listed_with_the_most_surprising_first():
    found = p_values_of(one_family([outcome("TL505", of_value(0.3)), outcome("TL120", of_value(0.001))]))
    assert [code for code, _ in found] == ["TL120", "TL505"]


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_a_p_value_is_a_probability(p):
    with pytest.raises(ValueError, match=r"p must lie in 0 to 1, got"):
        of_value(p)


def test_an_adjusted_value_is_never_below_the_raw_one():
    with pytest.raises(ValueError, match=r"not below the one it adjusts: 0.01 < 0.02"):
        of_value(0.02, own=0.01)


def test_another_conclusion_needs_something_that_decides():
    with pytest.raises(ValueError, match="decides=True"):
        Result(
            estimate=Estimate(value=1.0, uncertainty=Exact()), kind=Kind.DESCRIPTION, verdict=Verdict.FAILS,
            reason=Message("t.r", "r"), otherwise=Conclusion(verdict=Verdict.DESCRIPTIVE, reason=Message("t.o", "o")),
        )  # fmt: skip
