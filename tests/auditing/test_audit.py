import inspect
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from theorylens.auditing import Options, TestSetLedger, audit, measure_speed
from theorylens.core import NoFingerprintError, RefusedError, Task, UnsuitableError
from theorylens.numerics import NoSecondDerivativeError
from theorylens.report import Report, html
from theorylens.report._answer import answer
from theorylens.results import Conclusion, Crashed, Done, Message, PValue, Skipped, Verdict, record_view

from .conftest import X, Y, fact, fake, tiny

QUIET = {"ledger": False, "progress": False}


def run(subject, probes, **options):
    kept = {k: options.pop(k) for k in ("budget", "only", "skip", "seed") if k in options}
    return audit(subject, **kept, options=Options(probes=probes, **(QUIET | options))).record


def without_times(record):
    view = record_view(record)
    view["run"]["started"] = view["run"]["seconds"] = None
    for result in view["results"]:
        result.pop("cached", None)
        if "cost" in result:
            result["cost"]["seconds"] = None
    return json.dumps(view, sort_keys=True)


def test_a_headline_that_was_skipped_is_still_the_headline_and_says_why(subject):
    def refuse(s):
        raise UnsuitableError(Message("fake.no", "the task states no error to bound"))

    record = run(subject, [fake("TL101", refuse), fake("TL501")], require=("certificate <= 0.1",))
    assert record.headline == "TL101"
    assert record.requirements[0].why.render() == "TL101 was skipped: the task states no error to bound"
    assert answer(record, str).how_well == "Nothing can be certified: the task states no error to bound"


def test_p_values_of_a_run_are_adjusted_and_taken_back_where_they_do_not_stand(subject):
    def tests(p):
        value = PValue(statement=Message("fake.same", "nothing differs"), p=p, decides=True)
        lost = Conclusion(verdict=Verdict.DESCRIPTIVE, reason=Message("fake.none", "no difference ({p})", p=value.said))
        said = Message("fake.differs", "it differs ({p})", p=value.said)
        return lambda s: replace(fact(0.5), verdict=Verdict.FAILS, reason=said, p_values=(value,), otherwise=lost)

    record = run(subject, [fake("TL501", tests(0.03)), fake("TL502", tests(0.2))])
    assert [r.p_values[0].adjusted for r in map(record.result, ("TL501", "TL502"))] == [0.06, 0.2]
    assert record.result("TL501").verdict is Verdict.DESCRIPTIVE
    frame = Report(record).to_frame()
    assert frame.loc["TL501", ["p", "p_adjusted"]].tolist() == [0.03, 0.06]
    assert "本次运行的 p 值：一个检验族" in html(record, "zh")
    assert "本次运行的全部检验中" in html(record, "zh")


def test_every_outcome_is_kept(subject):
    def refuse(s):
        raise UnsuitableError(Message("fake.no", "it makes no sense here"))

    def crash(s):
        raise ZeroDivisionError("by zero")

    def flat(s):
        raise NoSecondDerivativeError("aten::odd")

    probes = [fake("TL501"), fake("TL502", refuse), fake("TL503", crash), fake("TL504", flat)]
    record = run(subject, probes)
    done, refused, crashed, curveless = record.outcomes
    assert isinstance(done, Done)
    assert isinstance(refused, Skipped)
    assert refused.reason.render() == "it makes no sense here"
    assert isinstance(crashed, Crashed)
    assert crashed.error == "ZeroDivisionError: by zero"
    assert "test_audit.py" in crashed.traceback
    assert os.sep + "tests" not in crashed.traceback.replace("\\", os.sep)
    assert isinstance(curveless, Skipped)
    assert "aten::odd" in curveless.reason.render()
    assert record.exit_code == 3
    assert run(subject, probes, allow_crash=("TL503",)).exit_code == 0


