"""Claims: whole entries, a standing that follows from the results and from nothing else, filters."""

import importlib
import re

import pytest

from theorylens.advice import CLAIMS, Standing, Truth, claims
from theorylens.auditing import PROBES
from theorylens.results import Message, SplitFacts, SubjectFacts, Verdict

from .test_rules import certified, done, estimate, falling, gap, sharpness

S, C, U = Standing.SUPPORTED, Standing.CONTRADICTED, Standing.UNDECIDED


def facts(parameters, rows=100):
    split = SplitFacts(role="train", rows=rows, units=rows, sha256="")
    return SubjectFacts(
        name="", task="classification", architecture="", parameters=parameters, dtype="float32", classes=10,
        splits=(split,), fingerprint="",
    )  # fmt: skip


def said(code, id, value=0.0, low=None, high=None, **options):
    return done(code, estimate(value, low, high), reason=Message(id, "a finding"), **options)


VACUOUS = done("TL103", verdict=Verdict.VACUOUS)
FLAT = said("TL601", "TL601.flat", 0.0, -0.1, 0.1)
DIMENSION = Message("TL201.found", "{units}", units=64)
CASES = [
    ("parameters_overfit", [certified()], C, facts(1000)),
    ("parameters_overfit", [certified(verdict=Verdict.INCONCLUSIVE)], U, facts(1000)),
    ("parameters_overfit", [certified()], None, facts(50)),
    ("zero_error_overfits", [gap(0.0, 0.005, -0.005, 0.01)], C, None),
    ("zero_error_overfits", [gap(0.0, 0.2, 0.15, 0.25)], S, None),
    ("zero_error_overfits", [gap(0.0, 0.02, 0.01, 0.03)], U, None),
    ("zero_error_overfits", [gap(0.1, 0.2, 0.05, 0.15)], None, None),
    ("zero_error_overfits", [gap(0.0, 0.2, 0.15, 0.25, shared=3)], None, None),
    ("double_descent_contradicts", [certified()], None, None),
    ("flat_loss_converged", [FLAT, said("TL303", "TL303.slope")], C, None),
    ("flat_loss_converged", [FLAT, said("TL303", "TL303.minimum")], S, None),
    ("flat_loss_converged", [falling(), said("TL303", "TL303.slope")], None, None),
    ("flat_minima", [done("TL301", estimate(3.0))], U, None),
    ("flat_minima", [done("TL305", estimate(3.0))], U, None),
    ("effective_complexity", [VACUOUS, certified()], S, None),
    ("effective_complexity", [done("TL103"), certified()], U, None),
    ("effective_complexity", [VACUOUS, certified(verdict=Verdict.INCONCLUSIVE)], U, None),
    ("effective_complexity", [VACUOUS], None, None),
    ("simple_first", [done("TL511", estimate(0.4, 0.3, 0.5))], S, None),
    ("simple_first", [done("TL511", estimate(-0.4, -0.5, -0.3))], C, None),
    ("simple_first", [done("TL511", estimate(0.0, -0.1, 0.1))], U, None),
    ("phases", [done("TL603", estimate(2.0))], S, None),
    ("phases", [done("TL603", estimate(0.0))], U, None),
    ("edge_of_stability", [sharpness(40.0, 40.0, "at")], S, None),
    ("edge_of_stability", [sharpness(4.0, 40.0, "below")], U, None),
    ("edge_of_stability", [said("TL602", "TL602.level")], None, None),
    ("saddles", [said("TL303", "TL303.saddle")], S, None),
    ("saddles", [said("TL303", "TL303.minimum")], C, None),
    ("saddles", [said("TL303", "TL303.degenerate")], U, None),
    ("hierarchy", [done("TL202", estimate(0.9, 0.88, 0.92), controls={"init": estimate(0.7, 0.68, 0.72)})], S, None),
    ("hierarchy", [done("TL202", estimate(0.6, 0.58, 0.62), controls={"init": estimate(0.7, 0.68, 0.72)})], C, None),
    ("hierarchy", [done("TL202", estimate(0.7, 0.68, 0.72), controls={"init": estimate(0.7, 0.68, 0.72)})], U, None),
    ("hierarchy", [done("TL202", estimate(0.9))], None, None),
    ("width_optimisation", [said("TL404", "TL404.lazy")], S, None),
    ("width_optimisation", [said("TL404", "TL404.rich")], C, None),
    ("width_optimisation", [said("TL404", "TL404.between")], U, None),
    ("larger_batches", [done("TL510", estimate(40.0))], U, None),
    ("manifold", [done("TL201", estimate(8.0, 7.0, 9.0), reason=DIMENSION)], S, None),
    ("manifold", [done("TL201", estimate(40.0, 35.0, 45.0), reason=DIMENSION)], U, None),
    ("early_stopping", [falling(turned=(40, 0.25))], S, None),
    ("early_stopping", [falling()], None, None),
    ("schedule_matters", [said("TL604", "TL604.no_lr")], S, None),
    ("schedule_matters", [said("TL604", "TL604.yes")], U, None),
    ("bias_scope", [done("TL501", estimate(0.005, 0.001, 0.015))], S, None),
    ("bias_scope", [done("TL501", estimate(0.2, 0.1, 0.3))], U, None),
    ("bias_scope", [done("TL505", verdict=Verdict.FAILS)], U, None),
    ("distributed_exponential", [done("TL205", estimate(7.0))], U, None),
    ("depth_composition", [done("TL205", estimate(7.0))], U, None),
]


@pytest.mark.parametrize(("id", "outcomes", "standing", "subject"), CASES)
def test_the_standing_follows_from_the_results(id, outcomes, standing, subject):
    (found,) = claims(outcomes, subject, ids=[id])
    assert found.standing is (standing or Standing.UNMEASURED)
    assert bool(found.evidence) == (standing is not None)
    for evidence in found.evidence:
        assert evidence.code in {o.about.code for o in outcomes}
        assert evidence.finding.render()


def test_every_claim_has_a_case_and_nothing_measured_means_nothing_said():
    assert {c.id for c in CLAIMS} == {id for id, *_ in CASES}
    assert all(j.standing is Standing.UNMEASURED and not j.evidence for j in claims())


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_an_entry_is_whole_and_names_tests_that_exist(claim):
    assert claim.statement.render().endswith(".")
    assert claim.conditions.render().endswith(".")
    assert claim.references
    codes = {p.code for p in PROBES}
    for test in claim.tests:
        if re.fullmatch(r"TL\d{3}", test):
            assert test in codes
        else:
            package, name = test.split(".")
            assert hasattr(importlib.import_module(f"theorylens.{package}"), name), test
    assert claim.truth is not Truth.FALSE or claim.conditions.render().startswith("False")


def test_filters():
    assert {j.claim.truth for j in claims(truth=Truth.FALSE)} == {Truth.FALSE}
    both = claims(truth=[Truth.TRUE, Truth.FALSE])
    assert {j.claim.truth for j in both} == {Truth.TRUE, Truth.FALSE}
    found = claims([certified(), gap(0.0, 0.005, -0.005, 0.01)], standing=Standing.CONTRADICTED)
    assert [j.claim.id for j in found] == ["zero_error_overfits"]
    with pytest.raises(ValueError, match=r"no claim is called \['magic'\]; there are parameters_overfit"):
        claims(ids=["magic"])


@pytest.mark.parametrize("kind", [Truth, Standing])
def test_every_word_can_be_said(kind):
    for member in kind:
        assert member.word.render() == member.value
