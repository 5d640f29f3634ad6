"""`compare` on two reports of the same test examples: the exact paired comparison, or why there is none."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from theorylens import Subject, audit
from theorylens.generalization import paired_comparison
from theorylens.results import packed_bits, unpacked_bits


def with_answers(path, answers, /, **changes):
    view = json.loads(path.read_text(encoding="utf-8"))
    certificate = view["results"][0]["certificate"]
    certificate.update({"wrong": packed_bits(answers), "examples": len(answers), **changes})
    path.write_text(json.dumps(view), encoding="utf-8")
    return path


def errs(n, *rows):
    wrong = np.zeros(n, dtype=bool)
    wrong[list(rows)] = True
    return wrong


@pytest.fixture
def pair(stored):
    def pair(first, second, **changes):
        return with_answers(stored("a.json"), first), with_answers(stored("b.json"), second, **changes)

    return pair


def flat(text):
    return " ".join(text.replace("\N{NO-BREAK SPACE}", " ").replace("\\", "").split())


def test_the_better_network_is_named_with_the_exact_interval(run, pair):
    first, second = errs(300, *range(40)), errs(300, *range(35, 45))
    ends = paired_comparison(first, second).difference
    said = flat(run("compare", *pair(first, second)).out)
    assert f"The second network errs less often: by {ends.lower:.2%} to {ends.upper:.2%}".replace("%", " %") in said
    assert "of 300 test examples only the first errs on 35, only the second on 5" in said
    turned = flat(run("compare", *pair(second, first)).out)
    assert f"The first network errs less often: by {ends.lower:.2%} to {ends.upper:.2%}".replace("%", " %") in turned


def test_what_is_not_told_apart_is_said(run, pair):
    said = flat(run("compare", *pair(errs(300, 1, 2, 3), errs(300, 3, 4))).out)
    assert "Neither network is shown to err less often" in said
    assert "McNemar's exact p is 1." in said


def test_in_chinese(run, pair):
    said = run("compare", *pair(errs(300, *range(40)), errs(300)), "--lang", "zh").out
    assert "第二个网络错得更少" in said


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"hashes": {"test": "33" * 32}}, "different test examples"),
        ({"loss": "top-5 loss"}, "one counts 0-1 loss, the other top-5 loss"),
        ({"wrong": "", "examples": 0}, "the second report does not hold right or wrong"),
        ({"examples": 299, "wrong": packed_bits(np.zeros(299))}, "different test examples"),
    ],
)
def test_why_there_is_no_comparison(run, pair, changes, why):
    ended = run("compare", *pair(errs(300, 1), errs(300, 2), **changes))
    assert ended.code == 0
    assert why in flat(ended.out)


def test_reports_without_answers_say_so(run, stored):
    assert "neither report holds right or wrong" in flat(run("compare", stored("a.json"), stored("b.json")).out)


def test_answers_that_cannot_be_read_are_wrong_usage(run, pair):
    ended = run("compare", *pair(errs(300, 1), errs(300, 2), wrong="?!"))
    assert (ended.code, "cannot be read" in ended.err) == (2, True)


def test_without_scipy_the_rest_is_still_compared(pair):
    code = "import sys; sys.modules['scipy'] = None; from theorylens.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "compare", *map(str, pair(errs(300, 1), errs(300, 2)))]
    ended = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert ended.returncode == 0
    assert "TL301" in ended.stdout
    assert "needs scipy" in flat(ended.stdout)


class Threshold(nn.Module):
    def __init__(self, at):
        super().__init__()
        self.at = nn.Parameter(torch.tensor(at))

    def forward(self, x):
        return torch.stack([self.at - x[:, 0], x[:, 0] - self.at], 1)


def test_two_audits_on_the_same_examples_are_paired(run, tmp_path):
    x = torch.linspace(-1, 1, 400)[:, None]
    y = (x[:, 0] > 0).long()
    paths, wrong = [], []
    for name, at in (("a.json", 0.0), ("b.json", 0.2)):
        net = Threshold(at)
        audit(Subject(model=net, loss="cross_entropy", test=(x, y)), only="TL101").save(tmp_path / name)
        paths.append(tmp_path / name)
        wrong.append((net(x).argmax(1) != y).numpy())
        view = json.loads(paths[-1].read_text(encoding="utf-8"))["results"][0]["certificate"]
        assert unpacked_bits(view["wrong"], view["examples"]).tolist() == wrong[-1].tolist()
    said = flat(run("compare", *paths).out)
    assert "The first network errs less often" in said
    assert f"only the second on {int(wrong[1].sum())};" in said
