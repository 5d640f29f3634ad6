"""Each rule on bare results: it fires on its evidence, stays silent without, and says what it computed."""

import math
import re

import pytest

from theorylens.advice import RULES, recommend
from theorylens.advice._certifying import units_for
from theorylens.results import (
    About,
    Certificate,
    Control,
    Crashed,
    Done,
    Estimate,
    Exact,
    Kind,
    Message,
    Result,
    Share,
    Skipped,
    SplitFacts,
    Statistical,
    SubjectFacts,
    Unknown,
    Verdict,
)  # fmt: skip


def estimate(value, lower=None, upper=None, trouble=None):
    if lower is None:
        return Estimate(value=value, uncertainty=Exact(), trouble=trouble)
    level = Statistical(lower=lower, upper=upper, level=0.95, method=Message("m", "some method"))
    return Estimate(value=value, uncertainty=level, trouble=trouble)


def done(code, found=None, *, verdict=Verdict.DESCRIPTIVE, reason=None, reading=None, controls=None, **settings):
    about = About(code=code, name=f"chapter.{code.lower()}", question="What?")
    control = tuple(
        Control(role=role, name=Message("c", role), estimate=e) for role, e in (controls or {}).items()
    )  # fmt: skip
    result = Result(
        estimate=found or estimate(0.0), kind=Kind.DESCRIPTION, verdict=verdict, controls=control,
        reason=reason or Message(f"{code}.reason", "a reason"), reading=reading, settings=settings, code=code,
    )  # fmt: skip
    return Done(about=about, result=result)


def certified(empirical=0.02, bound=0.0323, n=597, *, trivial=0.9, verdict=Verdict.HOLDS, comparisons=1, shared=0,
              delta=0.05, loss="0-1 loss", loss_range=(0.0, 1.0)):  # fmt: skip
    part = delta / comparisons
    ledger = [Share(purpose=Message("d", "data"), delta=part)]
    if comparisons > 1:
        ledger.append(Share(purpose=Message("k", "choice"), delta=delta - part))
    certificate = Certificate(
        theorem="T", bound=bound, empirical=empirical, n=n, delta=delta, ledger=tuple(ledger), comparisons=comparisons,
        loss=loss, loss_range=loss_range, trivial=trivial, split="test", hashes={},
    )  # fmt: skip
    result = Result(
        estimate=estimate(empirical, -math.inf, bound), kind=Kind.CERTIFICATE, verdict=verdict,
        reason=Message("r", "a reason"), certificate=certificate, settings={"shared": shared, "rows": n}, code="TL101",
    )  # fmt: skip
    return Done(about=About(code="TL101", name="generalization.test_error", question="How?"), result=result)


def gap(train, test, lower, upper, *, low=0.0, high=1.0, shared=0):
    return done(
        "TL104", estimate(test - train, lower, upper), train=train, test=test, low=low, high=high, shared=shared
    )


def falling(value=-1.0, lower=-1.2, upper=-0.8, *, turned=None, trouble=None):
    parts = {}
    if turned is not None:
        parts["turned"] = Message("TL601.turned", "lowest at {step}, {rise:.1%}", step=turned[0], rise=turned[1])
    reading = Message("TL601.reading", "It is so. {turned}", **parts) if parts else None
    return done("TL601", estimate(value, lower, upper, trouble), reading=reading)


def sharpness(value, limit, place, course="sharpened"):
    where = Message(f"TL602.place.{place}", ", limit {limit:.3g}", limit=limit)
    reason = Message(f"TL602.{course}", "sharpness is {value:.3g}{place}", value=value, place=where)
    return done("TL602", estimate(value, value * 0.99, value * 1.01), reason=reason)


def facts(classes):
    split = SplitFacts(role="test", rows=100, units=100, sha256="")
    return SubjectFacts(
        name="", task="classification", architecture="", parameters=1, dtype="float32", classes=classes,
        splits=(split,), fingerprint="",
    )  # fmt: skip


