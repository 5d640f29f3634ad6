"""TL101 and TL102 on real digits and on networks whose answers are written down."""

import dataclasses

import pytest
import torch

from theorylens.core import Split, Subject, Task, UnsuitableError
from theorylens.generalization import clopper_pearson, hoeffding, holdout_bound, probe_chernoff_kl, probe_test_error
from theorylens.generalization._evidence import upward
from theorylens.generalization._test_error import judge
from theorylens.results import Intervals, Status, Table, Verdict


def test_digits(subject):
    result = probe_test_error(subject)
    wrong = int(subject.scores("test").errors.sum())
    assert result.verdict is Verdict.HOLDS
    assert result.estimate.value == wrong / 600
    assert result.certificate.bound == result.estimate.upper == clopper_pearson(wrong, 600, 0.05)
    assert result.certificate.n == 600
    assert result.certificate.loss == "0-1 loss"
    assert set(result.certificate.hashes) == {"train", "validation", "test"}
    assert result.certificate.hashes["test"] == subject.split("test").sha256
    assert len(result.examples) == wrong
    assert {c.role for c in result.controls} == {"init", "shuffled"}
    assert all(c.estimate.value > 0.7 for c in result.controls)
    assert all(a.status is Status.UNCHECKED for a in result.assumptions)


def test_the_drawings_add_up(subject):
    forest, counts = probe_test_error(subject).payload
    assert isinstance(forest, Intervals)
    assert isinstance(counts, Table)
    total = sum(sum(row[1:]) for row in counts.rows)
    right = sum(row[1 + i] for i, row in enumerate(counts.rows))
    assert (total, total - right) == (600, int(subject.scores("test").errors.sum()))
    for i, row in enumerate(counts.rows):
        n, k = sum(row[1:]), sum(row[1:]) - row[1 + i]
        assert forest.values[i] == pytest.approx(k / n, abs=1e-15)
        assert forest.upper[i] == clopper_pearson(k, n, 0.05 / 20)
        assert forest.lower[i] == clopper_pearson(k, n, 0.05 / 20, "lower")


def test_comparisons_are_paid_for_in_the_ledger(subject):
    result = probe_test_error(subject, comparisons=7, delta=0.1)
    wrong = int(subject.scores("test").errors.sum())
    assert result.certificate.bound == clopper_pearson(wrong, 600, 0.1 / 7)
    assert [s.delta for s in result.certificate.ledger] == [0.1 / 7, 0.1 - 0.1 / 7]
    assert sum(s.delta for s in result.certificate.ledger) == pytest.approx(0.1, abs=1e-15)
    assert result.estimate.uncertainty.level == 1 - 0.1 / 7


def test_a_doubled_test_file_gives_the_same_certificate(subject):
    x, y = subject.test.data
    twice = dataclasses.replace(subject, test=(torch.cat([x, x]), torch.cat([y, y])))
    once, double = probe_test_error(subject).certificate, probe_test_error(twice).certificate
    assert (double.bound, double.n, double.empirical) == (once.bound, once.n, once.empirical)


def test_shared_rows_break_the_certificate_and_are_counted(subject):
    x, y = subject.test.data
    fx, fy = subject.train.data
    leaky = dataclasses.replace(subject, test=(torch.cat([x[:80], fx[:20]]), torch.cat([y[:80], fy[:20]])))
    result = probe_test_error(leaky)
    assert result.verdict is Verdict.INCONCLUSIVE
    broken = [a for a in result.assumptions if a.status is Status.BROKEN]
    assert [a.evidence.values["n"] for a in broken] == [20]
    assert result.settings["shared"] == 20
    table = result.payload[-1]
    wrong = int(subject.scores("test").errors[:80].sum())
    assert table.rows[1][1:] == (80, wrong / 80, clopper_pearson(wrong, 80, 0.05))
    assert "Unknown" in result.reading.render()


def test_a_test_split_that_is_the_validation_split_is_broken(subject):
    result = probe_test_error(dataclasses.replace(subject, validation=subject.test))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.settings["shared"] == 600


def test_one_class_is_vacuous_and_said(stated):
    result = probe_test_error(stated([1] * 50, [1] * 50, classes=2))
    assert result.verdict is Verdict.VACUOUS
    assert result.certificate.trivial == 0
    assert "one class only" in result.reason.render()


