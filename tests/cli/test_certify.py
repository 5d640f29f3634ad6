"""certify: what it prints, what it writes down, what it refuses."""

import json
import textwrap

import pytest

from theorylens.generalization import clopper_pearson

THREE = ("--method", "test-set", "--method", "training-bits", "--method", "pac-bayes")
SUBJECT = """
import torch
from torch import nn
from theorylens import Recipe, Subject

def data(n, seed):
    rng = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 2, (n,), generator=rng)
    x = torch.randn(n, 2, generator=rng)
    x[:, 0] += 2.0 * y - 1.0
    return x, y

X, Y = data(200, 0)

def train(*, seed, width=1.0, labels=None, rows=None, callbacks=()):
    chosen = slice(None) if rows is None else list(rows)
    x, y = X[chosen], Y[chosen]
    net = nn.Linear(2, 2)
    means = torch.stack([x[y == c].mean(0) for c in (0, 1)])
    with torch.no_grad():
        net.weight.copy_(means)
        net.bias.copy_(-(means**2).sum(1) / 2)
    return Subject(model=net, loss="cross_entropy", train=(x, y))

def make():
    base = train(seed=0)
    return Subject(model=base.net, loss="cross_entropy", train=(X, Y), test=data(100, 1), recipe=Recipe(train))

def bare():
    return Subject(model=train(seed=0).net, loss="cross_entropy", train=(X, Y))
"""


@pytest.fixture
def certify(run, tmp_path, monkeypatch):
    monkeypatch.setenv("THEORYLENS_STATE", str(tmp_path / "state"))
    file = tmp_path / "subject.py"
    file.write_text(textwrap.dedent(SUBJECT), encoding="utf-8")

    def call(*arguments, name="make"):
        return run("certify", f"{file}:{name}", *arguments)

    return call


def test_the_headline_comes_from_the_test_split(certify):
    found = json.loads(certify("--json").out)
    (certificate,) = found["this_model"]
    wrong = round(certificate["empirical"] * 100)
    assert certificate["bound"] == clopper_pearson(wrong, 100, 0.05)
    assert certificate["predictor"] == "this model"
    assert found["relatives"] == []


def test_a_relative_stands_apart_from_this_network(certify):
    found = json.loads(certify(*THREE, "--draws", "5", "--json").out)
    assert {c["predictor"] for c in found["this_model"]} == {"this model"}
    (relative,) = found["relatives"]
    assert {relative["drawn"]["predictor"], relative["as_trained"]["predictor"]} == {"a retrained relative"}
    assert relative["drawn"]["n"] == relative["as_trained"]["n"] == 60


def test_ways_tried_before_are_paid_for_and_the_same_way_once(certify):
    def comparisons(*arguments):
        found = json.loads(certify("--method", "pac-bayes", "--draws", "3", "--json", *arguments).out)
        return [r["drawn"]["comparisons"] for r in found["relatives"]]

    assert comparisons() == [1]
    assert comparisons() == [1]
    assert comparisons("--prior-share", "0.5", "--prior-share", "0.6") == [3, 3]
    assert comparisons() == [3]


def test_the_table_names_whom_each_bound_is_about(certify):
    lines = certify(*THREE, "--draws", "3").out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [
        "this network", "this network", "a relative, weights drawn at random", "the same relative, weights as trained",
    ]  # fmt: skip
    assert "no: not below" in lines[1]


def test_in_chinese(certify):
    lines = certify(*THREE, "--draws", "3", "--lang", "zh").out.splitlines()
    assert [line.split("\t")[0] for line in lines][2:] == [
        "一个重新训练的亲属，权重随机抽取",
        "同一亲属，权重为训练所得",
    ]


def test_votes_runs_and_recursions_stand_apart_and_pay_for_each_other(certify):
    methods = ("--method", "recursive", "--method", "progressive", "--method", "ensemble", "--draws", "2")
    found = json.loads(certify(*methods, "--networks", "2", "--json").out)
    (steps,), (run,), (vote,) = found["recursive"], found["progressive"], found["votes"]
    assert steps["drawn"]["predictor"] == run["one_of_the_run"]["predictor"] == "a retrained relative"
    assert vote["vote"]["predictor"] == vote["tandem"]["predictor"] == "an ensemble"
    assert {steps["drawn"]["comparisons"], run["one_of_the_run"]["comparisons"], vote["vote"]["comparisons"]} == {3}
    assert found["this_model"] == []
    told = certify(*methods, "--networks", "2")
    assert [line.split("\t")[0] for line in told.out.splitlines()] == [
        "a relative trained in steps, weights drawn", "its first network, weights as trained",
        "one of a run of relatives, drawn at random", "the vote of 2 relatives", "the same vote, from pairs",
    ]  # fmt: skip
    assert told.err.count("ways paid for: 3") == 3
    told = certify(*methods, "--networks", "2", "--lang", "zh").out.splitlines()
    assert all(any("\u4e00" <= sign <= "\u9fff" for sign in line.split("\t")[0]) for line in told)


def test_what_does_not_apply_says_why_and_nothing_measured_is_exit_code_five(certify):
    result = certify("--method", "pac-bayes", name="bare")
    assert "pac-bayes: a relative is trained again, which takes a recipe" in result.err
    assert result.code == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--delta", "1"), "--delta must lie strictly between 0 and 1, got 1.0"),
        (("--prior-share", "1.2"), "--prior-share must lie between 0 and 1, got 1.2"),
        (("--prior-std", "0"), "--prior-std must lie between 0 and inf, got 0.0"),
        (("--networks", "1"), "--networks must be at least 2, got 1"),
        (("--expected-error", "1"), "--expected-error must be at least 0 and below 1, got 1.0"),
        (("--draws", "0"), "--draws must be at least 1, got 0"),
        (("--method", "luck"), "is not one of 'test-set'"),
    ],
)
def test_wrong_usage_is_one_sentence(certify, arguments, said):
    result = certify(*arguments)
    assert said in result.err
    assert result.code == 2


@pytest.mark.slow
def test_all_methods_end_with_the_compressed_relative(certify):
    lines = certify("--method", "all", "--draws", "3").out.splitlines()
    assert len(lines) == 10
    assert lines[-1].startswith("a compressed relative\t")