def test_a_crash_in_one_probe_leaves_the_model_as_it_was(subject):
    def spoil(s):
        s.model.train()
        s.model(X)
        raise RuntimeError

    subject.model.train()
    before = {k: v.clone() for k, v in subject.model.state_dict().items()}
    run(subject, [fake("TL501", spoil)])
    assert subject.model.training
    assert all(torch.equal(v, subject.model.state_dict()[k]) for k, v in before.items())


def test_answers_do_not_depend_on_company_or_on_being_read_back(subject, tmp_path):
    probes = [fake(f"TL50{i}", rungs=(16, 32)) for i in (1, 2, 3)]
    alone = {p.code: run(subject, [p]).result(p.code).estimate for p in probes}
    together = run(subject, list(reversed(probes)), cache=tmp_path)
    again = run(subject, list(reversed(probes)), cache=tmp_path)
    assert {o.about.code: o.result.estimate for o in together.outcomes} == alone
    assert all(o.cached for o in again.outcomes)
    assert without_times(together) == without_times(again)


def test_counted_work_does_not_depend_on_what_was_read_back(tmp_path):
    def look(s):
        s.features("2"), s.initial(), s.shuffled.features("2")
        return fact(1.0)

    def one():  # made anew each time: a subject that remembers an earlier run would hide the fault
        return tiny(shuffled=tiny())

    probes = [fake("TL501", look), fake("TL502", look)]
    first = run(one(), probes, cache=tmp_path)
    assert [o.result.cost.forwards for o in first.outcomes] == [80, 80]
    for path in tmp_path.glob("*/TL502*"):
        path.unlink()
    again = run(one(), probes, cache=tmp_path)
    assert not again.outcomes[1].cached
    assert without_times(first) == without_times(again)


def test_seed_and_options_decide_the_answer(subject):
    p = fake("TL501", rungs=(16, 32, 64))
    value = lambda **o: run(subject, [p], **o).result("TL501").estimate.value  # noqa: E731
    assert value(seed=1) == value(seed=1)
    assert value(seed=1) != value(seed=2)
    plan = {"rungs": {"TL501": 16}, "shuffled": False}
    assert value(plan=plan) != value()
    assert run(subject, [p]).result("TL501").plan == 64
    assert run(subject, [p], plan=plan).result("TL501").plan == 16


def test_a_budget_chooses_probes_and_rungs_before_anything_runs(subject):
    probes = [fake("TL101", seconds=100.0), fake("TL501", seconds=1.0, rungs=(16, 32)), fake("TL502", seconds=3.0)]
    record = run(subject, probes, budget="10s")
    assert set(record.run.plan) == {"TL101"}  # the headline is always in, and eats this budget
    assert "raise --budget" in record.outcomes[1].reason.render()
    roomy = run(subject, probes, budget=200)
    assert roomy.run.plan == {"TL101": 0, "TL501": 32, "TL502": 0}
    medium = run(subject, probes[1:], budget=35)
    assert medium.run.plan == {"TL501": 16, "TL502": 0}


KILLED = """
    import os, signal, sys, torch
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from auditing.conftest import fact, fake, tiny
    from theorylens.auditing import Options, audit

    torch.set_num_threads(1)
    mark = Path({mark!r})

    def last(subject):
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return fact(3.0)

    probes = [fake("TL501", rungs=(16, 32)), fake("TL502"), fake("TL503", last)]
    options = Options(probes=probes, cache=Path({cache!r}), ledger=False, progress=False)
    audit(tiny(), budget="100s", options=options).save({out!r})
"""