def test_a_network_no_better_than_a_guess_is_vacuous(stated):
    result = probe_test_error(stated([0] * 40 + [1] * 40, [0, 1] * 40))
    assert result.verdict is Verdict.VACUOUS
    assert result.certificate.vacuous


def test_units_are_counted(stated):
    base = stated([0] * 60, [0] * 50 + [1] * 10)
    split = Split(base.test.data, units=[i // 3 for i in range(60)])
    result = probe_test_error(dataclasses.replace(base, test=split))
    expected = holdout_bound([0] * 50 + [1] * 10, units=[i // 3 for i in range(60)])
    assert (result.certificate.n, result.certificate.bound) == (20, expected.bound)
    assert result.certificate.theorem.startswith("Chernoff")
    assert result.settings["method"] == "kl"


def test_an_error_with_a_range_of_its_own(stated):
    base = stated([0, 1, 2, 1] * 40, [0, 1, 2, 0] * 40)
    task = Task(error=lambda o, t: 3.0 * (o.argmax(1) != t), error_range=(0.0, 5.0), error_name="fine")
    result = probe_test_error(dataclasses.replace(base, task=task, loss=None))
    assert result.estimate.value == pytest.approx(0.75)
    assert result.certificate.loss_range == (0.0, 5.0)
    assert result.certificate.bound == holdout_bound(
        [0, 0, 0, 3] * 40, binary=False, error_range=(0, 5)
    ).bound  # fmt: skip
    assert result.verdict is Verdict.HOLDS
    assert "%" not in result.reading.render()


def test_regression_says_what_to_state():
    net = torch.nn.Linear(2, 1)
    subject = Subject(model=net, loss="mse", test=(torch.randn(9, 2), torch.randn(9, 1)))
    with pytest.raises(UnsuitableError, match="error_range"):
        probe_test_error(subject)


def test_outputs_alone_are_certified_and_inputs_unknown():
    outputs = torch.eye(2)[[0, 1] * 50]
    result = probe_test_error(Subject(outputs={"test": (outputs, torch.tensor([0, 1] * 50))}))
    assert (result.verdict, result.controls) == (Verdict.HOLDS, ())
    assert result.certificate.bound == clopper_pearson(0, 100, 0.05)


def test_nothing_changes_with_batches_or_order(subject):
    x, y = subject.test.data
    order = torch.randperm(600, generator=torch.Generator().manual_seed(3))
    other = dataclasses.replace(subject, test=(x[order], y[order]), batch_size=13)
    assert probe_test_error(other).certificate.bound == probe_test_error(subject).certificate.bound


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((0.1, 0.5, 0), Verdict.HOLDS),
        ((0.5, 0.5, 0), Verdict.VACUOUS),
        ((0.1, 0.5, 3), Verdict.INCONCLUSIVE),
        ((0.1, 0.0, 0), Verdict.VACUOUS),
    ],
)
def test_judge(values, verdict):
    assert judge(*values)[0] is verdict


def test_printed_bounds_are_never_below_the_bound():
    for value in (0.031234, 0.99999, 1e-5, 0.05):
        assert value <= upward(value, share=True) <= value + 1.01e-4
    for value in (0.031234, 123.456, 9.9999e-7, 5.0):
        assert value <= upward(value, share=False) <= value * 1.0011
    assert upward(0.0, share=False) == 0.0


def test_the_theorems_stand_side_by_side(subject):
    result = probe_chernoff_kl(subject)
    wrong = int(subject.scores("test").errors.sum())
    (table,) = result.payload
    bounds = [row[2] for row in table.rows]
    assert bounds[0] == clopper_pearson(wrong, 600, 0.05)
    assert bounds[1] == result.certificate.bound
    assert bounds[2] == pytest.approx(wrong / 600 + hoeffding(600, 0.05), abs=1e-12)
    assert bounds == sorted(bounds)
    assert result.certificate.theorem.startswith("Chernoff")
    assert "not jointly" in result.reading.render()


def test_without_a_binomial_error_the_tail_is_left_out(stated):
    base = stated([0, 1] * 30, [0, 1] * 29 + [1, 0])
    task = Task(error=lambda o, t: (o.argmax(1) != t).float(), error_name="own")
    result = probe_chernoff_kl(dataclasses.replace(base, task=task, loss=None))
    assert len(result.payload[0].rows) == 2
    assert result.certificate.bound == result.settings["headline"]