GOOD_TEST = certified(0.02, 0.024, 20_000)
ACCURATE = done("TL202", estimate(0.9, 0.88, 0.92), controls={"init": estimate(0.7, 0.68, 0.72)})
LOCAL = done("TL508", reading=Message("TL508.local", "Yes."))
DENSE = done("TL501", reading=Message("TL501.reading", "{layers}", layers=Message("TL501.dense", "No convolution.")))


def worst(lower, id="TL124.reading.singled_out"):
    reading = Message(id, "{name} is worst, at least {lower:.2%}", name="8", lower=lower)
    return done("TL124", estimate(0.3), reading=reading)


FIRES = {
    "assume_neighbourhoods": [[LOCAL, DENSE]],
    "separate_test_rows": [
        [certified(verdict=Verdict.INCONCLUSIVE, shared=20)],
        [done("TL504", estimate(0.03), verdict=Verdict.FAILS, split="test")],
    ],
    "more_test_units": [[certified()], [certified(0.0, 0.05, 59)]],
    "fresh_test_split": [[certified(0.02, 0.024, 20_000, comparisons=5)]],
    "no_smaller_network": [[done("TL103", verdict=Verdict.VACUOUS, bits=1e6, affordable_bits=3000.0)]],
    "find_the_shift": [[done("TL505", verdict=Verdict.FAILS)]],
    "train_every_class": [[done("TL503", estimate(3.0, 2.9, 3.1), verdict=Verdict.FAILS)]],
    "worst_group_first": [[certified(0.02), worst(0.2)]],
    "pool_or_augment": [[done("TL501", estimate(0.1, 0.08, 0.12))]],
    "no_shifts": [[done("TL501", estimate(0.005, 0.001, 0.015))]],
    "train_the_features": [
        [done("TL202", estimate(0.7, 0.67, 0.73), controls={"init": estimate(0.69, 0.66, 0.72)})]
    ],
    "train_longer": [[falling()]],
    "stop_earlier": [[falling(0.1, -0.1, 0.3, turned=(40, 0.25))], [falling(turned=(40, 0.25))]],
    "larger_steps": [[falling(-0.1, -0.12, -0.08), sharpness(3.0, 40.0, "below")]],
    "smaller_steps": [[falling(0.5, 0.1, 0.9), sharpness(60.0, 40.0, "above")]],
    "decay_the_rate": [[done("TL604", reading=Message("TL604.no_lr", "No."))]],
    "lower_at_the_end": [[sharpness(39.0, 40.0, "at")]],
    "close_the_gap": [[gap(0.0, 0.1, 0.07, 0.13)]],
    "no_regularisation": [[gap(0.2, 0.21, -0.01, 0.03)]],
}  # fmt: skip
SILENT = {
    "assume_neighbourhoods": [
        [LOCAL],
        [DENSE],
        [done("TL508", reading=Message("TL508.not_shown", "Not shown.")), DENSE],
        [LOCAL, done("TL501", reading=Message("TL501.reading", "It moves along."))],
    ],
    "separate_test_rows": [
        [certified()],
        [],
        [done("TL504", verdict=Verdict.HOLDS, split="test")],
        [done("TL504", estimate(0.03), verdict=Verdict.FAILS, split="validation")],
    ],
    "more_test_units": [
        [GOOD_TEST],
        [certified(0.4, 0.45, 300)],  # within a quarter of the error
        [certified(0.5, 0.6, 60, trivial=0.5, verdict=Verdict.VACUOUS)],  # more units cannot mend it
        [certified(verdict=Verdict.INCONCLUSIVE, shared=3)],
        [certified(loss="own", loss_range=(0.0, 5.0), trivial=4.0)],
    ],
    "fresh_test_split": [[certified(comparisons=4)]],
    "no_smaller_network": [
        [done("TL103", verdict=Verdict.VACUOUS, bits=1e4, affordable_bits=3000.0)],
        [done("TL103", verdict=Verdict.VACUOUS, bits=1e6, affordable_bits=None)],
        [done("TL103", bits=1e6, affordable_bits=3000.0)],
    ],
    "find_the_shift": [[done("TL505")], [done("TL505", verdict=Verdict.INCONCLUSIVE)]],
    "train_every_class": [[done("TL503", estimate(3.0, 2.9, 3.1))]],
    "worst_group_first": [
        [worst(0.2)],
        [certified(0.15, 0.2), worst(0.2)],
        [certified(0.02), worst(0.2, id="TL124.reading.open")],
    ],
    "pool_or_augment": [[done("TL501", estimate(0.03, 0.01, 0.05))]],
    "no_shifts": [[done("TL501", estimate(0.03, 0.01, 0.05))]],
    "train_the_features": [[ACCURATE], [done("TL202", estimate(0.7, 0.6, 0.8))]],
    "train_longer": [
        [falling(0.0, -0.1, 0.1)],
        [falling(turned=(40, 0.25))],
        [falling(-0.05, -0.06, -0.04)],  # halving would take for ever
        [falling(trouble=Message("t", "diverged"))],
    ],
    "stop_earlier": [[falling()]],
    "larger_steps": [
        [falling(-0.1, -0.12, -0.08), sharpness(20.0, 40.0, "below")],
        [falling(0.0, -0.1, 0.1), sharpness(3.0, 40.0, "below")],
        [falling(-0.1, -0.12, -0.08), sharpness(60.0, 40.0, "above")],
    ],
    "decay_the_rate": [[done("TL604")], [done("TL604", reading=Message("TL604.no", "No."))]],
    "lower_at_the_end": [
        [sharpness(20.0, 40.0, "below")],
        [sharpness(60.0, 40.0, "above")],
        [sharpness(39.0, 40.0, "at"), done("TL604", reading=Message("TL604.no_lr", "No."))],
    ],
    "smaller_steps": [[falling(), sharpness(60.0, 40.0, "above")], [falling(0.5, 0.1, 0.9)]],
    "close_the_gap": [
        [gap(0.0, 0.02, 0.01, 0.03)],
        [gap(0.3, 0.36, 0.03, 0.09)],  # most of the error is there on the training examples
        [gap(0.0, 0.1, 0.07, 0.13, shared=2)],
        [gap(0.0, 0.1, 0.07, 0.13, high=5.0)],
    ],
    "no_regularisation": [[gap(0.0, 0.01, -0.01, 0.03)], [gap(0.2, 0.35, 0.1, 0.2)]],
}