def test_a_killed_audit_goes_on_and_ends_as_if_nothing_had_happened(tmp_path):
    tests = os.path.dirname(os.path.dirname(__file__))

    def go(cache, out, mark):
        code = textwrap.dedent(KILLED).format(tests=tests, mark=str(mark), cache=str(cache), out=str(out))
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    killed = go(tmp_path / "cache", tmp_path / "a.json", tmp_path / "mark")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "a.json").exists()
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cache").glob("*/TL50*.json")}
    assert len(kept) == 2
    plan = next((tmp_path / "cache").glob("*/plan-*.json")).read_text(encoding="utf-8")

    resumed = go(tmp_path / "cache", tmp_path / "a.json", tmp_path / "mark")
    assert resumed.returncode == 0, resumed.stderr
    whole = go(tmp_path / "other", tmp_path / "b.json", tmp_path / "mark")
    assert whole.returncode == 0, whole.stderr
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cache").glob("*/TL50*.json")}.items() >= kept.items()
    assert next((tmp_path / "cache").glob("*/plan-*.json")).read_text(encoding="utf-8") == plan
    a, b = (json.loads((tmp_path / name).read_text(encoding="utf-8")) for name in ("a.json", "b.json"))
    assert [r["cached"] for r in a["results"]] == [True, True, False]
    for view in (a, b):
        view["run"]["started"] = view["run"]["seconds"] = None
        for result in view["results"]:
            result["cached"] = result["cost"]["seconds"] = None
    assert a == b


def folder(subject, tmp_path, **options):
    """Name of the run folder: what a stored result depends on."""
    run(subject, [fake("TL501")], cache=tmp_path, **options)
    return sorted(p.name for p in tmp_path.iterdir())[0]


def test_the_same_subject_finds_its_results_again(tmp_path):
    assert folder(tiny(), tmp_path / "a") == folder(tiny(), tmp_path / "b")


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(5, 2)
        self.gain = 1.0

    def forward(self, x):
        return self.body(x) * self.gain


class Other(Scaled):
    def forward(self, x):
        return self.body(x) * (self.gain + 0.0)  # the same numbers by another forward


def changed_buffer():
    s = tiny()
    s.model[1].running_mean[0] += 1
    return s


def changed_weight():
    s = tiny()
    with torch.no_grad():
        s.model[3].bias[1] += 1e-6
    return s


def frozen():
    s = tiny()
    s.model[0].requires_grad_(False)
    return s


def gained():
    s = tiny(model=Scaled())
    s.model.gain = 1.0 + 1e-12  # may not show in float32 outputs
    return s


