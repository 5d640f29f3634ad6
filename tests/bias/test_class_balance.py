"""Class counts: golden values, laws, coverage of the effective number, and the probe."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from theorylens.bias import class_balance, effective_classes, probe_class_balance
from theorylens.bias._class_shares import judge
from theorylens.core import Subject, UnsuitableError
from theorylens.results import Verdict

LONG_TAIL = (1000, 500, 200, 100, 50, 20, 10, 5)


def test_the_long_tail_has_its_golden_values() -> None:
    found = class_balance(LONG_TAIL)
    assert found.ratio == 200
    assert found.gini == pytest.approx(0.6634615385, rel=1e-9)
    assert found.effective == pytest.approx(3.561407961, rel=1e-9)
    assert found.simpson == pytest.approx(2.726904703, rel=1e-9)
    assert found.majority == 1000 / sum(LONG_TAIL)


def test_even_classes_count_fully_and_one_class_counts_as_one() -> None:
    even = class_balance([7] * 5)
    assert (even.ratio, even.gini) == (1, 0)
    assert even.effective == pytest.approx(5)
    assert even.simpson == pytest.approx(5)
    alone = class_balance([0, 12, 0])
    assert (alone.effective, alone.majority, alone.empty, alone.ratio) == (1, 1, 2, 1)


def test_order_does_not_matter_and_multiples_change_no_share() -> None:
    assert class_balance(LONG_TAIL[::-1]).effective == pytest.approx(class_balance(LONG_TAIL).effective, rel=1e-12)
    assert class_balance([3 * c for c in LONG_TAIL]).gini == pytest.approx(class_balance(LONG_TAIL).gini, rel=1e-12)


def test_the_entropy_is_corrected_upwards_and_never_above_the_number_of_classes() -> None:
    estimate = effective_classes(LONG_TAIL)
    plain = class_balance(LONG_TAIL).effective
    assert math.log(estimate.value) == pytest.approx(math.log(plain) + 7 / (2 * sum(LONG_TAIL)), rel=1e-12)
    assert estimate.lower < plain < estimate.upper
    even = effective_classes([100] * 6)
    assert even.value == even.upper == 6
    assert even.lower < 6


@pytest.mark.parametrize("counts", [[], [3, -1], [2.5, 1], [[1, 2]], [math.nan, 1]])
def test_impossible_counts_are_refused(counts: list[float]) -> None:
    with pytest.raises(ValueError, match="whole numbers from 0"):
        class_balance(np.asarray(counts))


def test_counts_without_an_example_are_refused() -> None:
    with pytest.raises(ValueError, match="no example"):
        class_balance([0, 0])


@pytest.mark.slow
@pytest.mark.parametrize("n", [300, 2000])
@pytest.mark.parametrize("k", [2, 5, 20])
@pytest.mark.parametrize("skew", [1.0, 2.0, 10.0])
def test_the_interval_covers_the_effective_number(n: int, k: int, skew: float) -> None:
    p = np.geomspace(1, skew, k)
    p /= p.sum()
    if n * p.min() < 5:
        n = math.ceil(5 / p.min())
    truth = float(np.exp(-(p * np.log(p)).sum()))
    source = np.random.default_rng(k * n)
    hits = 0
    for _ in range(2000):
        e = effective_classes(source.multinomial(n, p))
        hits += e.lower <= truth * (1 + 1e-12) and truth <= e.upper * (1 + 1e-12)
    assert hits / 2000 > 0.91 - 0.015


def subject_of(train: Tensor, test: Tensor | None = None, outputs: int = 4) -> Subject:
    def rows(y: Tensor) -> tuple[Tensor, Tensor]:
        return torch.randn(len(y), 3, generator=torch.Generator().manual_seed(len(y))), y

    net = nn.Linear(3, outputs)
    return Subject(model=net, loss="cross_entropy", train=rows(train), test=None if test is None else rows(test))


def test_the_probe_counts_labels_and_names_the_trivial_error() -> None:
    y = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    result = probe_class_balance(subject_of(y, y[::2], outputs=3))
    assert result.settings["trivial error"] == 0.4
    assert result.estimate == effective_classes([60, 30, 10])
    assert result.reading is not None
    assert result.reading.render().startswith("Yes: the largest class has 6.0 times")
    picture, table = result.payload
    assert list(picture.values) == [0.6, 0.3, 0.1]  # type: ignore[union-attr]
    assert [row[:3] for row in table.rows] == [("train", 100, 0.6), ("test", 50, 0.6)]  # type: ignore[union-attr]


def test_a_class_without_a_training_example_fails() -> None:
    result = probe_class_balance(subject_of(torch.tensor([0, 1, 0, 1, 2, 2]), torch.tensor([0, 3, 3])))
    assert result.verdict is Verdict.FAILS
    assert result.settings["classes unseen"] == "3"


def test_uneven_classes_are_called_uneven() -> None:
    verdict, _, reading = judge(class_balance(LONG_TAIL), effective_classes(LONG_TAIL), 0)
    assert verdict is Verdict.DESCRIPTIVE
    assert reading.render().startswith("No: the largest class has 200 times the examples of the smallest.")


def test_outputs_alone_are_enough_and_unlabelled_rows_are_not_counted() -> None:
    y = torch.tensor([0, 1, 1, 1, -100, -100])
    outputs = Subject(outputs={"test": (torch.randn(6, 2), y)}, loss="cross_entropy")
    assert probe_class_balance(outputs).settings["majority share"] == 0.75


def test_regression_and_soft_targets_are_unsuitable() -> None:
    x = torch.randn(8, 3)
    line = Subject(model=nn.Linear(3, 1), loss="mse", train=(x, torch.randn(8, 1)))
    with pytest.raises(UnsuitableError, match="no classes to count"):
        probe_class_balance(line)
    soft = Subject(model=nn.Linear(3, 2), loss="cross_entropy", train=(x, torch.rand(8, 2).softmax(1)))
    with pytest.raises(UnsuitableError, match="shares of classes"):
        probe_class_balance(soft)
