"""Probes of optimiser and data bias: what they find when it was put there, each word of the judges, refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.gaussian_process.kernels import RBF
from torch import nn

from theorylens.bias import (
    flip_labels,
    gradient_noise_scale,
    learning_order,
    probe_answer_shift,
    probe_gradient_noise,
    probe_learning_order,
    probe_suspected_labels,
)
from theorylens.bias._answer_shift import judge as judge_answers
from theorylens.bias._distances import FeatureShift
from theorylens.bias._left_out import PENALTIES, LeaveOneOut
from theorylens.bias._minibatch_noise import judge as judge_noise
from theorylens.bias._simple_first import judge as judge_order
from theorylens.bias._suspects import Search
from theorylens.bias._suspects import judge as judge_suspects
from theorylens.core import Recipe, Subject, UnsuitableError
from theorylens.results import Estimate, Message, Statistical, Status, Verdict
from theorylens.training import Keeping, Optimisation, fit


def digits(n=700):
    x, y = load_digits(return_X_y=True)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:n]
    return torch.tensor(x / 16, dtype=torch.float32)[order], torch.tensor(y)[order]


@pytest.fixture(scope="module")
def run():
    """A small network on digits whose first 300 training labels hold 12 wrong ones."""
    x, y = digits()
    labels = y.clone()
    wrong = torch.randperm(300, generator=torch.Generator().manual_seed(1))[:12]
    labels[wrong] = (labels[wrong] + 3) % 10
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    how = Optimisation(lr=0.3, batch_size=30, epochs=40)
    done = fit(net, (x[:300], labels[:300]), "cross_entropy", how, keeping=Keeping(checkpoints=12))
    subject = done.subject(validation=(x[300:500], y[300:500]), test=(x[500:], y[500:]))
    return subject, set(wrong.tolist())


def known(value, lower, upper, trouble=None):
    method = Message("test", "by hand")
    return Estimate(
        value=value, uncertainty=Statistical(lower=lower, upper=upper, level=0.95, method=method), trouble=trouble
    )


# ---- TL510 --------------------


def test_the_noise_probe_shows_the_measure_and_what_the_recipe_s_steps_add(run):
    subject = replace(run[0], recipe=Recipe(lambda **_: run[0], settings={"lr": 0.3, "batch_size": 30}))
    found = probe_gradient_noise(subject, seed=0)
    rows = subject.split("train").subset(256)
    twin = gradient_noise_scale(subject.net, subject.split("train").take(rows), "cross_entropy")
    assert found.estimate.value == pytest.approx(twin.value, rel=1e-6)
    assert found.control("init") is not None
    table = {str(row[0]): row[1] for row in found.payload[1].rows}
    full, noise = (v for k, v in table.items() if k.startswith("added"))
    assert full == pytest.approx(0.3 / 4 * table["squared gradient of these rows"], rel=1e-6)
    trace = table["trace of the covariance of one row's gradient"]
    assert noise == pytest.approx(0.3 / 4 * (256 - 30) / (256 * 30) * trace, rel=1e-6)
    curve = found.payload[0]
    assert all(((line.y >= 0) & (line.y <= 1)).all() for line in curve.lines)


def test_no_regulariser_is_shown_for_steps_it_does_not_hold_for(run):
    for settings in ({"lr": 0.3}, {"lr": 0.3, "batch_size": 30, "momentum": 0.9},
                     {"lr": 0.3, "batch_size": 30, "optimizer": "adam"}):  # fmt: skip
        subject = replace(run[0], recipe=Recipe(lambda **_: run[0], settings=settings))
        rows = probe_gradient_noise(subject, seed=0).payload[1].rows
        assert not [row for row in rows if str(row[0]).startswith("added")]


def test_each_word_of_the_noise_judge():
    unsure = Message("test", "not told from zero")
    verdict, reason, reading = judge_noise(known(np.inf, 50.0, np.inf, unsure), known(3.0, 2.0, 4.0), 10)
    assert verdict is Verdict.INCONCLUSIVE
    assert "above 50" in str(reason).replace("\N{NO-BREAK SPACE}", " ")
    assert str(reading).startswith("Undecided")
    assert "Before training it was 3." in str(reading)
    verdict, reason, reading = judge_noise(known(40.0, 30.0, 60.0), None, None)
    assert verdict is Verdict.DESCRIPTIVE
    assert "Up to batches of about 40 examples" in str(reading)
    assert "Nothing is known about the batch size" in str(reading)
    assert "Nothing to compare it with" in str(reading)
    reading = judge_noise(known(40.0, 30.0, 60.0), known(45.0, 35.0, 70.0), 40)[2]
    assert "50\N{NO-BREAK SPACE}% of the squared gradient is noise" in str(reading)
    assert "not told apart from the 45 before training" in str(reading)
    reading = judge_noise(known(40.0, 30.0, 60.0), known(np.inf, 9.0, np.inf, unsure), 40)[2]
    assert "could not be determined either" in str(reading)


# ---- TL511 --------------------


def test_a_real_network_learnt_what_is_simple_for_a_kernel_first(run):
    found = probe_learning_order(run[0], seed=0)
    assert found.estimate.lower > 0
    assert str(found.reading).startswith("Yes")
    assert found.settings["checkpoints"] >= 8
    simple, hard = found.payload[0].lines
    assert (simple.y >= hard.y - 0.05).all()
    assert simple.y[0] > hard.y[0]


def test_each_word_of_the_order_judge():
    c = np.arange(50.0)
    assert judge_order(learning_order(c, c))[0] is Verdict.DESCRIPTIVE
    assert str(judge_order(learning_order(c, c))[2]).startswith("Yes")
    assert str(judge_order(learning_order(-c, c))[2]).startswith("No")
    verdict, reason, reading = judge_order(learning_order(np.abs(c - 24.5), c))
    assert verdict is Verdict.INCONCLUSIVE
    assert str(reason).startswith("no order by difficulty")
    assert "covers 0" in str(reading)


def test_checkpoints_too_late_leave_no_order(run):
    subject = run[0]
    last = max(subject.checkpoints)
    ends = dict.fromkeys((last - 2, last - 1, last), subject.checkpoints[last])
    late = replace(subject, checkpoints=ends, init=None)
    outputs = late.predictions("train")[0].argmax(1)
    late = replace(late, train=(late.split("train").take(range(300))[0], outputs))
    with pytest.raises(UnsuitableError, match="same checkpoint"):
        probe_learning_order(late, seed=0)
    with pytest.raises(UnsuitableError, match="needs 3 checkpoints to see an order, there are 1"):
        probe_learning_order(replace(late, checkpoints={last: subject.checkpoints[last]}), seed=0)


# ---- TL512 --------------------


def test_wrong_labels_put_there_are_among_the_suspects(run):
    subject, wrong = run
    found = probe_suspected_labels(subject, seed=0)
    suspects = set(found.examples)
    assert len(suspects & wrong) >= 9
    assert len(suspects - wrong) <= 6
    assert found.estimate.value == pytest.approx(len(suspects) / 300)
    assert found.settings["planted found"] >= 10
    assert "flag is no proof" in str(found.reading)


def test_where_inputs_say_nothing_of_the_class_the_check_says_so():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(200, 5, generator=g), torch.randint(0, 3, (200,), generator=g)
    net = nn.Linear(5, 3)
    found = probe_suspected_labels(Subject(model=net, loss="cross_entropy", train=(x, y)), seed=0)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert str(found.reading).startswith("Undecided")


def test_leaving_out_is_done_by_hand():
    """Refit without each row, with the same kernel and penalty."""
    x, y = digits(40)
    labels = y.numpy() % 3
    classifier = LeaveOneOut(x)
    found = classifier.fit(labels, 3)
    points = x.double().numpy()
    squared = ((points[:, None] - points) ** 2).sum(-1)
    # torch takes the lower of the two middle values
    middle = np.sort(squared[np.triu_indices(40, 1)])[(40 * 39 // 2 - 1) // 2]
    kernel = RBF(np.sqrt(middle / 4))(points)  # exp(-2 d² / middle)
    targets = np.eye(3)[labels]
    offset = targets.mean(0)
    errors = []
    for penalty in PENALTIES:
        scores = np.zeros((40, 3))
        for i in range(40):
            rest = np.arange(40) != i
            dual = np.linalg.solve(kernel[np.ix_(rest, rest)] + penalty * np.eye(39), targets[rest] - offset)
            scores[i] = kernel[i, rest] @ dual + offset
        errors.append((((targets - scores) ** 2).mean(), scores))
    best = min(errors, key=lambda pair: pair[0])[1]
    assert np.abs(found.scores - best).max() < 1e-6
    assert found.probabilities.sum(1) == pytest.approx(1)


def test_each_word_of_the_suspects_judge():
    for suspected, found in ((9, 2), (60, 9)):  # misses them; flags the given labels about as often
        search = Search(rows=100, suspected=suspected, kept_by_network=3, planted=10, found=found)
        verdict, _, reading = judge_suspects(search)
        assert verdict is Verdict.INCONCLUSIVE
        assert f"cannot tell wrong labels here: it suspects {suspected} of the 100 given ones" in str(reading)
    verdict, reason, reading = judge_suspects(Search(rows=100, suspected=0, kept_by_network=0, planted=10, found=9))
    assert verdict is Verdict.DESCRIPTIVE
    assert str(reading).startswith("None of 100 labels looks wrong. Of 10 labels flipped on purpose, 9 were found")
    verdict, reason, reading = judge_suspects(Search(rows=100, suspected=4, kept_by_network=0, planted=10, found=9))
    assert "4 of 100 labels look wrong" in str(reason).replace("\N{NO-BREAK SPACE}", " ")
    assert "another class on all of them" in str(reading)
    reading = judge_suspects(Search(rows=100, suspected=4, kept_by_network=3, planted=10, found=9))[2]
    assert "the given label on 3 of them" in str(reading)


def test_planting_depends_on_the_seed_and_the_suspects_do_not(run):
    one, two = probe_suspected_labels(run[0], seed=0), probe_suspected_labels(run[0], seed=1)
    assert one.examples == two.examples


# ---- TL513 --------------------


def test_equal_splits_show_no_difference_and_a_lost_class_does(run):
    subject = run[0]
    found = probe_answer_shift(subject, seed=0)
    assert found.verdict is Verdict.DESCRIPTIVE
    x, y = digits()
    keep = y[500:] < 2
    shifted = replace(subject, test=(x[500:][keep], y[500:][keep]))
    found = probe_answer_shift(shifted, seed=0)
    assert found.verdict is Verdict.FAILS
    ratios = found.payload[1].values
    assert ratios[2:].mean() < 0.3 < 3 < ratios[:2].min()
    assert found.assumptions[0].status is Status.BROKEN


def test_each_word_of_the_answers_judge():
    quiet = FeatureShift(statistics=np.array([0.1, 0.2]), p=np.array([0.5, 0.3]), adjusted=np.array([0.6, 0.6]))
    verdict, reason, reading = judge_answers(quiet, 30, 40)
    assert verdict is Verdict.DESCRIPTIVE
    assert "30 validation and 40 test rows" in str(reading)
    loud = FeatureShift(statistics=np.array([0.1, 0.6]), p=np.array([0.5, 0.001]), adjusted=np.array([0.5, 0.002]))
    verdict, reason, reading = judge_answers(loud, 30, 40)
    assert verdict is Verdict.FAILS
    assert "most clearly for class 1 (p = 0.002 among the tests of this probe, 0.001 alone)" in str(reason).replace(
        "\N{NO-BREAK SPACE}", " "
    )
    assert "class 1, by 0.60 of all rows" in str(reading)


# ---- what cannot be asked --------------------


def test_binary_networks_with_one_logit_are_understood():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(120, 4, generator=g)
    y = (x[:, 0] > 0).float()[:, None]
    net = nn.Linear(4, 1)
    subject = Subject(model=net, loss="binary_cross_entropy", train=(x, y), validation=(x[:60], y[:60]),
                      test=(x[60:], y[60:]))  # fmt: skip
    assert probe_suspected_labels(subject, seed=0).settings["planted"] == 20
    assert probe_answer_shift(subject, seed=0).settings["classes tested"] == 1


def test_what_makes_no_sense_is_unsuitable():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=g)
    split = dict.fromkeys(("train", "validation", "test"), (x, x[:, :1]))
    regression = Subject(model=nn.Linear(4, 1), loss="mse", **split)
    soft = dict.fromkeys(("train", "validation", "test"), (x, torch.softmax(x[:, :3], 1)))
    shares = Subject(model=nn.Linear(4, 3), loss="cross_entropy", **soft)
    for probe in (probe_suspected_labels, probe_answer_shift):
        with pytest.raises(UnsuitableError, match="no classification"):
            probe(regression, seed=0)
        with pytest.raises(UnsuitableError, match="shares of classes"):
            probe(shares, seed=0)
    labels = torch.randint(0, 3, (60,), generator=g)
    few = Subject(model=nn.Linear(4, 3), loss="cross_entropy", train=(x[:30], labels[:30]))
    with pytest.raises(UnsuitableError, match="needs 40 training rows"):
        probe_suspected_labels(few, seed=0)
    tokens = torch.randint(0, 9, (60, 3), generator=g)
    words = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 3))
    with pytest.raises(UnsuitableError, match="one array of real numbers"):
        probe_suspected_labels(Subject(model=words, loss="cross_entropy", train=(tokens, labels)), seed=0)
    same = Subject(model=nn.Linear(4, 3), loss="cross_entropy", train=(torch.ones(60, 4), labels))
    with pytest.raises(UnsuitableError, match="half of the inputs are equal"):
        probe_suspected_labels(same, seed=0)
    small = Subject(model=nn.Linear(4, 3), loss="cross_entropy", train=(x, labels), validation=(x[:5], labels[:5]),
                    test=(x, labels))  # fmt: skip
    with pytest.raises(UnsuitableError, match="needs 20 rows"):
        probe_answer_shift(small, seed=0)
    assert flip_labels(labels, 0.0, 3, g).equal(labels)