DIFFERENT = {
    "a weight": (tiny, changed_weight),
    "a buffer": (tiny, changed_buffer),
    "a frozen parameter": (tiny, frozen),
    "the forward": (lambda: tiny(model=Scaled()), lambda: tiny(model=Other())),
    "an attribute": (lambda: tiny(model=Scaled()), gained),
    "the loss": (tiny, lambda: tiny(loss=nn.CrossEntropyLoss(label_smoothing=0.1))),
    "a constant in a loss": (
        lambda: tiny(loss=lambda o, t: nn.functional.cross_entropy(o, t, reduction="none") * 1.0),
        lambda: tiny(loss=lambda o, t: nn.functional.cross_entropy(o, t, reduction="none") * 1.0000001),
    ),
    "an operation in a loss": (
        lambda: tiny(loss=lambda o, t: nn.functional.cross_entropy(o, t, reduction="none") * 1.0),
        lambda: tiny(loss=lambda o, t: nn.functional.cross_entropy(o, t, reduction="none") / 1.0),
    ),
    "a test label": (tiny, lambda: tiny(test=(X[40:], 1 - Y[40:]))),
    "the initial network": (tiny, lambda: tiny(init=tiny().model.state_dict())),
    "the history": (tiny, lambda: tiny(history={"train_loss": [1.0, 0.5]})),
    "a checkpoint": (tiny, lambda: tiny(checkpoints={3: tiny().model.state_dict()})),
    "the error": (tiny, lambda: tiny(task=Task(error=lambda o, t: (o.argmax(1) == t).float()))),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_a_change_of_anything_that_matters_is_another_key(what, tmp_path):
    before, after = DIFFERENT[what]
    assert folder(before(), tmp_path / "a") != folder(after(), tmp_path / "b"), what


def test_an_edit_of_any_file_of_the_package_is_another_key(tmp_path, monkeypatch):
    from theorylens.auditing import _facts

    package = tmp_path / "package"
    package.mkdir()
    for name in ("a.py", "b.css", "page.md"):
        (package / name).write_text("one", encoding="utf-8")
    (package / "__init__.py").touch()
    monkeypatch.setattr(_facts.theorylens, "__file__", str(package / "__init__.py"))
    source = inspect.unwrap(_facts.source_hash)
    seen = {source.__wrapped__() if hasattr(source, "__wrapped__") else source()}
    for name in ("a.py", "b.css", "page.md"):
        (package / name).write_text("two", encoding="utf-8")
        _facts.source_hash.cache_clear()
        seen.add(_facts.source_hash())
    _facts.source_hash.cache_clear()
    assert len(seen) == 4


def test_what_cannot_be_hashed_is_not_remembered_and_said(tmp_path):
    class Opaque:
        __slots__ = ()

    def loss(outputs, targets, thing=Opaque()):  # noqa: B008
        return nn.functional.cross_entropy(outputs, targets, reduction="none")

    record = run(tiny(loss=loss), [fake("TL501")], cache=tmp_path)
    assert not list(tmp_path.iterdir())
    assert any("no fingerprint" in note.render() for note in record.subject.notes)
    assert issubclass(NoFingerprintError, ValueError)


def test_fresh_ignores_what_is_stored(subject, tmp_path):
    run(subject, [fake("TL501")], cache=tmp_path)
    assert run(subject, [fake("TL501")], cache=tmp_path).outcomes[0].cached
    assert not run(subject, [fake("TL501")], cache=tmp_path, fresh=True).outcomes[0].cached


def test_a_torn_file_is_measured_again(subject, tmp_path):
    run(subject, [fake("TL501")], cache=tmp_path)
    path = next(tmp_path.glob("*/TL501*.json"))
    path.write_text(path.read_text(encoding="utf-8")[:40], encoding="utf-8")
    assert not run(subject, [fake("TL501")], cache=tmp_path).outcomes[0].cached


def test_requirements_are_read_before_anything_runs(subject):
    started = []
    p = fake("TL501", lambda s: started.append(1) or fact(0.0))
    with pytest.raises(ValueError, match="unknown name 'TL999'"):
        run(subject, [p], require=("TL999 <= 1",))
    assert not started
    record = run(subject, [fake("TL501", lambda s: fact(2.0))], require=("TL501 <= 1",))
    assert (record.exit_code, record.requirements[0].met) == (1, False)


def test_unknown_probes_and_budgets_are_refused(subject):
    with pytest.raises(ValueError, match=r"'TL50' matches no probe.*did you mean 'TL501'"):
        run(subject, [fake("TL501")], only="TL50")
    with pytest.raises(ValueError, match="cannot read the budget 'soon'"):
        run(subject, [fake("TL501")], budget="soon")
    with pytest.raises(ValueError, match="delta must lie"):
        Options(delta=1.0)
    with pytest.raises(ValueError, match="at least 1"):
        Options(comparisons=0)


def test_only_and_skip_take_codes_names_chapters_and_patterns(subject):
    probes = [fake("TL101"), fake("TL501"), fake("TL502")]
    codes = lambda **o: [x.about.code for x in run(subject, probes, **o).outcomes]  # noqa: E731
    assert codes(only="TL502") == ["TL101", "TL502"]
    assert codes(only="bias.fake1,TL502") == ["TL101", "TL501", "TL502"]
    assert codes(skip="TL5*") == ["TL101"]
    assert codes(skip="TL101") == ["TL501", "TL502"]


def test_the_ledger_counts_models_not_runs(tmp_path):
    ledger = TestSetLedger(tmp_path / "x" / "l.jsonl")
    assert ledger.record("T", "m1", "a") == 1
    assert ledger.record("T", "m1", "a") == 1
    assert ledger.record("T", "m2", "b") == 2
    assert ledger.record("U", "m2", "b") == 1
    with ledger.path.open("a", encoding="utf-8") as file:
        file.write('{"test": "T", "mod')  # torn by a crash
    assert ledger.models("T") == {"m1", "m2"}


def test_models_compared_on_one_test_set_are_paid_for(tmp_path, monkeypatch):
    monkeypatch.setenv("THEORYLENS_STATE", str(tmp_path))
    seen = []

    def probe_count(subject, *, rng, delta, comparisons):
        """How many?"""
        seen.append((delta, comparisons))
        return fact(1.0)

    from theorylens.core import Work, probe

    p = probe(code="TL101", needs=set(), cost=lambda s, r: Work(), name="generalization.count")(probe_count)
    for s in (tiny(), changed_weight(), tiny(), tiny(test=(X[40:].flip(0), Y[40:].flip(0)))):
        run(s, [p], ledger=True)
    assert [k for _, k in seen] == [1, 2, 2, 2]  # the order of the test rows does not hide it
    run(tiny(), [p], ledger=True, comparisons=9)
    assert seen[-1] == (0.05, 9)


def test_joint_certificates_share_delta(subject):
    seen = []

    def make(code):
        def probe_count(subject, *, rng, delta, comparisons):
            """How many?"""
            seen.append(delta)
            return fact(1.0)

        from theorylens.core import Work, probe

        return probe(code=code, needs=set(), cost=lambda s, r: Work(), name=f"generalization.c{code}")(probe_count)

    run(subject, [make("TL101"), make("TL102"), fake("TL501")], joint=True)
    assert seen == [0.025, 0.025]


def test_nothing_measured_is_exit_code_five(subject):
    def refuse(s):
        raise UnsuitableError(Message("fake.no", "no"))

    assert run(subject, [fake("TL501", refuse)]).exit_code == 5


def test_an_interrupted_audit_keeps_what_was_finished(subject, tmp_path):
    def stop(s):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(subject, [fake("TL501"), fake("TL502", stop)], cache=tmp_path)
    assert len(list(tmp_path.glob("*/TL501*.json"))) == 1


def test_a_refused_subject_leaves_nothing_behind(tmp_path):
    s = tiny()
    with torch.no_grad():
        s.model[0].weight[0, 0] = torch.nan
    with pytest.raises(RefusedError, match=r"parameter 0\.weight has 1 values of 40 that are not finite"):
        run(s, [fake("TL501")], cache=tmp_path)
    assert not list(tmp_path.iterdir())
    assert time.time() > 0


def test_the_control_is_decided_once_whatever_the_clock_says_later(tmp_path):
    from theorylens.core import Recipe

    def train(*, seed, width=1.0, labels=None, callbacks=()):
        return tiny(train=(X[:40], Y[:40] if labels is None else labels))

    def look(s):
        return fact(0.0 if s.shuffled is None else 1.0)

    fast, slow = (tiny(recipe=Recipe(train, seconds=t)) for t in (1.0, 1e6))
    probes = [fake("TL501", look), fake("TL502")]
    assert run(fast, probes, budget=100, cache=tmp_path / "a").result("TL501").estimate.value == 1.0
    again = run(slow, probes, budget=100, cache=tmp_path / "a")
    assert again.outcomes[0].cached
    assert again.run.settings["shuffled_control"] is True
    assert run(slow, probes, budget=100, cache=tmp_path / "b").result("TL501").estimate.value == 0.0


def test_a_product_is_timed_and_where_there_is_none_it_counts_as_gradients(subject):
    timed = measure_speed(subject)
    assert timed.gradient <= timed.hvp <= 2.5 * timed.gradient

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.eye(X.shape[1])[: int(Y.max()) + 1].clone())

        def forward(self, x):
            return OneDerivative.apply(x @ self.weight.T)

    plain = measure_speed(replace(subject, model=Odd(), init=None, checkpoints=None, recipe=None))
    assert plain.hvp == pytest.approx(2.5 * plain.gradient)


class OneDerivative(torch.autograd.Function):
    """Twice its input, with a backward pass that cannot be differentiated."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * g