def ids(outcomes, subject=None):
    return {r.id for r in recommend(outcomes, subject)}


@pytest.mark.parametrize(("rule", "outcomes"), [(r, o) for r, cases in FIRES.items() for o in cases])
def test_it_fires_on_its_evidence(rule, outcomes):
    assert rule in ids(outcomes)


@pytest.mark.parametrize(("rule", "outcomes"), [(r, o) for r, cases in SILENT.items() for o in cases])
def test_it_stays_silent_without(rule, outcomes):
    assert rule not in ids(outcomes)


def test_every_rule_is_tested_both_ways():
    assert set(FIRES) == set(SILENT) == {rule.__name__ for rule in RULES} - {"state_an_error"}


def test_a_dominating_class_needs_the_number_of_classes():
    rare = certified(0.02, 0.03, 600, trivial=0.05)
    counts = done("TL503", estimate(1.2, 1.1, 1.3))
    (found,) = [r for r in recommend([rare, counts], facts(10)) if r.id == "state_an_error"]
    assert [e.code for e in found.supports] == ["TL101", "TL503"]
    assert found.supports[0].finding.values == {"trivial": 0.05, "classes": 10, "even": 0.9}
    assert found.contradicts
    assert "state_an_error" not in ids([rare])
    assert "state_an_error" not in ids([certified(trivial=0.85)], facts(10))


