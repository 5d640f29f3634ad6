"""Errors of rows, what is known of them by construction, and the trivial level they are compared with."""

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.core import Subject, Task, UnsuitableError
from theorylens.generalization import answers
from theorylens.generalization._evidence import evidence


class Passing(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x * self.scale


def _subject(outputs, targets, **fields):
    return Subject(model=Passing(), test=(outputs, targets), **{"loss": "cross_entropy", **fields})


def test_errors_agree_with_scores_and_do_not_depend_on_batches(subject):
    found = answers(subject, "test")
    assert torch.equal(found.errors, subject.scores("test").errors)
    small = Subject(model=subject.model, loss="cross_entropy", test=subject.test, batch_size=7)
    assert torch.equal(answers(small, "test").errors, found.errors)
    assert found.binary
    assert torch.equal(found.errors, (found.predicted != found.classes).double())


def test_rows_without_a_target_are_not_counted():
    outputs, targets = torch.eye(3).repeat(4, 1), torch.tensor([0, 1, 2, 1, 1, 2, -100, -100, -100, 0, 1, -100])
    found = answers(_subject(outputs, targets), "test")
    assert found.rows.tolist() == [0, 1, 2, 3, 4, 5, 9, 10]
    assert found.errors.tolist() == [0, 0, 0, 1, 0, 0, 0, 0]


def test_a_split_without_any_target_is_refused():
    with pytest.raises(UnsuitableError, match="none of the 3 rows has a target"):
        answers(_subject(torch.eye(3), torch.tensor([-100, -100, -100])), "test")


def test_tokens_without_a_target_leave_the_mean_of_their_row():
    outputs = torch.zeros(2, 4, 3)
    outputs[:, :, 1] = 1  # answers class 1 everywhere; (rows, tokens, classes)
    found = answers(_subject(outputs, torch.tensor([[1, 0, -100, -100], [1, 1, 1, 2]])), "test")
    assert found.errors.tolist() == [0.5, 0.25]
    assert not found.binary


def test_a_float_error_is_not_taken_for_binary_and_a_boolean_one_is():
    outputs, targets = torch.randn(20, 1, generator=torch.Generator().manual_seed(0)), torch.zeros(20, 1)
    far = Task(loss="mse", error=lambda o, t: ((o - t).abs() > 1)[:, 0])
    assert answers(_subject(outputs, targets, loss=None, task=far), "test").binary
    soft = Task(loss="mse", error=lambda o, t: ((o - t).abs() > 1).float()[:, 0])
    assert not answers(_subject(outputs, targets, loss=None, task=soft), "test").binary


def test_regression_without_an_error_is_unsuitable():
    with pytest.raises(UnsuitableError, match=r"states no error to bound; give Task\(error="):
        answers(_subject(torch.randn(5, 1), torch.randn(5, 1), loss="mse"), "test")


@pytest.mark.parametrize(
    ("values", "said"), [([0.0, 2.0], "outside the declared range 0 to 1"), ([0.0, float("nan")], "1 of 2 errors")]
)
def test_errors_outside_their_range_or_not_finite_are_refused(values, said):
    task = Task(loss="mse", error=lambda o, t: o[:, 0])
    with pytest.raises(UnsuitableError, match=said):
        answers(_subject(torch.tensor(values)[:, None], torch.zeros(2, 1), loss=None, task=task), "test")


def test_the_trivial_level_is_one_minus_the_largest_class_share():
    found = evidence(_subject(torch.eye(3)[[0, 1, 2, 0, 0]], torch.tensor([0, 0, 0, 1, 2])), "test")
    assert found.trivial == pytest.approx(0.4, abs=1e-15)


def test_the_trivial_level_weighs_units_alike():
    from theorylens.core import Split

    test = Split((torch.eye(2)[[0, 0, 0, 1]], torch.tensor([0, 0, 0, 1])), units=["a", "a", "a", "b"])
    found = evidence(Subject(model=Passing(), loss="cross_entropy", test=test), "test")
    assert found.trivial == pytest.approx(0.5, abs=1e-15)


def test_the_trivial_level_of_tokens_by_a_naive_twin():
    rng = torch.Generator().manual_seed(1)
    targets = torch.randint(0, 3, (6, 5), generator=rng)
    targets[torch.rand(6, 5, generator=rng) < 0.3] = -100
    targets[:, 0] = torch.arange(6) % 3
    found = evidence(_subject(torch.randn(6, 5, 3, generator=rng), targets), "test")
    naive = min(
        np.mean([np.mean([t != c for t in row if t != -100]) for row in targets.tolist()]) for c in range(3)
    )  # fmt: skip
    assert found.trivial == pytest.approx(naive, abs=1e-12)


def test_the_trivial_level_of_one_logit_and_of_one_class():
    logits = torch.tensor([[1.0], [-1.0], [2.0], [-3.0]])
    found = evidence(_subject(logits, torch.tensor([[1.0], [0], [0], [0]]), loss="binary_cross_entropy"), "test")
    assert (found.trivial, found.answers.errors.tolist(), found.answers.binary) == (0.25, [0, 0, 1, 0], True)
    one = evidence(_subject(torch.eye(2), torch.tensor([1, 1])), "test")
    assert one.trivial == 0.0


def test_the_trivial_level_of_an_own_error_tries_constants():
    targets = torch.cat([torch.zeros(15, 1), torch.full((5, 1), 10.0)])
    task = Task(loss="mse", error=lambda o, t: ((o - t).abs() > 1)[:, 0])
    found = evidence(_subject(targets.clone(), targets, loss=None, task=task), "test")
    assert found.trivial == pytest.approx(0.25, abs=1e-12)
    top_two = Task(error=lambda o, t: ~(o.topk(2).indices == t[:, None]).any(1), kind="classification")
    classes = torch.tensor([0, 0, 0, 1, 1, 2])
    found = evidence(_subject(torch.eye(3)[classes], classes, loss=None, task=top_two), "test")
    assert found.trivial == pytest.approx(1 / 6, abs=1e-12)


def test_outputs_alone_are_enough_and_equal_outputs_are_no_copies():
    outputs = torch.eye(2)[[0, 0, 0, 1]]
    found = evidence(Subject(outputs={"test": (outputs, torch.tensor([0, 0, 1, 1]))}), "test")
    assert found.copies is None
    assert found.bound(0.05).n == 4
