"""What every probe must do, whatever it measures. A new probe gets these tests and cannot opt out."""

import contextlib
import functools
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from theorylens.auditing import PROBES
from theorylens.core import Subject, UnsuitableError, Work, global_randomness_kept
from theorylens.locale import translator
from theorylens.results import Done, Kind, Verdict, outcome_from_view, outcome_view

EACH = pytest.mark.parametrize("probe", PROBES, ids=lambda p: p.code)


@pytest.fixture(scope="session")
def results(subject_for):
    """Each probe once, alone, at its first rung, on a subject that remembers nothing; when a test asks for it."""
    probes = {p.code: p for p in PROBES}

    class Once(dict):
        def __missing__(self, code):
            self[code] = probes[code](fresh(subject_for(probes[code])), seed=3)
            return self[code]

    return Once()


def fresh(subject, **changes):
    other = replace(subject, **changes)
    if subject.shuffled is not None:
        other = replace(other, shuffled=replace(subject.shuffled, batch_size=other.batch_size))
    return other


def close(a, b, rel=1e-5):  # the contract: batching may move rounding and nothing else
    if math.isnan(a) or math.isinf(a):
        return str(a) == str(b)
    return a == pytest.approx(b, rel=rel, abs=1e-7)


def view(result, p):
    plain = outcome_view(Done(about=p.about, result=result))
    plain["cost"]["seconds"] = 0.0
    return plain


@EACH
def test_same_seed_same_answer_to_the_last_word(probe, whole, results):
    again = probe(fresh(whole), seed=3)
    assert json.dumps(view(again, probe)) == json.dumps(view(results[probe.code], probe))


@EACH
@pytest.mark.parametrize("size", [7, 97])
def test_answers_do_not_depend_on_batching(probe, whole, results, size):
    one, other = results[probe.code], probe(fresh(whole, batch_size=size), seed=3)
    assert close(one.estimate.value, other.estimate.value)
    assert one.verdict is other.verdict


@pytest.fixture(scope="session")
def in_company(subject_for, special):
    """Results of all probes run one after the other on one subject, in the order of the report or backwards.

    In one of the two orders any probe comes before any other, and what it leaves behind is there for the other.
    """

    @functools.cache
    def run(kind, backwards):
        shared, found = fresh(subject_for(kind)), {}
        # A special network is there for one probe; what else that may meet are probes of features and of its chapter.
        chosen = [p for p in PROBES if kind.code not in special or p.chapter in ("representation", kind.chapter)]
        for each in reversed(chosen) if backwards else chosen:
            with contextlib.suppress(UnsuitableError):  # a probe of attention finds none in a convolutional network
                found[each.code] = each(shared, seed=3)
        return found

    plain = next(each for each in PROBES if each.code not in special)
    return lambda probe, backwards: run(probe if probe.code in special else plain, backwards)[probe.code]


@EACH
@pytest.mark.parametrize("backwards", [False, True], ids=["last", "first"])
def test_answers_do_not_depend_on_which_other_probes_ran(probe, results, in_company, backwards):
    assert in_company(probe, backwards).estimate == results[probe.code].estimate


def everything(subject):
    model = subject.model
    return (
        {k: v.clone() for k, v in model.state_dict().items()},
        [(m.training, p_names(m)) for m in model.modules()],
        [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        [p.requires_grad for p in model.parameters()],
        np.random.get_state()[1].tolist(),
        torch.random.get_rng_state().tolist(),
    )


def p_names(module):
    return len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks)


@EACH
def test_the_model_and_the_world_are_left_as_they_were(probe, whole):
    subject = fresh(whole)
    subject.model.train()
    subject.model[0].eval()
    subject.model[0].weight.grad = torch.ones_like(subject.model[0].weight)
    before = everything(subject)
    try:
        probe(subject, seed=1)
        after = everything(subject)
    finally:
        subject.model.eval()
        subject.model[0].weight.grad = None
    assert all(torch.equal(before[0][k], after[0][k]) for k in before[0])
    assert before[1] == after[1]
    assert all((a is None and b is None) or torch.equal(a, b) for a, b in zip(before[2], after[2], strict=True))
    assert before[3:] == after[3:]


UNCHECKED = """
import contextlib, random, sys
from theorylens.core import UnsuitableError
sys.path.insert(0, {tests!r})
from contract.conftest import train
from theorylens.auditing import PROBES
subject = train(seed=0)
random.seed(5)
before = random.getstate()
for p in PROBES:
    if p.missing(subject) is None:
        with contextlib.suppress(UnsuitableError):
            p(subject, seed=1)
        assert random.getstate() == before, p.code
"""