@pytest.mark.parametrize(("wrong", "n"), [(12, 600), (0, 59), (30, 300), (1, 2000)])
def test_the_number_of_units_brings_the_bound_as_near_as_it_says(wrong, n):
    from theorylens.generalization import clopper_pearson, kl_inverse

    error = wrong / n
    for bound, exact in ((kl_inverse(error, math.log(20) / n), True), (clopper_pearson(wrong, n, 0.05), False)):
        target = error + (bound - error) / 2
        units = units_for(error, bound, n, target)
        if exact:
            assert kl_inverse(error, math.log(20) / units) == pytest.approx(target, rel=1e-9)
        else:
            whole = math.ceil(units)
            reached = clopper_pearson(round(error * whole), whole, 0.05)
            assert target - 0.15 * (target - error) <= reached <= target + 0.6 / whole


def test_the_advice_on_units_halves_the_slack():
    (found,) = [r for r in recommend([certified(0.02, 0.0323, 597)]) if r.id == "more_test_units"]
    assert found.effect.values == {"bound": 0.0323, "target": pytest.approx(0.02615)}
    assert found.change.values["n"] == 597
    assert found.change.values["units"] == math.ceil(units_for(0.02, 0.0323, 597, 0.02615))
    with pytest.raises(ValueError, match="error < target < bound"):
        units_for(0.02, 0.03, 597, 0.04)


def test_the_price_of_comparisons_is_that_of_the_logarithm():
    (found,) = [r for r in recommend([certified(comparisons=50)]) if r.id == "fresh_test_split"]
    assert found.effect.values["lost"] == pytest.approx(1 - math.log(20) / math.log(1000))


def test_effects_of_training_are_computed_from_their_evidence():
    (longer,) = [r for r in recommend([falling(-1.0, -2.0, -0.5)]) if r.id == "train_longer"]
    assert longer.effect.values == {"low": 0.25, "high": pytest.approx(2**-0.5)}
    (stop,) = [r for r in recommend([falling(0.1, -0.1, 0.3, turned=(40, 0.25))]) if r.id == "stop_earlier"]
    assert stop.change.values == {"step": 40}
    assert stop.effect.values["share"] == pytest.approx(0.2)


def test_at_the_edge_the_rate_sets_the_sharpness():
    (end,) = recommend([sharpness(39.0, 40.0, "at")])
    assert end.supports[0].finding.values == {"sharpness": 39.0, "limit": 40.0}
    assert end.effect.values == {"twice": 80.0}
    assert not end.contradicts
    (still,) = [r for r in recommend([sharpness(39.0, 40.0, "at"), falling()]) if r.id == "lower_at_the_end"]
    assert [e.code for e in still.contradicts] == ["TL601"]  # the loss falls at this rate as it is


def test_findings_against_are_told():
    (longer,) = [r for r in recommend([falling(), gap(0.0, 0.01, -0.01, 0.02)]) if r.id == "train_longer"]
    assert [e.code for e in longer.contradicts] == ["TL104"]
    differ = done("TL505", verdict=Verdict.FAILS)
    (shift,) = [r for r in recommend([differ, gap(0.0, 0.01, -0.01, 0.02)]) if r.id == "find_the_shift"]
    assert [e.code for e in shift.contradicts] == ["TL104"]
    (shift,) = [r for r in recommend([differ, gap(0.0, 0.1, 0.05, 0.2)]) if r.id == "find_the_shift"]
    assert [e.code for e in shift.supports] == ["TL505", "TL104"]
    lowered = done("TL501", estimate(0.1, 0.08, 0.12), controls={"init": estimate(0.3, 0.25, 0.35)})
    (pool,) = [r for r in recommend([lowered]) if r.id == "pool_or_augment"]
    assert pool.contradicts[0].finding.values == {"init": 0.3}


