"""Ordinary mistakes, through the command line: each is refused, flagged or paid for, none gets a quiet certificate."""

import json
import textwrap

import pytest

SUBJECT = """
import torch
from torch import nn
import theorylens as tl

WIDTH = 20

def data(n, seed):
    rng = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (n,), generator=rng)
    x = torch.randn(n, WIDTH, generator=rng)
    x[torch.arange(n), y] += 2.0
    return x, y

X, Y = data(300, 0)
TEST = data(200, 1)
NOISE = 1e-4 * torch.randn(300, WIDTH, generator=torch.Generator().manual_seed(2))
SCALE = 1.0

class ByMeans(nn.Module):
    def __init__(self, x, y, batch=False):
        super().__init__()
        means = torch.stack([x[y == c].mean(0) for c in range(3)])
        self.norm = nn.BatchNorm1d(WIDTH, affine=False, track_running_stats=not batch)
        self.last = nn.Linear(WIDTH, 3)
        with torch.no_grad():
            self.last.weight.copy_(SCALE * means)
            self.last.bias.copy_(-SCALE * (means**2).sum(1) / 2)
    def forward(self, x):
        return self.last(self.norm(x))

class ByHeart(nn.Module):
    def __init__(self, x, y):
        super().__init__()
        self.register_buffer("x", x)
        self.register_buffer("y", y)
        self.gain = nn.Parameter(torch.ones(()))
    def forward(self, x):
        return self.gain * nn.functional.one_hot(self.y[torch.cdist(x, self.x).argmin(1)], 3).float()

def train(*, seed, width=1.0, labels=None, rows=None, callbacks=()):
    chosen = slice(None) if rows is None else list(rows)
    return tl.Subject(model=ByMeans(X[chosen], Y[chosen]), loss="cross_entropy", train=(X[chosen], Y[chosen]))

def train_on_all_and_say_so(*, seed, rows=None, **more):
    return tl.Subject(model=ByMeans(X, Y), loss="cross_entropy", train=(X, Y))

def train_on_all_in_other_units(*, seed, rows=None, **more):
    return tl.Subject(model=ByMeans(X, Y), loss="cross_entropy", train=(X / 255, Y))

def train_on_all_in_secret(*, seed, rows=None, **more):
    return tl.Subject(model=ByHeart(X, Y), loss="cross_entropy", train=(X[list(rows)], Y[list(rows)]))

def made(test=TEST, recipe=train, train=(X, Y), **how):
    return tl.Subject(model=ByMeans(X, Y, **how), loss="cross_entropy", train=train, test=test,
                      recipe=tl.Recipe(recipe))

def fine():
    return made()

def doubled():
    return made(test=tuple(torch.cat([t, t]) for t in TEST))

def nearly_doubled():
    return made(test=(torch.cat([TEST[0], TEST[0] + NOISE[:200]]), torch.cat([TEST[1]] * 2)))

def patients():
    return made(test=tl.Split(TEST, units=[i // 4 for i in range(200)]))

def overlapping():
    return made(test=(torch.cat([TEST[0], X[:50]]), torch.cat([TEST[1], Y[:50]])))

def nearly_overlapping():
    return made(test=(torch.cat([TEST[0], X[:50] + NOISE[:50]]), torch.cat([TEST[1], Y[:50]])))

def batch_statistics():
    return made(batch=True)

def seen():
    return made(recipe=train_on_all_and_say_so)

def seen_otherwise():
    return made(recipe=train_on_all_in_other_units)

def seen_in_secret():
    return made(recipe=train_on_all_in_secret)

def cross_entropy():
    def error(o, t):
        return nn.functional.cross_entropy(o, t, reduction="none").clamp(max=1.0)
    task = tl.Task(forward=lambda m, b: (m(b[0]), b[1]), loss="cross_entropy", error=error, error_range=(0.0, 1.0),
                   error_name="cross-entropy, at most 1")
    return tl.Subject(model=ByMeans(X, Y), task=task, train=(X, Y), test=TEST, recipe=tl.Recipe(train))
"""
FAST = ("--method", "pac-bayes", "--draws", "2")


@pytest.fixture
def certify(run, tmp_path, monkeypatch):
    monkeypatch.setenv("THEORYLENS_STATE", str(tmp_path / "state"))

    def call(name, *arguments, change=("", ""), folder=""):
        file = tmp_path / folder / "subject.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(textwrap.dedent(SUBJECT).replace(*change), encoding="utf-8")
        return run("certify", f"{file}:{name}", *arguments)

    return call