def test_pythons_own_random_state_is_left_alone():
    """In a process of its own: the run-time type checker of this test suite draws from it."""
    code = UNCHECKED.format(tests=str(Path(__file__).parent.parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@EACH
def test_the_model_is_left_as_it_was_after_an_exception_too(probe, whole, monkeypatch):
    subject = fresh(whole)
    subject.model.train()
    before = everything(subject)
    calls = []

    def fail_later(module, args, output):
        calls.append(1)
        if len(calls) > 2:
            raise ArithmeticError("in the middle")

    handle = subject.model[2].register_forward_hook(fail_later)
    failed = False
    try:
        probe(subject, seed=1)
    except (ArithmeticError, UnsuitableError):
        failed = True
    finally:
        handle.remove()
        after = everything(subject)
        subject.model.eval()
    assert failed or len(calls) <= 2  # a probe that never runs the model has nothing to fail at
    assert all(torch.equal(before[0][k], after[0][k]) for k in before[0])
    assert before[1:2] == after[1:2]
    assert before[3:] == after[3:]


@EACH
def test_it_says_what_it_lacks(probe):
    bare = Subject(outputs={"validation": (torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1]))})
    if all(bare.has(need.value) for need in probe.needs):
        said = ""
        try:
            code = probe(bare).code
        except UnsuitableError as error:
            code, said = probe.code, str(error)
        assert code == probe.code  # it lacks nothing it declared, so it answers
        assert not said or "give" in said  # or says what more it would take
        return
    with pytest.raises(UnsuitableError) as caught:
        probe(bare)
    for need in probe.needs:
        if not bare.has(need.value):
            assert need.value in str(caught.value)


@EACH
def test_results_survive_json(probe, results):
    plain = view(results[probe.code], probe)
    text = json.dumps(plain, allow_nan=False)
    assert json.dumps(outcome_view(outcome_from_view(json.loads(text)))) == text


@EACH
def test_results_are_whole(probe, results):
    result = results[probe.code]
    assert result.reason.id.split(".")[0]
    assert result.references
    assert result.payload, "every probe gives something worth looking at"
    assert result.assumptions
    assert result.reading is not None
    assert (result.kind is Kind.CERTIFICATE) == (result.certificate is not None)
    if result.kind is Kind.INDICATOR:
        assert result.controls, "an indicator stands beside its control"
    said = [result.reason, result.reading, *(a.statement for a in result.assumptions)]
    zh = translator("zh")
    for message in said:
        assert message.render(zh) != message.render(), f"not translated: {message}"


@EACH
def test_it_says_what_it_costs_before_it_runs(probe, whole, results):
    rungs = probe.rungs or (None,)
    works = [probe.cost(fresh(whole), rung) for rung in rungs]
    assert all(isinstance(w, Work) for w in works)
    spent, declared = results[probe.code].cost, works[0]
    free = (spent.forwards, spent.gradients, spent.hvps) == (0, 0, 0)
    assert free or any(vars_of(w) != (0, 0, 0, 0, 0) for w in works)
    if probe.rungs:
        assert sum(vars_of(works[-1])) >= sum(vars_of(works[0]))
    # never off by an order of magnitude: counted work against declared work, in gradients
    counted = spent.forwards / 3 + spent.gradients + 2.5 * spent.hvps
    announced = declared.forwards / 3 + declared.gradients + 2.5 * declared.hvps
    assert counted <= 10 * announced + 10 * len(whole.split("train")), (counted, announced)


def vars_of(work):
    return work.forwards, work.gradients, work.hvps, work.flops, work.seconds


@EACH
def test_an_untrained_network_gets_no_good_word(probe, untrained):
    with global_randomness_kept():
        try:
            result = probe(fresh(untrained), seed=0)
        except UnsuitableError:
            return
    if result.kind is Kind.CERTIFICATE:
        assert result.verdict in (Verdict.VACUOUS, Verdict.INCONCLUSIVE)
    elif result.kind is Kind.INDICATOR:
        assert result.verdict is not Verdict.HOLDS


@EACH
def test_nothing_of_the_data_is_in_a_result(probe, results, whole):
    plain = json.dumps(view(results[probe.code], probe))
    pixels = whole.split("test").take([0])[0].flatten()
    run = ", ".join(repr(float(v)) for v in pixels[10:14])
    assert run not in plain
    assert "/tmp" not in plain