def test_the_kernel_speaks_for_or_against_untrained_features():
    same = FIRES["train_the_features"][0]
    moved = done("TL401", estimate(0.5, 0.45, 0.55), controls={"init": estimate(0.1, 0.05, 0.15)})
    still = done("TL401", estimate(0.12, 0.08, 0.16), controls={"init": estimate(0.1, 0.05, 0.15)})
    assert recommend([*same, moved]) == ()  # an aligned kernel shows trained features: the probe is at its ceiling
    (supported,) = recommend([*same, still])
    assert [e.code for e in supported.supports] == ["TL202", "TL401"]
    unknown = Estimate(value=0.5, uncertainty=Unknown(why=Message("w", "why")))
    (silent,) = recommend([*same, done("TL401", unknown, controls={"init": estimate(0.1, 0.05, 0.15)})])
    assert [e.code for e in silent.supports] == ["TL202", "TL401"]  # unknown is not apart from anything


def test_skipped_crashed_and_troubled_results_advise_nothing():
    about = About(code="TL501", name="bias.equivariance", question="How?")
    trouble = Message("t", "raise rows")
    assert recommend([]) == ()
    assert recommend([Skipped(about=about, reason=trouble), Crashed(about=about, error="", traceback="")]) == ()
    assert recommend([done("TL501", estimate(0.1, 0.08, 0.12, trouble))]) == ()


def test_the_strongest_evidence_comes_first():
    everything = [o for name in FIRES for o in FIRES[name][0]]
    seen: dict[str, object] = {}
    for outcome in everything:  # one result per code
        seen.setdefault(outcome.about.code, outcome)
    found = [r.id for r in recommend(list(seen.values()), facts(10))]
    assert found[0] == "separate_test_rows"
    assert found.index("find_the_shift") < found.index("train_the_features") < found.index("no_smaller_network")


def test_opposed_advice_comes_after_unopposed_of_the_same_strength():
    opposed = done("TL501", estimate(0.1, 0.08, 0.12), controls={"init": estimate(0.3, 0.25, 0.35)})
    found = [r.id for r in recommend([opposed, gap(0.0, 0.1, 0.07, 0.13)])]
    assert found == ["close_the_gap", "pool_or_augment"]


def test_commands_can_be_typed():
    from theorylens.cli._main import commands

    everything = [o for cases in FIRES.values() for case in cases for o in [case]]
    found = {r.command for case in everything for r in recommend(case, facts(10))}
    assert found
    for command in found:
        words = command.split()
        assert words[0] == "theorylens"
        options = {o for p in commands.commands[words[1]].params for o in p.opts}
        assert all(w in options for w in words[2:] if w.startswith("--"))


def test_ids_are_unique_and_findings_render():
    for cases in FIRES.values():
        for case in cases:
            found = recommend(case, facts(10))
            assert len({r.id for r in found}) == len(found)
            for r in found:
                assert r.supports
                for text in (r.change, r.effect, *(e.finding for e in (*r.supports, *r.contradicts))):
                    assert text.render()


def test_the_messages_that_rules_look_for_are_still_said():
    """Rules recognise some findings by the id of their message; an id that nobody says would silence a rule."""
    from importlib.resources import files
    from pathlib import Path

    root = Path(str(files("theorylens")))
    CHAPTERS = ("bias", "dynamics", "generalization", "kernels", "landscape", "representation")
    chapters = "".join(p.read_text(encoding="utf-8") for d in CHAPTERS for p in (root / d).glob("*.py"))
    sources = "".join(p.read_text(encoding="utf-8") for p in (root / "advice").glob("*.py"))
    wanted = set(re.findall(r'"(TL\d{3}\.[a-z._]+)"', sources)) - {"TL602.sharpened"}
    assert wanted == {
        "TL124.reading.singled_out",
        "TL201.found", "TL303.minimum", "TL303.saddle", "TL303.slope", "TL404.lazy", "TL404.rich", "TL501.dense",
        "TL508.local", "TL601.flat", "TL601.turned", "TL602.place.above", "TL602.place.at", "TL602.place.below",
        "TL604.no_lr",
    }  # fmt: skip
    assert all(f'"{id}"' in chapters for id in wanted)
    from theorylens.dynamics._sharpening import Course

    assert Course.SHARPENED.value == "sharpened"