def headline(ended):
    return json.loads(ended.out)["this_model"][0]


def test_the_n_is_that_of_independent_units(certify):
    clean = headline(certify("fine", "--json"))
    found = {name: headline(certify(name, "--json")) for name in ("doubled", "nearly_doubled", "patients")}
    assert {name: one["n"] for name, one in found.items()} == {"doubled": 200, "nearly_doubled": 200, "patients": 50}
    assert all(one["bound"] >= clean["bound"] for one in found.values())


@pytest.mark.parametrize("name", ["overlapping", "nearly_overlapping"])
def test_test_rows_that_training_saw_leave_no_bound_to_quote(certify, name):
    assert headline(certify("fine", "--json"))["verdict"] == "holds"
    assert headline(certify(name, "--json"))["verdict"] == "inconclusive"
    told = certify(name)
    assert told.out.rstrip().endswith("no: some of its inputs were seen before")
    assert told.err.startswith("Unknown for new examples")


def test_statistics_of_the_batch_get_no_certificate(certify):
    told = certify("batch_statistics", "--method", "test-set", *FAST)
    assert told.err.count("the answer for an example changes with the others of its batch") == 2
    assert (told.out.strip(), told.code) == ("", 5)


def test_a_recipe_that_says_it_saw_the_bound_rows_is_refused(certify):
    told = certify("seen", *FAST)
    assert "it was to leave out; a bound on them would not be valid" in told.err
    assert told.code != 0


def test_a_recipe_that_trained_on_as_many_rows_as_there_are_is_refused_in_any_units(certify):
    told = certify("seen_otherwise", *FAST)
    assert "was given 210 rows to train on, and its training split holds 300" in told.err
    assert told.code != 0


@pytest.mark.parametrize("method", ["pac-bayes", "progressive"])
def test_a_recipe_that_saw_them_in_secret_betrays_itself_by_its_errors(certify, method):
    told = certify("seen_in_secret", "--method", method, "--draws", "2")
    assert "Either its recipe has seen those units by a way of its own" in told.err
    assert "Either" not in certify("fine", "--method", method, "--draws", "2").err
    assert "配方可能" in certify("seen_in_secret", "--method", method, "--draws", "2", "--lang", "zh").err
    assert len(json.loads(certify("seen_in_secret", "--method", method, "--draws", "2", "--json").out)["doubts"]) == 1


def test_a_bound_on_the_cross_entropy_is_no_share_of_wrong_answers(certify):
    told = certify("cross_entropy")
    assert "\tcross-entropy, at most 1\t" in told.out
    assert "%" not in told.out + told.err
    refused = certify("cross_entropy", *FAST)
    assert "a Gibbs certificate here is about the 0-1 error of a classifier" in refused.err


def test_models_changed_by_scale_only_are_paid_for_on_one_test_set(certify):
    """Best of several without saying so: the ledger says so."""
    counts = [
        headline(certify("fine", "--json", change=("SCALE = 1.0", f"SCALE = {s}")))["comparisons"]
        for s in (1.0, 0.9, 0.8, 0.9)
    ]
    assert counts == [1, 2, 3, 3]
    assert "3 models were judged on these test examples" in certify("fine").err
    assert headline(certify("fine", "--json", folder="copy"))["comparisons"] == 3  # a moved file is no other network


def test_another_preparation_of_the_same_examples_is_paid_for(certify):
    counts = [
        headline(certify("fine", "--json", change=("return x, y", f"return {s} * x, y")))["comparisons"]
        for s in (1.0, 3.0, 5.0)
    ]
    assert counts == [1, 2, 3]


def test_recipes_tried_one_after_the_other_are_paid_for(certify):
    def known(change):
        (relative,) = json.loads(certify("fine", *FAST, "--json", change=change).out)["relatives"]
        return relative["drawn"]["comparisons"]

    assert [known(("SCALE = 1.0", f"SCALE = {s}")) for s in (1.0, 1.0, 0.9, 0.8)] == [1, 1, 2, 3]


def test_the_same_seed_prints_the_same(certify):
    arguments = ("fine", "--method", "test-set", *FAST, "--method", "recursive", "--method", "progressive", "--json")
    first, second = certify(*arguments), certify(*arguments)
    assert first.out == second.out
    assert json.loads(certify(*arguments, "--seed", "1").out)["relatives"] != json.loads(first.out)["relatives"]
